"""What a test can say of an explainer, and the measures by which it judges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from whylens.core.results import Array


class CheckFailed(AssertionError):
    """An explainer does not do what it owes; the sentence tells its author what to mend."""


class NotApplicable(Exception):
    """A test does not apply to an explainer, and why."""


def require(kept: object, sentence: str) -> None:
    """Raise `CheckFailed` with a sentence unless something holds.

    Args:
        kept: Whether it holds.

    Raises:
        Broken: It does not.
    """
    if not kept:
        raise CheckFailed(sentence)


def difference(got: npt.ArrayLike, wanted: npt.ArrayLike) -> float:
    """Return the norm of a difference as a share of the norm of what was wanted.

    Args:
        got: Of the same shape as `wanted`, else they differ without end.
        wanted: Where it is zero all over, any difference counts without end.
    """
    one, two = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    if one.shape != two.shape:
        return float("inf")
    apart, size = float(np.linalg.norm(one - two)), float(np.linalg.norm(two))
    if size > 0:
        return apart / size
    return float("inf") if apart else 0.0


def alike(one: npt.ArrayLike, two: npt.ArrayLike) -> float:
    """Return the cosine of two maps, 1 where they are equal up to a positive factor.

    Args:
        one: Any shape.
        two: The same; two maps that are both zero are alike.
    """
    a, b = np.asarray(one, np.float64).ravel(), np.asarray(two, np.float64).ravel()
    sizes = float(np.linalg.norm(a) * np.linalg.norm(b))
    if sizes == 0:
        return float(np.linalg.norm(a) == np.linalg.norm(b))
    return float(a @ b) / sizes


def correlation(one: npt.ArrayLike, two: npt.ArrayLike) -> float:
    """Return Pearson's correlation of two maps, 0 where one of them is flat."""
    a, b = np.asarray(one, np.float64).ravel(), np.asarray(two, np.float64).ravel()
    a, b = a - a.mean(), b - b.mean()
    sizes = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / sizes if sizes > 0 else 0.0


def rank_correlation(one: npt.ArrayLike, two: npt.ArrayLike) -> float:
    """Return Spearman's correlation of two maps; equal values share their mean rank."""
    return correlation(_ranks(one), _ranks(two))


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
        grid: Cells per axis.
    """
    for axis, cells in enumerate(grid):
        length = values.shape[axis]
        if length < cells:
            values = np.repeat(values, cells // length, axis)
            continue
        shape = (*values.shape[:axis], cells, length // cells, *values.shape[axis + 1 :])
        values = values.reshape(shape).mean(axis + 1)
    return values
