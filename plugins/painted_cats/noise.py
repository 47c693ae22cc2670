"""Smooth noise, and the strands of fur made of it."""

from __future__ import annotations

import numpy as np

from whylens.plugins.painted_cats.canvas import Field

SIDE = 128


def grain(rng: np.random.Generator) -> Field:
    """Return (128, 128) float32 in [0, 1): the numbers that `smooth` reads between."""
    return rng.random((SIDE, SIDE), dtype=np.float32)


def smooth(grid: Field, x: Field, y: Field) -> Field:
    """Return noise in [0, 1) that varies over a length of one and repeats after 128.

    Args:
        grid: From `grain`.
        x: Any shape, |x| below 2^20.
    """
    left, top = np.floor(x), np.floor(y)
    fx, fy = x - left, y - top
    fx = fx * fx * (3 - 2 * fx)
    fy = fy * fy * (3 - 2 * fy)
    column = left.astype(np.int32) & (SIDE - 1)
    row = (top.astype(np.int32) & (SIDE - 1)) * SIDE
    next_column = (column + 1) & (SIDE - 1)
    below = (row + SIDE) & (SIDE * SIDE - 1)
    flat = grid.ravel()
    upper = flat.take(row + column)
    upper = upper + fx * (flat.take(row + next_column) - upper)
    lower = flat.take(below + column)
    lower = lower + fx * (flat.take(below + next_column) - lower)
    return upper + fy * (lower - upper)


def clouds(grid: Field, x: Field, y: Field, octaves: int = 3) -> Field:
    """Return noise in [0, 1) with detail at several scales.

    Args:
        grid: From `grain`.
        octaves: How many scales, each half as large as the one before.
    """
    whole = np.zeros_like(x)
    weight = 0.5
    total = 0.0
    for octave in range(octaves):
        offset = np.float32(17.3 * octave)
        scale = np.float32(2**octave)
        whole += np.float32(weight) * smooth(grid, x * scale + offset, y * scale + offset)
        total += weight
        weight *= 0.5
    return whole / np.float32(total)


def strands(grid: Field, across: Field, along: Field) -> Field:
    """Return fur in [0, 1): light tips over dark roots, in locks one unit wide.

    Args:
        grid: From `grain`.
    """
    coarse = smooth(grid, across, along)
    fine = smooth(grid, across * 2 + np.float32(0.5), along * np.float32(1.7) + 5 * coarse)
    return np.float32(0.5) * coarse + np.float32(0.5) * fine
