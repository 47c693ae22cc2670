"""Average drop, increase and gain: written out, and what a map that is bright everywhere gets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.networks import GapNet, seeded
from tests.support.toys import LinearNet, noise, precise, subject_of
from whylens.core.evaluation.brightness import (
    AVERAGE_DROP,
    AVERAGE_GAIN,
    AVERAGE_INCREASE,
    drop,
    gain,
    increase,
)
from whylens.core.evaluation.metric import Case
from whylens.core.results import Heatmap
from whylens.core.targets import Target

METRICS = (AVERAGE_DROP, AVERAGE_INCREASE, AVERAGE_GAIN)


def scores(subject, values):
    """Return drop, increase and gain of a map."""
    return [metric.score(Case(subject, Heatmap(values, "x", True))) for metric in METRICS]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_figures_are_those_written_out(seed):
    module, x = seeded(GapNet()), 6 * noise(1, 3, 8, 12) - 3
    values = (noise(8, 12, seed=seed) - 0.5).numpy()
    actual = [score.value for score in scores(subject_of(module, x, Target(2)), values)]
    strength = abs(values.astype(np.float64))
    strength = (strength - strength.min()) / (strength.max() - strength.min())
    twin = precise(module)
    p, q = (
        float(twin(x.double() * torch.as_tensor(mask))[0].softmax(0)[2]) for mask in (1, strength)
    )
    expected = [max(p - q, 0) / p, float(q > p), max(q - p, 0) / (1 - p)]
    assert actual == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_linear_network_has_figures_in_closed_form():
    # Two places of light 1 with logits 2 and -1: p = s(1); the map shows the first place alone.
    module = LinearNet(1, 2, channels=1, classes=2)
    with torch.no_grad():
        module.fc.weight.copy_(torch.tensor([[0.0, 0.0], [2.0, -1.0]]))
        module.fc.bias.zero_()
    subject = subject_of(module, torch.ones(1, 1, 1, 2), Target(1))
    p, q, worse = (1 / (1 + np.exp(-logit)) for logit in (1, 2, -1))
    good = [score.value for score in scores(subject, [[5, 0]])]
    assert good == pytest.approx([0, 1, (q - p) / (1 - p)])
    assert [score.value for score in scores(subject, [[0, 5]])] == pytest.approx(
        [(p - worse) / p, 0, 0]
    )


def test_the_extremes_divide_by_nothing():
    assert (drop(0.0, 0.5), gain(1.0, 0.5), increase(0.5, 0.5)) == (0, 0, 0)


def test_a_map_that_is_bright_nearly_everywhere_wins_and_the_note_says_so():
    module, x = seeded(GapNet()), 6 * noise(1, 3, 8, 12) - 3
    values = np.ones((8, 12), np.float32)
    values[0, 0] = 0
    loss, *_ = scores(subject_of(module, x, Target(2)), values)
    assert loss.value < 0.05
    assert "brightness" in loss.note


def test_a_flat_map_and_a_number_have_no_figures():
    module, x = seeded(GapNet()), noise(1, 3, 8, 12)
    for target, values in ((Target(2), [[1, 1]]), (Target(0, "value", outputs="value"), [[0, 1]])):
        for score in scores(subject_of(module, x, target), values):
            assert score.value is None
            assert "flat" in score.note
