"""What a result says in one sentence, and what becomes of the score when its places are covered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from whylens.core.engine import Engine
from whylens.core.evaluation.ordering import on_input, strongest_first
from whylens.core.explanation import Explanation
from whylens.core.inputs.view import on_original
from whylens.core.results import Array, Examples, Heatmap, Result
from whylens.core.targets import Outputs
from whylens.core.words import number_of, percent


def headline(result: Result, outputs: Outputs = "classes", *, is_blind: bool = False) -> str:
    """Return one sentence that says what a result of any explainer shows.

    Args:
        outputs: What the network's scores are of.
        is_blind: Whether its map tells not what speaks for a class: it is class or sign blind.
    """
    evidence = f"{'raises' if outputs == 'value' else 'speaks for'} it"
    if is_blind:
        evidence = "it marks"
    match result:
        case Heatmap():
            share = evidence_share(result.values)
            noun = "picture" if result.values.ndim == 2 else "input"  # or it is a signal, a table
            if share is None:
                return "It marks nothing." if is_blind else f"Nothing in the {noun} {evidence}."
            words = f"Half of what {evidence} lies in {percent(share)} of the {noun}."
            border = " Its strongest place lies at the border." if peaks_at_border(result) else ""
            return words + border
        case Examples():
            if result.note or not result.items:
                return result.note or "None found."
            count = len(result.items)
            return f"{count} pictures stand for it." if count > 1 else "1 picture stands for it."
        case _:
            count = len(result.items)
            verb = "speaks" if count == 1 else "speak"
            return f"{number_of(count, 'prototype')} {verb} for {result.predicted}."


# A share of what a network learnt from; an input that is less usual is like none of it.
UNFAMILIAR = 0.01


def is_unfamiliar(share: float | None) -> bool:
    """Return whether a network is known to have learnt from nothing like an input.

    Args:
        share: As `Engine.familiarity` returns it.
    """
    return share is not None and share < UNFAMILIAR


def familiarity_words(share: float | None) -> str:
    """Return one sentence that says whether a network learnt from the like of an input.

    Args:
        share: As `Engine.familiarity` returns it.
    """
    if share is None:
        return "What it learnt from is not stored: whether this is unusual for it cannot be known."
    if is_unfamiliar(share):
        return "It learnt from nothing like this: take what it says as a guess."
    if share < 0.5:
        return f"Of what it learnt from, {percent(share)} is as unusual as this."
    return "This looks to it like what it learnt from."


def evidence_share(values: Array) -> float | None:
    """Return the smallest share of the places that holds half of the positive values, 0 to 1.

    None where nothing is positive.
    """
    positive = np.sort(np.asarray(values, np.float64).clip(0).ravel())[::-1]
    total = positive.sum()
    if total <= 0:
        return None
    count = int(np.searchsorted(np.cumsum(positive), total / 2)) + 1
    return count / positive.size


def peaks_at_border(heat: Heatmap) -> bool:
    """Return whether a picture's strongest place lies so near its border that it may be of padding.

    That is within a twelfth of a side: the outermost cells of 7 x 7, 18 pixels of 224.
    """
    values = heat.values
    if values.ndim != 2 or min(values.shape) < 3:
        return False
    peaks = np.argwhere(values >= values.max())
    centres = (peaks + 0.5) / values.shape
    # Of several equal ones all have to.
    return bool((np.minimum(centres, 1 - centres).min(1) < 1 / 12).all())


@dataclass(frozen=True)
class CoverTest:
    """What becomes of a class when a map's strongest places are covered.

    Attributes:
        share: Share of the places that were covered, 0 to 1.
        before: Probability of the class for the whole input, or the network's value.
        after: With the places covered by the input without its detail.
        chance: With as many places covered at random, mean over draws.
        covered_pixels: (H, W), True where the photo was covered; None for what is no photo.
        unit: Of a value; None of probabilities.
    """

    share: float
    before: float
    after: float
    chance: float
    covered_pixels: npt.NDArray[np.bool_] | None
    unit: str | None = None


def cover_tests(engine: Engine, explanations: Iterable[Explanation]) -> Iterator[CoverTest | None]:
    """Yield `cover_test` of each."""
    for explanation in explanations:
        yield cover_test(engine, explanation)


def cover_test(
    engine: Engine, explanation: Explanation, *, share: float = 0.15, draws: int = 8
) -> CoverTest | None:
    """Return what the class loses when the strongest places are covered; None for what is no map.

    The places are cells of an 8 x 8 grid, or of the map's own if that is coarser, so that a map
    with a fine grain is not favoured: covering single pixels is a change of its own. Ties are
    broken at random, seeded.

    Args:
        share: Share of the cells to cover.
        draws: Random choices of as many cells, for comparison.
    """
    heat = explanation.result
    if not isinstance(heat, Heatmap):
        return None
    subject = engine.subject(explanation.question)
    target = subject.target.as_probability()
    generator = subject.generator()
    values = on_input(heat, subject.size)
    grid = tuple(min(cells, side) for cells, side in zip((8,) * 3, subject.size, strict=False))
    cells = functional.interpolate(values[None, None], size=grid, mode="area")[0, 0]
    count = max(1, round(share * cells.numel()))
    orders = [strongest_first(cells.flatten(), generator)]
    orders += [torch.randperm(cells.numel(), generator=generator) for _ in range(draws)]
    hidden = torch.zeros(len(orders), cells.numel())
    for row, order in zip(hidden, orders, strict=True):
        row[order[:count]] = 1
    hidden = functional.interpolate(hidden.view(-1, 1, *grid), subject.size)
    uncovered = 1 - torch.cat([torch.zeros_like(hidden[:1]), hidden])
    fill = subject.baseline("blur")
    pieces = subject.masked_scores([uncovered.to(fill)], fill, quantity=target)
    scores = torch.cat(list(pieces)).double().cpu()
    covered = None
    if explanation.view is not None:
        on_photo, inside = on_original(hidden[0, 0].numpy(), explanation.view)
        covered = (on_photo > 0.5) & inside
    return CoverTest(
        count / cells.numel(),
        float(scores[0]),
        float(scores[1]),
        float(scores[2:].mean()),
        covered,
        target.value_unit if target.quantity == "value" else None,
    )
