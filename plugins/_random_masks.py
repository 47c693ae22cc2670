"""RISE's random masks, and what to say of the noise that is left after so many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from whylens.plugins._arrays import resize

if TYPE_CHECKING:
    from torch import Tensor

MASKS_PER_DRAW = 16  # masks at once, whatever the batch: random numbers must not depend on it
_MIN_AGREEMENT = 0.99


def random_masks(
    count: int, size: tuple[int, ...], cells: int, shown: float, generator: torch.Generator
) -> Tensor:
    """Return (count, 1, *size) masks in [0, 1]: coarse cells, enlarged, each mask moved by itself.

    Args:
        cells: Cells along the shorter side; cells are square.
    """
    side = -(-min(size) // cells)
    # One cell more than fits, since it is moved, and one since the outermost half cells hold no
    # edges between cells: the authors' code shows those at the rim only.
    grid = [-(-n // side) + 2 for n in size]
    coarse = (torch.rand(count, 1, *grid, generator=generator) < shown).float()
    large = resize(coarse, tuple(n * side for n in grid))
    offsets = torch.randint(side, (count, len(size)), generator=generator) + side // 2
    masks = torch.empty(count, 1, *size)
    for row, offset in enumerate(offsets.tolist()):
        window = tuple(slice(o, o + n) for o, n in zip(offset, size, strict=True))
        masks[row, 0] = large[row, 0][window]
    return masks.clamp_(0, 1)  # interpolation rounds


def agreement_note(agreement: float) -> str:
    """Return what a map says of another seed's: "" where both are as good as the same."""
    if agreement >= _MIN_AGREEMENT:
        return ""
    return (
        f"Another seed's map is expected to correlate {agreement:.2f} with this one; "
        "more masks bring them closer."
    )
