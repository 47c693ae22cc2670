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
    distance, size = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    if size > 0:
        return distance / size
    return float("inf") if distance else 0.0


def peak(values: Array) -> tuple[float, ...]:
    """Return where a map is largest, as shares of its axes; the middle of all places that share it.

    Args:
        values: (*S), largest value above 0.
    """
    places = np.argwhere(values >= values.max() - 1e-3 * abs(values.max()))
    return tuple((places.mean(0) + 0.5) / np.asarray(values.shape))
