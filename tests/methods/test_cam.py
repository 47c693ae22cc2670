"""CAM: its formula, the identity that makes it exact, and where it does not exist."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.networks import GapNet, MlpHeadNet, TokenNet, plain_spec, seeded
from tests.support.toys import (
    CASES,
    IDS,
    NETS,
    NhwcNet,
    difference,
    final,
    noise,
    picture,
    precise,
    subject_of,
    toy,
)
from whylens.core.models.backbone import wrap
from whylens.core.targets import Target
from whylens.plugins.cam import CAM

METHOD = CAM()


def cam(subject):
    return final(METHOD.explain(subject, METHOD.Params()))


def literal(module, x, target) -> np.ndarray:
    """Return sum over k of w_k A_k, position by position."""
    twin = precise(module)
    features = twin.features(x.double())[0].detach().numpy()
    weight = twin.fc.weight.detach().numpy()
    logits = twin(x.double())[0].detach().numpy()
    row = weight[target.index]
    if target.quantity == "contrast":
        row = weight[target.index] - weight[target.versus]
    if target.quantity == "probability":
        p = np.exp(logits) / np.exp(logits).sum()
        row = sum(p[target.index] * ((c == target.index) - p[c]) * weight[c] for c in range(len(p)))
    values = np.zeros(features.shape[1:])
    for place in itertools.product(*map(range, values.shape)):
        for k in range(len(features)):
            values[place] += row[k] * features[k][place]
    return values


@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_the_map_is_the_paper_s_sum_position_by_position(axes, target):
    module, x = toy(axes), picture(axes)
    heat = cam(subject_of(module, x, target))
    expected = literal(module, x, target)
    assert heat.values.shape == expected.shape
    assert difference(heat.values, expected) < 1e-5
    assert heat.signed
    assert heat.unit == target.unit


@pytest.mark.parametrize("kind", [GapNet, TokenNet, NhwcNet])
@pytest.mark.parametrize("target", [Target(0), Target(2), Target(2, "contrast", 1)])
def test_the_mean_of_the_map_plus_the_bias_is_the_score(kind, target):
    module, x = seeded(kind()), noise(1, 3, 16, 24)
    heat = cam(subject_of(module, x, target))
    with torch.no_grad():
        logits = precise(module)(x.double())[0]
    bias = module.fc.bias.double()
    score, offset = logits[target.index], bias[target.index]
    if target.versus is not None:
        score, offset = score - logits[target.versus], offset - bias[target.versus]
    assert float(heat.values.astype(float).mean() + offset) == pytest.approx(float(score), abs=1e-6)
    assert abs(heat.diagnostics["identity gap"]) < 1e-6


def test_a_probability_s_map_says_that_it_is_first_order():
    heat = cam(subject_of(toy(2), picture(2), Target(1, "probability")))
    assert "first-order" in heat.note
    assert "identity gap" not in heat.diagnostics


@pytest.mark.parametrize(("axes", "target"), CASES[:1] + CASES[3:4], ids=IDS[:1] + IDS[3:4])
def test_a_negative_logit_does_not_flip_the_map(axes, target):
    module, x = toy(axes), picture(axes)
    before = cam(subject_of(module, x, target)).values
    with torch.no_grad():
        module.fc.bias -= 10
    after = subject_of(module, x, target)
    assert after.score < -5
    assert difference(cam(after).values, before) < 1e-4


@pytest.mark.parametrize("bias", [-3.0, 3.0])
def test_a_head_with_one_output_explains_the_side_that_it_predicts(bias):
    module, x = seeded(GapNet(classes=1)), noise(1, 3, 16, 24)
    with torch.no_grad():
        module.fc.bias.fill_(bias)
    side = int(subject_of(module, x).forward_pass.logits[0].argmax())
    assert side == (bias > 0)
    predicted_side, opposite_side = (subject_of(module, x, Target(i)) for i in (side, 1 - side))
    assert predicted_side.score > 0 > opposite_side.score
    half = literal(module, x, Target(0)) / 2
    assert difference(cam(predicted_side).values, half if side else -half) < 1e-5
    assert difference(cam(opposite_side).values, -cam(predicted_side).values) < 1e-6


class PooledHead(nn.Module):
    """GapNet's trunk under a head given from outside."""

    def __init__(self, head) -> None:
        super().__init__()
        self.trunk, self.top, self.fc = GapNet(), head, nn.Linear(4, 3)

    def features(self, x):
        return self.trunk.features(x)

    def head(self, f):
        return self.fc(self.top(f))

    def forward(self, x):
        return self.head(self.features(x))


class MaxPool(nn.Module):
    def forward(self, f):
        return f.flatten(2).amax(-1)


class AverageAndMax(nn.Module):
    def forward(self, f):
        return 0.5 * (f.flatten(2).amax(-1) + f.flatten(2).mean(-1))


class NormAfterMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, f):
        return self.norm(f.flatten(2).mean(-1))


class Weighted(nn.Module):
    """A mean in which places near the origin count more."""

    def forward(self, f):
        ramp = torch.linspace(1, 0, f.flatten(2).shape[-1])
        return (f.flatten(2) * ramp).mean(-1)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (MaxPool, "not an average"),
        (AverageAndMax, "not an average"),
        (Weighted, "not an average"),
        (NormAfterMean, "not linear"),
    ],
)
def test_heads_that_only_look_alike_are_refused_by_trying_them_out(head, reason):
    backbone = wrap(seeded(PooledHead(head())), input_spec=plain_spec(16, 24))
    assert reason in backbone.why_not(METHOD.needs)


def test_a_head_with_hidden_layers_is_refused():
    backbone = wrap(seeded(MlpHeadNet()), input_spec=plain_spec(16, 24))
    assert "not linear" in backbone.why_not(METHOD.needs)


@pytest.mark.parametrize("kind", ["gap", "tokens", "nhwc"])
def test_heads_that_average_and_apply_one_linear_layer_are_accepted(kind):
    assert wrap(seeded(NETS[kind]()), input_spec=plain_spec(16, 24)).why_not(METHOD.needs) is None
