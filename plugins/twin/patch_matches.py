"""Pairs of similar patches of two pictures, by the network's features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from whylens.plugins._order import first_largest

Floats = npt.NDArray[np.float32]
Cell = tuple[int, int]


def match_cells(
    query: Floats, neighbour: Floats, weights: Floats, count: int
) -> list[tuple[Cell, Cell, float]]:
    """Return pairs of cells, the strongest first: query cell, other cell, and their cosine.

    A pair's strength is its cosine times what the query's cell adds to the score, so that alike
    patches of background do not come first. No cell is used twice, nor a direct neighbour.

    Args:
        query: (K, h, w) features of the question's picture.
        neighbour: (K, h, w) features of the other.
        weights: (K,) what each channel counts for the target.
        count: How many pairs at most.
    """
    rows, columns = query.shape[1:]
    contribution = np.maximum(np.tensordot(weights, query, 1), 0).ravel()
    if not contribution.any():
        contribution = np.linalg.norm(query, axis=0).ravel()
    query_rows = _unit(query.reshape(len(query), -1).T * np.abs(weights))
    right = _unit(neighbour.reshape(len(neighbour), -1).T * np.abs(weights))
    cosine = query_rows @ right.T
    strength = np.maximum(cosine, 0) * contribution[:, None]
    pairs: list[tuple[Cell, Cell, float]] = []
    for _ in range(count):
        best = first_largest(strength.ravel())
        i, j = divmod(best, strength.shape[1])
        if strength[i, j] <= 0:
            break
        a, b = divmod(i, columns), divmod(j, neighbour.shape[2])
        pairs.append(((a[0], a[1]), (b[0], b[1]), float(cosine[i, j])))
        strength[_neighbourhood(a, (rows, columns)), :] = 0
        strength[:, _neighbourhood(b, neighbour.shape[1:])] = 0
    return pairs


def _unit(rows: Floats) -> Floats:
    lengths: Floats = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows / lengths


def _neighbourhood(cell: Cell, grid: tuple[int, ...]) -> npt.NDArray[np.int64]:
    rows = np.arange(max(0, cell[0] - 1), min(grid[0], cell[0] + 2))
    columns = np.arange(max(0, cell[1] - 1), min(grid[1], cell[1] + 2))
    return (rows[:, None] * grid[1] + columns).ravel()
