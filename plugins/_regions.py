"""Hiding regions of an input: parameters, fills, scores and maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field
from torch import Tensor

from whylens import Params
from whylens.plugins._arrays import slices
from whylens.plugins._segments import Cut, region_masks, segment_means

if TYPE_CHECKING:
    from whylens import Subject

RegionFill = Literal["segment mean", "grey", "black", "blur"]


class RegionParams(Params):
    """The regions that the view is cut into."""

    segments: int = Field(default=40, ge=2, le=200, description="Regions wished for.")
    regions: Cut = Field(
        default="superpixels",
        description="superpixels follow what is seen; boxes are equal whatever is seen.",
    )


def region_fill(subject: Subject, labels: Tensor, fill: RegionFill) -> Tensor:
    """Return (1, C, *S): what hidden regions show, in the network's own units.

    All fills are defined in pixel space. A region's mean commutes with the network's
    normalisation, which is affine, so it may be taken on either side of it.

    Args:
        labels: (*S) int64.
        fill: "segment mean" paints each region in its own mean colour.
    """
    return segment_means(subject.x, labels) if fill == "segment mean" else subject.baseline(fill)


def region_scores(
    subject: Subject, presence: Tensor, labels: Tensor, empty: Tensor
) -> Iterator[Tensor]:
    """Yield (n,) float64 target scores with only the regions shown, a bounded piece at a time.

    Args:
        presence: (N, regions) 1 where a region is shown, 0 where it is hidden.
        labels: (*S) int64.
        empty: (1, C, *S) what hidden regions show.
    """
    pieces = slices(len(presence), subject.batch_size)
    masks = (region_masks(presence[piece], labels).to(subject.x) for piece in pieces)
    for scores in subject.masked_scores(masks, empty):
        yield scores.double().cpu()


def regions_to_map(values: Tensor, labels: Tensor) -> Tensor:
    """Return (*S): each place's value is that of its region, of (regions,) values."""
    return values[labels]
