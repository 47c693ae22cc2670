"""RISE's random masks, and the map that the means under so many of them make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from whylens import Heatmap, MaskedMeans, Params, Partial, expected_agreement
from whylens.plugins._arrays import as_array, resize

if TYPE_CHECKING:
    from torch import Tensor

MASKS_PER_DRAW = 16  # masks at once, whatever the batch: random numbers must not depend on it
_MIN_AGREEMENT = 0.99


class MaskParams(Params):
    """The masks: number, coarseness, share and fill."""

    masks: int = Field(
        default=1024, ge=64, le=8192, multiple_of=64, description="How many random masks to try."
    )
    cells: int = Field(
        default=7, ge=2, le=16, description="Cells of a mask along the shorter side of the view."
    )
    shown: float = Field(
        default=0.5,
        ge=0.1,
        le=0.9,
        multiple_of=0.05,
        description="Share of the cells that a mask shows.",
    )
    fill: Literal["grey", "black", "mean", "blur"] = Field(
        default="black", description="What hidden places show; defined in pixel space."
    )


def random_masks(
    count: int, size: tuple[int, ...], cells: int, shown_share: float, generator: torch.Generator
) -> Tensor:
    """Return (count, 1, *size) masks in [0, 1]: coarse cells, enlarged, each mask moved by itself.

    Args:
        cells: Cells along the shorter side; cells are square.
    """
    side = -(-min(size) // cells)
    # One cell more than fits, since it is moved, and one since the outermost half cells hold no
    # edges between cells: the authors' code shows those at the rim only.
    grid = [-(-n // side) + 2 for n in size]
    coarse = (torch.rand(count, 1, *grid, generator=generator) < shown_share).float()
    large = resize(coarse, tuple(n * side for n in grid))
    offsets = torch.randint(side, (count, len(size)), generator=generator) + side // 2
    masks = torch.empty(count, 1, *size)
    for row, offset in enumerate(offsets.tolist()):
        window = tuple(slice(o, o + n) for o, n in zip(offset, size, strict=True))
        masks[row, 0] = large[row, 0][window]
    return masks.clamp_(0, 1)  # interpolation rounds


def map_of_means(means: MaskedMeans, masks: int, unit: str, rounding: float) -> Partial:
    """Return the map of what was measured so far, and what to say of its noise once it is finished.

    Args:
        masks: How many there will be.
        rounding: What is alike up to it whatever the mask is no evidence: the map is 0 then.
    """
    values, errors = means.values(), means.errors()
    if float(values.abs().max()) <= rounding:
        values, errors = torch.zeros_like(values), torch.zeros_like(errors)
    agreement = expected_agreement(values, errors)
    note = ""
    if means.count >= masks and agreement < _MIN_AGREEMENT:
        note = (
            f"Another seed's map is expected to correlate {agreement:.2f} with this one; "
            "more masks bring them closer."
        )
    heat = Heatmap(
        as_array(values),
        unit,
        signed=True,
        diagnostics={"masks": means.count, "expected agreement of seeds": agreement},
        note=note,
        error=as_array(errors),
    )
    return Partial(heat, means.count / masks)
