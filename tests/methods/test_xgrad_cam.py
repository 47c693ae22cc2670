"""XGrad-CAM: its equation written out, the axiom it is made from, and where a peer's fails."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from tests.support.networks import GapNet, MlpHeadNet
from tests.support.toys import (
    CASES,
    IDS,
    difference,
    final,
    noise,
    picture,
    slopes64,
    subject_of,
    toy,
)
from whylens.core.targets import Target
from whylens.plugins.grad_cam import GradCAM
from whylens.plugins.xgrad_cam import XGradCAM, channel_weights

METHOD = XGradCAM()


def xgrad_cam(subject, **params):
    return final(METHOD.explain(subject, METHOD.Params(**params)))


def literal(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Return the map without its ReLU, position by position."""
    values = np.zeros(features.shape[1:])
    places = list(itertools.product(*map(range, values.shape)))
    for k in range(len(features)):
        total = sum(features[k][place] for place in places)
        if total == 0:
            continue
        weight = sum(features[k][place] / total * gradients[k][place] for place in places)
        for place in places:
            values[place] += weight * features[k][place]
    return values


@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_the_map_is_the_paper_s_formula_position_by_position(axes, target, kind):
    module, x = toy(axes, kind), picture(axes)
    subject = subject_of(module, x, target)
    signed = xgrad_cam(subject, signed=True)
    assert difference(signed.values, literal(*slopes64(module, x, target))) < 1e-5
    assert np.array_equal(xgrad_cam(subject).values, np.maximum(signed.values, 0))
    assert (signed.signed, signed.unit) == (True, target.unit)


def test_conservation_the_map_adds_up_to_gradient_times_feature():
    subject = subject_of(toy(2, MlpHeadNet), picture(2))
    for layer in ("last", "stage 1"):
        (part,) = subject.layers(layer)
        expected = float((part.features.double() * part.gradients).sum())
        values = xgrad_cam(subject, layer=layer, signed=True).values
        assert float(values.sum(dtype=float)) == pytest.approx(expected, rel=1e-4)


def test_under_a_head_that_averages_it_is_grad_cam():
    subject = subject_of(toy(2), picture(2), Target(2))
    grad_cam = final(GradCAM().explain(subject, GradCAM.Params()))
    assert difference(xgrad_cam(subject).values, grad_cam.values) < 1e-5


def test_a_channel_that_adds_up_to_nothing_has_no_weight():
    features, gradients = noise(1, 3, 4, 6), noise(1, 3, 4, 6, seed=9)
    features[0, 0] = 0
    features[0, 1] = torch.tensor([1e4, -1e4]).repeat(4, 3) + 1e-3 * features[0, 2]
    weights = channel_weights(features, gradients)
    assert weights[:2].tolist() == [0, 0]
    assert float(weights[2]) > 0


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_pytorch_grad_cam_s_weights_shrink_with_the_features_and_these_do_not(scale):
    pgc = pytest.importorskip("pytorch_grad_cam", reason="pytorch-grad-cam is not installed")
    features, gradients = scale * noise(1, 5, 4, 6), noise(1, 5, 4, 6, seed=9) - 0.5
    weights = channel_weights(features, gradients).numpy()
    assert difference(weights, channel_weights(features / scale, gradients).numpy()) < 1e-5
    peer = pgc.XGradCAM.get_cam_weights(
        None, None, None, None, features.numpy(), gradients.numpy()
    )[0]
    assert (difference(peer, weights) < 1e-4) == (scale >= 1)
