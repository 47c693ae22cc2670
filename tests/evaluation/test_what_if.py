"""What a change does to a network's score, and whether a map foresaw it, where both are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.cases import linear_case
from tests.support.toys import noise
from whylens.core.evaluation.what_if import (
    change_input,
    falls_elsewhere,
    foresight,
    strongest_places,
)
from whylens.core.results import Heatmap
from whylens.core.targets import probabilities_of


@pytest.fixture
def known():
    """A linear network, its input, and the exact share of every place in the score."""
    case = linear_case(6, 8)
    return case.subject, torch.tensor(case.heat.values).double()


def test_a_change_is_the_input_where_nothing_is_hidden_and_the_fill_elsewhere(known):
    subject, _ = known
    hidden = torch.zeros(6, 8)
    hidden[2:4, 3:6] = 1
    fill = noise(1, 1, 6, 8, seed=5)
    changed = change_input(subject, hidden, fill)
    expected = torch.where(hidden.bool(), fill, subject.x)
    torch.testing.assert_close(changed.x, expected)
    logits = subject.backbone.module(torch.cat([subject.x, expected])).detach()
    before, after = probabilities_of(logits, "classes").double()
    assert changed.fell == pytest.approx(float(before[1] - after[1]), abs=1e-6)
    for score in changed.before:
        assert score.probability == pytest.approx(float(before[score.index]), abs=1e-6)
    for score in changed.after:
        assert score.probability == pytest.approx(float(after[score.index]), abs=1e-6)
    assert int(after.argmax()) in {score.index for score in changed.after}
    shown = [score.probability for score in changed.after]
    assert shown == sorted(shown, reverse=True)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_exactly_a_share_is_marked_whatever_is_equal(known, share):
    subject, _ = known
    values = np.zeros((6, 8), np.float32)
    values[0, :3] = 1
    marked = strongest_places(subject, Heatmap(values, "x"), share)
    count = round(share * 48)
    assert int(marked.sum()) == count
    assert int(marked[0, :3].sum()) == min(3, count)
    # Of equal places none is preferred: not all of the rest are those that come first.
    rest = marked.flatten()[3:]
    assert not rest[: count - 3].all() or count <= 3


def test_the_shape_is_moved_and_never_grows(known):
    subject, _ = known
    hidden = torch.zeros(6, 8)
    hidden[0:2, 0:3] = 1
    fill = torch.zeros_like(subject.x)
    shapes, falls = falls_elsewhere(subject, hidden, fill, places=5)
    assert shapes.shape == (6, 6, 8)
    torch.testing.assert_close(shapes[0], hidden)
    assert shapes.flatten(1).sum(1).tolist() == [6.0] * 6
    module = subject.backbone.module
    whole = probabilities_of(module(subject.x), "classes")[0, 1]
    for shape, fall in zip(shapes, falls, strict=True):
        seen = probabilities_of(module(subject.x * (1 - shape)), "classes")[0, 1]
        assert float(fall) == pytest.approx(float(whole - seen), abs=1e-6)
    again, _ = falls_elsewhere(subject, hidden, fill, places=5)
    torch.testing.assert_close(again, shapes)


def test_the_true_map_foresees_and_its_opposite_does_not(known):
    subject, shares = known
    # Of a linear network without softmax in the way, evidence under a shape is the fall itself.
    shapes, _ = falls_elsewhere(subject, torch.eye(6, 8), torch.zeros_like(subject.x), places=30)
    positive = shares - shares.min()
    falls = (shapes.double() * positive).flatten(1).sum(1)
    told = foresight(Heatmap(positive.float().numpy(), "x"), shapes, falls)
    assert told.agreement == pytest.approx(1)
    assert told.area == pytest.approx(6 / 48)
    assert told.evidence == pytest.approx(float(falls[0] / positive.sum()), rel=1e-5)
    lucky = falls[0] > falls[1:].mean()
    opposite = foresight(Heatmap((positive.max() - positive).float().numpy(), "x"), shapes, falls)
    assert opposite.agreement == pytest.approx(-1)
    if (told.evidence > told.area) == bool(lucky):
        assert told.foresaw is True
        assert opposite.foresaw is False
    else:
        pytest.fail("the first shape was to tell places apart")


def test_what_falls_alike_everywhere_cannot_be_foreseen(known):
    subject, _ = known
    shapes, _ = falls_elsewhere(subject, torch.eye(6, 8), torch.zeros_like(subject.x))
    flat = torch.full((len(shapes),), 0.3, dtype=torch.float64)
    told = foresight(Heatmap(np.random.default_rng(0).random((6, 8)), "x"), shapes, flat)
    assert told.foresaw is None
    assert told.agreement is None
    blank = foresight(Heatmap(np.zeros((6, 8)), "x"), shapes, flat)
    assert blank.evidence == blank.area
