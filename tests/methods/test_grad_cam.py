"""Grad-CAM: its two equations written out, and what they imply."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

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
from whylens.plugins._layers import SignedLayerParams, mean_gradients
from whylens.plugins.cam import CAM
from whylens.plugins.grad_cam import GradCAM

METHOD = GradCAM()


def grad_cam(subject, **params):
    return final(METHOD.explain(subject, SignedLayerParams(**params)))


def literal(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Return eq. 2 without its ReLU, position by position."""
    values = np.zeros(features.shape[1:])
    places = list(itertools.product(*map(range, values.shape)))
    for k in range(len(features)):
        alpha = 0.0
        for place in places:
            alpha += gradients[k][place]  # eq. 1
        for place in places:
            values[place] += alpha / len(places) * features[k][place]
    return values


@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_the_map_is_the_paper_s_formula_position_by_position(axes, target, kind):
    module, x = toy(axes, kind), picture(axes)
    subject = subject_of(module, x, target)
    expected = literal(*slopes64(module, x, target))
    signed = grad_cam(subject, signed=True)
    assert signed.values.shape == expected.shape
    assert difference(signed.values, expected) < 1e-5
    assert np.array_equal(grad_cam(subject).values, np.maximum(signed.values, 0))
    assert (signed.signed, grad_cam(subject).signed) == (True, False)
    assert signed.unit.startswith(target.unit)


@pytest.mark.parametrize("kind", [GapNet, TokenNet, NhwcNet])
@pytest.mark.parametrize("target", [Target(1), Target(1, "probability"), Target(0, "contrast", 2)])
def test_under_an_average_and_a_linear_layer_it_is_cam_over_the_number_of_positions(kind, target):
    subject = subject_of(seeded(kind()), noise(1, 3, 16, 24), target)
    cam = final(CAM().explain(subject, CAM.Params()))
    heat = grad_cam(subject, signed=True)
    assert difference(heat.values * cam.values.size, cam.values) < 1e-5


@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
def test_a_negative_logit_does_not_flip_the_map(kind):
    module, x = seeded(kind()), noise(1, 3, 16, 24)
    before = grad_cam(subject_of(module, x), signed=True).values
    with torch.no_grad():
        module.fc.bias -= 100
    after = subject_of(module, x)
    assert after.score < -50
    assert difference(grad_cam(after, signed=True).values, before) < 1e-5


@pytest.mark.parametrize("bias", [-3.0, 3.0])
def test_a_head_with_one_output_explains_the_side_that_it_predicts(bias):
    module, x = seeded(MlpHeadNet(classes=1)), noise(1, 3, 16, 24)
    with torch.no_grad():
        module.fc.bias.fill_(bias)
    side = int(subject_of(module, x).forward_pass.logits[0].argmax())
    assert side == (bias > 0)
    heat = grad_cam(subject_of(module, x, Target(side)), signed=True)
    half = literal(*slopes64(module, x, Target(0))) / 2
    assert difference(heat.values, half if side else -half) < 1e-5


def test_the_gradient_is_that_of_the_whole_network():
    module, x = seeded(MlpHeadNet()), noise(1, 3, 16, 24)
    subject = subject_of(module, x, Target(2))
    whole = x.clone().requires_grad_()
    features = module.features(whole)
    (slope,) = torch.autograd.grad(module.head(features)[0, 2], features)
    assert difference(subject.gradients.numpy(), slope.numpy()) < 1e-6


def test_without_positive_evidence_the_map_is_blank_and_says_so():
    module, x = seeded(GapNet()), noise(1, 3, 16, 24)
    with torch.no_grad():
        module.fc.weight[1] = -module.fc.weight[1].abs()
    heat = grad_cam(subject_of(module, x, Target(1)))
    assert not heat.values.any()
    assert "No positive evidence" in heat.blank_reason()
    assert grad_cam(subject_of(module, x, Target(1)), signed=True).values.max() <= 0


def test_a_channel_s_weight_is_the_mean_of_its_gradient():
    gradients = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[-1.0, 1.0], [0.0, 0.0]]]])
    assert mean_gradients(gradients).tolist() == [3.0, 0.0]
