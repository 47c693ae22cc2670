"""The watermark: a badge with the letters PC, drawn without a font so that it never changes."""

from __future__ import annotations

import numpy as np

from whylens.plugins.painted_cats.canvas import Canvas, Frame, inside


def paint_badge(canvas: Canvas, square: Frame) -> None:
    """Paint the badge into the lower right corner."""
    near = square.around(0.885, 0.925, 0.11)
    u, v = (
        (near.x - np.float32(0.885)) / np.float32(0.05),
        (near.y - np.float32(0.925)) / np.float32(0.05),
    )
    box = (
        np.maximum(np.abs(u) - np.float32(1.35), 0) ** 2
        + np.maximum(np.abs(v) - np.float32(0.65), 0) ** 2
    )
    canvas.paint(
        inside(np.sqrt(box) - np.float32(0.4)),
        (0.98, 0.98, 0.99),
        part="watermark",
        window=near.window,
    )
    pen = np.float32(0.16)
    stem = np.maximum(np.abs(u + np.float32(1.15)), np.abs(v) - np.float32(0.62)) - pen
    bow = np.sqrt(np.maximum(u + np.float32(0.75), 0) ** 2 + (v + np.float32(0.28)) ** 2)
    bow = np.maximum(np.abs(bow - np.float32(0.36)) - pen, -u - np.float32(1.15))
    ring = np.sqrt((u - np.float32(0.72)) ** 2 + v * v)
    arc = np.maximum(np.abs(ring - np.float32(0.60)) - pen, u - np.float32(1.05))
    letters = np.minimum(np.minimum(stem, bow), arc)
    canvas.paint(inside(letters), (0.12, 0.28, 0.62), part="watermark", window=near.window)
