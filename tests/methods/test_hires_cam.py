"""HiResCAM: its equation written out, and the score that it adds up to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from torch import nn

from tests.support.networks import GapNet, MlpHeadNet, TokenNet, seeded
from tests.support.toys import (
    CASES,
    IDS,
    NhwcNet,
    difference,
    final,
    noise,
    picture,
    slopes64,
    subject_of,
    toy,
)
from whylens.core.targets import Target
from whylens.plugins.cam import CAM
from whylens.plugins.hires_cam import HiResCAM

METHOD = HiResCAM()


def literal(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    values = np.zeros(features.shape[1:])
    for place in itertools.product(*map(range, values.shape)):
        for k in range(len(features)):
            values[place] += gradients[k][place] * features[k][place]
    return values


@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_the_map_is_the_paper_s_formula_position_by_position(axes, target, kind):
    module, x = toy(axes, kind), picture(axes)
    heat = final(METHOD.explain(subject_of(module, x, target), METHOD.Params()))
    assert difference(heat.values, literal(*slopes64(module, x, target))) < 1e-5
    assert heat.signed


@pytest.mark.parametrize("kind", [GapNet, TokenNet, NhwcNet])
def test_where_the_rest_is_linear_it_adds_up_to_the_score_less_the_bias(kind):
    module = seeded(kind())
    subject = subject_of(module, noise(1, 3, 16, 24), Target(2))
    heat = final(METHOD.explain(subject, METHOD.Params()))
    expected = subject.score - float(module.fc.bias[2])
    assert abs(float(heat.values.sum()) - expected) < 1e-5 * (1 + abs(expected))
    assert abs(heat.diagnostics["sum of map"] - expected) < 1e-5 * (1 + abs(expected))
    cam = final(CAM().explain(subject, CAM.Params()))
    assert difference(heat.values * cam.values.size, cam.values) < 1e-5


class NormedNet(GapNet):
    """Normalises every place over its channels after the feature map, as transformers do."""

    def head(self, f):
        normed = nn.functional.layer_norm(f.movedim(1, -1), (f.shape[1],), eps=1e-12)
        return super().head(normed.movedim(-1, 1))


def test_what_cancels_is_zero_and_said_rather_than_rounding_shown_as_a_map():
    subject = subject_of(seeded(NormedNet()), noise(1, 3, 16, 24), Target(2))
    exact = literal(*slopes64(subject.backbone.module, subject.x, Target(2)))
    assert np.abs(exact).max() < 1e-9
    assert (subject.gradients * subject.features).sum(1).any()  # float32 alone leaves something
    heat = final(METHOD.explain(subject, METHOD.Params()))
    assert not heat.values.any()
    assert "cancels out" in heat.note
