"""Finer-CAM: its formula written out, what it comes to with one rival or none, and a peer's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.methods.test_grad_cam import literal as grad_cam_map
from tests.support.networks import GapNet, MlpHeadNet
from tests.support.toys import (
    SIZES,
    difference,
    final,
    noise,
    picture,
    precise,
    subject_of,
    toy,
)
from whylens.core.errors import NeedsNotMet
from whylens.core.targets import Target
from whylens.plugins.finer_cam import FinerCAM, rivals_of
from whylens.plugins.grad_cam import GradCAM

METHOD = FinerCAM()
CLASSES = 6


def finer_cam(subject, **params):
    return final(METHOD.explain(subject, METHOD.Params(**params)))


def grad_cam(subject, **params):
    return final(GradCAM().explain(subject, GradCAM.Params(**params)))


def slopes(module, x, index: int, quantity: str):
    """Return features and the gradient of one class's own score, float64."""
    twin = precise(module)
    leaf = twin.features(x.double()).detach().requires_grad_()
    logits = twin.head(leaf)[0]
    score = logits.exp()[index] / logits.exp().sum() if quantity == "probability" else logits[index]
    score.backward()
    return leaf.detach()[0].numpy(), leaf.grad[0].numpy(), logits.detach().numpy()


@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
@pytest.mark.parametrize("axes", SIZES)
@pytest.mark.parametrize("quantity", ["logit", "probability"])
@pytest.mark.parametrize(("count", "alpha"), [(3, 1.0), (2, 0.6)])
def test_the_map_is_the_target_s_less_the_mean_of_its_rivals(axes, kind, quantity, count, alpha):
    module, x = toy(axes, kind, classes=CLASSES), picture(axes)
    _, _, logits = slopes(module, x, 0, quantity)
    for index in (int(logits.argmax()), int(logits.argmin())):
        rivals = sorted(set(range(CLASSES)) - {index}, key=lambda c: -logits[c])[:count]
        expected = grad_cam_map(*slopes(module, x, index, quantity)[:2])
        for rival in rivals:
            expected -= alpha / count * grad_cam_map(*slopes(module, x, rival, quantity)[:2])
        subject = subject_of(module, x, Target(index, quantity))
        signed = finer_cam(subject, rivals=count, alpha=alpha, signed=True)
        assert difference(signed.values, expected) < 1e-4
        positive = finer_cam(subject, rivals=count, alpha=alpha)
        assert np.array_equal(positive.values, np.maximum(signed.values, 0))


def test_one_rival_is_a_contrast_and_no_strength_is_grad_cam():
    module, x = toy(2, MlpHeadNet, classes=CLASSES), picture(2)
    subject = subject_of(module, x, Target(1))
    (rival,) = rivals_of(subject.forward_pass.logits[0], 1, 1)
    against = subject_of(module, x, Target(1, "contrast", rival))
    heat = finer_cam(subject, rivals=1)
    assert difference(heat.values, grad_cam(against).values) < 1e-5
    assert heat.diagnostics["margin over the rivals"] == pytest.approx(against.score, abs=1e-5)
    assert difference(finer_cam(subject, alpha=0).values, grad_cam(subject).values) < 1e-5


def test_a_contrast_names_its_own_rival():
    module, x = toy(2, MlpHeadNet, classes=CLASSES), picture(2)
    subject = subject_of(module, x, Target(1, "contrast", 4))
    heat = finer_cam(subject, rivals=3, signed=True)
    assert difference(heat.values, grad_cam(subject, signed=True).values) < 1e-5
    assert heat.note == f"Rivals: {subject.backbone.labels[4]}."


def test_what_raises_all_classes_alike_cancels_out():
    module, x = toy(2, classes=CLASSES), picture(2)
    before = finer_cam(subject_of(module, x, Target(2)), signed=True).values
    with torch.no_grad():
        module.fc.weight += 3 * noise(1, module.fc.in_features)
    assert (
        difference(finer_cam(subject_of(module, x, Target(2)), signed=True).values, before) < 1e-4
    )


def test_rivals_are_the_best_others_as_many_as_there_are():
    logits = torch.tensor([3.0, 1.0, 5.0, 3.0])
    assert rivals_of(logits, 2, 3) == [0, 3, 1]
    assert rivals_of(logits, 0, 20) == [2, 3, 1]
    assert rivals_of(logits, 1, 1) == [2]


@pytest.mark.parametrize(
    "target", [Target(0, "value"), Target(0, "function", function=lambda logits: logits[:, 0])]
)
def test_what_has_no_rivals_is_refused(target):
    with pytest.raises(NeedsNotMet, match="has no rivals"):
        finer_cam(subject_of(toy(2), picture(2), target))


def test_a_peer_weighs_rivals_by_probability_and_agrees_where_they_weigh_alike():
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    if not hasattr(targets, "FinerWeightedTarget"):
        pytest.skip("this pytorch-grad-cam has no Finer-CAM")
    logits = torch.tensor([2.0, 0.5, 0.5, 0.5])
    peer = targets.FinerWeightedTarget(0, [1, 2, 3], 1.0)(logits)
    assert float(peer) == pytest.approx(1.5, abs=1e-6)
    uneven = torch.tensor([2.0, 1.5, 0.5, -0.5])
    assert float(targets.FinerWeightedTarget(0, [1, 2, 3], 1.0)(uneven)) < 1.5 - 0.3
