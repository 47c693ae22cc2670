"""Occlusion: how far the score falls when a window is covered."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from whylens import Explainer, Heatmap, Params, Partial, hookimpl
from whylens.plugins._arrays import as_array, bit_reversed_order, slices, zero_rounding

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import Subject


class OcclusionParams(Params):
    """The window, its stride, and its fill."""

    window: int = Field(
        default=48,
        ge=8,
        le=128,
        multiple_of=8,
        description="Side of the window, input pixels; a fifth of a signal shorter than that.",
    )
    stride: int = Field(
        default=16,
        ge=4,
        le=64,
        multiple_of=4,
        description="Step between windows, input pixels; at most a window.",
    )
    fill: Literal["grey", "black", "mean", "blur"] = Field(
        default="grey", description="What a window is covered with; defined in pixel space."
    )


class Occlusion(Explainer[OcclusionParams]):
    """The value of a position is the mean drop over the windows that cover it."""

    name = "occlusion"
    title = "Occlusion"
    family = "Perturbation"
    summary = (
        "How far the target score falls when a window of the picture is covered, averaged over the "
        "windows that cover each place."
    )
    limits = (
        "Blind to parts smaller than the window's effect or present twice (cover one, the other "
        "remains), and covered pictures look unlike any photo."
    )
    when = "To check any other map: nothing is assumed but that covering hides."
    source = (
        "Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks, sec. 4.2"
    )
    cost = "one forward pass per window (about 140 at 224 pixels)"
    needs = frozenset()
    Params = OcclusionParams
    test_params = OcclusionParams(window=8, stride=8, fill="black")

    def explain(self, subject: Subject, params: OcclusionParams) -> Iterator[Partial]:
        """Yield the signed map in units of the score, coarse first."""
        fill = subject.baseline(params.fill)
        window, stride = usable_window(subject.size, params.window, params.stride)
        boxes = query_order(subject.size, list(windows(subject.size, window, stride)))
        base = float(subject.scores(subject.x)[0])
        total = torch.zeros(subject.size, dtype=torch.float64)
        count = torch.zeros(subject.size, dtype=torch.float64)
        pieces = slices(len(boxes), subject.batch_size)
        for piece, scores in zip(pieces, subject.window_scores(boxes, fill), strict=True):
            # Black on black changes nothing, and rounding is no drop.
            drops = zero_rounding(base - scores, subject.rounding).tolist()
            for drop, box in zip(drops, boxes[piece], strict=True):
                total[box] += drop
                count[box] += 1
            diagnostics = {"windows": len(boxes), "score": base}
            heat = Heatmap(as_array(mean_drop(total, count)), subject.unit, True, diagnostics)
            yield Partial(heat, piece.stop / len(boxes))


def usable_window(size: tuple[int, ...], window: int, stride: int) -> tuple[int, int]:
    """Return the window and stride to use.

    A stride beyond the window would leave stripes that no window covers. A signal shorter than the
    window would be covered whole: then a fifth of it is, moved by a third of that.
    """
    if len(size) == 1 and window >= size[0]:
        window = max(1, size[0] // 5)
        return window, max(1, window // 3)
    return window, min(stride, window)


def windows(size: tuple[int, ...], window: int, stride: int) -> Iterator[tuple[slice, ...]]:
    """Return the windows that cover every position; the last on each axis touches the edge.

    Args:
        window: Side of the window; cut to the axis where it is longer.
        stride: Step, at most `window`.
    """
    axes = []
    for length in size:
        side = min(window, length)
        starts = [*range(0, length - side, stride), length - side]
        axes.append([slice(start, start + side) for start in starts])
    yield from itertools.product(*axes)


def query_order(size: tuple[int, ...], boxes: list[tuple[slice, ...]]) -> list[tuple[slice, ...]]:
    """Return the windows: a sixth all over the picture, then the rest, sorted by the nearest edges.

    What a window changes in feature maps ends at the edge of the picture, and windows that are
    batched together cost what the farthest reaching of them costs.
    """

    def edges(box: tuple[slice, ...]) -> list[tuple[int, int]]:
        # Per axis 0 in the first quarter, 1 in the middle half, 2 in the last quarter.
        near = [round((p.start + p.stop) / length) for p, length in zip(box, size, strict=True)]
        return [(abs(part - 1), part) for part in near]

    spread = [boxes[i] for i in bit_reversed_order(len(boxes))]
    coarse = len(spread) // 6
    return spread[:coarse] + sorted(spread[coarse:], key=edges)


def mean_drop(total: Tensor, count: Tensor) -> Tensor:
    """Return the sum of falls divided by how many windows covered each position, 0 where none has.

    Args:
        total: (*S) sum of score differences.
        count: (*S) number of windows.
    """
    return torch.where(count > 0, total / count.clamp_min(1), 0.0)


@hookimpl
def explainers() -> list[Occlusion]:
    """Return this file's explainer."""
    return [Occlusion()]
