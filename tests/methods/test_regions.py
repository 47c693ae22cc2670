"""Regions: every place belongs to one, every region exists, and fills are what they say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from tests.support.networks import GapNet, plain_spec, seeded
from tests.support.toys import LinearNet, difference, noise, subject_of
from whylens.core.inputs.spec import InputSpec
from whylens.plugins._arrays import zero_rounding
from whylens.plugins._regions import region_fill, region_scores, regions_to_map
from whylens.plugins._segments import boxes, region_masks, segment_means, segments

PICTURES = {
    "noise": noise(1, 3, 48, 64),
    "black": torch.zeros(1, 3, 48, 64),
    "halves": torch.cat([torch.zeros(1, 3, 48, 32), torch.ones(1, 3, 48, 32)], 3),
}


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("cut", ["superpixels", "boxes"])
@pytest.mark.parametrize("count", [1, 12, 40, 100])
def test_labels_run_from_0_without_gaps_and_are_near_as_many_as_wished(kind, cut, count):
    labels = segments(subject_of(seeded(GapNet()), PICTURES[kind]), count, cut)
    assert labels.shape == (48, 64)
    assert labels.dtype == torch.int64
    number = int(labels.max()) + 1
    assert labels.unique().tolist() == list(range(number))
    assert 0.5 * count <= number <= 1.5 * count


def test_superpixels_keep_to_the_edges_that_are_seen():
    labels = segments(subject_of(seeded(GapNet()), PICTURES["halves"]), 12)
    shared = set(labels[:, :30].unique().tolist()) & set(labels[:, 34:].unique().tolist())
    assert not shared


@pytest.mark.parametrize(
    ("size", "count", "cells"),
    [((32, 48), 96, (8, 12)), ((48, 64), 192, (12, 16)), ((17,), 5, (5,)), ((1, 40), 10, (1, 10)),
     ((40, 2), 10, (10, 1)), ((4, 6, 8), 24, (2, 3, 4)), ((7, 9), 63, (7, 9)), ((9, 9), 1, (1, 1))],
)  # fmt: skip
def test_boxes_are_as_close_to_cubes_as_the_size_allows(size, count, cells):
    labels = boxes(size, count).numpy()
    assert labels.max() + 1 == np.prod(cells)
    for place in itertools.product(*map(range, size)):
        cell = [i * n // length for i, n, length in zip(place, cells, size, strict=True)]
        assert labels[place] == np.ravel_multi_index(cell, cells)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_pictures_without_colours_are_cut_all_the_same(channels):
    module, x = seeded(GapNet(channels=channels)), noise(1, channels, 16, 24)
    subject = subject_of(module, x, input_spec=plain_spec(16, 24, channels=channels))
    labels = segments(subject, 12)
    assert labels.unique().tolist() == list(range(int(labels.max()) + 1))
    assert torch.equal(labels, boxes((16, 24), 12)) == (channels != 1)


def test_segment_means_are_the_means_taken_one_region_at_a_time():
    x, labels = noise(1, 3, 10, 13), boxes((10, 13), 12)
    actual = segment_means(x, labels)
    for region in range(12):
        for channel in range(3):
            pixels = x[0, channel][labels == region].double()
            assert actual[0, channel][labels == region].numpy() == pytest.approx(
                float(pixels.mean())
            )


@pytest.mark.parametrize("fill", ["segment mean", "grey", "black", "blur"])
def test_fills_are_defined_in_pixel_space(fill):
    input_spec = InputSpec(size=(16, 24), mean=(0.4, 0.5, 0.1), std=(0.2, 0.3, 0.25), crop=1.0)
    mean, std = (torch.tensor(v)[:, None, None] for v in (input_spec.mean, input_spec.std))
    unit, labels = noise(1, 3, 16, 24), boxes((16, 24), 6)
    whole = subject_of(seeded(GapNet()), (unit - mean) / std, input_spec=input_spec)
    plain = subject_of(seeded(GapNet()), unit)
    actual = region_fill(whole, labels, fill) * std + mean
    if fill != "black":
        assert difference(actual, region_fill(plain, labels, fill).numpy()) < 1e-5
    level = {"grey": 0.5, "black": 0.0}.get(fill)
    assert level is None or (actual - level).abs().max() < 1e-6


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_scores_are_those_of_pictures_made_region_by_region(batch_size):
    module, x = seeded(LinearNet(10, 13)), noise(1, 3, 10, 13)
    labels, empty = boxes((10, 13), 12), noise(1, 3, 10, 13, seed=8)
    coalitions = torch.randint(0, 2, (7, 12), generator=torch.Generator().manual_seed(1))
    subject = subject_of(module, x, batch_size=batch_size)
    pieces = list(region_scores(subject, coalitions, labels, empty))
    assert max(len(piece) for piece in pieces) <= batch_size
    actual = torch.cat(pieces)
    for row, score in zip(coalitions, actual, strict=True):
        masked_x = empty.clone()
        for region in row.nonzero()[:, 0].tolist():
            masked_x[..., labels == region] = x[..., labels == region]
        assert float(score) == pytest.approx(float(module(masked_x)[0, 1]), rel=1e-4)


def test_masks_and_maps_put_a_region_s_number_on_its_places():
    labels = torch.tensor([[0, 0, 1], [2, 1, 1]])
    assert region_masks(torch.tensor([[1, 0, 1]]), labels).tolist() == [[[[1, 1, 0], [1, 0, 0]]]]
    assert regions_to_map(torch.tensor([5.0, 6, 7]), labels).tolist() == [[5, 5, 6], [7, 6, 6]]


def test_differences_within_rounding_are_none():
    actual = zero_rounding(torch.tensor([2e-7, -2e-7, 3e-6, -3e-6]), 1e-6)
    assert actual.tolist() == pytest.approx([0, 0, 3e-6, -3e-6])
