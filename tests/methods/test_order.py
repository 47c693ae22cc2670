"""What rounding cannot decide: orders, choices, thresholds and signs on values that tie."""

from __future__ import annotations

import ast

import numpy as np
import pytest
import torch

from tests.conftest import ROOT
from whylens.plugins import _segments
from whylens.plugins._order import first_largest, strongest_first
from whylens.plugins.eigen_cam import principal_map
from whylens.plugins.sise import otsu_threshold, positive_channels
from whylens.plugins.twin.cosine_search import cosines, top_positions
from whylens.plugins.twin.patch_matches import match_cells


def shaken(values, seed, size=1e-7):
    """Return the values as another processor may compute them: off in their last bits."""
    rng = np.random.default_rng(seed)
    return np.asarray(values) * (1 + size * rng.uniform(-1, 1, np.shape(values)))


def test_what_differs_by_rounding_goes_by_index_and_all_else_by_value():
    values = np.array([3.0, 7.0, 7.0, 1.0, 7.0, 3.0, 7.1])
    for seed in range(20):
        assert strongest_first(shaken(values, seed)) == [6, 1, 2, 4, 0, 5, 3]
        assert first_largest(shaken(values[:-1], seed)) == 1
    assert strongest_first([1.0, 2.0, 1.5], margin=0.6) == [0, 1, 2]
    assert first_largest([1.0, 2.0, 1.5], margin=0.6) == 1
    assert strongest_first([]) == []
    distinct = np.random.default_rng(0).permutation(100)
    assert strongest_first(distinct) == np.argsort(-distinct).tolist()


@pytest.mark.parametrize("size", [384, 224 * 224])
def test_otsu_s_threshold_parts_the_same_places_whatever_rounding_does(size):
    skimage = pytest.importorskip("skimage.filters")
    rng = np.random.default_rng(7)
    values = rng.beta(0.6, 1.2, size)
    threshold = otsu_threshold(values)
    strong = values > threshold
    assert abs(threshold - skimage.threshold_otsu(values)) < 2 / 256  # to within its bins
    for seed in range(5):
        shaken_values = shaken(values, seed)
        assert np.array_equal(shaken_values > otsu_threshold(shaken_values), strong)


def test_of_two_thresholds_that_are_equally_good_the_lower_is_taken():
    values = np.repeat([0.0, 0.5, 1.0], 40)
    for seed in range(20):
        shaken_values = np.repeat(shaken([0.0, 0.5, 1.0], seed), 40)
        assert otsu_threshold(shaken_values) == pytest.approx(0.25, abs=1e-6)
    assert otsu_threshold(values) == 0.25
    assert otsu_threshold(shaken(np.full(50, 0.3), 1)) == 0.0  # of one value, rounding aside


def test_channels_whose_slope_is_rounding_do_not_speak():
    features = torch.rand(1, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    slopes = torch.tensor([2e-9, 1.0, -2e-9, 1.0])
    for seed in range(10):
        shaken_slopes = torch.tensor(shaken(slopes.numpy(), seed), dtype=torch.float32)
        gradients = shaken_slopes[None, :, None, None].expand(1, 4, 5, 5)
        assert positive_channels(gradients, features, 8) == [1, 3]


def test_a_balanced_principal_map_keeps_its_sign():
    along = torch.tensor([4.0, -3.0, 2.0, -3.0])
    features = (along[:, None] * torch.tensor([1.0, 0.5, -2.0])).T[None]
    expected = None
    for seed in range(20):
        shaken_features = torch.tensor(shaken(features.numpy(), seed), dtype=torch.float32)
        values, _ = principal_map(shaken_features)
        expected = values if expected is None else expected
        assert torch.allclose(values, expected, atol=1e-4)
    assert expected[0] > 0


def test_superpixels_do_not_hang_on_the_last_bits_of_colours(monkeypatch):
    """Stripes that lie midway between centres: ties all over."""
    pixels = np.zeros((48, 48, 3), np.uint8)
    pixels[:, ::2] = (200, 40, 90)
    pixels[::3] = (40, 200, 90)
    expected = _segments.superpixels(pixels, 16)
    colours = _segments.rgb2lab
    for seed in range(5):
        monkeypatch.setattr(_segments, "rgb2lab", lambda c, s=seed: shaken(colours(c), s, 1e-14))
        assert np.array_equal(_segments.superpixels(pixels, 16), expected)


def test_a_picture_that_a_gallery_holds_twice_ties_with_itself():
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(203, 97)).astype(np.float32)
    vectors[[5, 11, 86, 202]] = vectors[42]
    query = rng.normal(size=97).astype(np.float32)
    similarities = cosines(vectors, vectors[42] + 0.1 * query)
    assert len(set(similarities[[5, 11, 42, 86, 202]].tolist())) == 1
    assert top_positions(similarities, np.ones(203, np.bool_), 5) == [5, 11, 42, 86, 202]


def test_cells_that_match_alike_are_paired_from_the_first():
    flat = np.ones((6, 4, 4), np.float32)
    weights = np.linspace(0.1, 1, 6, dtype=np.float32)
    expected = [((0, 0), (0, 0)), ((0, 2), (0, 2)), ((2, 0), (2, 0))]
    for seed in range(10):
        query, gallery = (shaken(flat, seed + k).astype(np.float32) for k in (0, 100))
        assert [pair[:2] for pair in match_cells(query, gallery, weights, 3)] == expected


def test_every_sort_of_core_and_plugins_says_what_becomes_of_ties():
    """Unstable sorts put equal values in an order of the processor's instruction set."""
    count = 0
    for folder in ("core", "plugins"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                if node.func.attr != "argsort":
                    continue
                count += 1
                words = {word.arg for word in node.keywords}
                # The ranks of an order are those of a permutation: nothing ties.
                ranks = isinstance(node.func.value, ast.Call)
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                assert ranks or words & {"stable", "kind"}, f"{place}: argsort without stable"
    assert count > 5
