"""Shared by all tests: no network but loopback, real data where it is.

Nothing heavy is imported: the process that gives out the tests reads this as well.
"""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import socket
import sys
import tempfile
from functools import cache
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

import pytest

import whylens.ui.page  # noqa: F401 - most test files of the page import gradio before it

atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
ROOT = Path(__file__).resolve().parents[1]
CHECKPOINTS_AT_HOME = Path(os.environ["WHYLENS_HOME"], "checkpoints")


# Files that take longest begin first, so that no process is left alone with one at the end; those
# that mostly wait for processes of their own, while another computes.
LONGEST = (
    "test_browser_scores.py",  # it has a page of its own: before that of the others runs
    "test_browser.py",
    "test_browser_methods.py",
    "test_conformance.py",
    "test_workers.py",
    "test_hub.py",
    "test_hub_out_of_reach.py",
    "test_training_process.py",
    "test_plugin_trial.py",
    "test_cli_batch.py",
    "test_endpoints.py",
    "test_page.py",
    "test_batch.py",
    "test_import.py",
    "test_architectures.py",
    "test_train.py",
    "test_metric_conformance.py",
    "test_shipped.py",
)
# The tests of a folder share a browser, or the process of which all working processes are forks:
# either takes seconds to start.
SHARED = ("tests/browser/", "tests/workers/")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return a process more than cores: who waits for working processes leaves a core to others."""
    from whylens.core.batch.protocol import cores

    return min(cores() + 1, 8)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; pytest-xdist gives out files in this order."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give the tests of one file to one process, and those of a SHARED folder to one."""
    from xdist.scheduler import LoadFileScheduling

    class SharingFolders(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            scope = super()._split_scope(nodeid)
            return next((folder for folder in SHARED if scope.startswith(folder)), scope)

    return SharingFolders(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection() -> None:
    """Import without the garbage collector: it would walk again and again through what stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Keep the garbage collector from walking through all that was imported, and from coming often.

    By its own measure it would take a twelfth of the time of the page's tests.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    gc.enable()


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


@pytest.fixture(autouse=True)
def _no_network_is_left_at_home():
    yield
    leftovers = list(CHECKPOINTS_AT_HOME.glob("*"))
    shutil.rmtree(CHECKPOINTS_AT_HOME, ignore_errors=True)  # one test fails, and not those after it
    assert not leftovers, (
        "set WHYLENS_HOME, or say where to write: other tests count what is at home"
    )


@pytest.fixture(autouse=True, scope="session")
def _few_certificates(tmp_path_factory):
    # Each request of gradio's client reads all authorities of the web, in 40 ms, for plain HTTP.
    import certifi

    first, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----\n")
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    path.write_text(first + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("certifi.where", lambda: str(path))
        yield


@pytest.fixture(autouse=True, scope="session")
def _packages_read_once():
    # Each registry reads what hundreds of installed packages say; they change with sys.path alone.
    from whylens.core import registry

    read_packages, packages = registry._installed_plugins, {}

    def installed():
        path = tuple(sys.path)
        if path not in packages:
            packages[path] = read_packages()
        return packages[path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_installed_plugins", installed)
        yield


@pytest.fixture(autouse=True, scope="session")
def _commands_read_once():
    # Typer reads the signatures of all commands anew for each that a test runs.
    import typer.testing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", cache(typer.main.get_command))
        yield


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
    folder = shared_data()
    if folder is None:
        pytest.skip("real data is absent: set WHYLENS_SHARED_DATA to its folder")
    return folder


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


@pytest.fixture
def rng():
    """A seeded generator."""
    import numpy as np

    return np.random.default_rng(11)
