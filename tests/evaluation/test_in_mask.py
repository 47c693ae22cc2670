"""Masks: shares written out, ties by expectation, chance as it is printed."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.cases import linear_case
from whylens.core.evaluation.in_mask import (
    MASS,
    POINTING_GAME,
    RANK,
    mass_in_mask,
    pointing_game,
    rank_in_mask,
)
from whylens.core.results import Heatmap

ALL = (MASS, RANK, POINTING_GAME)
MASK = torch.zeros(6, 8, dtype=torch.bool)
MASK[1:3, 2:5] = True


def random_heat(seed: int, grid=(6, 8), centre=0.0) -> Heatmap:
    return Heatmap(np.random.default_rng(seed).random(grid) - centre, "x", signed=centre > 0)


@pytest.mark.parametrize("centre", [0, 0.5])
def test_mass_is_the_share_of_what_is_positive(centre):
    heat = random_heat(1, centre=centre)
    inner_mass = outer_mass = 0.0
    for row, column in itertools.product(range(6), range(8)):
        value = max(0.0, float(heat.values[row, column]))
        if MASK[row, column]:
            inner_mass += value
        else:
            outer_mass += value
    score = mass_in_mask(heat, MASK)
    assert score.value == pytest.approx(inner_mass / (inner_mass + outer_mass), rel=1e-4)
    assert score.chance == 6 / 48
    assert score.note == f"{8 * score.value:.3g} times the mask's area."


def test_a_coarse_map_fills_its_cells_evenly():
    heat = Heatmap([[1.0, 0.0], [0.0, 0.0]], "x")
    # The cell is rows 0 to 3 and columns 0 to 4; the mask holds 2 of its rows and 2 of its columns.
    assert mass_in_mask(heat, MASK).value == pytest.approx(4 / 12)
    # Six places: those of the cell come first, and 4 of its 12 are in the mask.
    rank = rank_in_mask(heat, MASK)
    assert (rank.value, rank.note) == (pytest.approx(4 / 12), "2.67 times the mask's area.")
    assert pointing_game(heat, MASK, tolerance=0).value == pytest.approx(4 / 12)


def test_rank_is_the_mean_over_all_orders_of_equal_values():
    values = np.array([3.0, 1, 1, 1, 0, 1])
    mask = torch.tensor([False, True, True, False, True, False])
    hits = []
    for order in itertools.permutations(range(6)):
        places = sorted(order, key=lambda place: -values[place])[:3]
        hits.append(np.mean([bool(mask[place]) for place in places]))
    assert rank_in_mask(Heatmap(values, "x"), mask).value == pytest.approx(np.mean(hits))


def test_pointing_counts_what_is_near_and_shares_what_is_tied():
    values = np.zeros((30, 40))
    values[4, 10] = values[20, 35] = 1
    mask = torch.zeros(30, 40, dtype=torch.bool)
    mask[5:9, 11:15] = True  # the first peak is one place off by a diagonal

    def pointing(tolerance):
        return pointing_game(Heatmap(values, "x"), mask, tolerance=tolerance / 30)

    assert pointing(1).value == 0
    assert pointing(1.5).value == 0.5
    count = 0
    for row, column in itertools.product(range(30), range(40)):
        distances = [(row - r) ** 2 + (column - c) ** 2 for r, c in mask.nonzero().tolist()]
        count += min(distances) < 3.5**2
    assert pointing(3.5).chance == pytest.approx(count / 1200)


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.name)
def test_a_flat_map_gets_chance_and_so_do_random_ones_on_average(metric):
    case = replace(linear_case(), mask=MASK)
    flat = metric.score(replace(case, heat=Heatmap(np.full((3, 5), 0.7), "x")))
    assert flat.value == pytest.approx(flat.chance)
    scores = [metric.score(replace(case, heat=random_heat(seed))) for seed in range(150)]
    values = [score.value for score in scores]
    assert abs(np.mean(values) - scores[0].chance) < 4 * np.std(values) / np.sqrt(len(values))


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.name)
def test_what_is_right_gets_1_and_what_is_turned_over_gets_0(metric):
    case = replace(linear_case(), mask=MASK)
    truth = MASK.numpy() - 0.5
    assert metric.score(replace(case, heat=Heatmap(truth, "x", True))).value == pytest.approx(1)
    opposite_case = replace(case, heat=Heatmap(-truth, "x", True))
    if metric is POINTING_GAME:
        corner = torch.zeros(60, 80, dtype=torch.bool)
        corner[:20, :20] = True
        values = np.where(corner.numpy(), -1.0, np.linspace(0, 1, 80))
        opposite_case = replace(case, mask=corner, heat=Heatmap(values, "x", True))
    assert metric.score(opposite_case).value == 0


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.name)
def test_without_a_mask_they_say_so(metric):
    case = linear_case()
    assert (
        metric.score(case).note == "It cannot be asked here: where the evidence lies is not known."
    )
    empty_score = metric.score(replace(case, mask=torch.zeros(6, 8, dtype=torch.bool)))
    assert (empty_score.value, empty_score.note) == (
        None,
        "The mask holds all of the input, or none of it.",
    )
    below = MASS.score(replace(case, mask=MASK, heat=Heatmap(-np.ones((6, 8)), "x", True)))
    assert (below.value, below.note) == (None, "Nothing in the map is positive.")
