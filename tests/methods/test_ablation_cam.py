"""Ablation-CAM: its equations written out, and the sign that public code turns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.networks import GapNet, MlpHeadNet, TokenNet, seeded
from tests.support.toys import (
    CASES,
    IDS,
    difference,
    final,
    noise,
    picture,
    precise,
    score64,
    subject_of,
    toy,  # fmt: skip
)
from whylens.core.targets import Target
from whylens.plugins._layers import SignedLayerParams
from whylens.plugins.ablation_cam import AblationCAM

METHOD = AblationCAM()


def ablation_cam(subject, **params):
    return final(METHOD.explain(subject, SignedLayerParams(**params)))


def literal(module, x, target) -> np.ndarray:
    twin = precise(module)
    with torch.no_grad():
        features = twin.features(x.double())
        whole = score64(twin.head(features)[0], target)
        values = np.zeros(features.shape[2:])
        for k in range(features.shape[1]):
            ablated = features.clone()
            ablated[0, k] = 0
            fall = whole - score64(twin.head(ablated)[0], target)
            values += float(fall) * features[0, k].numpy()
    return values


@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_the_map_is_the_paper_s_formula_with_a_difference(axes, target, kind):
    module, x = toy(axes, kind), picture(axes)
    subject = subject_of(module, x, target)
    expected = literal(module, x, target)
    signed = ablation_cam(subject, signed=True)
    assert difference(signed.values, expected) < 1e-4
    assert np.array_equal(ablation_cam(subject).values, np.maximum(signed.values, 0))


def test_a_negative_score_turns_no_sign():
    module, x = seeded(GapNet()), noise(1, 3, 16, 24)
    before = ablation_cam(subject_of(module, x), signed=True).values
    with torch.no_grad():
        module.fc.bias -= 100
    subject = subject_of(module, x)
    assert subject.score < 0
    assert difference(ablation_cam(subject, signed=True).values, before) < 1e-3


def test_prefix_tokens_are_left_alone():
    module = seeded(TokenNet(prefix=2))
    subject = subject_of(module, noise(1, 3, 16, 24), Target(1))
    tokens = module.features(subject.x)
    weights = []
    for k in range(tokens.shape[-1]):
        ablated = tokens.clone()
        ablated[:, 2:, k] = 0
        weights.append(float((module.head(tokens) - module.head(ablated))[0, 1]))
    expected = (tokens[0, 2:] @ torch.tensor(weights)).view(4, 6).detach().numpy()
    assert difference(ablation_cam(subject, signed=True).values, expected) < 1e-4


def test_a_dead_channel_weighs_nothing():
    module = seeded(GapNet())
    with torch.no_grad():
        module.fc.weight[:, 0] = 0
    heat = ablation_cam(subject_of(module, noise(1, 3, 16, 24)))
    assert heat.diagnostics["channels that matter"] == heat.diagnostics["channels"] - 1
