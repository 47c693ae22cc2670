"""Which members of a gallery are the visitor's own input, saved again or rounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from whylens import denormalize, view_pixels

if TYPE_CHECKING:
    from whylens import Subject

Bools = npt.NDArray[np.bool_]

CHUNK = 16_384  # members of a gallery in memory at a time
# Mean difference of 16 x 16 thumbnails, in grey levels, up to which two pictures are one: what
# resizing and saving as JPEG changes stays below 3, two photos of one scene lie above 10.
SAME_PICTURE = 5.0
_TINY = 16
# Likewise of signals, as a share of their deviation: a file of decimals rounds to less.
SAME_SIGNAL = 0.01


def duplicate_test(
    subject: Subject, arrays: Mapping[str, npt.NDArray[Any]]
) -> Callable[[npt.NDArray[np.int64]], Bools]:
    """Return a test of gallery positions: (n,) whether each is the visitor's own input."""
    input_spec = subject.backbone.input_spec
    if "signals" in arrays:
        signal = denormalize(subject.x, input_spec)[0].cpu().numpy()
        return lambda where: same_signal(arrays["signals"][where], signal)
    query = thumbnail(view_pixels(subject.x, input_spec))
    return lambda where: same_picture(arrays["tinies"][where], query)


def thumbnail(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return (16, 16, 3) uint8 of (H, W, 3): so small that copies of one picture look the same."""
    from PIL import Image

    small = Image.fromarray(pixels).resize((_TINY, _TINY), Image.Resampling.BOX)
    return np.asarray(small)


def same_picture(thumbnails: npt.NDArray[np.uint8], query: npt.NDArray[np.uint8]) -> Bools:
    """Return (N,) whether each picture is a copy of the query, mirrored ones included.

    Args:
        thumbnails: (N, 16, 16, 3) uint8 by `thumbnail`.
        query: (16, 16, 3) uint8, likewise.
    """
    same = np.zeros(len(thumbnails), np.bool_)
    for start in range(0, len(thumbnails), CHUNK):
        piece = np.asarray(thumbnails[start : start + CHUNK], np.int16)
        for version in (query, query[:, ::-1]):
            difference = np.abs(piece - version.astype(np.int16)).mean((1, 2, 3))
            same[start : start + CHUNK] |= difference <= SAME_PICTURE
    return same


def same_signal(signals: npt.NDArray[np.float32], query: npt.NDArray[np.float32]) -> Bools:
    """Return (N,) whether each signal is a copy of the query, but for rounding.

    Args:
        signals: (N, C, L).
        query: (C, L).
    """
    same = np.zeros(len(signals), np.bool_)
    limit = SAME_SIGNAL * max(float(query.std()), 1e-12)
    for start in range(0, len(signals), CHUNK):
        piece = np.asarray(signals[start : start + CHUNK])
        same[start : start + CHUNK] = np.sqrt(((piece - query) ** 2).mean((1, 2))) <= limit
    return same
