"""Occlusion: every place covered, counted once per window, and nothing painted that is rounding."""

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
from whylens.plugins.occlusion import (
    Occlusion,
    OcclusionParams,
    mean_drop,
    query_order,
    windows,
    zero_rounding,
)

METHOD = Occlusion()


def occluded(subject, **params):
    return final(METHOD.explain(subject, OcclusionParams(**params)))


def literal(module, x, target, window, stride, fill=0.5) -> np.ndarray:
    """Return the mean fall over the windows that cover a place, one window at a time."""
    twin, x = precise(module), x.double()

    def score(picture):
        with torch.no_grad():
            return float(score64(twin(picture)[0], target))

    axes = []
    for length in x.shape[2:]:
        side, starts, start = min(window, length), [], 0
        while start + side < length:
            starts.append(start)
            start += stride
        starts.append(length - side)  # the last one touches the edge
        axes.append([range(start, start + side) for start in starts])
    total, count = np.zeros(x.shape[2:]), np.zeros(x.shape[2:])
    for box in itertools.product(*axes):
        occluded_x = x.clone()
        for place in itertools.product(*box):
            occluded_x[(0, slice(None), *place)] = fill
        fall = score(x) - score(occluded_x)
        for place in itertools.product(*box):
            total[place] += fall
            count[place] += 1
    assert count.min() >= 1
    return total / count


@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_the_map_is_the_mean_fall_over_windows_window_by_window(axes, target, kind):
    module, x = toy(axes, kind), picture(axes)
    heat = occluded(subject_of(module, x, target), window=8, stride=4)
    expected = literal(module, x, target, 8, 4)
    assert heat.values.shape == expected.shape
    assert difference(heat.values, expected) < 1e-4
    assert heat.signed
    assert heat.unit == target.unit


@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [((16, 24), 8, 8), ((17, 23), 8, 8), ((19, 30), 16, 4), ((9, 40), 16, 12), ((8, 8), 8, 4)],
)
def test_overlaps_and_remainders_count_as_in_the_literal_loop(size, window, stride):
    module, x = seeded(MlpHeadNet()), noise(1, 3, *size)
    heat = occluded(subject_of(module, x), window=window, stride=stride)
    assert difference(heat.values, literal(module, x, Target(1), window, stride)) < 1e-4


def coverage(size, window, stride) -> np.ndarray:
    count = np.zeros(size, int)
    for box in windows(size, window, stride):
        count[box] += 1
    return count


@pytest.mark.parametrize("size", [(24,), (16, 24), (8, 16, 24)])
def test_disjoint_windows_cover_every_place_once(size):
    assert (coverage(size, 8, 8) == 1).all()


@pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 4), (7, 5), (16, 4), (3, 1)])
def test_windows_cover_the_remainder_and_the_last_touches_the_edge(window, stride):
    for length in range(1, 40):
        boxes = [box[0] for box in windows((length,), window, stride)]
        side = min(window, length)
        assert (coverage((length,), window, stride) >= 1).all(), length
        assert (boxes[0].start, boxes[-1].stop) == (0, length)
        assert all(box.stop - box.start == side for box in boxes), length
        assert len({box.start for box in boxes}) == len(boxes), length
        assert len(boxes) == 1 + -(-(length - side) // stride), length


def test_under_disjoint_windows_an_additive_network_s_falls_add_up_to_its_score():
    module, x = seeded(LinearNet(16, 24)), noise(1, 3, 16, 24)
    heat = occluded(subject_of(module, x, Target(0)), window=8, stride=8, fill="black")
    whole = float((module.fc.weight[0].detach().double() * x.flatten().double()).sum())
    # A window's fall stands on each of its 64 places.
    assert float(heat.values.astype(float).sum()) / 64 == pytest.approx(whole, rel=1e-5)
    assert heat.diagnostics["windows"] == 6


class Reader(nn.Module):
    """The score is one pixel."""

    def __init__(self, *place: int) -> None:
        super().__init__()
        self.place = place
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x):
        value = self.gain * x[(slice(None), 0, *self.place)]
        return torch.stack([-value, value], 1)


@pytest.mark.parametrize("place", [(0, 0), (13, 29), (27, 40), (0, 40), (20, 3)])
def test_a_network_that_reads_one_pixel_peaks_there(place):
    x = 0.1 + noise(1, 3, 28, 41)
    heat = occluded(subject_of(Reader(*place), x), window=8, stride=4, fill="black")
    assert heat.values[place] == heat.values.max() == pytest.approx(float(x[0, 0][place]))
    # At an edge, places that only one window covers tie with the one that it was covered for.
    rows, columns = np.nonzero(heat.values == heat.values.max())
    assert max(np.abs(rows - place[0]).max(), np.abs(columns - place[1]).max()) < 8


def test_a_window_larger_than_the_picture_covers_all_of_it():
    module, x = seeded(GapNet()), noise(1, 3, 10, 70)
    heat = occluded(subject_of(module, x), window=48, stride=16)
    assert difference(heat.values, literal(module, x, Target(1), 48, 16)) < 1e-4
    assert (heat.values[0] == heat.values[-1]).all()
    small = occluded(subject_of(module, x[..., :12].contiguous()), window=48, stride=16)
    assert small.diagnostics["windows"] == 1
    assert "same value everywhere" in small.blank_reason()


def test_a_stride_beyond_the_window_leaves_no_stripes():
    module, x = seeded(MlpHeadNet()), noise(1, 3, 20, 33)
    heat = occluded(subject_of(module, x), window=8, stride=64)
    assert difference(heat.values, literal(module, x, Target(1), 8, 8)) < 1e-4


