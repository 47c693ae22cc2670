"""What a map keeps where nothing of the question changes: the seed, a little noise, a shift."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from whylens.core.evaluation.agreement import (
    Floats,
    on_coarser_grid,
    on_grid,
    rank_correlation,
    top_overlap,
)
from whylens.core.evaluation.metric import Case, Metric, Score, require
from whylens.core.inputs.preprocess import per_channel
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.results import Heatmap
from whylens.core.subject import Subject

Explain = Callable[[Subject], Heatmap]
MapComparison = Callable[[Floats, Floats], tuple[float, float]]


def spearman(a: Floats, b: Floats) -> tuple[float, float]:
    """Return the rank correlation of two maps, and its chance level."""
    return rank_correlation(a, b), 0.0


def seed_agreement(
    subject: Subject, heat: Heatmap, explain: Explain, *, comparison: MapComparison = spearman
) -> Score:
    """Return how like a map is to that of the next seed.

    Without a value where both are equal to the last bit: then the method draws nothing.

    Args:
        comparison: Returns the likeness of two maps of one grid, and its chance level.
    """
    reseeded = explain(replace(subject, seed=subject.seed + 1))
    if np.array_equal(reseeded.values, heat.values):
        return Score(None, note="It draws no random numbers: every seed has this map.")
    return Score(*comparison(*on_coarser_grid(heat.values, reseeded.values)))


def max_sensitivity(
    subject: Subject, heat: Heatmap, explain: Explain, *, radius: float = 0.02, draws: int = 10
) -> Iterator[Score]:
    """Yield the largest change of a map under a little noise, as a share of the map's size.

    The target and the method's seed stay what they are, else the noise of a method that draws is
    counted as if the input had caused it. A map that never changes gets 0, whatever it shows.
    Source: Yeh et al. 2019, On the (In)fidelity and Sensitivity of Explanations, eq. 4, over
    `draws` uniform points of the ball.

    Args:
        radius: Of the noise, in pixel space, where photos lie in [0, 1].
    """
    size = float(np.linalg.norm(np.asarray(heat.values, np.float64)))
    if not size:
        yield Score(None, note="The map is blank: no change of it has a size.")
        return
    generator, input_spec, worst = subject.generator(), subject.backbone.input_spec, 0.0
    for draw in range(1, draws + 1):
        noise = radius * (2 * torch.rand(subject.x.shape, generator=generator) - 1)
        noise = noise.to(subject.x) / per_channel(input_spec.std, subject.x)
        noisy_heat = explain(_on_input(subject, subject.x + noise))
        change = np.asarray(noisy_heat.values, np.float64) - heat.values
        worst = max(worst, float(np.linalg.norm(change)) / size)
        yield Score(worst, None, "", draw, draw / draws)


def shift_equivariance(
    subject: Subject, heat: Heatmap, explain: Explain, *, comparison: MapComparison = spearman
) -> Iterator[Score]:
    """Yield how well a map moves along where the input moves by one stride, mean over axes.

    Over the places that both inputs show, at the input's resolution. The stride is that of the last
    feature map, or a sixteenth of the axis where there is none. What leaves on one side comes back
    on the other, so that no place is empty.

    Args:
        comparison: As in `seed_agreement`.
    """
    agreements: list[tuple[float, float]] = []
    strides = _strides(subject)
    for axis, (stride, length) in enumerate(zip(strides, subject.size, strict=True)):
        shifted_heat = explain(_on_input(subject, subject.x.roll(stride, axis + 2)))
        first = on_grid(heat.values, subject.size).take(range(length - stride), axis)
        second = on_grid(shifted_heat.values, subject.size).take(range(stride, length), axis)
        agreements.append(comparison(first, second))
        repeats, (value, chance) = len(agreements), np.mean(agreements, axis=0)
        yield Score(float(value), float(chance), "", repeats, repeats / len(strides))


def _strides(subject: Subject) -> list[int]:
    if subject.backbone.split is None:
        return [max(1, length // 16) for length in subject.size]
    cells = subject.features.shape[2:]
    return [max(1, length // n) for length, n in zip(subject.size, cells, strict=True)]


def _on_input(subject: Subject, x: torch.Tensor) -> Subject:
    return replace(subject, forward_pass=ForwardPass(subject.backbone, x))


def _of_seeds(comparison: MapComparison) -> Callable[[Case], Iterator[Score]]:
    def measure(case: Case) -> Iterator[Score]:
        explain = require(case, "method")
        yield seed_agreement(case.subject, case.heat, explain, comparison=comparison)

    return measure


def _of_shifts(comparison: MapComparison) -> Callable[[Case], Iterator[Score]]:
    def measure(case: Case) -> Iterator[Score]:
        explain = require(case, "method")
        return shift_equivariance(case.subject, case.heat, explain, comparison=comparison)

    return measure


SEED_AGREEMENT = Metric(
    name="seed-agreement",
    title="Seeds agree",
    summary="Does a method that draws random numbers show the same with other ones?",
    source="Spearman's correlation of the maps of two seeds.",
    direction="higher",
    measure=_of_seeds(spearman),
    asks=frozenset({"method"}),
)
SEED_OVERLAP = replace(
    SEED_AGREEMENT,
    name="seed-overlap",
    title="Seeds mark the same",
    summary="Which share of the strongest tenth is the same with other random numbers?",
    source="Overlap of the strongest tenth in the maps of two seeds; ties by expectation.",
    measure=_of_seeds(top_overlap),
)
MAX_SENSITIVITY = Metric(
    name="max-sensitivity",
    title="Largest change",
    summary="How far does noise that nobody sees move the map? A map that never moves gets 0.",
    source="Yeh et al. 2019, eq. 4; uniform noise of 0.02 of the pixels' range, 10 draws.",
    direction="lower",
    measure=lambda case: max_sensitivity(case.subject, case.heat, require(case, "method")),
    asks=frozenset({"method"}),
)
SHIFT_EQUIVARIANCE = Metric(
    name="shift-equivariance",
    title="Moves along",
    summary="Does the map move along where the input moves by one stride of the network?",
    source="Spearman's correlation over the places that both inputs show, mean over axes.",
    direction="higher",
    measure=_of_shifts(spearman),
    asks=frozenset({"method"}),
)
SHIFT_OVERLAP = replace(
    SHIFT_EQUIVARIANCE,
    name="shift-overlap",
    title="Marks move along",
    summary="Which share of the strongest tenth of the places moves along by one stride?",
    source="Overlap of the strongest tenth of what both inputs show, mean over axes; ties by "
    "expectation.",
    measure=_of_shifts(top_overlap),
)
