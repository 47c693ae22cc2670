"""Arithmetic that several explainers share, over any number of spatial axes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def weighted_sum(weights: Tensor, features: Tensor) -> Tensor:
    """Return (*S): the sum over channels of weight times feature map.

    Args:
        weights: (K,).
        features: (1, K, *S).
    """
    total: Tensor = torch.tensordot(weights, features[0], dims=1)
    return total


def resize(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return (N, K, *size) of (N, K, *S) maps, by linear interpolation between cell centres."""
    mode = _MODES[len(size)]
    enlarged: Tensor = functional.interpolate(maps, size=size, mode=mode, align_corners=False)
    return enlarged


def as_array(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return a float32 array on the CPU."""
    return values.detach().to("cpu", torch.float32).numpy()


def slices(total: int, size: int) -> Iterator[slice]:
    """Return consecutive slices of at most `size` that cover `total`."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def bit_reversed_order(count: int) -> list[int]:
    """Return 0 .. count-1 so that every beginning of the list is spread over the whole.

    A partial map then shows all of the image coarsely before it shows any of it finely.
    """
    bits = max(1, (count - 1).bit_length())
    order = (int(format(i, f"0{bits}b")[::-1], 2) for i in range(1 << bits))
    return [i for i in order if i < count]


def zero_rounding(differences: Tensor, rounding: float) -> Tensor:
    """Return score differences, 0 where they are within rounding."""
    return torch.where(differences.abs() > rounding, differences, 0.0)


def completeness_gap(total: float, change: float, rounding: float) -> float:
    """Return how far attributions are from adding up to the score's change, as a share of it."""
    return relative_residual(total - change, change, rounding)


def relative_residual(residual: float, change: float, rounding: float) -> float:
    """Return the residual of a sum of attributions as a share of the score's change.

    Where input and baseline score alike there is nothing to share out, and an error within
    rounding is no gap. Nothing absolute: probabilities may be tiny and yet right.
    """
    error = abs(residual)
    return 0.0 if error <= rounding else error / max(abs(change), rounding)


def varying_channels(maps: Tensor) -> Tensor:
    """Return the indices of channels that are not constant; a constant mask hides nothing.

    Args:
        maps: (1, K, *S).
    """
    flat = maps[0].flatten(1)
    spread = flat.amax(1) - flat.amin(1)
    return (spread > 1e-6 * flat.abs().amax(1)).nonzero()[:, 0]


def unit_masks(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return (1, K, *size): each map enlarged, then scaled to [0, 1]. Eqs. 5 and 6.

    Args:
        maps: (1, K, *S) of channels that are not constant.
    """
    large = resize(maps, size)
    axes = tuple(range(2, large.ndim))
    low, high = large.amin(axes, keepdim=True), large.amax(axes, keepdim=True)
    return (large - low) / (high - low)


def value_limits(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return (1, C, 1, ...) lowest values, and highest, that an input takes.

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
