"""Infidelity: the correlation written out, 1 and -1 where a linear network says so, its chance."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.cases import linear, linear_case, random_map, weights_of
from tests.support.networks import GapNet, seeded
from tests.support.toys import noise, precise, subject_of
from whylens.core.evaluation.infidelity import METRIC, infidelity
from whylens.core.results import Heatmap
from whylens.core.targets import Target


def last(steps):
    *_, score = steps
    return score


def recorded_boxes(subject, **options):
    """Return the windows that were filled, as the mask of what each input lacks."""
    boxes, ask = [], subject.window_scores

    class Recording(type(subject)):
        def window_scores(self, windows, fill):
            boxes.extend(windows)
            yield from ask(windows, fill)

    fields = {name: getattr(subject, name) for name in subject.__dataclass_fields__}
    return Recording(**fields), boxes


@pytest.mark.parametrize("grid", [(16, 24), (4, 6), (5, 7)])
def test_it_is_the_correlation_of_the_sums_with_the_losses_written_out(grid):
    module = seeded(GapNet())
    x = noise(1, 3, 16, 24)
    subject, boxes = recorded_boxes(subject_of(module, x, Target(1)))
    heat = Heatmap(noise(*grid, seed=8).numpy() - 0.4, "x", signed=True)
    score = last(infidelity(subject, heat, windows=12, fill="black"))
    twin, total = precise(module), []
    for box in boxes:
        masked_x = x.double().clone()
        masked_x[(slice(None), slice(None), *box)] = 0
        loss = float((twin(x.double()) - twin(masked_x))[0, 1])
        map_sum = 0.0
        for row in range(grid[0]):
            for column in range(grid[1]):
                area = 1.0
                for axis, (place, cells) in enumerate([(row, grid[0]), (column, grid[1])]):
                    cell = subject.size[axis] / cells
                    low = max(place * cell, box[axis].start)
                    area *= max(0.0, min((place + 1) * cell, box[axis].stop) - low) / cell
                map_sum += area * float(heat.values[row, column])
        total.append((map_sum, loss))
    assert len(boxes) == 12
    means = [sum(pair[i] for pair in total) / len(total) for i in (0, 1)]
    total = [(a - means[0], b - means[1]) for a, b in total]
    ab = sum(a * b for a, b in total)
    expected = ab / math.sqrt(sum(a * a for a, _ in total) * sum(b * b for _, b in total))
    assert score.value == pytest.approx(expected, abs=1e-5)
    assert score.passes == 13


@pytest.mark.parametrize("fill", ["black", "grey", "mean", "blur"])
@pytest.mark.parametrize("size", [(12,), (6, 8), (4, 5, 6)])
def test_on_a_linear_network_the_exact_map_gets_1_and_its_negative_minus_1(fill, size):
    weights, x = weights_of(*size, seed=1), noise(1, 1, *size)
    subject = subject_of(linear(weights, 2 * weights), x, Target(1))
    exact = (2 * weights * (x - subject.baseline(fill))[0, 0]).numpy()
    for factor in (1, 1e-3, -1, -50):
        score = last(infidelity(subject, Heatmap(factor * exact, "x", True), fill=fill))
        assert score.value == pytest.approx(math.copysign(1, factor), abs=1e-4)


@pytest.mark.slow  # the conformance kit asks the chance level of every metric
def test_a_random_map_gets_0_on_average_and_so_does_a_flat_one():
    case = linear_case()
    for centre in (0, 0.5):
        values = []
        for seed in range(60):
            heat = Heatmap(noise(6, 8, seed=seed).numpy() - centre, "x", True)
            values.append(METRIC.score(replace(case, heat=heat)).value)
        assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(len(values))
    for grid in ((6, 8), (4, 5), (1, 1)):
        flat = METRIC.score(replace(case, heat=Heatmap(np.full(grid, 0.7), "x")))
        assert flat.value == flat.chance == 0


def test_a_network_that_loses_by_any_window_is_no_help_to_a_map_of_one_sign():
    # Uncentred, the cosine of any positive map is close to 1 here.
    weights = torch.full((6, 8), 2.0) + 0.01 * weights_of(6, 8, seed=2)
    subject = subject_of(linear(weights, weights), torch.ones(1, 1, 6, 8), Target(1))
    values = [
        last(infidelity(subject, Heatmap(noise(6, 8, seed=seed).numpy(), "x"), fill="black")).value
        for seed in range(8)
    ]
    assert abs(np.mean(values)) < 0.4


def test_windows_lie_elsewhere_under_another_seed_and_nowhere_else_under_the_same():
    case = linear_case()
    scores = [
        METRIC.score(
            replace(case, heat=random_map(case.subject), subject=replace(case.subject, seed=seed))
        )
        for seed in (0, 0, 1)
    ]
    assert scores[0] == scores[1] != scores[2]


def test_scores_come_in_pieces_and_the_work_stops_between_them():
    batch_sizes = []

    class Counting(GapNet):
        def forward(self, x):
            batch_sizes.append(len(x))
            return super().forward(x)

    subject = subject_of(seeded(Counting()), noise(1, 3, 16, 24), batch_size=4)
    work = infidelity(subject, random_map(subject), windows=12)
    batch_sizes.clear()
    first = next(work)
    passes = sum(batch_sizes)
    work.close()
    assert first.fraction == pytest.approx(1 / 3)
    assert sum(batch_sizes) == passes


def test_it_says_why_it_says_nothing():
    case = linear_case()
    blank = METRIC.score(replace(case, heat=Heatmap(np.zeros((6, 8)), "x")))
    assert (blank.value, blank.note) == (None, "The map is blank: it foresees nothing.")
    deaf = subject_of(linear(torch.zeros(6, 8), torch.zeros(6, 8)), noise(1, 1, 6, 8))
    score = METRIC.score(replace(case, subject=deaf))
    assert (score.value, score.note) == (None, "No window changes the score.")


def test_captum_s_scaled_infidelity_is_what_the_cosine_says_without_its_sign():
    metrics = pytest.importorskip("captum.metrics", reason="captum is not installed")
    module, x = seeded(GapNet()), noise(1, 3, 16, 24)
    subject, boxes = recorded_boxes(subject_of(module, x, Target(1)))
    values = noise(16, 24, seed=8) - 0.4
    score = last(infidelity(subject, Heatmap(values.numpy(), "x", True), windows=12, fill="black"))
    masks = torch.zeros(12, 1, 16, 24)
    for mask, box in zip(masks, boxes, strict=True):
        mask[(slice(None), *box)] = 1
    masks = masks.expand(12, 3, 16, 24)
    # One channel holds the map, so that captum's sum over channels is the sum over places.
    maps = torch.cat([values[None, None], torch.zeros(1, 2, 16, 24)], 1)
    infidelities = {
        sign: float(
            metrics.infidelity(
                module, lambda i: (masks, i * (1 - masks)), x, sign * maps, baselines=None,
                target=1, n_perturb_samples=12, normalize=True,
            )
        )
        for sign in (1, -1)
    }  # fmt: skip
    sums = (masks[:, 0] * values).sum((1, 2)).double()
    with torch.no_grad():
        losses = (module(x) - module(x * (1 - masks)))[:, 1].double()
    cosine = float(sums @ losses / (sums.norm() * losses.norm()))
    square = float((losses**2).mean())
    assert infidelities[1] / square == pytest.approx(1 - cosine**2, abs=1e-4)
    assert infidelities[-1] == pytest.approx(infidelities[1], rel=1e-4)
    pair = np.corrcoef(sums.numpy(), losses.numpy())
    assert score.value == pytest.approx(pair[0, 1], abs=1e-4)
