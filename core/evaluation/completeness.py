"""Completeness: do the values of a map add up to what the score gains over a baseline?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from whylens.core.evaluation.metric import Case, Metric, Score, require
from whylens.core.results import Heatmap
from whylens.core.subject import Subject


def completeness_gap(subject: Subject, heat: Heatmap, baseline: Tensor) -> Score:
    """Return by how much a map's sum misses the score's gain over baselines, as a share of it.

    Owed by methods that promise it, and by no others.
    Source: Sundararajan et al. 2017, Axiomatic Attribution, proposition 1.

    Args:
        baseline: (N, C, *S) the input that the method compares with, or all over which it takes
            the mean.
    """
    gain = float(subject.scores(subject.x)[0]) - float(subject.scores(baseline).double().mean())
    passes = 1 + len(baseline)
    if abs(gain) <= subject.rounding:
        note = "The score is that of the baseline: there is nothing to share."
        return Score(None, None, note, passes)
    total = float(np.asarray(heat.values, np.float64).sum())
    return Score(abs(total - gain) / abs(gain), None, "", passes)


def _measure(case: Case) -> Iterator[Score]:
    yield completeness_gap(case.subject, case.heat, require(case, "baseline"))


METRIC = Metric(
    name="completeness-gap",
    title="Gap of the sum",
    summary="By which share does the map's sum miss what the score gains over the baseline?",
    source="Sundararajan et al. 2017, proposition 1, as a share of the gain.",
    direction="lower",
    measure=_measure,
    asks=frozenset({"baseline"}),
    scale_free=False,
    best=0.0,
)
