"""Deletion and insertion: exactly k cells at each step, ties by expectation, areas written out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from tests.support.networks import GapNet, seeded
from tests.support.toys import LinearNet, difference, noise, precise, subject_of
from whylens.core.errors import BadInput
from whylens.core.evaluation import road
from whylens.core.evaluation.curves import (
    AOPC,
    DELETION,
    INSERTION,
    RANDOM_MAPS,
    aopc,
    beats_random_maps,
    deletion,
    insertion,
)
from whylens.core.evaluation.metric import Case
from whylens.core.evaluation.ordering import on_input, strongest, strongest_first
from whylens.core.evaluation.random_maps import smoothness
from whylens.core.models.backbone import Backbone
from whylens.core.results import Heatmap
from whylens.core.targets import Target

MEASURES = {"deletion": deletion, "insertion": insertion}
ORDER_BASED = [DELETION, INSERTION, RANDOM_MAPS, AOPC, road.ROAD]


def linear(weights: torch.Tensor) -> LinearNet:
    """Return a network that adds up the pixels of its only channel, weighted."""
    module = LinearNet(*weights.shape, channels=1, classes=2)
    with torch.no_grad():
        module.fc.weight.zero_()
        module.fc.bias.zero_()
        module.fc.weight[1] = weights.flatten()
    return module


def final(scores):
    """Return the last score of a metric."""
    *_, last = scores
    return last


@pytest.fixture
def lit_counts(monkeypatch):
    """For every input that a network is asked about, how many of its values are not 0."""
    counts, fast_logits = [], Backbone.fast_logits

    def counting(backbone, x):
        counts.extend(x.flatten(1).ne(0).sum(1).tolist())
        return fast_logits(backbone, x)

    monkeypatch.setattr(Backbone, "fast_logits", counting)
    return counts


@pytest.mark.parametrize("mode", MEASURES)
@pytest.mark.parametrize("quantity", ["probability", "logit"])
def test_the_curve_is_that_of_one_place_after_another(mode, quantity):
    weights = noise(3, 4) * 4
    x = torch.ones(1, 1, 3, 4)
    subject = subject_of(linear(weights), x, Target(1))
    heat = Heatmap(weights.numpy(), "x")
    score = final(MEASURES[mode](subject, heat, fill="black", quantity=quantity, chance=False))
    order = weights.flatten().argsort(descending=True)
    expected = []
    for count in range(13):
        top_sum = weights.flatten()[order[:count]].double().sum()
        logit = float(top_sum if mode == "insertion" else weights.double().sum() - top_sum)
        expected.append(logit if quantity == "logit" else 1 / (1 + np.exp(-logit)))
    assert difference(score.curve, expected) < 1e-6
    assert score.shares == pytest.approx([k / 12 for k in range(13)])
    area = sum((a + b) / 24 for a, b in itertools.pairwise(expected))
    assert score.value == pytest.approx(area, rel=1e-6)
    assert (score.passes, score.fraction) == (13, 1)
    if mode == "deletion":
        drop = final(aopc(subject, heat, fill="black", quantity=quantity, chance=False))
        assert drop.value == pytest.approx(expected[0] - np.mean(expected), rel=1e-5)
        assert drop.passes == 0


@pytest.mark.parametrize("fill", ["blur", "mean"])
@pytest.mark.parametrize("mode", MEASURES)
def test_a_network_is_asked_what_is_written_out(mode, fill):
    module, x = seeded(GapNet()), noise(1, 3, 8, 12)
    subject = subject_of(module, x, Target(2))
    values = noise(4, 6, seed=1).numpy()
    score = final(MEASURES[mode](subject, Heatmap(values, "x"), steps=6, fill=fill, chance=False))
    twin, empty = precise(module), subject.baseline(fill).double()
    expected = []
    for step in range(7):
        cells = sorted(np.ndindex(4, 6), key=lambda cell: -values[cell])[: 4 * step]
        masked_x = x.double().clone() if mode == "deletion" else empty.clone()
        for row, column in cells:
            area = (..., slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))
            masked_x[area] = (empty if mode == "deletion" else x.double())[area]
        exponents = twin(masked_x)[0].detach().exp()
        expected.append(float(exponents[2] / exponents.sum()))
    assert difference(score.curve, expected) < 1e-5


def test_a_linear_network_has_areas_in_closed_form():
    # Light of weights 1 to 12: the r-th strongest is there for r - 1/2 of 12 steps of a deletion,
    # and for the others of an insertion.
    weights = torch.arange(1.0, 13).view(3, 4)
    x = torch.ones(1, 1, 3, 4)
    subject = subject_of(linear(weights), x, Target(1))
    heat = Heatmap(weights.numpy(), "x")
    ask = {"fill": "black", "quantity": "logit"}
    ranks = np.arange(1, 13)
    deletion_score, insertion_score = (
        final(deletion(subject, heat, **ask)),
        final(insertion(subject, heat, **ask)),
    )
    assert deletion_score.value == pytest.approx(((13 - ranks) * (ranks - 0.5)).sum() / 12)
    assert insertion_score.value == pytest.approx(((13 - ranks) * (12.5 - ranks)).sum() / 12)
    # Of pairs of a map and its negative, the mean is that of a constant order: half of all light.
    assert deletion_score.chance == pytest.approx(weights.sum() / 2)
    assert insertion_score.chance == pytest.approx(weights.sum() / 2)


def test_a_map_that_is_mostly_zero_still_loses_exactly_k_places_at_each_step(lit_counts):
    module = seeded(LinearNet(5, 8, channels=1))
    x = torch.ones(1, 1, 5, 8)
    subject = subject_of(module, x)
    values = np.zeros((5, 8), np.float32)
    values[0, :3] = 1
    lit_counts.clear()
    list(deletion(subject, Heatmap(values, "x"), fill="black", steps=8, chance=False))
    assert sorted(lit_counts) == [5 * k for k in range(9)]


@pytest.mark.parametrize("mode", ["deletion", pytest.param("insertion", marks=pytest.mark.slow)])
def test_a_constant_map_gets_what_random_orders_get_on_the_mean(mode):
    module, x = seeded(GapNet()), noise(1, 3, 8, 12)
    flat = Heatmap(np.zeros((4, 6), np.float32), "x")
    rng = np.random.default_rng(0)
    areas, random_areas = [], []
    for seed in range(30):
        subject = subject_of(module, x, Target(1, "probability"))
        subject = replace(subject, seed=seed)
        ask = {"fill": "black", "chance": False}
        areas.append(final(MEASURES[mode](subject, flat, **ask)).value)
        order = Heatmap(rng.permutation(24).reshape(4, 6).astype(np.float32), "x")
        random_areas.append(final(MEASURES[mode](subject, order, **ask)).value)
    error = np.hypot(np.std(areas), np.std(random_areas)) / np.sqrt(30)
    assert abs(np.mean(areas) - np.mean(random_areas)) < 3 * error
    # Ties are drawn anew at each step: an area varies less than that of one order.
    assert np.std(areas) < np.std(random_areas)
    raster = Heatmap(-np.arange(24, dtype=np.float32).reshape(4, 6), "x")
    assert final(MEASURES[mode](subject, raster, **ask)).value not in areas


def test_equal_values_come_in_every_choice_and_others_never_do():
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor([0.0, 2.0, 0.0, 1.0, 0.0])
    choices = {tuple(mask.tolist()) for mask in strongest(values, [3] * 100, generator)}
    assert len(choices) == 3
    assert all(choice[1] and choice[3] and sum(choice) == 3 for choice in choices)
    state = generator.get_state()
    assert strongest(values, [0, 1, 2, 5], generator).sum(1).tolist() == [0, 1, 2, 5]
    assert generator.get_state().equal(state)
    orders = {tuple(strongest_first(values, generator).tolist()) for _ in range(200)}
    assert {order[:2] for order in orders} == {(1, 3)}
    assert len(orders) == 6


@pytest.mark.parametrize("metric", [DELETION, INSERTION, RANDOM_MAPS, AOPC], ids=lambda m: m.name)
def test_the_direction_is_the_one_that_it_says(metric):
    weights, x = noise(6, 8) - 0.5, 4 * noise(1, 1, 6, 8, seed=1)
    subject = subject_of(linear(weights), x, Target(1))
    evidence = (weights * (x - x.mean())[0, 0]).numpy()
    good, bad = (
        metric.score(Case(subject, Heatmap(sign * evidence, "x", True))) for sign in (1, -1)
    )
    better = good.value - bad.value if metric.direction == "higher" else bad.value - good.value
    assert better > 0.1
    assert good.span[0] <= good.value <= good.span[1]
    if metric is RANDOM_MAPS:
        assert (good.value, bad.value, good.chance) == (1, 0, 0.5)
        assert good.note == "Better than 20 of 20 random maps as smooth."


@pytest.mark.parametrize(
    "metric",
    # The others read the same curves.
    [
        pytest.param(m, marks=[] if m in (DELETION, road.ROAD) else pytest.mark.slow)
        for m in ORDER_BASED
    ],
    ids=lambda m: m.name,
)
def test_a_map_times_a_positive_number_gets_the_same(metric):
    module, x = seeded(GapNet()), noise(1, 3, 8, 12)
    values = noise(4, 6, seed=2).numpy()
    first, second = (
        metric.score(Case(subject_of(module, x), Heatmap(scale * values, "x"))) for scale in (1, 64)
    )
    assert metric.scale_free
    assert first == second


def test_a_map_is_compared_with_random_ones_without_asking_twice(lit_counts):
    module = LinearNet(16, 24, channels=1)
    x = noise(1, 1, 16, 24)
    subject = subject_of(seeded(module), x)
    first, second = (Heatmap(noise(4, 6, seed=seed).numpy(), "x") for seed in (1, 2))
    lit_counts.clear()
    scores = [final(f(subject, first, fill="mean")) for f in (deletion, insertion)]
    scores.append(final(beats_random_maps(subject, first, fill="mean")))
    assert len(lit_counts) == sum(score.passes for score in scores)
    assert scores[2].passes == 0
    assert smoothness(torch.tensor(first.values)) == smoothness(torch.tensor(second.values))
    lit_counts.clear()
    for measure in (deletion, insertion, beats_random_maps):
        final(measure(subject, second, fill="mean"))
    assert len(lit_counts) <= 70
    # Another class is another question: nothing of it is known.
    other_subject = subject_of(module, x, Target(0), backbone=subject.backbone)
    lit_counts.clear()
    other_subject = replace(other_subject, forward_pass=subject.forward_pass)
    final(deletion(other_subject, first, fill="mean", chance=False))
    assert len(lit_counts) == 25


def test_deletion_and_insertion_of_a_fine_map_cost_at_most_70_passes(lit_counts):
    module = LinearNet(16, 24, channels=1)
    x = noise(1, 1, 16, 24)
    subject = subject_of(seeded(module), x)
    heat = Heatmap(noise(16, 24, seed=1).numpy(), "x")
    lit_counts.clear()
    for measure in MEASURES.values():
        final(measure(subject, heat, chance=False))
    assert 60 < len(lit_counts) <= 70


def test_a_stopped_curve_goes_on_where_it_stopped():
    module, x = seeded(GapNet()), noise(1, 3, 16, 24)
    heat = Heatmap(np.zeros((16, 24), np.float32), "x")  # all of it by chance
    whole = [final(f(subject_of(module, x), heat, fill="mean")) for f in MEASURES.values()]
    subject = subject_of(module, x)
    for measure in MEASURES.values():
        stopped = measure(subject, heat, fill="mean")
        half = [next(stopped), next(stopped)]
        assert half[0].fraction < half[1].fraction < 1
        stopped.close()
    resumed = [final(f(subject, heat, fill="mean")) for f in MEASURES.values()]
    assert [s.curve for s in resumed] == [s.curve for s in whole]
    assert [s.chance for s in resumed] == pytest.approx([s.chance for s in whole], rel=1e-6)
    assert resumed[0].passes < whole[0].passes


@pytest.mark.slow  # the conformance kit asks the chance level of every metric
def test_a_random_map_does_better_than_half_of_random_maps():
    weights = noise(6, 8) - 0.4
    x = torch.ones(1, 1, 6, 8)
    subject = subject_of(linear(weights), x, Target(1))
    shares = [
        final(
            beats_random_maps(
                replace(subject, seed=seed),
                Heatmap(noise(6, 8, seed=seed).numpy(), "x"),
                fill="black",
                steps=8,
            )
        ).value
        for seed in range(50)
    ]
    assert np.mean(shares) == pytest.approx(0.5, abs=3 * np.sqrt(1 / 12 / 50))
    # Ranks of 21 equal chances: the extremes come about as often as any other.
    assert 0 < np.mean([share >= 0.95 for share in shares]) < 0.25


def test_a_network_that_sees_nothing_is_no_better_than_chance():
    x = torch.ones(1, 1, 6, 8)
    subject = subject_of(linear(torch.zeros(6, 8)), x, Target(1))
    score = final(beats_random_maps(subject, Heatmap(noise(6, 8).numpy(), "x")))
    assert (score.value, score.chance) == (0.5, 0.5)


@pytest.mark.parametrize("width", [0.0, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("shape", [(512,), (64, 48)])
def test_how_smooth_a_map_is_is_read_from_its_order(width, shape):
    smooth = gaussian_filter(noise(*shape, seed=4).double().numpy(), width, mode="wrap")
    assert smoothness(torch.from_numpy(smooth)) == width
    assert smoothness(torch.from_numpy(np.exp(9 * smooth) + 3)) == width


def test_a_signal_is_asked_about_as_a_picture_is():
    module, x = seeded(GapNet(axes=1)), noise(1, 3, 17)
    for metric in (DELETION, RANDOM_MAPS):
        score = metric.score(Case(subject_of(module, x), Heatmap(noise(9).numpy(), "x")))
        assert 0 <= score.value <= 1
    with pytest.raises(BadInput, match="2 axes"):
        final(deletion(subject_of(module, x), Heatmap(noise(3, 4).numpy(), "x")))


def test_a_coarse_map_is_read_between_its_cells():
    assert on_input(Heatmap([0.0, 1.0], "x"), (4,)).tolist() == [0, 0.25, 0.75, 1]


@pytest.mark.parametrize("metric", ORDER_BASED, ids=lambda m: m.name)
@pytest.mark.parametrize("fill", ["blur", "linear"])
def test_a_map_of_one_cell_has_an_order_and_a_score(metric, fill):
    module = linear(noise(6, 8, seed=1))
    subject = subject_of(module, noise(1, 1, 6, 8, seed=2), Target(1))
    case = Case(subject, Heatmap(np.ones((1, 1)), "nothing"))
    score = metric.score(case)
    assert score.value is None or np.isfinite(score.value)
    measure = {"deletion": deletion, "insertion": insertion, "aopc": aopc}.get(metric.name)
    if measure is not None:
        *_, last = measure(subject, case.heat, fill=fill)
        assert last.value is None or np.isfinite(last.value)
