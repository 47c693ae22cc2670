"""MNIST-1D as a labelled set: what methods that rest on known inputs are fitted with."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from whylens import Dataset, Item, plot_signal
from whylens.plugins.mnist1d.signals import LABELS, TEST, TRAIN, Signals, mnist1d

_Split = Literal["train", "test"]


class GeneratedSignals(Dataset):
    """Signals made when first asked for; those on which the shipped network was trained come first.

    Attributes:
        seed: Of the training signals; those of the test split have the next.
    """

    name = "mnist1d"
    labels = LABELS
    licence = "Apache-2.0, generated here"

    def __init__(self, *, train: int = TRAIN, test: int = TEST, seed: int = 0) -> None:
        """Plan the set."""
        self.seed = seed
        self._counts: dict[_Split, int] = {"train": train, "test": test}

    @cached_property
    def _signals(self) -> dict[_Split, Signals]:
        return {
            split: mnist1d(count, self.seed + n)
            for n, (split, count) in enumerate(self._counts.items())
        }

    @cached_property
    def items(self) -> tuple[Item, ...]:  # type: ignore[override]
        """Every signal; its key names split and position."""
        return tuple(
            Item(f"{split}/{n}", int(label), split)
            for split, signals in self._signals.items()
            for n, label in enumerate(signals.labels)
        )

    def _position(self, index: int) -> tuple[Signals, int]:
        first = self._counts["train"]
        return (
            (self._signals["train"], index)
            if index < first
            else (self._signals["test"], index - first)
        )

    def signal(self, index: int) -> npt.NDArray[np.float32]:
        """Return (1, 40) float32: the signal of `items[index]`."""
        signals, number = self._position(index)
        values: npt.NDArray[np.float32] = signals.values[number]
        return values

    def evidence(self, index: int) -> npt.NDArray[np.bool_]:
        """Return (40,) bool: the digit's shape, and a position to each side: it was resampled."""
        signals, number = self._position(index)
        return np.convolve(signals.shape[number], [1, 1, 1], "same") > 0

    def pixels(self, index: int) -> npt.NDArray[np.uint8]:
        """Return (H, W, 3) uint8: the signal drawn as a line."""
        return np.asarray(plot_signal(self.signal(index)))

    def content_digest(self, index: int) -> str:
        """Return the sha256 of the signal's values."""
        return hashlib.sha256(self.signal(index).tobytes()).hexdigest()
