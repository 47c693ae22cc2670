"""Grad-CAM++: the paper's alphas at any scale of the score, their limit and their pole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from tests.support.networks import GapNet, MlpHeadNet, seeded
from tests.support.toys import (
    CASES,
    IDS,
    difference,
    final,
    noise,
    picture,
    precise,
    slopes64,
    subject_of,
    toy,
)
from whylens.core.targets import Target
from whylens.plugins.grad_cam_pp import GradCAMPlusPlus, channel_weights

METHOD = GradCAMPlusPlus()


def plus_plus(subject):
    return final(METHOD.explain(subject, METHOD.Params()))


def literal_weights(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Return eqs. 5 and 19 as printed: alpha = g^2 / (2 g^2 + sum_ab A_ab g^3), not simplified."""
    places = list(itertools.product(*map(range, features.shape[1:])))
    weights = np.zeros(len(features))
    for k in range(len(features)):
        total = 0.0
        for place in places:
            total += features[k][place]
        for place in places:
            g = gradients[k][place]
            if g != 0:
                alpha = g**2 / (2 * g**2 + total * g**3)
                weights[k] += alpha * max(g, 0.0)
    return weights


def literal(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Return the ReLU of the weighted sum, position by position."""
    weights = literal_weights(features, gradients)
    values = np.zeros(features.shape[1:])
    for place in itertools.product(*map(range, values.shape)):
        for k in range(len(features)):
            values[place] += weights[k] * features[k][place]
    return np.maximum(values, 0)


@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_the_map_is_the_paper_s_formula_position_by_position(axes, target, kind):
    module, x = toy(axes, kind), picture(axes)
    heat = plus_plus(subject_of(module, x, target))
    expected = literal(*slopes64(module, x, target))
    assert heat.values.shape == expected.shape
    assert difference(heat.values, expected) < 1e-5
    assert not heat.signed
    assert heat.unit.startswith(target.unit)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
def test_the_formula_holds_at_any_scale_of_the_logits(scale, kind):
    module, x = seeded(kind()), noise(1, 3, 24, 40)
    with torch.no_grad():
        module.fc.weight *= scale
        module.fc.bias *= scale
    features, gradients = slopes64(module, x, Target(1))
    weights = channel_weights(*(torch.tensor(a[None]).float() for a in (features, gradients)))
    assert difference(weights.numpy(), literal_weights(features, gradients)) < 1e-5
    heat = plus_plus(subject_of(module, x, Target(1)))
    assert difference(heat.values, literal(features, gradients)) < 1e-5


def test_small_scores_give_every_positive_gradient_the_weight_one_half():
    features, gradients = noise(1, 4, 5, 7), noise(1, 4, 5, 7, seed=6) - 0.5
    weights = channel_weights(features, 1e-6 * gradients) / 1e-6
    half = 0.5 * gradients[0].flatten(1).relu().sum(-1)
    assert difference(weights.numpy(), half.numpy()) < 1e-4


def test_the_alphas_are_those_of_the_derivatives_of_the_exponential_of_the_score():
    # Eq. 10 by autograd, with Y = exp(S): second and third derivatives at each position.
    module = precise(seeded(GapNet(width=2)))
    with torch.no_grad():
        module.fc.weight *= 20
    features = module.features(noise(1, 3, 6, 8).double()).detach()
    weights = torch.zeros(2, dtype=torch.float64)
    leaf = features.clone().requires_grad_()
    outcome = module.head(leaf)[0, 1].exp()
    (first,) = torch.autograd.grad(outcome, leaf, create_graph=True)
    for k, i, j in itertools.product(*map(range, features.shape[1:])):
        (second,) = torch.autograd.grad(first[0, k, i, j], leaf, create_graph=True)
        (third,) = torch.autograd.grad(second[0, k, i, j], leaf, retain_graph=True)
        d2, d3 = float(second[0, k, i, j].detach()), float(third[0, k, i, j])
        alpha = d2 / (2 * d2 + float(features[0, k].sum()) * d3)
        weights[k] += alpha * max(float(first[0, k, i, j].detach()), 0.0)
    leaf = features.clone().requires_grad_()
    score = module.head(leaf)[0, 1]
    (gradients,) = torch.autograd.grad(score, leaf)
    actual = channel_weights(features, gradients) * score.detach().exp()
    assert difference(actual.numpy(), weights.numpy()) < 1e-9


def test_positions_without_gradient_get_no_weight_and_make_no_gap():
    features = torch.ones(1, 2, 2, 2)
    gradients = torch.zeros(1, 2, 2, 2)
    gradients[0, 1, 0, 0] = 2.0
    # Channel 1: alpha = 1 / (2 + 4 * 2), times the gradient 2.
    assert channel_weights(features, gradients).tolist() == [0.0, pytest.approx(0.2)]


def test_a_score_that_does_not_depend_on_the_map_gives_a_blank_that_says_so():
    module = seeded(GapNet())
    with torch.no_grad():
        module.fc.weight[1] = 0
    heat = plus_plus(subject_of(module, noise(1, 3, 16, 24), Target(1)))
    assert not heat.values.any()
    assert "No positive evidence" in heat.blank_reason()


@pytest.mark.parametrize("off", [0.0, 1e-9, -1e-9])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_at_the_pole_the_weight_is_zero_and_beside_it_the_formula_s(scale, off):
    # sum(A) g = -2: only negative sums reach it for a gradient that counts.
    features = torch.full((1, 1, 2, 2), -0.5 / scale, dtype=torch.float64)
    gradients = torch.full((1, 1, 2, 2), scale * (1 + off), dtype=torch.float64)
    assert channel_weights(features, gradients).tolist() == [0.0]
    nearby = gradients * 1.01
    expected = literal_weights(features[0].numpy(), nearby[0].numpy())
    assert difference(channel_weights(features, nearby).numpy(), expected) < 1e-9


def test_a_negative_logit_does_not_flip_the_map():
    module, x = seeded(MlpHeadNet()), noise(1, 3, 16, 24)
    before = plus_plus(subject_of(module, x)).values
    with torch.no_grad():
        module.fc.bias -= 100
    after = subject_of(module, x)
    assert after.score < -50
    assert difference(plus_plus(after).values, before) < 1e-5


@pytest.mark.parametrize("bias", [-3.0, 3.0])
def test_a_head_with_one_output_explains_the_side_that_it_predicts(bias):
    module, x = seeded(MlpHeadNet(classes=1)), noise(1, 3, 16, 24)
    with torch.no_grad():
        module.fc.bias.fill_(bias)
    side = int(subject_of(module, x).forward_pass.logits[0].argmax())
    assert side == (bias > 0)
    features, gradients = slopes64(module, x, Target(0))
    expected = literal(features, (1 if side else -1) * gradients / 2)
    assert difference(plus_plus(subject_of(module, x, Target(side))).values, expected) < 1e-5
