"""Shared by all tests: no network but loopback, real data where it is, tiny networks."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# One thread: tests run in as many processes as there are cores, and toy networks gain by no more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WHYLENS_STRICT_PLUGINS", "1")
# Two runs on one machine must not sweep each other's uploads.
os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="whylens-tests-")
# Nor read or write the models of whoever runs them.
os.environ["WHYLENS_HOME"] = os.environ["GRADIO_TEMP_DIR"] + "/home"

import numpy as np
import pytest
import torch
from torch import nn

atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
ROOT = Path(__file__).resolve().parents[1]


# Files that take longest begin first, so that no process is left alone with one at the end.
LONGEST = (
    "test_browser.py",
    "test_browser_methods.py",
    "test_conformance.py",
    "test_hub.py",
    "test_cli.py",
    "test_shipped.py",
)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return a process for each core: one more imports and collects all anew, and gains nothing."""
    from whylens.core.batch.protocol import cores

    return min(cores(), 8)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; pytest-xdist gives out files in this order."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))


class NetworkForbidden(AssertionError):
    """A test tried to leave this machine."""


def _is_local(address: object) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket
    host = str(address[0])
    return host in ("localhost", "::1", "") or host.startswith("127.")


@pytest.fixture(autouse=True, scope="session")
def _socket_guard():
    connect, connect_ex, lookup = (
        socket.socket.connect,
        socket.socket.connect_ex,
        socket.getaddrinfo,
    )

    def guarded(original):
        def call(self, address):
            if not _is_local(address):
                raise NetworkForbidden(f"tests may reach loopback only, not {address}")
            return original(self, address)

        return call

    def guarded_lookup(host, *args, **kwargs):
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and not _is_local((name,)) and name != "0.0.0.0":
            raise socket.gaierror(socket.EAI_NONAME, f"tests may reach loopback only, not {name}")
        return lookup(host, *args, **kwargs)

    socket.socket.connect = guarded(connect)
    socket.socket.connect_ex = guarded(connect_ex)
    socket.getaddrinfo = guarded_lookup
    yield
    socket.socket.connect, socket.socket.connect_ex = connect, connect_ex
    socket.getaddrinfo = lookup


@pytest.fixture(autouse=True, scope="session")
def _no_shipped_checkpoints(tmp_path_factory):
    # Tests make the checkpoints they need; the shipped ones are the matter of test_shipped.py.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("whylens.core.models.checkpoints.SHIPPED", tmp_path_factory.mktemp("none"))
        yield


def shared_data() -> Path | None:
    """Return the folder of real weights and photos, or None where it is absent."""
    places = [os.environ.get("WHYLENS_SHARED_DATA"), ROOT.parent / "shared" / "data"]
    for place in places:
        if place and (Path(place) / "README.md").is_file():
            return Path(place)
    return None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real weights and photos."""
    found = shared_data()
    if found is None:
        pytest.skip("real data is absent: set WHYLENS_SHARED_DATA to its folder")
    return found


@pytest.fixture(scope="session")
def squeezenet_checkpoints(shared, tmp_path_factory) -> Path:
    """A folder of checkpoints that holds the real SqueezeNet as `squeezenet`."""
    import json

    from whylens.core.storage.files import file_sha256

    place = tmp_path_factory.mktemp("checkpoints")
    folder = place / "squeezenet"
    folder.mkdir()
    weights = folder / "model.safetensors"
    weights.symlink_to(shared / "squeezenet1_0_imagenet1k.safetensors")
    manifest = {
        "architecture": "torchvision:squeezenet1_0",
        "input_size": [227, 227],
        "mean": [0.482353, 0.458824, 0.407843],
        "std": [1 / 255, 1 / 255, 1 / 255],
        "crop": 227 / 256,
        "interpolation": "bilinear",
        "labels": "imagenet-1k",
        "licence": "see the data's README",
        "sha256": file_sha256(weights),
    }
    (folder / "model.json").write_text(json.dumps(manifest))
    return place


@pytest.fixture(scope="session")
def squeezenet(squeezenet_checkpoints):
    """The real SqueezeNet, loaded."""
    from whylens.core.models.load import from_folder

    return from_folder(squeezenet_checkpoints / "squeezenet")


class GapNet(nn.Module):
    """Convolution, ReLU, average, linear: everything about it is known in closed form."""

    def __init__(
        self, *, axes: int = 2, channels: int = 3, width: int = 4, classes: int = 3
    ) -> None:
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
        self.axes = axes
        self.conv = conv(channels, width, 3, stride=2, padding=1)
        self.fc = nn.Linear(width, classes)

    def features(self, x):
        return self.conv(x).relu()

    def head(self, f):
        return self.fc(f.flatten(2).mean(-1))

    def forward(self, x):
        return self.head(self.features(x))


class MlpHeadNet(GapNet):
    """The same trunk under a head that is not linear."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.hidden = nn.Linear(self.fc.in_features, 6)
        self.fc = nn.Linear(6, self.fc.out_features)

    def head(self, f):
        return self.fc(torch.nn.functional.gelu(self.hidden(f.flatten(2).mean(-1))))


class TokenNet(nn.Module):
    """Patches as tokens behind `prefix` extra ones; mean over patches, then linear."""

    def __init__(self, *, grid=(4, 6), prefix: int = 2, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        self.num_prefix_tokens = prefix
        self.patch = nn.Conv2d(3, width, 4, stride=4)
        self.extra = nn.Parameter(torch.zeros(1, prefix, width))
        self.fc = nn.Linear(width, classes)

    def features(self, x):
        patches = self.patch(x).relu().flatten(2).transpose(1, 2)
        return torch.cat([self.extra.expand(len(x), -1, -1), patches], 1)

    def head(self, tokens):
        return self.fc(tokens[:, self.num_prefix_tokens :].mean(1))

    def forward(self, x):
        return self.head(self.features(x))


def seeded(module: nn.Module, seed: int = 3) -> nn.Module:
    """Return `module` with seeded random weights, in eval mode."""
    from whylens.core.models.random_weights import randomize_weights

    return randomize_weights(module, seed=seed).eval()


def plain_spec(*size: int, channels: int = 3):
    """Return an input spec without normalisation."""
    from whylens.core.inputs.spec import InputSpec

    return InputSpec(
        size=size, channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels, crop=1.0
    )


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator."""
    return np.random.default_rng(11)
