"""SISE: written out for one network, and the cases in which the reference code breaks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.networks import plain_spec, seeded
from tests.support.toys import difference, final, noise, precise, score64
from whylens.core.models.backbone import wrap
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.subject import Subject
from whylens.core.targets import Target
from whylens.plugins.sise import SISE, SISEParams, by_confidence, fuse_stages, positive_channels

METHOD = SISE()


class TwoStages(nn.Module):
    """A fine and a coarse feature map, then a mean and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 4, stride=2, padding=1)
        self.second = nn.Conv2d(6, 8, 4, stride=2, padding=1)
        self.fc = nn.Linear(8, 3)

    def features(self, x):
        return self.second(self.first(x).relu())

    def head(self, f):
        return self.fc(f.relu().mean((2, 3)))

    def forward(self, x):
        return self.head(self.features(x))


@pytest.fixture
def subject():
    module = seeded(TwoStages(), 5)
    with torch.no_grad():
        module.fc.weight *= 20  # scores as far apart as a trained network's
    return Subject(
        ForwardPass(wrap(module, input_spec=plain_spec(16, 24)), noise(1, 3, 16, 24)), Target(1), 3
    )


def otsu(values: np.ndarray) -> float:
    """Return the middle of the lowest gap that parts the values best, to a millionth.

    The cases are such that no cut lies so near to that millionth that rounding could decide.
    """
    sorted_values = np.sort(values, axis=None)
    between = {}
    for cut in range(1, len(sorted_values)):
        low, high = sorted_values[:cut], sorted_values[cut:]
        if high[0] - low[-1] > 1e-5:
            between[cut] = len(low) * len(high) * (high.mean() - low.mean()) ** 2
    losses = {cut: 1 - variance / max(between.values()) for cut, variance in between.items()}
    assert not any(8e-7 < share < 1.2e-6 for share in losses.values())
    cut = min(cut for cut, share in losses.items() if share <= 1e-6)
    return (sorted_values[cut - 1] + sorted_values[cut]) / 2


def scaled(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else 0 * values


def literal(module, x, fill, target: Target, masks, weights="confidence") -> np.ndarray:
    """Return the paper's map: confidence times mask over the mask's size, summed; fused by Otsu."""
    module, x, fill = precise(module), x.double(), fill.double()
    floor, fused_map = float(score64(module(fill)[0], target)), None
    for number in (1, 2):
        first = module.first(x).detach()
        maps = first if number == 1 else module.second(first.relu()).detach()
        leaf = maps.clone().requires_grad_()
        later = module.head(module.second(leaf.relu()) if number == 1 else leaf)
        slope = torch.autograd.grad(score64(later[0], target), leaf)[0][0].mean((1, 2))
        channels = [k for k in slope.argsort(descending=True).tolist() if slope[k] > 0][:masks]
        stage = np.zeros((16, 24))
        for k in channels:
            large = nn.functional.interpolate(
                maps[:, [k]], size=(16, 24), mode="bilinear", align_corners=False
            )
            mask = (large - large.min()) / (large.max() - large.min())
            logits = module(fill + mask * (x - fill))[0].detach()
            if weights == "rise":
                stage += max(float(score64(logits, target)) - floor, 0) * mask[0, 0].numpy()
                continue
            logits = logits.numpy()
            classes = [target.index, target.versus] if target.versus is not None else range(3)
            share = np.exp(logits[target.index]) / sum(np.exp(logits[c]) for c in classes)
            stage += share * mask[0, 0].numpy() / float(mask.sum())
        stage = scaled(stage)
        fused_map = (
            stage if fused_map is None else scaled((fused_map + stage) * (stage > otsu(stage)))
        )
    return fused_map


@pytest.mark.parametrize("weights", ["confidence", "rise"])
@pytest.mark.parametrize("masks", [8, 16])
@pytest.mark.parametrize(
    "target",
    [Target(0), Target(1), Target(2), Target(1, "probability"), Target(0, "contrast", 2)],
    ids=["0", "1", "2", "probability", "contrast"],
)
def test_the_map_is_the_paper_s_written_out(subject, masks, target, weights):
    backbone = subject.backbone
    assert [stage.path for stage in backbone.stages] == ["first", "second"]
    subject = Subject(subject.forward_pass, target, 3)
    fill = subject.baseline("grey")
    with torch.enable_grad():
        expected = literal(backbone.module, subject.x, fill, target, masks, weights)
    heat = final(METHOD.explain(subject, SISEParams(masks=masks, fill="grey", weights=weights)))
    assert expected.any()
    assert difference(heat.values, expected) < 1e-3
    unit = "probability" if weights == "confidence" else target.unit
    assert (heat.signed, heat.unit) == (False, f"share of the largest value, weighed by {unit}")


def test_a_number_that_is_no_class_s_weighs_as_it_is(subject):
    target = Target(0, "function", function=lambda logits: logits[:, 0] * 3)
    function = Subject(subject.forward_pass, target, 3)
    assert by_confidence(function) is function
    heat = final(METHOD.explain(function, SISEParams(masks=8)))
    assert heat.unit.endswith("weighed by value of the function")


def test_where_all_gradients_are_negative_nothing_speaks():
    features = noise(1, 5, 4, 6)
    assert positive_channels(-noise(1, 5, 4, 6), features, 8) == []
    slopes = noise(1, 5, 4, 6) - 0.5
    order = positive_channels(slopes, features, 8)
    means = slopes[0].mean((1, 2))
    assert order == sorted((k for k in range(5) if means[k] > 0), key=lambda k: -float(means[k]))


def test_a_stage_of_one_value_says_nothing_about_places():
    constant, zeros = torch.ones(3, 4), torch.zeros(3, 4)
    for flat in (constant, zeros, constant * (1 + 1e-8 * noise(3, 4).double())):
        assert not fuse_stages(noise(3, 4), flat).any()


def test_strong_places_of_a_later_stage_add_up_with_what_came_before():
    earlier, later = torch.tensor([0.0, 1.0, 0.5, 1.0]), torch.tensor([9.0, 9.0, 1.0, 1.0])
    assert fuse_stages(earlier, later).tolist() == [0.5, 1.0, 0.0, 0.0]


def test_a_constant_channel_is_no_mask():
    features = noise(1, 3, 4, 6)
    features[0, 1] = 0.7
    assert 1 not in positive_channels(torch.ones(1, 3, 4, 6), features, 8)
