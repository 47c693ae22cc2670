"""What a test can say of an explainer, and the measures by which it judges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from whylens.core.results import Array


class CheckFailed(AssertionError):
    """An explainer does not do what it owes; the sentence tells its author what to mend."""


class NotApplicable(Exception):
    """A test does not apply to an explainer, and why."""


def require(condition: object, sentence: str) -> None:
    """Raise `CheckFailed` with a sentence unless something holds.

    Raises:
        CheckFailed: It does not.
    """
    if not condition:
        raise CheckFailed(sentence)


def difference(values: npt.ArrayLike, expected: npt.ArrayLike) -> float:
    """Return the norm of a difference as a share of the norm of what was expected.

    Args:
        values: Of the same shape as `expected`, else they differ without end.
        expected: Where it is zero all over, any difference counts without end.
    """
    a, b = np.asarray(values, np.float64), np.asarray(expected, np.float64)
    if a.shape != b.shape:
        return float("inf")
    apart, size = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    if size > 0:
        return apart / size
    return float("inf") if apart else 0.0


def cosine(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return the cosine of two maps, 1 where they are equal up to a positive factor.

    Args:
        a: Any shape.
        b: The same; two maps that are both zero have 1.
    """
    x, y = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    sizes = float(np.linalg.norm(x) * np.linalg.norm(y))
    if sizes == 0:
        return float(np.linalg.norm(x) == np.linalg.norm(y))
    return float(x @ y) / sizes


def correlation(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return Pearson's correlation of two maps, 0 where one of them is flat."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    x, y = x - x.mean(), y - y.mean()
    return cosine(x, y) if x.any() and y.any() else 0.0


def rank_correlation(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return Spearman's correlation of two maps; equal values share their mean rank."""
    return correlation(_ranks(a), _ranks(b))


def _ranks(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    # Rounding must not order what is equal.
    flat = np.asarray(values, np.float64).ravel()
    step = 1e-5 * float(np.abs(flat).max() or 1.0)
    _, where, counts = np.unique(np.round(flat / step), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[where], np.float64)


def peak(values: Array) -> tuple[float, ...]:
    """Return where a map is largest, as shares of its axes; the middle of all places that share it.

    Args:
        values: (*S), largest value above 0.
    """
    places = np.argwhere(values >= values.max() - 1e-3 * abs(values.max()))
    return tuple((places.mean(0) + 0.5) / np.asarray(values.shape))


def on_grid(values: Array, grid: tuple[int, ...]) -> Array:
    """Return (*grid): the mean of a map over every cell of a grid.

    Args:
        values: (*S) whose axes are multiples of the grid's, or divide them.
    """
    for axis, cells in enumerate(grid):
        length = values.shape[axis]
        if length < cells:
            values = np.repeat(values, cells // length, axis)
            continue
        shape = (*values.shape[:axis], cells, length // cells, *values.shape[axis + 1 :])
        values = values.reshape(shape).mean(axis + 1)
    return values
