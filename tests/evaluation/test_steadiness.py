"""Seeds, noise and shifts: correlations and norms written out, and what a linear network says."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from tests.support.cases import contributions, linear_case
from tests.support.networks import GapNet, plain_spec, seeded
from tests.support.toys import noise, subject_of
from whylens.core.evaluation.agreement import top_overlap
from whylens.core.evaluation.metric import Case
from whylens.core.evaluation.steadiness import (
    MAX_SENSITIVITY,
    SEED_AGREEMENT,
    SEED_OVERLAP,
    SHIFT_EQUIVARIANCE,
    SHIFT_OVERLAP,
    max_sensitivity,
)
from whylens.core.inputs.spec import InputSpec
from whylens.core.models.backbone import wrap
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.results import Heatmap


def drawing(amount: float):
    """Return a method that adds noise of its seed to the exact map."""

    def explain(subject):
        wobble = torch.randn(subject.size, generator=subject.generator()).numpy()
        return Heatmap(contributions(subject).values + amount * wobble, "x", signed=True)

    return explain


def test_two_seeds_agree_as_far_as_their_maps_do():
    case = linear_case()
    values = []
    for amount in (0.01, 0.3):
        explain = drawing(amount)
        heat = explain(case.subject)
        score = SEED_AGREEMENT.score(replace(case, heat=heat, explain=explain))
        second_map = explain(replace(case.subject, seed=1))
        expected = spearmanr(heat.values, second_map.values, axis=None).statistic
        assert score.value == pytest.approx(expected, abs=1e-3)
        values.append(score.value)
    assert values[0] > 0.95 > values[1]
    score_of_one_map = SEED_AGREEMENT.score(case)
    assert (score_of_one_map.value, score_of_one_map.note) == (
        None,
        "It draws no random numbers: every seed has this map.",
    )


def test_the_overlap_is_the_mean_over_all_orders_of_equal_values():
    first, second = np.array([5.0, 1, 1, 0, 0, 0]), np.array([1.0, 0, 2, 2, 2, 0])
    orders = list(itertools.permutations(range(6)))
    tops = [
        [set(sorted(order, key=lambda i: -values[i])[:2]) for order in orders]
        for values in (first, second)
    ]
    shares = [len(a & b) / 2 for a, b in itertools.product(*tops)]
    assert top_overlap(first, second, share=1 / 3) == pytest.approx((np.mean(shares), 1 / 3))
    assert top_overlap(first, first, share=1 / 6) == (1, 1 / 6)
    assert top_overlap(first, np.ones(6), share=1 / 3) == pytest.approx((1 / 3, 1 / 3))


def test_seeds_mark_the_same_as_far_as_their_strongest_places_are_the_same():
    case, explain = linear_case(), drawing(0.3)
    heat = explain(case.subject)
    score = SEED_OVERLAP.score(replace(case, heat=heat, explain=explain))
    second_map = explain(replace(case.subject, seed=1))
    five = [set(np.argsort(values.ravel())[-5:]) for values in (heat.values, second_map.values)]
    assert (score.value, score.chance) == (len(five[0] & five[1]) / 5, 5 / 48)
    assert 5 / 48 < score.value < 1
    assert SEED_OVERLAP.score(case).value is None


def test_the_largest_change_is_that_of_the_noise_drawn():
    input_spec = InputSpec(size=(6, 8), channels=1, mean=(0.4,), std=(0.25,), crop=1.0)
    base = linear_case()
    backbone = wrap(base.subject.backbone.module, input_spec=input_spec)
    subject = subject_of(None, base.subject.x, base.subject.target, backbone=backbone)
    inputs = []

    def recording(noisy_subject):
        inputs.append(noisy_subject)
        return contributions(noisy_subject)

    heat = contributions(subject)
    steps = list(max_sensitivity(subject, heat, recording, radius=0.05, draws=6))
    changes = []
    for noisy_subject in inputs:
        noise_in_pixels = (noisy_subject.x - subject.x) * 0.25
        assert 0.04 < float(noise_in_pixels.abs().max()) <= 0.0500001
        assert noisy_subject.target == subject.target
        assert noisy_subject.seed == subject.seed
        change = contributions(noisy_subject).values.astype(float) - heat.values
        changes.append(np.sqrt((change**2).sum()) / np.sqrt((heat.values.astype(float) ** 2).sum()))
    assert len({float(noisy_subject.x.sum()) for noisy_subject in inputs}) == 6
    assert [step.value for step in steps] == pytest.approx(np.maximum.accumulate(changes))


def test_the_noise_of_a_methods_own_seed_is_not_counted():
    case = linear_case()
    loud = drawing(5.0)
    quiet = MAX_SENSITIVITY.score(replace(case, heat=loud(case.subject), explain=loud))
    assert quiet.value < 0.01
    still = MAX_SENSITIVITY.score(replace(case, explain=lambda subject: case.heat))
    assert still.value == 0


def features_times_gradients(subject) -> Heatmap:
    return Heatmap((subject.features * subject.gradients)[0].sum(0).numpy(), "x", signed=True)


@pytest.mark.parametrize("size", [(16, 24), (24,)])
def test_the_map_of_a_convolution_moves_along_and_one_of_the_middle_does_not(size):
    module = seeded(GapNet(axes=len(size)))
    backbone = wrap(module, input_spec=plain_spec(*size))
    subject = subject_of(None, noise(1, 3, *size), backbone=backbone)
    heat = features_times_gradients(subject)
    good = SHIFT_EQUIVARIANCE.score(Case(subject, heat, features_times_gradients))
    assert good.value > 0.9
    assert good.passes == len(size)
    marks = SHIFT_OVERLAP.score(Case(subject, heat, features_times_gradients))
    assert marks.value > 0.8 > 0.12 > marks.chance
    ramp = Heatmap(noise(*size, seed=9).numpy(), "x")
    assert SHIFT_EQUIVARIANCE.score(Case(subject, ramp, lambda shifted_subject: ramp)).value < 0.4
    flat = Heatmap(np.ones(size), "x")
    assert SHIFT_EQUIVARIANCE.score(Case(subject, flat, lambda shifted_subject: flat)).value == 0
    marks = SHIFT_OVERLAP.score(Case(subject, flat, lambda shifted_subject: flat))
    assert marks.value == pytest.approx(marks.chance)


def test_the_agreement_is_that_of_the_places_that_both_inputs_show():
    case = linear_case(16, 32)  # its last map is the input itself: one stride is one place
    heat, expected = case.heat.values, []
    for axis in (0, 1):
        rolled_x = case.subject.x.roll(1, axis + 2)
        shifted_subject = subject_of(case.subject.backbone.module, rolled_x, case.subject.target)
        values = np.moveaxis(contributions(shifted_subject).values, axis, 0)[1:]
        expected.append(spearmanr(np.moveaxis(heat, axis, 0)[:-1], values, axis=None).statistic)
    assert SHIFT_EQUIVARIANCE.score(case).value == pytest.approx(np.mean(expected), abs=1e-4)


def test_the_largest_change_agrees_with_captum_s():
    metrics = pytest.importorskip("captum.metrics", reason="captum is not installed")
    case = linear_case()
    subject, inputs = case.subject, []

    def recording(noisy_subject):
        inputs.append(noisy_subject.x)
        return contributions(noisy_subject)

    score = MAX_SENSITIVITY.score(replace(case, explain=recording))

    def explain(batch):
        (x,) = batch
        questions = (
            replace(subject, forward_pass=ForwardPass(subject.backbone, r[None])) for r in x
        )
        maps = [
            torch.tensor(contributions(noisy_subject).values)[None] for noisy_subject in questions
        ]
        return (torch.stack(maps),)  # of a bare tensor captum's norms are too large by sqrt(10)

    reference = metrics.sensitivity_max(
        explain, subject.x, perturb_func=lambda x, _: (torch.cat(inputs),), n_perturb_samples=10
    )
    assert score.value == pytest.approx(float(reference), rel=1e-4)
