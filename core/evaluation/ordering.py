"""A map's values on the grid of the input, and its places from the strongest to the weakest."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from whylens.core.results import Heatmap

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def on_input(heatmap: Heatmap, size: tuple[int, ...]) -> Tensor:
    """Return (*size) a map's values, linearly between its cells' centres."""
    values = torch.tensor(heatmap.values)[None, None]
    if tuple(values.shape[2:]) == tuple(size):
        return values[0, 0]
    large: Tensor = functional.interpolate(
        values, size=size, mode=_LINEAR[len(size)], align_corners=False
    )
    return large[0, 0]


def ranked(values: Tensor, generator: torch.Generator) -> Tensor:
    """Return the places of (n,) values from largest to smallest, equal ones in random order.

    Args:
        values: (n,).
        generator: The only source of chance.
    """
    shuffled = torch.randperm(len(values), generator=generator)
    return shuffled[values[shuffled].argsort(descending=True, stable=True)]
