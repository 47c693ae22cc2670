"""Which vectors of a gallery lie nearest, exactly, in bounded memory.

May touch numpy only. Vectors may lie on disk: they are read in chunks, whatever their number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

CHUNK = 16_384  # vectors held in single precision at a time
# Mean difference of 16 x 16 thumbnails, in grey levels, up to which two pictures are one: what
# resizing and saving as JPEG changes stays below 3, two photos of one scene lie above 10.
SAME_PICTURE = 5.0
_TINY = 16


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


def tiny(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return (16, 16, 3) uint8: a picture so small that copies of one picture look the same.

    Args:
        pixels: (H, W, 3) uint8.
    """
    from PIL import Image

    small = Image.fromarray(pixels).resize((_TINY, _TINY), Image.Resampling.BOX)
    return np.asarray(small)


def same_picture(tinies: npt.NDArray[np.uint8], query: npt.NDArray[np.uint8]) -> Bools:
    """Return (N,) whether each picture is a copy of the query, mirrored ones included.

    Args:
        tinies: (N, 16, 16, 3) uint8 by `tiny`.
        query: (16, 16, 3) uint8.
    """
    found = np.zeros(len(tinies), np.bool_)
    for start in range(0, len(tinies), CHUNK):
        piece = np.asarray(tinies[start : start + CHUNK], np.int16)
        for version in (query, query[:, ::-1]):
            difference = np.abs(piece - version.astype(np.int16)).mean((1, 2, 3))
            found[start : start + CHUNK] |= difference <= SAME_PICTURE
    return found
