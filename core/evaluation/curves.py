"""Deletion and insertion: the class as the places a map names are hidden, or shown alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import numpy as np

from whylens.core.evaluation.hiding import (
    FILLS,
    Floats,
    HidingCurve,
    Quantity,
    Setting,
    hiding_curve,
)
from whylens.core.evaluation.metric import Case, Metric, Score
from whylens.core.evaluation.ordering import cells
from whylens.core.evaluation.random_maps import PAIRS, RandomAreas, coarse, random_areas
from whylens.core.inputs.preprocess import Fill
from whylens.core.results import Heatmap
from whylens.core.subject import Subject

Mode = Literal["deletion", "insertion"]
Measure = Callable[..., Iterator[Score]]


def deletion(
    subject: Subject,
    heat: Heatmap,
    *,
    steps: int = 32,
    fill: Fill = "blur",
    quantity: Quantity = "probability",
    chance: bool = True,
) -> Iterator[Score]:
    """Yield the area under the class's score as the strongest places are hidden; low is good.

    Exactly k cells are hidden at each step, whole cells of the map's own grid; equal ones by
    chance. Source: Petsiuk et al. 2018, RISE, sec. 4.1; theirs are pixels of the enlarged map.

    Args:
        chance: Whether to ask, after the curve, what random maps as smooth get: the mean area of
            20, over 8 steps. They are shared by all maps of this input that are as smooth.
    """
    yield from _curve(subject, heat, "deletion", Setting(fill, quantity, steps), chance)


def insertion(
    subject: Subject,
    heat: Heatmap,
    *,
    steps: int = 32,
    fill: Fill = "blur",
    quantity: Quantity = "probability",
    chance: bool = True,
) -> Iterator[Score]:
    """Yield the area under the class's score as the strongest places are shown; high is good.

    They are shown on what the others' fill shows; otherwise as `deletion`.
    """
    yield from _curve(subject, heat, "insertion", Setting(fill, quantity, steps), chance)


def _curve(
    subject: Subject, heat: Heatmap, mode: Mode, setting: Setting, chance: bool
) -> Iterator[Score]:
    values = cells(heat, subject.size)
    score, passes = Score(None), 0
    for curve in hiding_curve(subject, values if mode == "deletion" else -values, setting):
        shares, scores = _points(curve, mode)
        passes = curve.passes
        done = len(shares) / len(setting.counts(values.numel()))
        score = Score(
            curve.area(),
            passes=passes,
            fraction=(0.5 if chance else 1) * done,
            shares=tuple(shares.tolist()),
            curve=tuple(scores.tolist()),
        )
        yield score
    if not chance:
        return
    for found in random_areas(subject, values, setting):
        areas = found.deletion if mode == "deletion" else found.insertion
        yield Score(
            score.value,
            float(areas.mean()),
            passes=passes + found.passes,
            fraction=0.5 + 0.25 * len(areas) / PAIRS,
            shares=score.shares,
            curve=score.curve,
        )


def _points(curve: HidingCurve, mode: Mode) -> tuple[Floats, Floats]:
    # To show the strongest is to hide the weakest: an insertion is the deletion of the negative.
    shares, scores = curve.points()
    return (shares, scores) if mode == "deletion" else (1 - shares[::-1], scores[::-1])


def beats_random_maps(
    subject: Subject,
    heat: Heatmap,
    *,
    of: Literal["deletion", "insertion", "both"] = "both",
    steps: int = 32,
    fill: Fill = "blur",
    quantity: Quantity = "probability",
) -> Iterator[Score]:
    """Yield the share of 20 random maps, as smooth as this one, that do worse than it.

    Equal ones count half, so that chance is 1/2. Both are measured at the same 8 of the steps.

    Args:
        of: What is compared; "both" is insertion minus deletion.
        steps: Those of the map's own curve, which is shared with `deletion` and `insertion`.
    """
    setting, values = Setting(fill, quantity, steps), cells(heat, subject.size)
    counts, areas, passes = coarse(setting).counts(values.numel()), {}, 0
    wanted: tuple[Mode, ...] = ("deletion", "insertion") if of == "both" else (of,)
    for mode in wanted:
        *_, curve = hiding_curve(subject, values if mode == "deletion" else -values, setting)
        areas[mode] = curve.area(counts)
        passes += curve.passes
    for found in random_areas(subject, values, setting):
        by_mode = {"deletion": -found.deletion, "insertion": found.insertion}
        random = sum((by_mode[mode] for mode in wanted), np.zeros(len(found.deletion)))
        own = sum(-a if mode == "deletion" else a for mode, a in areas.items())
        yield _percentile(own, random, found, passes)


def _percentile(own: float, random: Floats, found: RandomAreas, passes: int) -> Score:
    # Areas of one batch and another differ by rounding.
    apart = own - random
    equal = np.abs(apart) <= 1e-6 * np.maximum(abs(own), np.abs(random))
    better = float((apart[~equal] > 0).sum() + equal.sum() / 2)
    return Score(
        better / len(random),
        0.5,
        f"Better than {better:g} of {len(random)} random maps as smooth.",
        passes + found.passes,
        len(random) / (2 * PAIRS),
    )


def over_fills(measure: Measure, case: Case) -> Iterator[Score]:
    """Yield the mean of a metric over what hidden places may show, with its range.

    Nothing decides which fill is right, and the order of two maps may hang on it.

    Args:
        measure: Of a subject and a map, with a keyword `fill`.
    """
    finished: list[Score] = []
    for fill in FILLS:
        last = None
        for last in measure(case.subject, case.heat, fill=fill):
            if last.value is not None and last.fraction < 1:
                yield _mean([*finished, last], (len(finished) + last.fraction) / len(FILLS))
        if last is not None:
            finished.append(last)
    yield _mean(finished, 1.0)


def _mean(scores: list[Score], fraction: float) -> Score:
    values = [score.value for score in scores if score.value is not None]
    chances = [score.chance for score in scores if score.chance is not None]
    span = (min(values), max(values))
    worst = min(scores, key=lambda score: np.inf if score.value is None else score.value)
    # The curve of the first fill: a mean of some points of one and all of another is no curve.
    return Score(
        float(np.mean(values)),
        float(np.mean(chances)) if chances else None,
        worst.note or f"{span[0]:.2f} to {span[1]:.2f} over {len(values)} ways of hiding.",
        sum(score.passes for score in scores),
        fraction,
        scores[0].shares,
        scores[0].curve,
        span,
    )


DELETION = Metric(
    "deletion",
    "Deletion",
    "How soon the class loses its probability as the strongest places are hidden.",
    "Petsiuk et al. 2018, RISE, sec. 4.1; whole cells, mean over several fills",
    "lower",
    partial(over_fills, deletion),
)
INSERTION = Metric(
    "insertion",
    "Insertion",
    "How soon the class gains its probability as the strongest places are shown.",
    "Petsiuk et al. 2018, RISE, sec. 4.1; whole cells, mean over several fills",
    "higher",
    partial(over_fills, insertion),
)
RANDOM_MAPS = Metric(
    "random-maps",
    "Beats random maps",
    "The share of random maps, as smooth as this one, whose deletion and insertion are worse.",
    "A permutation test of insertion minus deletion; Petsiuk et al. 2018 for both",
    "higher",
    partial(over_fills, beats_random_maps),
)