@pytest.mark.parametrize(
    ("fill", "value"), [("black", (0, 0, 0)), ("grey", (0.5, 0.5, 0.5)), ("mean", None)]
)
def test_windows_show_the_fill_in_pixel_space(fill, value):
    input_spec = InputSpec(size=(16, 24), mean=(0.4, 0.5, 0.1), std=(0.2, 0.3, 0.25), crop=1.0)
    mean, std = (torch.tensor(v)[:, None, None] for v in (input_spec.mean, input_spec.std))
    unit = noise(1, 3, 16, 24)
    fill_colour = unit[0].mean((1, 2)) if value is None else torch.tensor(value)
    module, x = seeded(LinearNet(16, 24)), (unit - mean) / std
    heat = occluded(
        subject_of(module, x, Target(0), input_spec=input_spec), window=8, stride=8, fill=fill
    )
    weight = module.fc.weight[0].detach().reshape(3, 16, 24)
    falls = (weight * (unit[0] - fill_colour[:, None, None]) / std).double()
    expected = falls.reshape(3, 2, 8, 3, 8).sum((0, 2, 4)).repeat_interleave(8, 0)
    assert difference(heat.values, expected.repeat_interleave(8, 1).numpy()) < 1e-5


@pytest.mark.parametrize(
    "fill", ["black", *(pytest.param(f, marks=pytest.mark.slow) for f in ("mean", "blur"))]
)
def test_covering_black_with_black_shows_nothing_rather_than_rounding(fill, squeezenet):
    x = subject_of(seeded(GapNet()), torch.zeros(1, 3, 227, 227), input_spec=squeezenet.input_spec)
    black = x.baseline("black")
    top = int(squeezenet.logits(black)[0].argmax())
    subject = subject_of(squeezenet.module, black, Target(top), backbone=squeezenet)
    heat = occluded(subject, window=64, stride=64, fill=fill)
    assert not heat.values.any()
    assert "zero everywhere" in heat.blank_reason()


def test_falls_within_rounding_are_none_and_small_real_ones_stay():
    falls = torch.tensor([2e-7, -2e-7, 3e-6, -3e-6])
    assert zero_rounding(falls, 1e-6).tolist() == pytest.approx([0, 0, 3e-6, -3e-6])
    module, x = seeded(GapNet()), noise(1, 3, 16, 24)
    with torch.no_grad():
        module.fc.weight *= 1e-9
        module.fc.bias *= 1e-9
    heat = occluded(subject_of(module, x), window=8, stride=4)
    assert difference(heat.values, literal(module, x, Target(1), 8, 4)) < 1e-4


def test_places_that_no_window_has_covered_yet_are_zero():
    total, count = torch.tensor([6.0, 0.0]), torch.tensor([3.0, 0.0])
    assert mean_drop(total, count).tolist() == [2.0, 0.0]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_the_answer_does_not_depend_on_the_batch_size(batch_size):
    subject = subject_of(seeded(MlpHeadNet()), noise(1, 3, 20, 33))
    expected = occluded(subject, window=8, stride=4).values
    actual = occluded(replace(subject, batch_size=batch_size), window=8, stride=4).values
    assert difference(actual, expected) < 1e-4


def test_parts_grow_and_show_all_of_the_picture_early():
    subject = subject_of(seeded(MlpHeadNet()), noise(1, 3, 64, 96), batch_size=16)
    parts = list(METHOD.explain(subject, OcclusionParams(window=16, stride=4)))
    fractions = [p.fraction for p in parts]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    early = next(p for p in parts if p.fraction >= 0.15)
    quarters = early.result.values.reshape(2, 32, 2, 48)
    assert (np.abs(quarters) > 0).mean((1, 3)).min() > 0.5


def test_a_negative_logit_does_not_flip_the_map():
    module, x = seeded(MlpHeadNet()), noise(1, 3, 16, 24)
    before = occluded(subject_of(module, x), window=8, stride=4).values
    with torch.no_grad():
        module.fc.bias -= 3
    after = subject_of(module, x)
    assert after.score < -1
    assert difference(occluded(after, window=8, stride=4).values, before) < 1e-3


@pytest.mark.parametrize("bias", [-3.0, 3.0])
def test_a_head_with_one_output_explains_the_side_that_it_predicts(bias):
    module, x = seeded(MlpHeadNet(classes=1)), noise(1, 3, 16, 24)
    with torch.no_grad():
        module.fc.bias.fill_(bias)
        module.fc.weight *= 10
    side = int(subject_of(module, x).forward_pass.logits[0].argmax())
    heat = occluded(subject_of(module, x, Target(side)), window=8, stride=4)
    half = literal(module, x, Target(0), 8, 4) / 2
    assert difference(heat.values, half if side else -half) < 1e-4


@pytest.mark.parametrize("size", [(224, 224), (64, 96), (400,)])
def test_past_the_coarse_sixth_windows_near_the_same_edges_are_asked_together(size):
    boxes = list(windows(size, 32, 16))
    order = query_order(size, boxes)
    assert sorted(map(str, order)) == sorted(map(str, boxes))
    quarters = []
    for box in order[len(order) // 6 :]:
        middles = [(p.start + p.stop) / 2 / n for p, n in zip(box, size, strict=True)]
        quarters.append(tuple(np.digitize(middles, [0.2501, 0.7499])))
    runs = [edges for edges, _ in itertools.groupby(quarters)]
    assert len(runs) == len(set(runs)) > 1
