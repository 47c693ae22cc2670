"""Which vectors of a gallery lie nearest, exactly, in bounded memory.

May touch numpy only; above a million vectors faiss does the same search where it is installed.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import numpy.typing as npt

from plugins._copies import CHUNK

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

EXACT_LIMIT = 1_000_000


def cosines(vectors: npt.NDArray[Any], query: Floats, weights: Floats | None = None) -> Floats:
    """Return (N,) cosine similarities between a query and every vector.

    With weights both sides are multiplied by them first, channel by channel: what the classifier
    does not use then does not count.

    Args:
        vectors: (N, D), may be float16 and memory-mapped; read in chunks.
        query: (D,) float32.
        weights: (D,) float32 or None.
    """
    scaled = query if weights is None else query * weights
    scaled = scaled / max(float(np.linalg.norm(scaled)), 1e-12)
    found = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), CHUNK):
        piece = np.asarray(vectors[start : start + CHUNK], np.float32)
        if weights is not None:
            piece = piece * weights
        norms = np.linalg.norm(piece, axis=1)
        found[start : start + CHUNK] = piece @ scaled / np.maximum(norms, 1e-12)
    return found


def best(similarities: Floats, allowed: Bools, count: int) -> list[int]:
    """Return the positions of the `count` largest allowed similarities, best first.

    Args:
        similarities: (N,).
        allowed: (N,).
        count: How many at most; ties go to the lower position.
    """
    candidates = np.flatnonzero(allowed)
    if len(candidates) > 4 * count:
        values = similarities[candidates]
        limit = np.partition(values, -count)[-count]
        candidates = candidates[values >= limit]
    order = np.lexsort((candidates, -similarities[candidates]))
    return [int(i) for i in candidates[order][:count]]


def shortlist(
    vectors: npt.NDArray[Any], query: Floats, count: int
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return positions and cosines of the `count` nearest vectors by faiss, best first.

    Args:
        vectors: (N, D) of unit length.
        query: (D,).
        count: How many.
    """
    import faiss

    unit = query / max(float(np.linalg.norm(query)), 1e-12)
    database = np.ascontiguousarray(vectors, np.float32)
    found, where = faiss.knn(unit[None], database, count, metric=faiss.METRIC_INNER_PRODUCT)
    return where[0], found[0]


def searches_by_shortlist(count: int, *, weighted: bool) -> bool:
    """Return whether a gallery is so large that faiss is to be asked, and can be.

    Args:
        count: Vectors in the gallery.
        weighted: Whether channels are weighted; faiss knows no such search.
    """
    return count > EXACT_LIMIT and not weighted and importlib.util.find_spec("faiss") is not None
