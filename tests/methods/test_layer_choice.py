"""Any stage of a network as the layer: read, felt and replaced as by plain PyTorch."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import timm
import torch

from tests.support.toys import difference, final, noise, subject_of
from whylens.core.errors import InvalidParameter
from whylens.core.inputs.spec import InputSpec
from whylens.core.models.backbone import wrap
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.subject import Subject
from whylens.core.targets import Target
from whylens.plugins._layers import SignedLayerParams, mean_of_maps
from whylens.plugins.ablation_cam import AblationCAM
from whylens.plugins.grad_cam import GradCAM

SWIN = "swin_tiny_patch4_window7_224"
DEIT = "deit_tiny_distilled_patch16_224"
NARROW = {"dims": (8, 12, 16, 24), "depths": (1, 1, 1, 1)}
# Every layout, made small: as many stages as at full size, few blocks in each, few channels.
NETS = {
    "resnet10t": {"channels": (8, 12, 16, 24), "stem_width": 8},
    "convnext_atto": NARROW,
    SWIN: {
        "img_size": 64,
        "window_size": 2,
        "embed_dim": 24,
        "depths": (1, 1, 2, 1),
        "num_heads": (1, 2, 2, 2),
    },
    DEIT: {"img_size": 64, "embed_dim": 48, "depth": 5},
    "regnety_002": {"depth": 6, "w0": 8, "wa": 8.0, "wm": 2.0, "group_size": 8},
}
SIDE = 64


def net(name: str, **kwargs) -> torch.nn.Module:
    """Return a seeded network with seven classes."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(4)
        return timm.create_model(name, num_classes=7, **kwargs).eval()


@pytest.fixture(scope="module")
def subject_for():
    subjects = {}

    def subject(name: str) -> Subject:
        if name not in subjects:
            input_spec = InputSpec(size=(SIDE, SIDE), mean=(0.5,) * 3, std=(0.25,) * 3, crop=1.0)
            backbone = wrap(net(name, **NETS[name]), input_spec=input_spec)
            subjects[name] = Subject(ForwardPass(backbone, noise(1, 3, SIDE, SIDE)), Target(3), 4)
        return subjects[name]

    return subject


def plainly(twin: torch.nn.Module, subject: Subject, path: str):
    """Return a module's raw output and the score's derivative to it, by hooks, in float64."""
    outputs = []

    def keep(module, args, out):
        outputs.append(out.detach().clone().requires_grad_())
        return outputs[-1].clone()

    hook = twin.get_submodule(path).register_forward_hook(keep)
    score = twin(subject.x.double())[0, subject.target.index]
    hook.remove()
    (slope,) = torch.autograd.grad(score, outputs[0])
    return outputs[0].detach(), slope


def as_map(raw: torch.Tensor, name: str) -> np.ndarray:
    if name == SWIN:
        raw = raw.permute(0, 3, 1, 2)
    elif name == DEIT:
        raw = raw[:, 2:].transpose(1, 2).unflatten(2, (4, 4))
    return raw[0].numpy()


@pytest.mark.parametrize("name", NETS)
def test_features_and_gradients_of_every_stage_are_those_of_plain_pytorch(subject_for, name):
    subject = subject_for(name)
    stages = subject.backbone.stages
    assert len(stages) >= 4
    twin = copy.deepcopy(subject.backbone.module).double().requires_grad_(False)
    for number, stage in enumerate(stages, start=1):
        (layer,) = subject.layers(f"stage {number}")
        raw, slope = plainly(twin, subject, stage.path)
        assert difference(layer.features[0], as_map(raw, name)) < 1e-4
        assert difference(layer.gradients[0], as_map(slope, name)) < 1e-3


@pytest.mark.parametrize("name", NETS)
def test_maps_put_in_place_of_a_stage_are_scored_as_plain_pytorch_scores_them(subject_for, name):
    subject = subject_for(name)
    twin = copy.deepcopy(subject.backbone.module)
    for number, stage in enumerate(subject.backbone.stages, start=1):
        (layer,) = subject.layers(f"stage {number}")
        maps = layer.features * torch.tensor([1.0, 0.5, 0.0]).view(3, 1, 1, 1)

        def replace_output(module, args, out):
            scaled_maps = out * torch.tensor([1.0, 0.5, 0.0]).view(3, *[1] * (out.ndim - 1))
            if name == DEIT:
                scaled_maps[:, :2] = out[:, :2]
            return scaled_maps

        hook = twin.get_submodule(stage.path).register_forward_hook(replace_output)
        with torch.no_grad():
            expected = twin(subject.x.expand(3, -1, -1, -1))[:, subject.target.index]
        hook.remove()
        assert difference(layer.scores(maps), expected) < 1e-4


def test_the_last_layer_is_that_of_the_split(subject_for):
    subject = subject_for("resnet10t")
    (last,) = subject.layers("last")
    stages = subject.backbone.stages
    (stage,) = subject.layers(f"stage {len(stages)}")
    assert difference(last.features, stage.features) < 1e-4
    assert difference(last.gradients, stage.gradients) < 1e-4
    assert difference(last.scores(last.features * 2), stage.scores(last.features * 2)) < 1e-4


