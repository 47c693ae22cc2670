"""Average drop, increase and gain: the class of the input multiplied by its map.

Papers and libraries print them, so they are here to compare with theirs. They say little of a map:
one that is bright everywhere loses nothing, wherever it points, and one turned over gets the same.
So they have no good direction; the tables that print them call a small drop good, and much of the
others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from whylens.core.evaluation.metric import Case, Metric, Score
from whylens.core.evaluation.ordering import on_input
from whylens.core.results import Heatmap
from whylens.core.subject import Subject

_NOTE = "The brightness of a map decides it more than what it points at."
_CAVEAT = " It goes with the map's brightness: to compare with others' tables only."


def times_map(subject: Subject, heat: Heatmap) -> tuple[float, float] | None:
    """Return the class's probability for the input, and for the input times its map, 0 to 1.

    The map is |values| from 0 at their smallest to 1 at their largest, linearly between its cells;
    what it darkens goes to 0 of the network's own units. None of a number, or of a flat map.
    Source: Chattopadhay et al. 2018, Grad-CAM++, sec. 5.1.
    """
    target = subject.target.as_probability()
    if target.quantity != "probability" or np.ptp(np.abs(heat.values)) == 0:
        return None
    strength = on_input(heat, subject.size).abs().double()
    low, high = strength.min(), strength.max()
    masks = torch.stack([torch.ones_like(strength), (strength - low) / (high - low)])[:, None]
    black = torch.zeros_like(subject.x)
    scores = torch.cat(
        list(subject.masked_scores([masks.to(subject.x)], black, quantity=target))
    ).double()
    return float(scores[0]), float(scores[1])


def drop(before: float, after: float) -> float:
    """Return the share of a probability that is lost, 0 to 1."""
    return max(0.0, before - after) / before if before > 0 else 0.0


def increase(before: float, after: float) -> float:
    """Return 1 where the probability grew, else 0."""
    return float(after > before)


def gain(before: float, after: float) -> float:
    """Return how much of what was missing to 1 is gained, 0 to 1."""
    return max(0.0, after - before) / (1 - before) if before < 1 else 0.0


def _measure(case: Case, figure: Callable[[float, float], float]) -> Iterator[Score]:
    pair = times_map(case.subject, case.heat)
    if pair is None:
        yield Score(None, note="It needs the probability of a class, and a map that is not flat.")
        return
    yield Score(figure(*pair), None, _NOTE, passes=2)


_SOURCE = "Chattopadhay et al. 2018, Grad-CAM++, sec. 5.1, of one input"
AVERAGE_DROP = Metric(
    "average-drop",
    "Average drop",
    "Share of the probability lost as the input is multiplied by the map." + _CAVEAT,
    _SOURCE,
    "none",
    partial(_measure, figure=drop),
)
AVERAGE_INCREASE = Metric(
    "average-increase",
    "Average increase",
    "Whether the probability grows as the input is multiplied by the map." + _CAVEAT,
    _SOURCE,
    "none",
    partial(_measure, figure=increase),
)
AVERAGE_GAIN = Metric(
    "average-gain",
    "Average gain",
    "Share of the missing probability gained as the input is multiplied by the map." + _CAVEAT,
    "Zhang et al. 2024, Opti-CAM, of one input",
    "none",
    partial(_measure, figure=gain),
)
