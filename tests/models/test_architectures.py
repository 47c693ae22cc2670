"""Which architecture a file of weights is of, found out from its tensors alone."""

from __future__ import annotations

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from tests.support.weight_files import make
from whylens.core.errors import BadArtifact
from whylens.core.models import architectures
from whylens.core.models.architectures import compare, find_fits, read_index
from whylens.core.models.checkpoints import read_manifest
from whylens.core.models.load import build
from whylens.core.models.model_names import timm_architectures, torchvision_names
from whylens.core.models.random_weights import randomize_weights
from whylens.core.needs import Need

QUICK = ["test_vit", "test_efficientnet", "torchvision:squeezenet1_1", "test_convnext"]
LONG = [
    "mobilenetv3_small_050", "resnet18", "resnet50", "torchvision:vgg11", "densenet121",
    "torchvision:mobilenet_v3_small", "efficientnet_b0", "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224", "regnety_002", "mixer_s32_224", "ghostnet_050",
    "torchvision:densenet121", "mobilevit_xxs", "deit_tiny_distilled_patch16_224",
]  # fmt: skip


@pytest.mark.parametrize("name", QUICK + [pytest.param(n, marks=pytest.mark.slow) for n in LONG])
def test_the_architecture_is_found_out_from_the_tensors(name):
    with torch.device("meta"):
        tensors = build(name, classes=7).state_dict()
    fits = find_fits([tensors])
    assert all(fit.exact for _, fit in fits)
    assert name in [fit.architecture for _, fit in fits]
    assert fits[0][1].classes == 7


def test_of_those_that_fit_the_plainest_is_taken_unless_the_file_names_another():
    with torch.device("meta"):
        tensors = build("torchvision:resnet18", classes=5).state_dict()
    assert find_fits([tensors])[0][1].architecture == "resnet18"
    names = [fit.architecture for _, fit in find_fits([tensors])]
    assert "torchvision:resnet18" in names


def test_the_name_of_the_file_decides_between_those_that_fit(monkeypatch):
    pair = ["efficientnet_b0", "tf_efficientnet_b0"]
    monkeypatch.setattr(architectures, "candidates", lambda levels: pair)
    with torch.device("meta"):
        tensors = build("tf_efficientnet_b0", classes=5).state_dict()
    assert [fit.architecture for _, fit in find_fits([tensors])] == pair
    names = [fit.architecture for _, fit in find_fits([tensors], ["tf_efficientnet-b0_run3"])]
    assert names == pair[::-1]


class ByHand(nn.Module):
    """What fastai's documentation prints of `vision_learner(dls, resnet18)`, written out."""

    def __init__(self) -> None:
        super().__init__()
        resnet = torchvision.models.resnet18(weights=None)
        self.body = nn.Sequential(
            resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool,
            resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4,
        )  # fmt: skip
        self.average, self.maximum = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
        self.first, self.second = nn.BatchNorm1d(1024), nn.BatchNorm1d(512)
        self.hidden, self.last = nn.Linear(1024, 512, bias=False), nn.Linear(512, 3, bias=False)

    def forward(self, x):
        cells = self.body(x)
        pooled = torch.cat([self.maximum(cells), self.average(cells)], 1).flatten(1)
        return self.last(self.second(torch.relu(self.hidden(self.first(pooled)))))

    def fastai_state(self) -> dict:
        """Return what `learn.save` writes: the names are places in two sequences."""
        names = {
            "body.": "0.", "first.": "1.2.", "hidden.": "1.4.", "second.": "1.6.", "last.": "1.8.",
        }  # fmt: skip
        tensors = {}
        for name, value in self.state_dict().items():
            (old,) = (old for old in names if name.startswith(old))
            tensors[names[old] + name.removeprefix(old)] = value
        return {"model": tensors, "opt": {"hypers": [{"lr": 0.001}]}}


@pytest.mark.slow
def test_what_fastai_saves_is_recognised_and_computes_the_same(tmp_path, in_process):
    network = randomize_weights(
        ByHand(), seed=3, probe=torch.rand(8, 3, 96, 96, generator=torch.Generator().manual_seed(2))
    ).eval()
    torch.save(network.fastai_state(), tmp_path / "fast.pth")
    imported = make(tmp_path / "fast.pth", labels="cat,dog,cow", size="96")
    assert "It is a fastai:resnet18: all its 132 tensors" in " ".join(imported.notes)
    assert "as fastai feeds fastai:resnet18: mean 0.485" in " ".join(imported.notes)
    assert imported.backbone.input_spec.crop == 1
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(x)
        torch.testing.assert_close(imported.backbone.logits(x), expected)
    assert float(expected.std()) > 0.01
    assert imported.backbone.why_not(frozenset({Need.GRADIENTS, Need.SPATIAL_FEATURES})) is None
    with pytest.raises(BadArtifact, match="no known architecture"):
        build("fastai:vgg16", classes=2)


def test_the_index_knows_what_is_installed():
    index = read_index()
    every_name = {*timm_architectures(), *(f"torchvision:{n}" for n in torchvision_names())}
    assert len(every_name - index.keys()) <= 0.02 * len(every_name), "write the index anew"
    for name in ("test_resnet", "torchvision:squeezenet1_0", "fastai:resnet18"):
        with torch.device("meta"):
            state = build(name, classes=1000).state_dict()
        assert index[name] == architectures.sketch({k: tuple(v.shape) for k, v in state.items()})


def test_channels_and_size_are_read_off_the_tensors():
    grey = build("test_resnet", classes=3, arguments={"in_chans": 1}).state_dict()
    fit = compare("test_resnet", grey)
    assert (fit.exact, fit.arguments) == (True, {"in_chans": 1})
    large = build("test_vit", classes=3, arguments={"img_size": 96}).state_dict()
    fit = compare("test_vit", large)
    assert (fit.exact, fit.arguments) == (True, {"img_size": 96})


def test_a_network_of_grey_photos_reads_them(tmp_path):
    grey = build("test_resnet", classes=3, arguments={"in_chans": 1}).state_dict()
    save_file(grey, tmp_path / "w.safetensors")
    manifest = read_manifest(make(tmp_path / "w.safetensors").folder)
    assert (len(manifest.mean), dict(manifest.arguments)) == (1, {"in_chans": 1})
