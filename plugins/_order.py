"""Orders and choices that rounding cannot decide: what differs by no more goes by its index.

Another processor, another batch or another number of threads adds up in another order. Equal cells
of a flat background, or a picture that a gallery holds twice, then differ in their last bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ROUNDING = 2.0**-18  # as a share of the largest magnitude: 32 units in float32's last place


def strongest_first(values: npt.ArrayLike, margin: float | None = None) -> list[int]:
    """Return the indices of (N,) values from largest to smallest.

    Neighbours in that order which differ by no more than the margin come by index.

    Args:
        values: (N,).
        margin: In units of the values; by default what rounding can make of the largest magnitude.
    """
    wide = np.asarray(values, np.float64)
    order = np.argsort(-wide, kind="stable")
    falls = -np.diff(wide[order])
    group = np.concatenate([[0], np.cumsum(falls > _margin(wide, margin))])[: len(order)]
    return [int(i) for i in order[np.lexsort((order, group))]]


def first_largest(values: npt.ArrayLike, margin: float | None = None) -> int:
    """Return the first index of (N,) values at which they are largest, up to the margin.

    Args:
        values: (N,), at least one.
        margin: In units of the values; by default what rounding can make of the largest magnitude.
    """
    wide = np.asarray(values, np.float64)
    return int(np.flatnonzero(wide >= wide.max() - _margin(wide, margin))[0])


def _margin(values: npt.NDArray[Any], margin: float | None) -> float:
    if margin is not None:
        return margin
    return ROUNDING * float(np.abs(values).max(initial=0.0))
