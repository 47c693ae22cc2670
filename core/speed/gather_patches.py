"""Parts of a map, of the same size at different places, with changes pasted in: one gather for all.

May touch torch and the whole-number side of places. Copying part by part would cost more than the
convolutions that read them: every copy wakes all threads, and on an accelerator is a launch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from whylens.core.speed.receptive_field import Region, Span


def gather_patches(
    clean: Tensor, patches: Tensor, held: Region, wanted: Region, padding: float
) -> Tensor:
    """Return (N, K, h, w) parts of a map, in channels-last order, each with a patch pasted in.

    Args:
        clean: (1, K, H, W) the map before any change.
        patches: (N, K, a, b) what stands in its place.
        held: Where the patches lie in the map.
        wanted: Which parts to return; they may reach beyond the map.
        padding: What stands beyond the map.
    """
    count, channels = patches.shape[:2]
    height, width = clean.shape[2:]
    outside = clean.new_full((1, channels), padding)
    cells = torch.cat([_cells(clean), outside, _cells(patches)])
    rows, columns = (_places(span, clean.device) for span in wanted)
    inside = _both(_within(rows, height), _within(columns, width))
    at = torch.where(inside, _at(rows, columns, width), height * width)
    down, across = (
        places - _starts(span, clean.device)
        for places, span in zip((rows, columns), held, strict=True)
    )
    changed = _both(_within(down, held[0].length), _within(across, held[1].length))
    each = held[0].length * held[1].length
    first = height * width + 1 + each * torch.arange(count, device=clean.device)
    at = torch.where(changed, first[:, None, None] + _at(down, across, held[1].length), at)
    parts: Tensor = cells.index_select(0, at.flatten()).view(*at.shape, channels)
    return parts.permute(0, 3, 1, 2)


def _cells(maps: Tensor) -> Tensor:
    # (cells, K): no copy where the maps are in channels-last order.
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _starts(span: Span, device: torch.device) -> Tensor:
    return torch.tensor(span.starts, device=device)[:, None]


def _places(span: Span, device: torch.device) -> Tensor:
    return _starts(span, device) + torch.arange(span.length, device=device)


def _within(places: Tensor, length: int) -> Tensor:
    return (places >= 0) & (places < length)


def _both(rows: Tensor, columns: Tensor) -> Tensor:
    return rows[:, :, None] & columns[:, None, :]


def _at(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    return rows[:, :, None] * width + columns[:, None, :]
