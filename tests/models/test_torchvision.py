"""Networks of torchvision: cut at their last map, and loaded from the files that it keeps."""

from __future__ import annotations

import hashlib
import io
import re
from types import SimpleNamespace

import pytest
import torch

from tests.support.modules import backbone_of, noise
from tests.support.networks import seeded
from whylens.core.errors import BadArtifact
from whylens.core.models.load import build, load
from whylens.core.storage.files import parameters_sha256


@pytest.mark.parametrize(
    ("name", "grid", "channels", "linear"),
    [
        pytest.param("squeezenet1_0", (3, 5), 512, False, marks=pytest.mark.slow),
        pytest.param("resnet18", (2, 3), 512, True, marks=pytest.mark.slow),
        ("shufflenet_v2_x0_5", (2, 3), 1024, True),
        pytest.param("mobilenet_v2", (2, 3), 1280, True, marks=pytest.mark.slow),
        pytest.param("densenet121", (2, 3), 1024, True, marks=pytest.mark.slow),
        pytest.param("googlenet", (2, 3), 1024, True, marks=pytest.mark.slow),
        pytest.param("convnext_tiny", (2, 3), 768, False, marks=pytest.mark.slow),
        pytest.param("swin_t", (2, 3), 768, True, marks=pytest.mark.slow),
        pytest.param("mobilenet_v3_small", (2, 3), 576, False, marks=pytest.mark.slow),
    ],
)
def test_torchvision_networks_are_cut_at_their_last_map(name, grid, channels, linear):
    net = backbone_of(build(f"torchvision:{name}", classes=4), 64, 96)
    x = noise(3, 3, 64, 96)
    features = net.features(x)
    assert tuple(features.map.shape) == (3, channels, *grid)
    torch.testing.assert_close(net.head(features), net.logits(x), rtol=1e-3, atol=1e-5)
    assert (net.linear is not None) is linear
    if linear:
        pooled_logits = features.map.mean((2, 3)) @ net.linear.weight.T + net.linear.bias
        torch.testing.assert_close(pooled_logits, net.logits(x), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_vision_transformer_of_torchvision_is_cut_before_its_last_block():
    net = backbone_of(build("torchvision:vit_b_16", classes=4), 224, 224)
    x = noise(1, 3, 224, 224)
    features = net.features(x)
    assert tuple(features.map.shape) == (1, 768, 14, 14)
    assert features.prefix_tokens.shape == (1, 1, 768)
    torch.testing.assert_close(net.head(features), net.logits(x), rtol=1e-3, atol=1e-5)


def put_torchvision_file(tmp_path, monkeypatch, name: str, state: dict) -> None:
    """Put weights where torchvision keeps them, under a name that carries their hash."""
    import torchvision

    buffer = io.BytesIO()
    torch.save(state, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()[:8]
    place = tmp_path / "checkpoints" / f"{name}-{digest}.pth"
    place.parent.mkdir()
    place.write_bytes(buffer.getvalue())
    real = torchvision.models.get_model_weights(name).DEFAULT
    stand_in = SimpleNamespace(
        url=f"https://download.example/{place.name}",
        meta=real.meta,
        transforms=real.transforms,
        name="DEFAULT",
    )
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        torchvision.models, "get_model_weights", lambda _: SimpleNamespace(DEFAULT=stand_in)
    )


def test_a_torchvision_name_loads_its_file_and_its_preprocessing(tmp_path, monkeypatch):
    module = seeded(build("torchvision:squeezenet1_1", classes=1000))
    put_torchvision_file(tmp_path, monkeypatch, "squeezenet1_1", module.state_dict())
    net = load("torchvision:squeezenet1_1")
    x = net.probe_inputs()
    torch.testing.assert_close(net.logits(x), module(x))
    assert net.input_spec.size == (224, 224)
    assert net.input_spec.crop == pytest.approx(224 / 256)
    assert net.labels[281] == "tabby"


def test_torchvision_files_with_missing_weights_are_refused(tmp_path, monkeypatch):
    state = build("torchvision:squeezenet1_1", classes=1000).state_dict()
    state.pop("classifier.1.bias")
    put_torchvision_file(tmp_path, monkeypatch, "squeezenet1_1", state)
    with pytest.raises(BadArtifact, match="torchvision:squeezenet1_1 do not fit it"):
        load("torchvision:squeezenet1_1")


def test_a_damaged_torchvision_file_is_refused_and_deleted(tmp_path, monkeypatch):
    put_torchvision_file(tmp_path, monkeypatch, "squeezenet1_1", {})
    (path,) = (tmp_path / "checkpoints").iterdir()
    path.write_bytes(b"something else")
    with pytest.raises(BadArtifact, match="arrived damaged and was deleted"):
        load("torchvision:squeezenet1_1")
    assert not path.exists()


@pytest.mark.slow
def test_the_old_names_in_torchvisions_densenet_files_are_understood(tmp_path, monkeypatch):
    module = seeded(build("torchvision:densenet121", classes=1000))
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", k): v
        for k, v in module.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    put_torchvision_file(tmp_path, monkeypatch, "densenet121", old)
    net = load("torchvision:densenet121")
    assert parameters_sha256(net.module) == parameters_sha256(module)
