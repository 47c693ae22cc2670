"""How unusual an input is among the pictures of a gallery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whylens.plugins.twin.cosine_search import Floats, cosines

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLE = 256  # members whose own nearest neighbours say what is usual


def usual_similarities(arrays: Mapping[str, Any]) -> Floats:
    """Return the cosines of a gallery's members to their own nearest neighbours, for a sample.

    Args:
        arrays: Of the gallery; "vectors" is (N, D) with N of 2 or more.
    """
    vectors = arrays["vectors"]
    places = np.unique(np.linspace(0, len(vectors) - 1, SAMPLE).astype(np.int64))
    nearest = []
    for place in places:
        similar = cosines(vectors, np.asarray(vectors[place], np.float32))
        similar[place] = -np.inf
        nearest.append(similar.max())
    return np.array(nearest, np.float32)


def share_farther(similarity: float, usual: Floats) -> float:
    """Return which share of a gallery's members is at least as far from its nearest, 0 to 1.

    Args:
        similarity: Cosine of the input and its nearest member.
        usual: From `usual_similarities`.
    """
    return float(np.mean(usual <= similarity))
