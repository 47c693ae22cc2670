"""Deletion and insertion: the class as the places a map names are hidden, or shown alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
from torch import Tensor

from whylens.core.evaluation.hiding import (
    FILLS,
    Floats,
    HidingFill,
    Quantity,
    Setting,
    hiding_curve,
)
from whylens.core.evaluation.metric import Case, Metric, Score
from whylens.core.evaluation.ordering import cells
from whylens.core.evaluation.random_maps import RandomMaps, coarse, random_maps, with_chance
from whylens.core.results import Heatmap
from whylens.core.subject import Subject

Mode = Literal["deletion", "insertion"]
Measure = Callable[..., Iterator[Score]]


def deletion(
    subject: Subject,
    heat: Heatmap,
    *,
    steps: int = 32,
    fill: HidingFill = "blur",
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
    yield from _area(subject, heat, "deletion", Setting(fill, quantity, steps), chance)


def insertion(
    subject: Subject,
    heat: Heatmap,
    *,
    steps: int = 32,
    fill: HidingFill = "blur",
    quantity: Quantity = "probability",
    chance: bool = True,
) -> Iterator[Score]:
    """Yield the area under the class's score as the strongest places are shown; high is good.

    They are shown on what the others' fill shows; otherwise as `deletion`.
    """
    yield from _area(subject, heat, "insertion", Setting(fill, quantity, steps), chance)


def _area(
    subject: Subject, heat: Heatmap, mode: Mode, setting: Setting, chance: bool
) -> Iterator[Score]:
    values = cells(heat, subject.size)
    scores = _curve(subject, values, mode, setting)
    # The chance level of both: the negative of a random map is one.
    level = partial(with_chance, level=lambda random: float(random.deletion.mean()))
    yield from level(subject, values, setting, scores) if chance else scores


def _curve(subject: Subject, values: Tensor, mode: Mode, setting: Setting) -> Iterator[Score]:
    # To show the strongest is to hide the weakest: an insertion is the deletion of the negative.
    count = len(setting.counts(values.numel()))
    for curve in hiding_curve(subject, values if mode == "deletion" else -values, setting):
        shares, scores = curve.points()
        if mode == "insertion":
            shares, scores = 1 - shares[::-1], scores[::-1]
        yield Score(
            curve.area(),
            passes=curve.passes,
            fraction=len(shares) / count,
            shares=tuple(shares.tolist()),
            curve=tuple(scores.tolist()),
        )


def beats_random_maps(
    subject: Subject,
    heat: Heatmap,
    *,
    of: Literal["deletion", "insertion", "both"] = "both",
    steps: int = 32,
    fill: HidingFill = "blur",
    quantity: Quantity = "probability",
) -> Iterator[Score]:
    """Yield the share of 20 random maps, as smooth as this one, that do worse than it.

    Equal ones count half, so that chance is 1/2. Both are measured at the same 8 of the steps.

    Args:
        of: What is compared; "both" is insertion minus deletion.
        steps: Those of the map's own curve, which is shared with `deletion` and `insertion`.
    """
    setting = Setting(fill, quantity, steps)
    for margins, passes, fraction in margins_over_random_maps(subject, heat, setting, of=of):
        share = share_beaten(margins)
        yield Score(
            share,
            0.5,
            f"Better than {share * len(margins):g} of {len(margins)} random maps as smooth.",
            passes,
            fraction,
        )


def margins_over_random_maps(
    subject: Subject,
    heat: Heatmap,
    setting: Setting,
    *,
    of: Literal["deletion", "insertion", "both"] = "both",
) -> Iterator[tuple[Floats, int, float]]:
    """Yield by how much a map does better than each random one, with passes and share done.

    0 where they differ by rounding. The random maps of one seed are the same under every fill.
    """
    values = cells(heat, subject.size)
    counts, areas, passes = coarse(setting).counts(values.numel()), {}, 0
    modes: tuple[Mode, ...] = ("deletion", "insertion") if of == "both" else (of,)
    for mode in modes:
        *_, curve = hiding_curve(subject, values if mode == "deletion" else -values, setting)
        areas[mode] = curve.area(counts)
        passes += curve.passes
    for random in random_maps(subject, values, setting):
        deleted, inserted = random.deletion, random.insertion
        better = np.zeros(len(deleted))
        if of != "insertion":
            better = better + deleted - areas["deletion"]
        if of != "deletion":
            better = better + areas["insertion"] - inserted
        # The same areas in one batch and in another differ by rounding.
        better[np.abs(better) <= 1e-6 * (np.abs(deleted) + np.abs(inserted))] = 0
        yield better, passes + random.passes, random.fraction


def share_beaten(margins: Floats) -> float:
    """Return the share of margins above 0; those of 0 count half."""
    return float((np.sign(margins) + 1).mean() / 2)


def aopc(
    subject: Subject,
    heat: Heatmap,
    *,
    steps: int = 32,
    fill: HidingFill = "blur",
    quantity: Quantity = "probability",
    chance: bool = True,
) -> Iterator[Score]:
    """Yield the mean drop of the class's score over all steps of a deletion; high is good.

    The curve is that of `deletion`, and costs nothing beside it. Source: Samek et al. 2017, eq. 12;
    theirs ends after 100 regions, this where all is hidden.
    """
    setting, values = Setting(fill, quantity, steps), cells(heat, subject.size)
    scores = (_as_drops(score) for score in _curve(subject, values, "deletion", setting))
    shares = np.array(setting.counts(values.numel())) / values.numel()

    def level(random: RandomMaps) -> float:
        expected = random.expectation(shares)
        return float((expected[0] - expected).mean())

    yield from with_chance(subject, values, setting, scores, level) if chance else scores


def _as_drops(score: Score) -> Score:
    drops = score.curve[0] - np.array(score.curve)
    return replace(score, value=float(drops.mean()), curve=tuple(drops.tolist()))


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
                fraction = (len(finished) + last.fraction) / len(FILLS)
                yield mean_over_fills([*finished, last], fraction)
        if last is not None:
            finished.append(last)
    yield mean_over_fills(finished)


def mean_over_fills(scores: list[Score], fraction: float = 1.0) -> Score:
    """Return the mean of a metric's scores under several fills, with its range.

    Args:
        fraction: How much of the work is done.
    """
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
AOPC = Metric(
    "aopc",
    "AOPC",
    "How much of the class's probability is lost, mean over all steps of a deletion.",
    "Samek et al. 2017, eq. 12; whole cells, until all is hidden, mean over several fills",
    "higher",
    partial(over_fills, aopc),
)
RANDOM_MAPS = Metric(
    "random-maps",
    "Beats random maps",
    "The share of random maps, as smooth as this one, whose deletion and insertion are worse.",
    "A permutation test of insertion minus deletion; Petsiuk et al. 2018 for both",
    "higher",
    partial(over_fills, beats_random_maps),
)
