"""Other classes, sums, shapes and mosaics: written out, and what a linear network says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from tests.support.cases import contributions, linear, linear_case, weights_of
from tests.support.networks import GapNet, plain_spec, seeded
from tests.support.toys import LinearNet, noise, subject_of
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, NeedsNotMet
from whylens.core.evaluation import completeness, random_logit, shape
from whylens.core.evaluation.grid_pointing import (
    grid_pointing_game,
    mosaic,
    on_mosaics,
    tile_mask,
)
from whylens.core.explanation import Question
from whylens.core.models.backbone import wrap
from whylens.core.results import Heatmap
from whylens.core.targets import Target


def test_other_classes_are_the_mean_over_their_maps():
    case = linear_case(12, 16)
    heats = [contributions(replace(case.subject, target=Target(i))).values for i in (0, 2)]
    expected = np.mean([spearmanr(case.heat.values, h, axis=None).statistic for h in heats])
    score = random_logit.METRIC.score(case)
    assert score.value == pytest.approx(expected, abs=1e-4)
    assert abs(score.value) < 0.2
    same_map = replace(case, explain=lambda subject: case.heat)
    assert random_logit.METRIC.score(same_map).value == pytest.approx(1)


def test_two_classes_that_mirror_each_other_have_mirrored_maps():
    weights = weights_of(6, 8, seed=1)
    subject = subject_of(linear(-weights, weights), noise(1, 1, 6, 8), Target(1))
    case = replace(linear_case(), subject=subject, heat=contributions(subject))
    assert random_logit.METRIC.score(case).value == pytest.approx(-1)


def test_without_another_class_it_says_so():
    case = linear_case()
    blind = random_logit.METRIC.score(replace(case, class_blind=True))
    assert (blind.value, blind.note) == (
        None, "The method has one answer for all classes, and says so.",
    )  # fmt: skip
    value = replace(case.subject, target=Target(0, "value", outputs="value"))
    assert "no other class" in random_logit.METRIC.score(replace(case, subject=value)).note
    two = subject_of(linear(*(weights_of(6, 8, seed=i) for i in (1, 2))), noise(1, 1, 6, 8))
    contrast = replace(two, target=Target(1, "contrast", 0))
    assert random_logit.METRIC.score(replace(case, subject=contrast)).note == (
        "There is no other class."
    )


@pytest.mark.parametrize(("factor", "gap"), [(1, 0), (1.5, 0.5), (-1, 2), (0, 1)])
def test_the_gap_is_the_share_that_the_sum_misses(factor, gap):
    case = linear_case()
    x0 = noise(1, 1, 6, 8, seed=30)
    exact_map = (
        contributions(case.subject).values
        - contributions(subject_of(case.subject.backbone.module, x0)).values
    )
    case = replace(case, baseline=x0, heat=Heatmap(factor * exact_map, "logit", signed=True))
    score = completeness.METRIC.score(case)
    assert score.value == pytest.approx(gap, abs=1e-4)
    assert score.passes == 2


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("integrated-gradients", {"baseline": "blur"}),
        ("deeplift", {"baseline": "all four"}),
        ("deeplift", {"baseline": "grey"}),
    ],
)
def test_the_gap_of_a_method_that_promises_the_sum_is_the_one_that_it_states(method, params):
    backbone = wrap(seeded(GapNet()), input_spec=plain_spec(16, 20))
    engine = Engine(loader=lambda name, progress: backbone)
    pixels = np.random.default_rng(3).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    *_, answer = engine.explain(Question("toy", pixels), method, params)
    gap = answer.result.diagnostics["completeness gap"]
    score = completeness.METRIC.score(engine.case(answer))
    assert score.value == pytest.approx(gap, abs=1e-4)
    doubled_answer = replace(answer, result=replace(answer.result, values=2 * answer.result.values))
    assert completeness.METRIC.score(engine.case(doubled_answer)).value == pytest.approx(
        1, abs=0.05
    )


def test_a_method_that_promises_no_sum_is_not_asked_for_one():
    backbone = wrap(seeded(GapNet()), input_spec=plain_spec(16, 20))
    engine = Engine(loader=lambda name, progress: backbone)
    pixels = np.random.default_rng(3).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    *_, answer = engine.explain(Question("toy", pixels), "grad-cam")
    assert "add up" in completeness.METRIC.score(engine.case(answer)).note


def test_where_the_baseline_has_the_same_score_there_is_nothing_to_share():
    case = linear_case()
    score = completeness.METRIC.score(replace(case, baseline=case.subject.x))
    assert (score.value, score.note[:9]) == (None, "The score")
    assert "add up" in completeness.METRIC.score(case).note


def test_the_shape_of_a_map_is_written_out():
    values = np.abs(np.random.default_rng(2).normal(size=(16, 24)))
    cells = np.array(
        [[values[2 * i : 2 * i + 2, 3 * j : 3 * j + 3].mean() for j in range(8)] for i in range(8)]
    ).ravel()
    n = len(cells)
    differences = sum(abs(a - b) for a in cells for b in cells)
    assert shape.sparseness(Heatmap(values, "x")) == pytest.approx(
        differences / (2 * n * cells.sum()), abs=1e-6
    )
    entropy = -sum(c / cells.sum() * math.log(c / cells.sum()) for c in cells)
    assert shape.complexity(Heatmap(values, "x")) == pytest.approx(entropy / math.log(n), abs=1e-6)


def test_one_place_is_sparse_and_simple_whatever_the_resolution():
    for side in (8, 64):
        flat, single = np.ones((side, side)), np.zeros((side, side))
        single[: side // 8, : side // 8] = -3
        single_map, flat_map = Heatmap(single, "x", True), Heatmap(flat, "x")
        assert shape.sparseness(single_map) == pytest.approx(63 / 64)
        assert shape.complexity(single_map) == pytest.approx(0)
        assert shape.sparseness(flat_map) == pytest.approx(0, abs=1e-6)
        assert shape.complexity(flat_map) == pytest.approx(1)
    blank = replace(linear_case(), heat=Heatmap(np.zeros((6, 8)), "x"))
    assert shape.SPARSENESS.score(blank).note == "The map is blank: it has no shape."


def test_a_mosaic_is_laid_in_raster_order_and_masks_say_where():
    tiles = [torch.full((1, 2, 3, 4), float(i)) for i in range(6)]
    x = mosaic(tiles, (2, 3))
    assert x.shape == (1, 2, 6, 12)
    for index in range(6):
        mask = tile_mask(index, (2, 3), (6, 12))
        assert int(mask.sum()) == 12
        assert (x[:, :, mask] == index).all()
    with pytest.raises(BadInput, match="needs 4 inputs"):
        mosaic(tiles, (2, 2))


class Lamps(nn.Module):
    """Class i is the light of channel i: its evidence lies where that channel is lit."""

    def forward(self, x):
        return x.flatten(2).mean(-1)


def flat(subject):
    return Heatmap(np.ones(subject.size), "x")


@pytest.mark.parametrize(("explain", "expected"), [(contributions, 1), (flat, 1 / 4)])
def test_what_lies_in_its_own_tile_gets_1_and_a_flat_map_gets_chance(explain, expected):
    backbone = on_mosaics(wrap(Lamps(), input_spec=plain_spec(4, 6, channels=4)), (2, 2))
    tiles = []
    for label in (3, 0, 2, 1):
        tile = torch.zeros(1, 4, 4, 6)
        tile[0, label] = noise(4, 6, seed=label)
        tiles.append((tile, label))
    steps = list(grid_pointing_game(backbone, tiles, explain, (2, 2)))
    assert [step.fraction for step in steps] == [0.25, 0.5, 0.75, 1]
    assert [step.value for step in steps] == pytest.approx([expected] * 4)
    assert steps[-1].chance == 0.25


def test_a_network_of_one_size_is_refused():
    with pytest.raises(NeedsNotMet, match="one size only"):
        on_mosaics(wrap(seeded(LinearNet(4, 6)), input_spec=plain_spec(4, 6)), (2, 2))
