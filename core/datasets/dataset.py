"""What a set of labelled pictures is, whoever made them.

May touch numpy and the errors only.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from whylens.core.errors import BadInput

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
Pixels = npt.NDArray[np.uint8]
Signal = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a set, not yet read.

    Attributes:
        key: Id within the set, for good: a relative path, or a seed.
        label: Index into the set's labels.
        split: Which part of the set it belongs to.
    """

    key: str
    label: int
    split: SplitName


class Dataset(ABC):
    """Labelled pictures in three splits; pictures are read or drawn when asked for.

    Attributes:
        name: As a visitor would call it: a folder's name, or "painted-cats:breed".
        labels: One per class.
        items: Every picture.
        licence: Terms of the pictures, in words.
        notes: What whoever trains on it should know.
    """

    name: str
    labels: tuple[str, ...]
    items: tuple[Item, ...]
    licence: str = "not stated"
    notes: tuple[str, ...] = ()

    @abstractmethod
    def pixels(self, index: int) -> Pixels:
        """Return (H, W, 3) uint8: the picture of `items[index]`, upright.

        Args:
            index: Position in `items`.

        Raises:
            BadInput: It cannot be read.
        """

    def signal(self, index: int) -> Signal:
        """Return (C, L) float32: the signal of `items[index]`, in a set that holds signals.

        Args:
            index: Position in `items`.

        Raises:
            BadInput: The set holds pictures.
        """
        raise BadInput(
            f"{self.name} holds pictures, and this network takes signals: {self.items[index].key} "
            "is none. Choose a set of signals, such as mnist1d."
        )

    def parts(self, index: int) -> Mapping[str, Mask]:  # noqa: ARG002 - photos have no known parts
        """Return (H, W) bool masks of the picture's parts by name; empty where none are known.

        Args:
            index: Position in `items`.
        """
        return MappingProxyType({})

    @property
    def digest(self) -> str:
        """Hex sha256 over keys, labels, splits and contents: the same data, the same digest."""
        whole = hashlib.sha256("\n".join(self.labels).encode())
        for index, item in enumerate(self.items):
            whole.update(f"\n{item.key}\t{item.label}\t{item.split}\t".encode())
            whole.update(self.content_digest(index).encode())
        return whole.hexdigest()

    @abstractmethod
    def content_digest(self, index: int) -> str:
        """Return a digest of what `items[index]` shows, or of all that determines it.

        Args:
            index: Position in `items`.
        """

    def of(self, split: SplitName) -> tuple[int, ...]:
        """Return the positions of one split.

        Args:
            split: Which.
        """
        return tuple(i for i, item in enumerate(self.items) if item.split == split)