def test_for_a_vision_transformer_no_stage_is_dead(subject_for):
    subject = subject_for(DEIT)
    paths = [stage.path for stage in subject.backbone.stages]
    # After the last block only the class tokens are read.
    assert paths == [f"blocks.{i}" for i in range(4)]
    (last,), (stage,) = subject.layers("last"), subject.layers("stage 4")
    assert difference(last.features, stage.features) < 1e-4
    assert difference(last.gradients, stage.gradients) < 1e-4


def test_a_deep_network_keeps_twelve_stages_spread_over_its_depth():
    input_spec = InputSpec(size=(32, 32), mean=(0.5,) * 3, std=(0.25,) * 3, crop=1.0)
    module = net("vit_tiny_patch16_224", img_size=32, depth=24, embed_dim=48, num_heads=3)
    paths = [stage.path for stage in wrap(module, input_spec=input_spec).stages]
    assert len(paths) == 12
    assert (paths[0], paths[-1]) == ("blocks.0", "blocks.22")


class Bare(torch.nn.Module):
    """Has a feature map and not a single part."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(noise(5, 3))

    def features(self, x):
        return torch.einsum("ky,nyhw->nkhw", self.weight, x)[:, :, ::4, ::4]

    def head(self, f):
        return f.mean((2, 3))

    def forward(self, x):
        return self.head(self.features(x))


def test_a_network_without_stages_says_which_layers_there_are():
    subject = subject_of(Bare(), noise(1, 3, 16, 24))
    with pytest.raises(InvalidParameter, match="only the last layer, not 'stage 2'"):
        subject.layers("stage 2")
    assert [layer.name for layer in subject.layers("mean over stages")] == ["last"]


def test_a_stage_too_many_is_refused_with_those_there_are(subject_for):
    with pytest.raises(InvalidParameter, match="has stages 1 to 5 and the last layer"):
        subject_for("resnet10t").layers("stage 9")


def test_the_network_stays_as_it_was(subject_for):
    module = subject_for("resnet10t").backbone.module
    before = {name: id(part) for name, part in module.named_modules()}
    for layer in subject_for("resnet10t").layers("mean over stages"):
        layer.gradients, layer.scores(layer.features)
    assert {name: id(part) for name, part in module.named_modules()} == before
    assert not any(part._forward_hooks for part in module.modules())


def test_threads_do_not_meet(subject_for):
    subject = subject_for("resnet10t")
    inputs = [noise(1, 3, 64, 64, seed=s) for s in range(6)]
    backbone = subject.backbone

    def slopes(x):
        (layer,) = Subject(ForwardPass(backbone, x), Target(2)).layers("stage 3")
        return layer.gradients

    expected, actual = [slopes(x) for x in inputs], [None] * len(inputs)

    def work(i):
        actual[i] = slopes(inputs[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for values, reference in zip(actual, expected, strict=True):
        assert difference(values, reference) < 1e-5


def test_the_mean_over_stages_is_of_shares_at_the_finest_size(subject_for):
    subject = subject_for("resnet10t")
    params = {"signed": True}
    singles = [
        final(GradCAM().explain(subject, SignedLayerParams(layer=f"stage {i}", **params))).values
        for i in range(1, 6)
    ]
    together = final(
        GradCAM().explain(subject, SignedLayerParams(layer="mean over stages", **params))
    )
    total = np.zeros((32, 32))
    for values in singles:
        centre = (np.arange(32) + 0.5) * len(values) / 32 - 0.5
        large = np.array([[bilinear(values, y, x) for x in centre] for y in centre])
        total += large / np.abs(large).max()
    assert difference(together.values, total / 5) < 1e-5
    assert together.unit == "mean over stages of shares of the largest value"


def bilinear(values, y, x):
    side = len(values)
    y, x = min(max(y, 0), side - 1), min(max(x, 0), side - 1)
    row, column = min(int(y), max(side - 2, 0)), min(int(x), max(side - 2, 0))
    down, right = y - row, x - column
    below, after = min(row + 1, side - 1), min(column + 1, side - 1)
    return (
        values[row, column] * (1 - down) * (1 - right)
        + values[row, after] * (1 - down) * right
        + values[below, column] * down * (1 - right)
        + values[below, after] * down * right
    )


def test_a_blank_stage_adds_nothing_and_no_nan():
    mean = mean_of_maps([torch.zeros(2, 2), torch.full((4, 4), 3.0)])
    assert torch.equal(mean, torch.full((4, 4), 0.5))


def test_a_method_that_yields_goes_through_the_stages_one_by_one():
    input_spec = InputSpec(size=(SIDE, SIDE), mean=(0.5,) * 3, std=(0.25,) * 3, crop=1.0)
    narrow = net("convnext_atto", **NARROW)
    x = noise(1, 3, SIDE, SIDE)
    subject = Subject(ForwardPass(wrap(narrow, input_spec=input_spec), x), Target(3), 4)

    def maps(layer):
        return list(AblationCAM().explain(subject, SignedLayerParams(layer=layer)))

    singles = [maps(f"stage {i}")[-1].result for i in range(1, 5)]
    parts = maps("mean over stages")
    fractions = [part.fraction for part in parts]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    expected = mean_of_maps([torch.tensor(heat.values) for heat in singles])
    assert difference(parts[-1].result.values, expected) < 1e-6
    assert parts[-1].result.diagnostics["stage 4: channels"] == 24
