"""Maps of one input side by side: their scores, how far they agree, and the order of the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np
import numpy.typing as npt

from whylens.core.evaluation.agreement import likeness
from whylens.core.evaluation.verdict import Word
from whylens.core.explanation import Explanation
from whylens.core.results import Heatmap

Keys = Callable[[Sequence[Explanation]], list[tuple[float, ...]]]
AGREES = 0.5  # half of the order of places is shared
WORDS: tuple[Word, ...] = get_args(Word)


def agreements(answers: Sequence[Explanation]) -> npt.NDArray[np.float64]:
    """Return (n, n) Spearman correlations of maps, each pair on the coarser of its two grids.

    NaN in rows and columns of what is no map.
    """
    matrix = np.full((len(answers), len(answers)), np.nan)
    for i, first in enumerate(answers):
        for j, second in enumerate(answers[: i + 1]):
            if isinstance(first.result, Heatmap) and isinstance(second.result, Heatmap):
                matrix[i, j] = matrix[j, i] = likeness(first.result, second.result)
    return matrix


def mean_agreements(matrix: npt.NDArray[np.float64]) -> list[float | None]:
    """Return how far each map agrees with the others, on average; None where there is no other.

    Args:
        matrix: From `agreements`.
    """
    off_diagonal = np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix)
    rows = [row[~np.isnan(row)] for row in off_diagonal]
    return [float(row.mean()) if len(row) else None for row in rows]


def agreeing(
    answer: Explanation, other_answers: Sequence[Explanation]
) -> dict[str, tuple[float, bool]]:
    """Return how far other maps mark the places that one marks, and whether it is enough.

    By title the same rank correlation as in `agreements`, which is enough from `AGREES` on.
    """
    correlations = {second.title: agreements([answer, second])[0, 1] for second in other_answers}
    return {title: (float(r), bool(r >= AGREES)) for title, r in correlations.items()}


def _by_verdict(answer: Explanation) -> tuple[float, ...]:
    verdict = answer.verdict
    if verdict is None or verdict.word is None:
        return (len(WORDS),)
    figures = verdict.figures
    gain = figures.get("insertion", 0.0) - figures.get("deletion", 0.0)
    return (WORDS.index(verdict.word), -figures.get("beats random maps", 0.0), -gain)


def _by_score(name: str, sign: int) -> Keys:
    def key(answer: Explanation) -> tuple[float, ...]:
        value = None if answer.verdict is None else answer.verdict.figures.get(name)
        return (float("inf"),) if value is None else (sign * value,)

    return _each(key)


def _each(key: Callable[[Explanation], tuple[float, ...]]) -> Keys:
    return lambda answers: [key(answer) for answer in answers]


def _by_agreement(answers: Sequence[Explanation]) -> list[tuple[float, ...]]:
    means = mean_agreements(agreements(answers))
    return [(float("inf"),) if mean is None else (-mean,) for mean in means]


# What maps can be sorted by, in words; the best, or the quickest, comes first.
ORDERS: dict[str, Keys] = {
    "Best first": _each(_by_verdict),
    "Beats random maps": _by_score("beats random maps", -1),
    "Deletion": _by_score("deletion", 1),
    "Insertion": _by_score("insertion", -1),
    "Random weights": _by_score("random weights", 1),
    "Seeds": _by_score("seeds", -1),
    "Agrees": _by_agreement,
    "Time": _each(lambda answer: (answer.seconds,)),
}


def ranked_answers(answers: Sequence[Explanation], order: str) -> list[Explanation]:
    """Return answers in an order of `ORDERS`, or as they are where it is none of them.

    What has no score comes last; equal ones stay as they were.
    """
    if order not in ORDERS:
        return list(answers)
    keys = ORDERS[order](answers)
    return [answers[i] for i in sorted(range(len(answers)), key=keys.__getitem__)]
