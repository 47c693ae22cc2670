"""Results: finite, frozen, free of the caller's arrays, and honest about showing nothing."""

from __future__ import annotations

import dataclasses
import pickle
from types import MappingProxyType

import numpy as np
import pytest

from whylens.core.errors import BadInput
from whylens.core.results import (
    Comparison,
    Example,
    Examples,
    Heatmap,
    NumberedBox,
    Partial,
    Prototypes,
)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("shape", [(9,), (3, 4), (2, 3, 4)], ids=str)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # 1e39 becomes infinite
def test_a_map_with_gaps_is_refused(value, shape):
    values = np.ones(shape)
    values.flat[5] = value
    with pytest.raises(BadInput, match=r"map holds NaN or infinite values\. Check the image"):
        Heatmap(values, "u")


@pytest.mark.parametrize("values", [np.float32(3), np.zeros((0,)), np.zeros((3, 0))], ids=str)
def test_a_map_without_positions_is_refused(values):
    with pytest.raises(BadInput, match="at least one position"):
        Heatmap(values, "u")


def test_huge_but_finite_values_are_kept():
    assert Heatmap(np.full((3, 3), 3e38), "u").values.max() == np.float32(3e38)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
def test_a_map_is_a_read_only_copy_of_what_it_was_given(kind):
    array, checks = np.arange(6).reshape(2, 3).astype(kind), {"gap": 0.1}
    heatmap = Heatmap(array, "logit", diagnostics=checks)
    array[:] = 7
    checks["gap"] = 9
    np.testing.assert_array_equal(heatmap.values, [[0, 1, 2], [3, 4, 5]])
    assert heatmap.values.dtype == np.float32
    assert dict(heatmap.diagnostics) == {"gap": 0.1}
    assert array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        heatmap.values[0, 0] = 1
    with pytest.raises(TypeError, match="does not support item assignment"):
        heatmap.diagnostics["gap"] = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="unit"):
        heatmap.unit = "other"


def test_two_maps_compare_without_failing():
    first, second = (Heatmap(np.zeros((3, 3)), "u") for _ in range(2))
    assert first == first
    assert first != second
    assert [second, first].index(first) == 1


def test_a_map_survives_pickling_with_all_it_says(rng):
    values = rng.normal(size=(5, 7)).astype(np.float32)
    before = Heatmap(values, "logit", signed=True, diagnostics={"gap": 0.25}, note="Half a step.")
    after = pickle.loads(pickle.dumps(before))
    np.testing.assert_array_equal(after.values, values)
    assert not after.values.flags.writeable
    assert (after.unit, after.signed, after.note) == ("logit", True, "Half a step.")
    assert isinstance(after.diagnostics, MappingProxyType)
    assert dict(after.diagnostics) == {"gap": 0.25}


@pytest.mark.parametrize("kind", [Examples, Prototypes])
def test_examples_and_prototypes_survive_pickling(kind, rng):
    image = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    extra = {"predicted": "cat", "score": 0.75} if kind is Prototypes else {}
    comparison = Comparison(image, (NumberedBox(1, 0, 0.25, 0.5, 1),), np.ones((2, 3)))
    items = (
        Example(
            image, "a cat", 0.5, "k", "g", (NumberedBox(2, 0, 0, 1, 1),), comparison, {"drop": 0.5}
        ),
        Example(255 - image, "a dog", 0.25),
    )
    after = pickle.loads(pickle.dumps(kind(items, "cosine", note="n", **extra)))
    assert [(e.caption, e.value) for e in after.items] == [("a cat", 0.5), ("a dog", 0.25)]
    np.testing.assert_array_equal(after.items[1].image, 255 - image)
    first = after.items[0]
    assert (first.key, first.group, dict(first.diagnostics)) == ("k", "g", {"drop": 0.5})
    assert first.marks == (NumberedBox(2, 0, 0, 1, 1),)
    assert first.comparison.marks == comparison.marks
    np.testing.assert_array_equal(first.comparison.similarity, np.ones((2, 3)))
    assert (after.unit, after.note) == ("cosine", "n")


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_map_of_zeros_says_that_there_is_no_evidence(zero, signed):
    reason = Heatmap(np.full((4, 4), zero), "u", signed=signed).blank_reason()
    assert reason.startswith("The map is zero everywhere" if signed else "No positive evidence")


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("value", [3.25, -0.5, 1e-30])
def test_a_constant_map_says_that_it_points_nowhere(value, signed):
    reason = Heatmap(np.full((4, 4), value), "logit", signed=signed).blank_reason()
    assert reason.startswith(f"The map has the same value everywhere ({value:.4g} logit)")


def test_a_map_of_one_cell_points_nowhere():
    assert "1 x 1 feature map" in Heatmap(np.array([[2.0]]), "u").blank_reason()


def test_rounding_noise_on_a_constant_is_still_a_constant():
    values = np.full((8, 8), 100, np.float32)
    values[3, 4] = np.nextafter(np.float32(100), np.float32(200))
    assert "same value everywhere" in Heatmap(values, "u").blank_reason()


@pytest.mark.parametrize(
    ("values", "signed"),
    [
        ([0, 0, 0, 1e-20], False),
        ([0.1, 0.2, 0.3, 0.4], False),
        ([-4, -3, -2, -1], True),
        ([-4, 0, 0, 0], True),
        ([-1, 0, 0, 1], True),
        ([100, 100.01, 100, 100], False),
    ],
)
def test_a_map_that_shows_something_gives_no_reason(values, signed):
    assert Heatmap(np.array(values), "u", signed=signed).blank_reason() == ""


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))]
)
def test_an_example_of_another_kind_is_refused(image):
    with pytest.raises(BadInput, match=r"must be \(height, width, 3\) bytes"):
        Example(image, "", 0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_example_without_a_finite_value_is_refused(value):
    with pytest.raises(BadInput, match="value must be finite"):
        Example(np.zeros((4, 4, 3), np.uint8), "", value)


def test_an_example_is_a_read_only_copy():
    array = np.zeros((2, 2, 3), np.uint8)
    example = Example(array, "a", 1.0)
    array[:] = 9
    assert example.image.max() == 0
    with pytest.raises(ValueError, match="read-only"):
        example.image[0] = 1


@pytest.mark.parametrize("fraction", [-0.01, 1.01, np.nan, np.inf])
def test_a_share_of_work_outside_its_range_is_refused(fraction):
    with pytest.raises(BadInput, match="between 0 and 1"):
        Partial(Heatmap(np.ones(3), "u"), fraction)


@pytest.mark.parametrize("fraction", [0, 0.5, 1])
def test_a_share_of_work_in_its_range_is_kept(fraction):
    heatmap = Heatmap(np.ones(3), "u")
    partial = Partial(heatmap, fraction)
    assert partial.fraction == fraction
    assert partial.result is heatmap
