"""Exact cosine search in bounded memory: vectors may lie on disk, and are read in chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from whylens.plugins._near_duplicates import CHUNK

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


def cosines(vectors: npt.NDArray[Any], query: Floats, weights: Floats | None = None) -> Floats:
    """Return (N,) cosine similarities between a query and every vector.

    With weights both sides are multiplied by them first, channel by channel, so that what the
    classifier does not use does not count.

    Args:
        vectors: (N, D), may be float16 and memory-mapped; read in chunks.
        query: (D,) float32.
        weights: (D,) float32 or None.
    """
    weighted_query = query if weights is None else query * weights
    weighted_query = weighted_query / max(float(np.linalg.norm(weighted_query)), 1e-12)
    similarities = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), CHUNK):
        piece = np.asarray(vectors[start : start + CHUNK], np.float32)
        if weights is not None:
            piece = piece * weights
        norms = np.linalg.norm(piece, axis=1)
        # Row by row alike, as a matrix product is not: copies of a picture then tie exactly.
        dots = np.einsum("nd,d->n", piece, weighted_query)
        similarities[start : start + CHUNK] = dots / np.maximum(norms, 1e-12)
    return similarities


def top_positions(similarities: Floats, allowed: Bools, count: int) -> list[int]:
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
