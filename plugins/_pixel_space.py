"""A question's input in pixel space, where noise and changes are defined."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from whylens import denormalize, normalize

if TYPE_CHECKING:
    from whylens import Subject


def pixels_of(subject: Subject) -> Tensor:
    """Return (1, C, *S) the input in pixel space: 0 to 1 for pictures, raw values for signals."""
    return denormalize(subject.x, subject.trace.backbone.spec)


def inputs_of_pixels(pixels: Tensor, subject: Subject) -> Tensor:
    """Return (N, C, *S) in the network's units.

    Args:
        pixels: (N, C, *S) in pixel space.
    """
    return normalize(pixels, subject.trace.backbone.spec)


def limits_of(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return (1, C, 1, ...) lowest and highest value that this input takes, twice.

    The channels of a picture are of one kind and share their limits; those of a signal or a volume
    may be millivolts and degrees, and each has its own.

    Args:
        pixels: (1, C, *S) in pixel space.
    """
    channels = pixels.shape[1]
    shape = (1, channels, *[1] * (pixels.ndim - 2))
    flat = pixels.flatten(1) if pixels.ndim == 4 else pixels[0].flatten(1)
    low, high = flat.amin(-1), flat.amax(-1)
    return low.expand(channels).view(shape), high.expand(channels).view(shape)
