"""What maps say of parts, against the protocol of FunnyBirds written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from whylens import Heatmap
from whylens.core.evaluation.parts import (
    THRESHOLDS,
    Parts,
    auroc_of_place,
    fitted_threshold,
    part_marks,
    single_deletion,
    target_sensitivity,
)

NAMES = ("a", "b", "c", "d")


def in_columns(count: int) -> dict[str, torch.Tensor]:
    """Return parts that are further apart than they are widened."""
    masks = {}
    for i, name in enumerate(NAMES[:count]):
        masks[name] = torch.zeros(9, 9 * count, dtype=torch.bool)
        masks[name][3:6, 9 * i + 3 : 9 * i + 6] = True
    return masks


def with_sums(*sums: float) -> Heatmap:
    """Return a map that has such sums in the parts and nothing beside them."""
    values = np.zeros((9, 9 * len(sums)))
    for i, total in enumerate(sums):
        values[4, 9 * i + 4] = total
    return Heatmap(values, "x", signed=min(sums) < 0)


def parts_of(label: int = 1) -> Parts:
    """A thing of parts a, b and c, in front of d; the class 1 needs a and b, else 0 is named."""
    return Parts(
        label,
        10.0,
        {"a": 6.0, "b": 3.0, "c": 0.4, "d": -1.0},
        in_columns(4),
        ("a", "b", "c"),
        frozenset("ab"),
        lambda removed_parts: int(not removed_parts & {"a", "b"}),
    )


def test_what_a_map_points_at_is_checked_as_the_paper_says():
    heat, parts = with_sums(0.4, 0.1, 0.3, 0.2), parts_of()
    marks = part_marks(heat, parts)
    shares = {"a": 0.4, "b": 0.1, "c": 0.3, "d": 0.2}
    for threshold in THRESHOLDS:
        pointed_parts = {name for name, share in shares.items() if share > threshold}
        true_parts = frozenset(pointed_parts & set("abc"))
        at = marks.at(threshold)
        assert at["signs-covered"] == len(true_parts & parts.signs) / 2
        assert at["preservation"] == (parts.named_without(frozenset("abc") - true_parts) == 1)
        assert at["part-deletion"] == (parts.named_without(true_parts) != 1)
        # c takes 4 % of the score and d takes none: both mean nothing.
        assert at["distractibility"] == 1 - len(pointed_parts & {"c", "d"}) / 2
    assert parts.background_independence == 1


def test_negative_values_point_at_nothing_and_an_empty_map_says_nothing():
    marks = part_marks(with_sums(0.5, -5.0, 0.5, 0.0), parts_of())
    assert marks.shares == (0.5, 0.5, 0.0)
    assert part_marks(with_sums(-1.0, -1.0, 0.0, 0.0), parts_of()) is None


def test_a_picture_that_is_not_recognised_counts_for_distractions_alone():
    marks = part_marks(with_sums(0.4, 0.1, 0.3, 0.2), parts_of(label=5))
    assert set(marks.at(0.25)) == {"distractibility"}


def test_the_threshold_is_the_one_at_which_others_do_best():
    # Signs hold 0.4 and 0.3, the distraction 0.25 at most: only between them all is right.
    marks = [
        part_marks(with_sums(0.4, 0.3, 0.1, 0.2), parts_of()),
        part_marks(with_sums(0.35, 0.35, 0.05, 0.25), parts_of()),
    ]
    threshold = fitted_threshold(marks)
    assert 0.25 <= threshold < 0.3
    assert all(set(m.at(threshold).values()) == {1.0} for m in marks)
    assert min(m.at(0.02)["distractibility"] for m in marks) == 0


def test_single_deletion_is_the_rank_correlation_of_own_parts():
    assert single_deletion(with_sums(0.6, 0.3, 0.1, 5.0), parts_of()).value == pytest.approx(1)
    assert single_deletion(with_sums(0.1, 0.3, 0.6, 5.0), parts_of()).value == pytest.approx(0)
    # Ranks 2 1 3 beside 3 2 1: Spearman is 1 - 6 * 6 / 24 = -1/2.
    assert single_deletion(with_sums(0.2, 0.1, 0.3, 0.0), parts_of()).value == pytest.approx(0.25)
    assert single_deletion(with_sums(0.2, 0.2, 0.2, 0.0), parts_of()).value is None


def test_each_class_s_map_should_prefer_its_own_sign():
    signs = list(in_columns(2).values())
    first, second = with_sums(2.0, 1.0), with_sums(1.0, 2.0)
    assert target_sensitivity([first, second], signs) == 1
    assert target_sensitivity([second, first], signs) == 0
    assert target_sensitivity([first, first], signs) == 0.5
    assert target_sensitivity([with_sums(3.0, 3.0), second], signs) == 0.5


def test_a_hint_is_found_where_the_map_is_larger_than_beside_it(rng):
    place = torch.zeros(4, 5, dtype=torch.bool)
    place[1:3, 1:4] = True
    values = rng.integers(4, size=(4, 5)).astype(float)  # with many that are equal
    wins = [
        1.0 if inner > outer else 0.5 if inner == outer else 0.0
        for inner in values[place.numpy()]
        for outer in values[~place.numpy()]
    ]
    assert auroc_of_place(Heatmap(values, "x"), place) == pytest.approx(np.mean(wins))
    assert auroc_of_place(Heatmap(place.float().numpy(), "x"), place) == 1
    assert auroc_of_place(Heatmap(np.ones((4, 5)), "x"), place) == 0.5
    # Nor does the rounding of another grid tell equal places apart.
    large = torch.zeros(96, 96, dtype=torch.bool)
    large[10:40, 50:80] = True
    for side in (7, 14):
        assert auroc_of_place(Heatmap(np.full((side, side), 0.7), "x"), large) == 0.5
