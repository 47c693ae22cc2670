"""The inputs of the conformance tests: light in known cells, noise, and a small set of pictures."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from whylens.core.datasets.dataset import Dataset, Item, Pixels, Signal
from whylens.core.errors import BadInput
from whylens.core.inputs.preprocess import normalize
from whylens.core.inputs.spec import InputSpec

CELL = 8  # input pixels along a side of a cell of the toy networks' feature maps
SIZE = (32, 48)
GRID = (4, 6)
Cell = tuple[int, ...]


def noise(input_spec: InputSpec, seed: int = 5) -> Tensor:
    """Return (1, C, *S) seeded noise as a network gets it."""
    generator = torch.Generator().manual_seed(seed)
    return normalize(
        torch.rand(1, input_spec.channels, *input_spec.size, generator=generator), input_spec
    )


def lit(input_spec: InputSpec, cells: Iterable[Cell], seed: int = 5) -> Tensor:
    """Return (1, C, *S) a dim input that is bright in some cells.

    Args:
        input_spec: A network's input without normalisation.
    """
    x = 0.1 + 0.2 * noise(input_spec, seed)
    for cell in cells:
        box = tuple(slice(CELL * n, CELL * (n + 1)) for n in cell)
        x[(slice(None), slice(None), *box)] += 0.65
    return x


def tinted_pixels(index: int) -> Pixels:
    """Return (32, 48, 3) uint8: noise with a few cells of one of three colours."""
    rng = np.random.default_rng([7, index])
    coarse = rng.integers(0, 120, (4, 6, 3), dtype=np.uint8)
    row, column = int(rng.integers(3)), int(rng.integers(4))
    coarse[row : row + 2, column : column + 3] = 20
    coarse[row : row + 2, column : column + 3, index % 3] = 250
    return coarse.repeat(8, 0).repeat(8, 1)


class Tinted(Dataset):
    """Pictures of noise whose class is the colour of a few cells, for methods that are fitted.

    Two of the training pictures are the same one, byte for byte: 0 and `TWIN_OF_FIRST`.
    """

    name = "tinted"
    labels = ("ant", "bee", "cat")
    items = tuple(Item(f"tinted/{i}", i % 3, "train" if i < 36 else "val") for i in range(54))

    def pixels(self, index: int) -> Pixels:
        """Return (32, 48, 3) uint8: the picture of `items[index]`."""
        return tinted_pixels(0 if index == TWIN_OF_FIRST else index)

    def content_digest(self, index: int) -> str:
        """Return what determines the picture."""
        return str(0 if index == TWIN_OF_FIRST else index)


TWIN_OF_FIRST = 33


class Bumps(Dataset):
    """Signals of noise whose class is the steepness of a bump and the channel that holds it."""

    name = "bumps"
    labels = ("ant", "bee", "cat")
    items = tuple(Item(f"bumps/{i}", i % 3, "train" if i < 36 else "val") for i in range(54))

    def pixels(self, index: int) -> Pixels:
        """Refuse: a signal is no picture."""
        raise BadInput(f"{self.items[index].key} is a signal, not a picture.")

    def signal(self, index: int) -> Signal:
        """Return (2, 64) float32: the signal of `items[index]`."""
        rng = np.random.default_rng([8, index])
        values = 0.1 * rng.normal(size=(2, 64))
        width, channel, sign = ((2, 0, 1), (6, 1, 1), (3, 1, -1))[index % 3]
        middle = rng.uniform(16, 48)
        values[channel] += sign * 2 * np.exp(-(((np.arange(64) - middle) / width) ** 2))
        return values.astype(np.float32)

    def content_digest(self, index: int) -> str:
        """Return what determines the signal."""
        return str(index)
