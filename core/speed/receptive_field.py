"""Which part of a feature map a change in the input can reach, in whole numbers.

May touch the standard library only. A batch of changes is followed at once: everywhere they have
the same size, each at its own place, so that one tensor holds what they change.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one axis for every input of a batch.

    Attributes:
        starts: Where it begins, per input; below 0 where it begins in the padding.
        length: How long it is.
    """

    starts: tuple[int, ...]
    length: int

    def __len__(self) -> int:
        return len(self.starts)


Region = tuple[Span, Span]


@dataclass(frozen=True, slots=True)
class Kernel:
    """How a convolution or a pooling looks at one axis.

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
        """Return the outputs that read any cell of `changed`, and perhaps some more.

        Args:
            changed: Changed cells of the input.
            limit: Length of the output's axis.
        """
        lows, highs = [], []
        for start in changed.starts:
            before = start + self.padding - self.extent + 1
            lows.append(max(0, -(-before // self.stride)))
            last = start + changed.length - 1 + self.padding
            highs.append(min(limit, last // self.stride + 1))
        return _even(lows, highs, limit)

    def inputs_read(self, outputs: Span) -> Span:
        """Return the input cells that `outputs` read, in coordinates of the axis unpadded."""
        starts = tuple(start * self.stride - self.padding for start in outputs.starts)
        return Span(starts, (outputs.length - 1) * self.stride + self.extent)


def union(spans: list[Span], limit: int) -> Span:
    """Return a span that holds all of `spans`.

    Args:
        spans: Of the same axis and batch.
        limit: Length of the axis.
    """
    if all(span == spans[0] for span in spans):
        return spans[0]
    lows = [min(starts) for starts in zip(*(span.starts for span in spans), strict=True)]
    ends = [[start + span.length for start in span.starts] for span in spans]
    return _even(lows, [max(group) for group in zip(*ends, strict=True)], limit)


def whole(size: tuple[int, int], count: int) -> Region:
    """Return the region that is all of a map of this size, for `count` inputs."""
    rows, columns = (Span((0,) * count, length) for length in size)
    return rows, columns


def _even(lows: list[int], highs: list[int], limit: int) -> Span:
    # All as long as the longest, moved back where they would leave the axis. A change that falls
    # between the places of a strided kernel reaches nothing; one unchanged cell then stands for it.
    length = max(1, *(high - low for low, high in zip(lows, highs, strict=True)))
    return Span(tuple(min(low, limit - length) for low in lows), length)
