"""What a set of labelled pictures or signals is, and how a plugin offers one by name."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from whylens.core.datasets.dissection import Dissection, Hybrid, Shortcut
from whylens.core.errors import BadInput

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
Pixels = npt.NDArray[np.uint8]
Signal = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
_KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


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
        name: As a visitor would call it: a folder's name, or a name and an option, "cats:breed".
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
            "is none. Choose a set of signals."
        )

    def parts(self, index: int) -> Mapping[str, Mask]:  # noqa: ARG002 - photos have no known parts
        """Return (H, W) bool masks of the picture's parts by name; empty where none are known.

        Args:
            index: Position in `items`.
        """
        return MappingProxyType({})

    def evidence(self, index: int) -> Mask | None:  # noqa: ARG002 - of most pictures nobody knows
        """Return where all that makes the label lies: (H, W) bool, or (L,); None where unknown.

        Args:
            index: Position in `items`.
        """
        return None

    def dissection(self, index: int) -> Dissection | None:  # noqa: ARG002 - photos are what they are
        """Return the picture in parts that can be left out; None where nothing can be.

        Args:
            index: Position in `items`.
        """
        return None

    def hybrid(self, index: int) -> Hybrid | None:  # noqa: ARG002 - photos are what they are
        """Return a picture like this one that is half of one class and half of another, or None.

        Args:
            index: Position in `items`.
        """
        return None

    def shortcut(self, index: int) -> Shortcut | None:  # noqa: ARG002 - of most sets none is known
        """Return what gives a class away in training without meaning anything; None without it.

        Args:
            index: Position in `items`.
        """
        return None

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
        """Return the positions of one split."""
        return tuple(i for i, item in enumerate(self.items) if item.split == split)


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """A data set that a plugin draws or fetches itself, known by name wherever a folder is.

    Attributes:
        name: Kebab-case, without an option, as in "cats".
        summary: One sentence: what it holds.
        load: Called with one of `options`, or with "" where there are none, and returns the set;
            its `name` is the one asked for, as in "cats:breed". Pictures are drawn or read later,
            when asked for.
        options: What may follow the name after a colon, as in "breed"; one has to follow then.
        kind: Whether networks are fed the set's `pixels` or its `signal`.
    """

    name: str
    summary: str
    load: Callable[[str], Dataset]
    options: tuple[str, ...] = ()
    kind: Literal["pictures", "signals"] = "pictures"

    @property
    def names(self) -> tuple[str, ...]:
        """Every name by which a set can be asked for."""
        return tuple(f"{self.name}:{option}" for option in self.options) or (self.name,)


def dataset_errors(source: object) -> list[str]:
    """Return what is wrong with something a plugin offers as a data set; empty if nothing is."""
    if not isinstance(source, DatasetSource):
        return [f"datasets() gave {type(source).__name__}, not a DatasetSource."]
    errors = []
    words = (source.name, *source.options)
    if not all(isinstance(word, str) and _KEBAB.fullmatch(word) for word in words):
        errors.append(
            f"The name {source.name!r} and the options {source.options!r} must be kebab-case: "
            "lower-case words joined by '-'."
        )
    if len(set(source.options)) < len(source.options):
        errors.append(f"The data set {source.name!r} names an option twice.")
    if not str(source.summary).strip():
        errors.append(f"The data set {source.name!r} needs a summary.")
    load: object = source.load
    if not callable(load):
        errors.append(f"The data set {source.name!r} needs a function `load(option)`.")
    return errors
