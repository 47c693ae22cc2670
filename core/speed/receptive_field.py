"""Which part of a feature map a change in the input can reach, and cutting such parts out.

A batch of changes is followed at once: everywhere they have the same size, each at its own place,
so that one tensor holds what they change.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of an axis for every input of a batch.

    Attributes:
        starts: Where it begins, per input; below 0 where it begins in the padding.
        length: Cells, the same for all inputs.
    """

    starts: tuple[int, ...]
    length: int

    def __len__(self) -> int:
        return len(self.starts)


Region = tuple[Span, Span]


@dataclass(frozen=True, slots=True)
class Kernel:
    """How a convolution or a pooling reads an axis, in cells.

    Attributes:
        size: Cells that it reads.
        stride: Step between its places.
        padding: Cells put before the axis.
        dilation: Distance between the cells that it reads.
    """

    size: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    @property
    def extent(self) -> int:
        """Cells from the first that it reads to the last."""
        return self.dilation * (self.size - 1) + 1

    def outputs_touching(self, changed: Span, limit: int) -> Span:
        """Return the outputs that read any of the changed input cells, and perhaps some more.

        Args:
            changed: Cells of the input.
        """
        lows, highs = [], []
        for start in changed.starts:
            before = start + self.padding - self.extent + 1
            lows.append(max(0, -(-before // self.stride)))
            last = start + changed.length - 1 + self.padding
            highs.append(min(limit, last // self.stride + 1))
        return _span_over(lows, highs, limit)

    def inputs_read(self, outputs: Span) -> Span:
        """Return the input cells that `outputs` read, in coordinates of the axis unpadded."""
        starts = tuple(start * self.stride - self.padding for start in outputs.starts)
        return Span(starts, (outputs.length - 1) * self.stride + self.extent)


def union(spans: list[Span], limit: int) -> Span:
    """Return a span that holds all spans of a batch, on an axis of length `limit`."""
    if all(span == spans[0] for span in spans):
        return spans[0]
    lows = [min(starts) for starts in zip(*(span.starts for span in spans), strict=True)]
    ends = [[start + span.length for start in span.starts] for span in spans]
    return _span_over(lows, [max(group) for group in zip(*ends, strict=True)], limit)


def full_region(size: tuple[int, int], count: int) -> Region:
    """Return the region that is all of a map of this size, for `count` inputs."""
    rows, columns = (Span((0,) * count, length) for length in size)
    return rows, columns


def _span_over(lows: list[int], highs: list[int], limit: int) -> Span:
    # All as long as the longest, moved back where they would leave the axis. A change that falls
    # between the places of a strided kernel reaches nothing; an unchanged cell then stands for it.
    length = max(1, *(high - low for low, high in zip(lows, highs, strict=True)))
    return Span(tuple(min(low, limit - length) for low in lows), length)


def gather_patches(
    clean: Tensor, patches: Tensor, patch_region: Region, crop: Region, padding: float
) -> Tensor:
    """Return (N, K, h, w) crops of a map, channels-last, each with a patch pasted in.

    One gather for all: copying crop by crop would cost more than the convolutions that read them,
    since every copy wakes all threads, and on an accelerator is a launch.

    Args:
        clean: (1, K, H, W) the map before any change.
        patches: (N, K, a, b) what stands in its place.
        crop: What to return; it may reach beyond the map.
    """
    count, channels = patches.shape[:2]
    height, width = clean.shape[2:]
    outside = clean.new_full((1, channels), padding)
    cells = torch.cat([_cells(clean), outside, _cells(patches)])
    rows, columns = (_positions(span, clean.device) for span in crop)
    inside = _outer_and(_within(rows, height), _within(columns, width))
    index = torch.where(inside, _flat_index(rows, columns, width), height * width)
    down, across = (
        positions - _starts(span, clean.device)
        for positions, span in zip((rows, columns), patch_region, strict=True)
    )
    patch_height, patch_width = (span.length for span in patch_region)
    changed = _outer_and(_within(down, patch_height), _within(across, patch_width))
    first = (
        height * width + 1 + patch_height * patch_width * torch.arange(count, device=clean.device)
    )
    index = torch.where(
        changed, first[:, None, None] + _flat_index(down, across, patch_width), index
    )
    crops: Tensor = cells.index_select(0, index.flatten()).view(*index.shape, channels)
    return crops.permute(0, 3, 1, 2)


def _cells(maps: Tensor) -> Tensor:
    # (cells, K): no copy where the maps are in channels-last order.
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _starts(span: Span, device: torch.device) -> Tensor:
    return torch.tensor(span.starts, device=device)[:, None]


def _positions(span: Span, device: torch.device) -> Tensor:
    return _starts(span, device) + torch.arange(span.length, device=device)


def _within(positions: Tensor, length: int) -> Tensor:
    return (positions >= 0) & (positions < length)


def _outer_and(rows: Tensor, columns: Tensor) -> Tensor:
    return rows[:, :, None] & columns[:, None, :]


def _flat_index(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    return rows[:, :, None] * width + columns[:, None, :]
