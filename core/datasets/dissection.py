"""What a data set may know of a picture beyond its label: parts, mixtures and planted hints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from whylens.core.datasets.dataset import Mask, Pixels


@dataclass(frozen=True)
class Dissection:
    """A picture that can be shown without some of its parts.

    Attributes:
        own: Names of the parts of what the label names that can be left out.
        around: Names of what else can be: it never makes the label.
        signs: Those of `own` that make the label: all of them are needed, and they suffice.
        masks: (H, W) bool of each of `own` and `around`.
        without: Returns (H, W, 3) uint8: the picture without such parts.
    """

    own: tuple[str, ...]
    around: tuple[str, ...]
    signs: frozenset[str]
    masks: Mapping[str, Mask]
    without: Callable[[frozenset[str]], Pixels]


@dataclass(frozen=True)
class Hybrid:
    """A picture with a sign of one class and another sign of another class.

    Attributes:
        pixels: (H, W, 3) uint8.
        labels: The two classes.
        masks: (H, W) bool of the sign of each.
        without: (H, W, 3) uint8, without the sign of each.
    """

    pixels: Pixels
    labels: tuple[int, int]
    masks: tuple[Mask, Mask]
    without: tuple[Pixels, Pixels]


@dataclass(frozen=True)
class Shortcut:
    """Something that gives a class away in training and means nothing.

    Attributes:
        label: The class.
        present: Whether this picture has it.
        place: (H, W) bool: where it lies, or would.
    """

    label: int
    present: bool
    place: Mask
