"""Integrated gradients: exact on lines, complete everywhere else or said not to be."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.networks import GapNet, MlpHeadNet, seeded
from tests.support.toys import (
    CASES,
    IDS,
    LinearNet,
    difference,
    final,
    noise,
    picture,
    precise,
    score64,
    subject_of,
    toy,
)
from whylens.core.inputs.spec import InputSpec
from whylens.core.targets import Target
from whylens.plugins.integrated_gradients import (
    TOLERANCE,
    IntegratedGradients,
    IntegratedGradientsParams,
    completeness_gap,
    quadrature,
)

METHOD = IntegratedGradients()
RULES = ("midpoint", "gauss-legendre")


def integrated(subject, **params):
    return final(METHOD.explain(subject, IntegratedGradientsParams(**params)))


def literal(module, x, target, points, weights, start=None) -> np.ndarray:
    """Return eq. 1 by quadrature, one point of the path and one pixel at a time."""
    twin, x = precise(module), x.double()
    start = torch.zeros_like(x) if start is None else start.double().expand_as(x)
    mean = np.zeros(x.shape[1:])
    for point, weight in zip(points, weights, strict=True):
        leaf = (start + point * (x - start)).requires_grad_()
        score64(twin(leaf)[0], target).backward()
        mean += weight * leaf.grad[0].numpy()
    values = np.zeros(x.shape[2:])
    for place in itertools.product(*map(range, values.shape)):
        for channel in range(x.shape[1]):
            at = (channel, *place)
            values[place] += (float(x[0][at]) - float(start[0][at])) * mean[at]
    return values


def score_change(module, x, target, start) -> float:
    """Return F(x) - F(x0) in float64."""
    twin = precise(module)
    with torch.no_grad():
        end, beginning = (score64(twin(v.double())[0], target) for v in (x, start))
    return float(end - beginning)


@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_the_map_is_the_paper_s_integral_point_by_point(axes, target, kind):
    module, x = toy(axes, kind), picture(axes)
    heat = integrated(subject_of(module, x, target), steps=16, max_steps=16)
    points, weights = [(i + 0.5) / 16 for i in range(16)], [1 / 16] * 16
    expected = literal(module, x, target, points, weights)
    assert heat.values.shape == expected.shape
    assert difference(heat.values, expected) < 2e-5
    assert heat.signed
    assert heat.unit == f"{target.unit} per {'pixel' if axes == 2 else 'point'}"


def test_gauss_legendre_is_the_paper_s_integral_as_well():
    module, x, target = seeded(MlpHeadNet()), noise(1, 3, 10, 13), Target(0, "contrast", 2)
    heat = integrated(subject_of(module, x, target), rule="gauss-legendre", steps=8, max_steps=8)
    roots, weights = np.polynomial.legendre.leggauss(8)
    expected = literal(module, x, target, (roots + 1) / 2, weights / 2)
    assert difference(heat.values, expected) < 2e-5


@pytest.mark.parametrize("steps", [8, 24, 120])
@pytest.mark.parametrize("rule", RULES)
def test_on_a_linear_network_each_pixel_gets_weight_times_change_for_any_rule_and_steps(
    rule, steps
):
    module, x = seeded(LinearNet(6, 9)), noise(1, 3, 6, 9)
    heat = integrated(subject_of(module, x, Target(2)), rule=rule, steps=steps, max_steps=steps)
    weight = module.fc.weight[2].detach().double().reshape(3, 6, 9)
    assert difference(heat.values, (weight * x[0].double()).sum(0).numpy()) < 1e-6
    assert heat.diagnostics["completeness gap"] < 1e-5
    assert heat.diagnostics["steps"] == steps


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("target", [Target(1), Target(1, "probability"), Target(0, "contrast", 1)])
def test_all_pixels_together_add_up_to_the_score_s_change(rule, target):
    module, x = seeded(MlpHeadNet()), noise(1, 3, 16, 24)
    heat = integrated(subject_of(module, x, target), rule=rule, steps=128, max_steps=1024)
    change = score_change(module, x, target, torch.zeros_like(x))
    assert heat.diagnostics["score change"] == pytest.approx(change, rel=1e-4)
    reached = abs(float(heat.values.astype(float).sum()) - change) / abs(change)
    assert reached < TOLERANCE
    assert heat.diagnostics["completeness gap"] == pytest.approx(reached, abs=1e-4)
    assert not heat.note


class Steep(nn.Module):
    """Scores that rise within a short piece of the path: few steps miss it."""

    def __init__(self, slope: float = 120.0, scale: float = 1.0) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))
        self.scale = scale

    def forward(self, x):
        rise = torch.sigmoid(self.slope * (x.flatten(1).mean(1) - 0.2)) * self.scale
        return torch.stack([-rise, rise], 1)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_steps_are_doubled_until_the_gap_is_below_5_percent_at_any_scale(scale):
    module, x = Steep(scale=scale), torch.full((1, 3, 6, 9), 0.9)
    subject = subject_of(module, x)
    coarse, medium, fine = (
        integrated(subject, steps=8, max_steps=steps).diagnostics for steps in (8, 16, 1024)
    )
    assert coarse["completeness gap"] > TOLERANCE
    steps = fine["steps"]
    assert steps > 8
    assert steps in (16, 32, 64, 128)
    assert fine["completeness gap"] < TOLERANCE
    half = integrated(subject, steps=int(steps) // 2, max_steps=int(steps) // 2)
    assert half.diagnostics["completeness gap"] >= TOLERANCE
    assert medium["steps"] == 16


def test_at_the_most_steps_the_gap_is_said():
    heat = integrated(subject_of(Steep(), torch.full((1, 3, 6, 9), 0.9)), steps=8, max_steps=8)
    gap = heat.diagnostics["completeness gap"]
    assert heat.diagnostics["steps"] == 8
    assert f"{100 * gap:.0f} %" in heat.note
    assert "more steps" in heat.note


def test_the_most_steps_bound_the_first_steps():
    module, x = seeded(GapNet()), noise(1, 3, 10, 13)
    heat = integrated(subject_of(module, x), steps=128, max_steps=16)
    assert heat.diagnostics["steps"] <= 16


def test_an_input_that_is_its_own_baseline_has_nothing_to_share_out():
    heat = integrated(subject_of(seeded(GapNet()), torch.zeros(1, 3, 10, 13)))
    assert not heat.values.any()
    assert heat.diagnostics["completeness gap"] == 0
    assert heat.diagnostics["steps"] == 32
    assert "zero everywhere" in heat.blank_reason()


def test_a_gap_is_relative_and_rounding_is_no_gap():
    assert completeness_gap(0.9, 1.0, 1e-6) == pytest.approx(0.1)
    assert completeness_gap(9e-9, 1e-8, 1e-14) == pytest.approx(0.1)
    assert completeness_gap(1.1, -1.0, 1e-6) == pytest.approx(2.1)
    assert completeness_gap(5e-7, 0.0, 1e-6) == 0
    assert completeness_gap(1.0, 0.0, 1e-6) == pytest.approx(1e6)


def normalised_spec() -> InputSpec:
    return InputSpec(size=(20, 31), mean=(0.4, 0.5, 0.1), std=(0.2, 0.3, 0.25), crop=1.0)


def literal_blur(image: np.ndarray) -> np.ndarray:
    """Return a Gaussian of a tenth of the shorter side, edges continued, one value at a time."""
    sigma = max(1.0, min(image.shape) / 10)
    reach = int(3 * sigma + 0.5)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    rows, columns = image.shape
    for _ in range(2):
        blurred_rows = np.zeros_like(image)
        for i in range(image.shape[0]):
            for n, weight in enumerate(kernel):
                blurred_rows[i] += weight * image[min(max(i + n - reach, 0), image.shape[0] - 1)]
        image = blurred_rows.T
    assert image.shape == (rows, columns)
    return image


def baseline_in_pixels(name: str, unit: np.ndarray) -> np.ndarray:
    match name:
        case "black":
            return np.zeros_like(unit)
        case "grey":
            return np.full_like(unit, 0.5)
        case "mean":
            return np.broadcast_to(unit.mean((1, 2), keepdims=True), unit.shape)
    return np.stack([literal_blur(channel) for channel in unit])


@pytest.mark.parametrize("name", ["black", "grey", "mean", "blur"])
def test_baselines_are_what_they_say_in_pixel_space(name):
    input_spec = normalised_spec()
    mean, std = (torch.tensor(v)[None, :, None, None] for v in (input_spec.mean, input_spec.std))
    unit = noise(1, 3, 20, 31)
    module = seeded(LinearNet(20, 31))
    subject = subject_of(module, (unit - mean) / std, Target(0), input_spec=input_spec)
    heat = integrated(subject, baseline=name, steps=8, max_steps=8)
    pixels = unit[0].double().numpy()
    change = (pixels - baseline_in_pixels(name, pixels)) / np.array(input_spec.std)[:, None, None]
    weight = module.fc.weight[0].detach().double().reshape(3, 20, 31).numpy()
    assert difference(heat.values, (weight * change).sum(0)) < 1e-5


@pytest.mark.parametrize("steps", [8, 24, 64, 1024])
@pytest.mark.parametrize("rule", RULES)
def test_quadrature_weights_sum_to_1_and_points_lie_within_the_path(rule, steps):
    points, weights = quadrature(rule, steps)
    assert len(points) == len(weights) == steps
    assert sum(weights) == pytest.approx(1, abs=1e-12)
    assert 0 < min(points) < max(points) < 1
    assert sum(p * w for p, w in zip(points, weights, strict=True)) == pytest.approx(0.5)


@pytest.mark.parametrize("steps", [1, 2, 5, 8])
def test_quadrature_is_exact_for_the_polynomials_that_it_promises(steps):
    points, weights = map(np.array, quadrature("gauss-legendre", steps))
    for degree in range(2 * steps):
        assert (weights * points**degree).sum() == pytest.approx(1 / (degree + 1), abs=1e-12)
    assert (weights * points ** (2 * steps)).sum() != pytest.approx(1 / (2 * steps + 1), rel=1e-9)
    points, weights = map(np.array, quadrature("midpoint", steps))
    # On t^2 the midpoint rule misses by 1 / (12 n^2), exactly.
    error = 1 / 3 - (weights * points**2).sum()
    assert error == pytest.approx(1 / (12 * steps**2), rel=1e-9)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_the_answer_does_not_depend_on_the_batch_size(rule, batch_size):
    subject = subject_of(seeded(MlpHeadNet()), noise(1, 3, 10, 13))
    expected = integrated(subject, rule=rule).values
    actual = integrated(replace(subject, batch_size=batch_size), rule=rule).values
    assert difference(actual, expected) < 1e-5


def test_parts_have_the_size_of_the_whole_and_fractions_end_at_1():
    subject = subject_of(seeded(MlpHeadNet()), noise(1, 3, 10, 13), batch_size=4)
    parts = list(METHOD.explain(subject, IntegratedGradientsParams()))
    fractions = [p.fraction for p in parts]
    assert all(0 < f < 1 for f in fractions[:-1])
    assert fractions[-1] == 1
    last = parts[-1].result.values
    assert all(difference(p.result.values, last) < 0.3 for p in parts)


def test_a_negative_logit_does_not_flip_the_map():
    module, x = seeded(MlpHeadNet()), noise(1, 3, 10, 13)
    before = integrated(subject_of(module, x), steps=64).values
    with torch.no_grad():
        module.fc.bias -= 10
    after = subject_of(module, x)
    assert after.score < -5
    assert difference(integrated(after, steps=64).values, before) < 1e-4


@pytest.mark.parametrize("bias", [-3.0, 3.0])
def test_a_head_with_one_output_explains_the_side_that_it_predicts(bias):
    module, x = seeded(MlpHeadNet(classes=1)), noise(1, 3, 10, 13)
    with torch.no_grad():
        module.fc.bias.fill_(bias)
    side = int(subject_of(module, x).forward_pass.logits[0].argmax())
    assert side == (bias > 0)
    heat = integrated(subject_of(module, x, Target(side)), steps=16, max_steps=16)
    points, weights = [(i + 0.5) / 16 for i in range(16)], [1 / 16] * 16
    half = literal(module, x, Target(0), points, weights) / 2
    assert difference(heat.values, half if side else -half) < 2e-5
