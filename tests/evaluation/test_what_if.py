"""What a change does to a network's score, and whether a map foresaw it, where both are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.cases import linear_case
from tests.support.networks import GapNet, plain_spec, seeded
from tests.support.toys import noise
from whylens.core.engine import Engine
from whylens.core.evaluation.what_if import (
    change_input,
    falls_elsewhere,
    foresight,
    strongest_places,
)
from whylens.core.explanation import Question
from whylens.core.inputs.photo import photo_of
from whylens.core.models.backbone import wrap
from whylens.core.outputs.what_if import Change, change_outcomes, network_views
from whylens.core.results import Heatmap
from whylens.core.targets import probabilities_of


@pytest.fixture
def linear_network():
    """A linear network, its input, and the exact share of every place in the score."""
    case = linear_case(6, 8)
    return case.subject, torch.tensor(case.heat.values).double()


def test_a_change_is_the_input_where_nothing_is_hidden_and_the_fill_elsewhere(linear_network):
    subject, _ = linear_network
    hidden = torch.zeros(6, 8)
    hidden[2:4, 3:6] = 1
    fill = noise(1, 1, 6, 8, seed=5)
    changed_input = change_input(subject, hidden, fill)
    expected = torch.where(hidden.bool(), fill, subject.x)
    torch.testing.assert_close(changed_input.x, expected)
    logits = subject.backbone.module(torch.cat([subject.x, expected])).detach()
    before, after = probabilities_of(logits, "classes").double()
    assert changed_input.fell == pytest.approx(float(before[1] - after[1]), abs=1e-6)
    for score in changed_input.before:
        assert score.probability == pytest.approx(float(before[score.index]), abs=1e-6)
    for score in changed_input.after:
        assert score.probability == pytest.approx(float(after[score.index]), abs=1e-6)
    assert int(after.argmax()) in {score.index for score in changed_input.after}
    probabilities = [score.probability for score in changed_input.after]
    assert probabilities == sorted(probabilities, reverse=True)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_exactly_a_share_is_marked_whatever_is_equal(linear_network, share):
    subject, _ = linear_network
    values = np.zeros((6, 8), np.float32)
    values[0, :3] = 1
    mask = strongest_places(subject, Heatmap(values, "x"), share)
    count = round(share * 48)
    assert int(mask.sum()) == count
    assert int(mask[0, :3].sum()) == min(3, count)
    # Of equal places none is preferred: not all of the rest are those that come first.
    flat_places = mask.flatten()[3:]
    assert not flat_places[: count - 3].all() or count <= 3


def test_the_shape_is_moved_and_never_grows(linear_network, monkeypatch):
    subject, _ = linear_network
    hidden = torch.zeros(6, 8)
    hidden[0:2, 0:3] = 1
    fill = torch.zeros_like(subject.x)
    changed_input = change_input(subject, hidden, fill)
    batch_sizes = []

    def counting(x):
        batch_sizes.append(len(x))
        return logits(x)

    logits = subject.fast_logits
    monkeypatch.setattr(type(subject), "fast_logits", lambda _, x: counting(x))
    shapes, falls = falls_elsewhere(subject, changed_input, places=5)
    assert sum(batch_sizes) == 5  # of the input itself, and of the shape where it is, all is known
    assert shapes.shape == (6, 6, 8)
    torch.testing.assert_close(shapes[0], hidden)
    assert shapes.flatten(1).sum(1).tolist() == [6.0] * 6
    module = subject.backbone.module
    whole = probabilities_of(module(subject.x), "classes")[0, 1]
    for shape, fall in zip(shapes, falls, strict=True):
        probability = probabilities_of(module(subject.x * (1 - shape)), "classes")[0, 1]
        assert float(fall) == pytest.approx(float(whole - probability), abs=1e-6)
    shapes_again, _ = falls_elsewhere(subject, changed_input, places=5)
    torch.testing.assert_close(shapes_again, shapes)


def test_the_true_map_foresees_and_its_opposite_does_not(linear_network):
    subject, shares = linear_network
    # Of a linear network without softmax in the way, evidence under a shape is the fall itself.
    changed_input = change_input(subject, torch.eye(6, 8), torch.zeros_like(subject.x))
    shapes, _ = falls_elsewhere(subject, changed_input, places=30)
    positive = shares - shares.min()
    falls = (shapes.double() * positive).flatten(1).sum(1)
    result = foresight(Heatmap(positive.float().numpy(), "x"), shapes, falls)
    assert result.agreement == pytest.approx(1)
    assert result.area == pytest.approx(6 / 48)
    assert result.evidence == pytest.approx(float(falls[0] / positive.sum()), rel=1e-5)
    lucky = falls[0] > falls[1:].mean()
    opposite_result = foresight(
        Heatmap((positive.max() - positive).float().numpy(), "x"), shapes, falls
    )
    assert opposite_result.agreement == pytest.approx(-1)
    if (result.evidence > result.area) == bool(lucky):
        assert result.foresaw is True
        assert opposite_result.foresaw is False
    else:
        pytest.fail("the first shape was to tell places apart")


def test_what_falls_alike_everywhere_cannot_be_foreseen(linear_network):
    subject, _ = linear_network
    changed_input = change_input(subject, torch.eye(6, 8), torch.zeros_like(subject.x))
    shapes, _ = falls_elsewhere(subject, changed_input)
    flat = torch.full((len(shapes),), 0.3, dtype=torch.float64)
    result = foresight(Heatmap(np.random.default_rng(0).random((6, 8)), "x"), shapes, flat)
    assert result.foresaw is None
    assert result.agreement is None
    blank = foresight(Heatmap(np.zeros((6, 8)), "x"), shapes, flat)
    assert blank.evidence == blank.area


PIXELS = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
OTHER_PIXELS = np.random.default_rng(1).integers(0, 256, (20, 24, 3), dtype=np.uint8)
HEAT = Heatmap(np.random.default_rng(2).permutation(480).reshape(20, 24).astype(np.float32), "x")
MARKS = np.zeros((10, 12), bool)
MARKS[2:5, 3:9] = True


@pytest.fixture(scope="module")
def engine_and_question():
    """An engine whose network sees photos as they are, and a question to it."""
    network = wrap(seeded(GapNet()), input_spec=plain_spec(20, 24), labels=("a", "b", "c"))
    return Engine(loader=lambda *_: network), Question("toy", PIXELS, target=1)


def fill_pixels(fill, engine, question) -> np.ndarray:
    """Return (H, W, 3) float64 pixels of an input that shows the fill alone."""
    if fill == "grey":
        return np.full(PIXELS.shape, 127.5)
    if fill == "mean":
        return np.broadcast_to(PIXELS.mean((0, 1)), PIXELS.shape)
    if fill == "blur":
        blurred_pixels = (
            255 * engine.subject(question).baseline("blur")[0].permute(1, 2, 0).double()
        )
        assert blurred_pixels.std() < 0.5 * PIXELS.std()
        return blurred_pixels.numpy()
    return OTHER_PIXELS.astype(float)


@pytest.mark.parametrize("by", ["map", "marks"])
@pytest.mark.parametrize("fill", ["blur", "grey", "mean", "photo"])
@pytest.mark.parametrize("keep", [False, True], ids=["cover", "keep"])
def test_the_network_is_shown_the_fill_where_it_should_be_and_the_input_elsewhere(
    engine_and_question, keep, fill, by
):
    engine, question = engine_and_question
    mask = MARKS if by == "marks" else HEAT
    change = Change(mask, 0.25, keep, photo_of(OTHER_PIXELS) if fill == "photo" else fill)
    first, last = change_outcomes(engine, question, change, [HEAT, Heatmap(-HEAT.values, "x")])
    marked_mask = HEAT.values >= 360 if by == "map" else MARKS.repeat(2, 0).repeat(2, 1)
    hidden = ~marked_mask if keep else marked_mask
    expected = np.where(hidden[..., None], fill_pixels(fill, engine, question), PIXELS)
    assert np.abs(last.picture - expected).max() <= 0.51
    assert (last.picture != PIXELS).any()
    assert last.area == pytest.approx(hidden.mean())
    assert last.label == "b"
    assert (len(first.foreseen), len(last.foreseen)) == (0, 2)
    assert first.elsewhere is None
    # What is there first stays: the asked class falls as the bars say.
    assert first.before == last.before
    (before,) = (c.probability for c in last.before if c.index == 1)
    (after,) = (c.probability for c in last.after if c.index == 1)
    assert last.fell == first.fell == pytest.approx(before - after, abs=1e-6)
    for prediction in last.foreseen:
        assert (prediction.fell, prediction.elsewhere) == (last.fell, last.elsewhere)


def test_a_network_is_shown_what_is_painted_on(engine_and_question):
    (pixels,) = network_views(*engine_and_question)
    assert np.array_equal(pixels, PIXELS)
    signals = wrap(seeded(GapNet(axes=1)), input_spec=plain_spec(32), labels=("a", "b", "c"))
    signal = Question("toy", signal=np.zeros((3, 32), np.float32))
    assert list(network_views(Engine(loader=lambda *_: signals), signal)) == [None]


def stroke(height: int, width: int, thick: float) -> np.ndarray:
    """Return (height, width) bool: a slanted line."""
    row, column = np.indices((height, width))
    return np.abs(row - 100 - column / 3) < thick / 2


@pytest.mark.parametrize("width", [1, 10])
def test_a_stroke_covers_what_was_painted_whatever_the_size_of_the_canvas(
    engine_and_question, width
):
    mask = stroke(350, 420, width)
    change = Change(mask, 0.1, False, "grey")
    *_, outcome = change_outcomes(*engine_and_question, change, [])
    assert outcome.area == pytest.approx(mask.mean(), rel=1e-5)
    mask = stroke(340, 408, width)  # 17 for each of the network's pixels
    change = Change(mask, 0.1, False, "grey")
    *_, outcome = change_outcomes(*engine_and_question, change, [])
    assert outcome.area == pytest.approx(mask.mean(), rel=1e-5)
    share = mask.reshape(20, 17, 24, 17).mean((1, 3))[..., None]
    assert 0.05 < (share > 0).mean() < 0.25
    assert np.abs(outcome.picture - (PIXELS + share * (127.5 - PIXELS))).max() <= 0.51
