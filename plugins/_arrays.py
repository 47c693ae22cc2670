"""Arithmetic that several explainers share: weighted sums of channels, resizing, time slices.

All of it works over any number of spatial axes.
"""

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


def resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return (N, K, *size) by linear interpolation between cell centres.

    Args:
        maps: (N, K, *S).
    """
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


def spread_order(count: int) -> list[int]:
    """Return 0 .. count-1 so that every beginning of the list is spread over the whole.

    A partial map then shows all of the image coarsely before it shows any of it finely.
    """
    bits = max(1, (count - 1).bit_length())
    order = (int(format(i, f"0{bits}b")[::-1], 2) for i in range(1 << bits))
    return [i for i in order if i < count]


def beyond_rounding(differences: Tensor, rounding: float) -> Tensor:
    """Return score differences, 0 where they are within rounding.

    Args:
        differences: (N,), score units.
    """
    return torch.where(differences.abs() > rounding, differences, 0.0)


def completeness_gap(total: float, change: float, rounding: float) -> float:
    """Return how far attributions are from adding up to the score's change, as a share of it."""
    return missed_share(total - change, change, rounding)


def missed_share(missed: float, change: float, rounding: float) -> float:
    """Return what attributions miss of the score's change, as a share of it.

    Where input and baseline score alike there is nothing to share out, and an error within
    rounding is no gap. Nothing absolute: probabilities may be tiny and yet right.
    """
    error = abs(missed)
    return 0.0 if error <= rounding else error / max(abs(change), rounding)
