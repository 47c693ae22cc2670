"""A map's values on the grid of the input, and its places from the strongest to the weakest."""

from __future__ import annotations

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


def strongest(values: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return a mask of exactly the `count` largest values; equal ones at the edge by chance.

    Args:
        generator: The only source of chance, drawn from only where a tie must be broken.
    """
    flat = values.flatten()
    chosen = torch.zeros(flat.shape, dtype=torch.bool)
    if count:
        edge = flat.kthvalue(len(flat) - count + 1).values
        chosen = flat > edge
        tied = (flat == edge).nonzero()[:, 0]
        rest = count - int(chosen.sum())
        if rest < len(tied):
            tied = tied[torch.randperm(len(tied), generator=generator)[:rest]]
        chosen[tied] = True
    return chosen.view(values.shape)


def ranked(values: Tensor, generator: torch.Generator) -> Tensor:
    """Return the places of (n,) values from largest to smallest, equal ones in random order.

    Args:
        values: (n,).
        generator: The only source of chance.
    """
    shuffled = torch.randperm(len(values), generator=generator)
    return shuffled[values[shuffled].argsort(descending=True, stable=True)]
