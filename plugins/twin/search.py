"""The members of a gallery nearest to a query: exact where that is quick, else by an index.

A gallery of up to a million pictures is always searched exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from whylens.plugins._near_duplicates import CHUNK
from whylens.plugins.twin.cosine_search import Bools, Floats, cosines, top_positions
from whylens.plugins.twin.index import has_faiss, search_index

EXACT_LIMIT = 1_000_000
SHORTLIST = 1000  # answers of an index whose cosines are computed, for every group
# Neighbours whose labels are counted for the hint that labels or decision are doubtful.
VOTING_NEIGHBOURS = 10


def is_large(count: int) -> bool:
    """Return whether so many pictures are too many for an exact search."""
    return count > EXACT_LIMIT


def similarities(
    arrays: Mapping[str, npt.NDArray[Any]],
    query: Floats,
    weights: Floats | None,
    groups: Sequence[Bools],
) -> Floats:
    """Return (N,) cosines of the pictures that may be shown; minus infinity for all others.

    Exact for galleries and groups of up to a million pictures, and wherever channels are weighted,
    which no index knows. In larger ones an index, where there is one, names the thousand nearest of
    the gallery and of each group; their cosines are exact again.

    Args:
        query: (D,).
        weights: (D,) or None.
        groups: (N,) which pictures each group may show.
    """
    vectors = arrays["vectors"]
    indexed = weights is None and "index" in arrays and has_faiss()
    if not is_large(len(vectors)) or not indexed:
        return cosines(vectors, query, weights)
    similarity = np.full(len(vectors), -np.inf, np.float32)
    for allowed in (None, *groups):
        if allowed is not None and not is_large(int(np.count_nonzero(allowed))):
            where = np.flatnonzero(allowed)
        else:
            where = np.sort(search_index(arrays["index"], query, SHORTLIST, allowed))
        for start in range(0, len(where), CHUNK):
            rows = where[start : start + CHUNK]
            similarity[rows] = cosines(vectors[rows], query)
    return similarity


def drop_copies(
    similarity: Floats,
    groups: Sequence[Bools],
    count: int,
    is_copy: Callable[[npt.NDArray[np.int64]], Bools],
) -> None:
    """Put copies of the query at minus infinity, wherever one would be shown or counted.

    Only what would be shown is compared, and twice as much each time that it includes a copy: all
    of a million members would take longer than the search.

    Args:
        similarity: (N,) by `similarities`; written into.
        groups: (N,) which pictures each group may show.
    """
    everyone, factor = np.ones(len(similarity), np.bool_), 1
    while True:
        candidates = set(nearest(similarity, everyone, factor * VOTING_NEIGHBOURS))
        for allowed in groups:
            candidates |= set(nearest(similarity, allowed, factor * count))
        where = np.array(sorted(candidates), np.int64)
        copies = where[is_copy(where)]
        if not len(copies):
            return
        similarity[copies] = -np.inf
        factor *= 2


def nearest(similarity: Floats, allowed: Bools, count: int) -> list[int]:
    """Return the positions of the `count` nearest allowed pictures, best first.

    Args:
        similarity: (N,) by `similarities`.
        allowed: (N,).
        count: How many at most.
    """
    return top_positions(similarity, allowed & np.isfinite(similarity), count)
