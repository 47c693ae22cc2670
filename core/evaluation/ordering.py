"""A map's values on the grid of the input, and its places from the strongest to the weakest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from whylens.core.errors import BadInput
from whylens.core.results import Heatmap

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
_POOL: dict[int, Any] = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}


def on_input(heatmap: Heatmap, size: tuple[int, ...]) -> Tensor:
    """Return (*size) a map's values, linearly between its cells' centres."""
    values = torch.tensor(heatmap.values)[None, None]
    if tuple(values.shape[2:]) == tuple(size):
        return values[0, 0]
    large: Tensor = functional.interpolate(
        values, size=size, mode=_LINEAR[len(size)], align_corners=False
    )
    return large[0, 0]


def cells(heatmap: Heatmap, size: tuple[int, ...]) -> Tensor:
    """Return a map's values on its own grid, float64; no finer than the input.

    What is hidden or shown is whole cells: between the cells of a coarse map there is no order.

    Args:
        size: Of the input.

    Raises:
        BadInput: The map has not the input's axes.
    """
    if heatmap.values.ndim != len(size):
        raise BadInput(
            f"A map of {heatmap.values.ndim} axes says nothing about an input of {len(size)}."
        )
    values = torch.tensor(heatmap.values, dtype=torch.float64)
    grid = tuple(min(pair) for pair in zip(values.shape, size, strict=True))
    if grid == tuple(values.shape):
        return values
    pooled: Tensor = _POOL[len(size)](values[None, None], grid)[0, 0]
    return pooled


def on_places(masks: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return (n, 1, *size) float32 masks of an input's places, each as the cell that it lies in.

    Args:
        masks: (n, *grid) bool.
    """
    return functional.interpolate(masks[:, None].float(), size=size)


def strongest(values: Tensor, counts: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return (n, *grid) bool: exactly as many of the largest values as each count says.

    Of equal values at the edge those are chosen by chance, for every count anew.

    Args:
        values: (*grid).
        generator: The only source of chance, drawn from only where a tie must be broken.
    """
    flat = values.flatten()
    sorted_values = flat.sort(descending=True).values
    masks = torch.zeros(len(counts), len(flat), dtype=torch.bool)
    for mask, count in zip(masks, counts, strict=True):
        if count == 0:
            continue
        edge = sorted_values[count - 1]
        torch.ge(flat, edge, out=mask)
        if count < len(flat) and sorted_values[count] == edge:
            tied = (flat == edge).nonzero()[:, 0]
            extra = int(mask.sum()) - count
            mask[tied[torch.randperm(len(tied), generator=generator)[:extra]]] = False
    return masks.view(-1, *values.shape)


def strongest_first(values: Tensor, generator: torch.Generator) -> Tensor:
    """Return the places of (n,) values from largest to smallest, equal ones in random order.

    Args:
        values: (n,).
        generator: The only source of chance.
    """
    shuffled = torch.randperm(len(values), generator=generator)
    return shuffled[values[shuffled].argsort(descending=True, stable=True)]
