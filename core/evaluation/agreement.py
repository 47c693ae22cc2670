"""How alike two maps are, whatever their grids, and what a map is on a grid that it was not on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from whylens.core.results import Heatmap

Floats = npt.NDArray[np.float64]
# Values closer than this share of the largest are equal: rounding must not order them.
ROUNDING = 1e-6


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
    """Return Spearman's correlation of two maps; equal values share their mean rank.

    That is what random orders of equal values come to on average; a flat map has 0.
    """
    return correlation(_ranks(a), _ranks(b))


def _ranks(values: npt.ArrayLike) -> Floats:
    # As scipy.stats.rankdata, whose import the first verdict of a page would wait for.
    flat = without_rounding(np.asarray(values, np.float64).ravel())
    _, inverse, counts = np.unique(flat, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], np.float64)


def likeness(a: Heatmap, b: Heatmap, *, sizes_only: bool = False) -> float:
    """Return Spearman's correlation of two maps, on the coarser grid where theirs differ.

    Args:
        sizes_only: Of their absolute values.
    """
    x, y = (np.abs(heat.values) if sizes_only else heat.values for heat in (a, b))
    return rank_correlation(*on_coarser_grid(x, y))


def top_overlap(a: npt.ArrayLike, b: npt.ArrayLike, share: float = 0.1) -> tuple[float, float]:
    """Return which share of the strongest places of one map are those of another, and chance.

    Args:
        a: Any shape.
        b: The same.
        share: How many of all places count as the strongest.
    """
    count = max(1, round(share * np.size(a)))
    odds = [among_strongest(np.asarray(values, np.float64), count) for values in (a, b)]
    return float((odds[0] * odds[1]).sum() / count), count / np.size(a)


def among_strongest(values: Floats, count: int) -> Floats:
    """Return how likely each place is among the strongest: equal ones share what is left.

    Args:
        values: Any shape; not all of it need differ.
        count: How many places are the strongest.
    """
    values = without_rounding(values)
    last = np.sort(values, axis=None)[-count]
    above, tied = values > last, values == last
    return np.asarray(above + tied * ((count - above.sum()) / tied.sum()), np.float64)


def without_rounding(values: Floats) -> Floats:
    """Return values that are equal where they differ by their computation's rounding alone.

    The places of one cell are such, and nothing but what a map says may order them.
    """
    step = ROUNDING * float(np.abs(values).max() or 1.0)
    return np.asarray(np.round(values / step) * step, np.float64)


def on_coarser_grid(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return two maps on one grid: along each axis that of the coarser one."""
    grid = [min(pair) for pair in zip(np.shape(a), np.shape(b), strict=True)]
    return on_grid(a, grid), on_grid(b, grid)


def on_grid(values: npt.ArrayLike, grid: Sequence[int]) -> Floats:
    """Return (*grid) float64: the mean of a map over every cell of a grid, to the last bit of area.

    Args:
        values: (*S) of as many axes; each value fills its own cell evenly.
    """
    array = np.asarray(values, np.float64)
    for axis, cells in enumerate(grid):
        edges = np.arange(cells + 1) / cells
        shares = cell_shares(array.shape[axis], edges[:-1], edges[1:])
        array = np.moveaxis(np.tensordot(shares, array, (1, axis)), 0, axis)
        array = array * (cells / shares.shape[1])
    return array


def cell_shares(cells: int, low: Floats, high: Floats) -> Floats:
    """Return (n, cells): how much of each cell of an axis lies in n intervals, 0 to 1.

    Args:
        low: (n,) where the intervals begin, as shares of the axis.
        high: (n,) where they end.
    """
    ends = np.arange(cells + 1)
    inside = np.minimum(high[:, None] * cells, ends[None, 1:])
    inside = inside - np.maximum(low[:, None] * cells, ends[None, :-1])
    return np.asarray(inside.clip(0, 1), np.float64)
