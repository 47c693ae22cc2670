"""Maps as files: raw values, or grey PNGs in 65,536 steps."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from whylens.core.outputs.export import npy_bytes
from whylens.core.results import Array

STEPS = 65535


def map_bytes(values: Array, kind: str) -> bytes:
    """Return a map's file.

    Args:
        values: (*S) float32, raw; a PNG takes one or two axes.
        kind: "npy", or "png": grey level p then stands for
            minimum + (maximum - minimum) * p / 65535, with the two figures of the map's row.
    """
    if kind == "npy":
        return npy_bytes(values)
    rows = np.atleast_2d(np.asarray(values, np.float64))
    low, high = rows.min(), rows.max()
    share = (rows - low) / (high - low) if high > low else np.zeros_like(rows)
    levels = np.rint(share * STEPS).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def map_values(data: bytes, minimum: float, maximum: float) -> Array:
    """Return (h, w) float32 values of a PNG made by `map_bytes`.

    Args:
        data: The file.
        minimum: Of the map's row.
        maximum: Of the map's row.
    """
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        levels = np.asarray(image, np.float64)
    values: Array = (minimum + (maximum - minimum) * levels / STEPS).astype(np.float32)
    return values
