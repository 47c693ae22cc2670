"""The grid pointing game: in a mosaic of known classes, does evidence lie in its own tile?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from whylens.core.errors import BadArtifact, BadInput, NeedsNotMet
from whylens.core.evaluation.in_mask import mass_in_mask
from whylens.core.evaluation.metric import Score
from whylens.core.models.backbone import Backbone, wrap
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.results import Heatmap
from whylens.core.subject import Subject
from whylens.core.targets import Target


def mosaic(tiles: Sequence[Tensor], grid: tuple[int, ...]) -> Tensor:
    """Return (1, C, *S) inputs side by side, in raster order.

    Args:
        tiles: (1, C, *s) each.
        grid: Tiles along each spatial axis.

    Raises:
        BadInput: The tiles do not fill the grid.
    """
    if len(tiles) != np.prod(grid) or len({tile.shape for tile in tiles}) != 1:
        raise BadInput(f"A mosaic of {grid} needs {np.prod(grid)} inputs of one size.")
    rows = list(tiles)
    for axis in reversed(range(len(grid))):
        side = grid[axis]
        rows = [torch.cat(rows[i : i + side], axis + 2) for i in range(0, len(rows), side)]
    return rows[0]


def tile_mask(index: int, grid: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """Return (*S) bool: the places of a mosaic that belong to one tile.

    Args:
        size: Of the mosaic, a multiple of the grid.
    """
    mask = torch.zeros(grid, dtype=torch.bool)
    mask.view(-1)[index] = True
    for axis, (cells, length) in enumerate(zip(grid, size, strict=True)):
        mask = mask.repeat_interleave(length // cells, axis)
    return mask


def on_mosaics(backbone: Backbone, grid: tuple[int, ...]) -> Backbone:
    """Return a network that is fed inputs as many times larger along each axis as a grid says.

    Raises:
        NeedsNotMet: It takes inputs of one size only.
    """
    size = tuple(n * length for n, length in zip(grid, backbone.input_spec.size, strict=True))
    try:
        return wrap(
            backbone.module,
            input_spec=backbone.input_spec.model_copy(update={"size": size}),
            labels=backbone.labels,
            identity=backbone.identity,
            outputs=backbone.outputs,
        )
    except BadArtifact as exc:
        raise NeedsNotMet(f"{backbone.name} takes inputs of one size only: {exc}") from exc


def share_in_tile(heat: Heatmap, tile: Tensor) -> float:
    """Return which share of a map's positive values lies in a tile; 0 where none is positive.

    Args:
        tile: (*S) bool.
    """
    return mass_in_mask(heat, tile).value or 0.0


def grid_pointing_game(
    backbone: Backbone,
    tiles: Sequence[tuple[Tensor, int]],
    explain: Callable[[Subject], Heatmap],
    grid: tuple[int, ...] = (3, 3),
) -> Iterator[Score]:
    """Yield which share of each class's positive evidence lies in its own tile, mean over tiles.

    Chance is one tile's area. Use confidently right inputs of distinct classes.
    Source: Rao et al. 2022, Towards Better Understanding Attribution Methods, sec. 4.1.

    Args:
        backbone: As `on_mosaics` returns it.
        tiles: (1, C, *s) and its class, each.
    """
    x, shares = mosaic([tile for tile, _ in tiles], grid), list[float]()
    forward_pass = ForwardPass(backbone, x)
    for index, (_, label) in enumerate(tiles):
        heat = explain(Subject(forward_pass, Target(label, outputs=backbone.outputs)))
        shares.append(share_in_tile(heat, tile_mask(index, grid, tuple(x.shape[2:]))))
        fraction = (index + 1) / len(tiles)
        yield Score(float(np.mean(shares)), 1 / len(tiles), "", 1, fraction)
