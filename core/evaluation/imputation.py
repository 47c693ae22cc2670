"""Hidden places filled in from what is known around them, and not seen to be: ROAD's imputation."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from whylens.core.errors import BadInput

_CONV: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
_DAMPING = 0.8
_ITERATIONS = 100  # about 10 are enough for holes of any width


def impute(pixels: Tensor, hidden: Tensor, *, tolerance: float = 1e-3) -> Tensor:
    """Return (n, C, *S): each hidden place is the weighted mean of its neighbours, all at once.

    In a picture a neighbour across an edge weighs 1/6 and one across a corner 1/12, in a signal
    each 1/2; what lies outside weighs nothing. Where all is hidden, each channel is its mean. One
    linear system for each mask, solved by conjugate gradients behind a multigrid cycle, since the
    holes of a coarse map are wide. Source: Rong et al. 2022, ROAD, sec. 4, without the noise.

    Args:
        pixels: (1, C, *S) in pixel space.
        hidden: (n, 1, *S) bool.
        tolerance: Where to stop: share of the first guess's error, the channel's mean, in the norm
            of the system. Pixels of a photo were then off by 4/1000 at most.
    """
    count, channels = len(hidden), pixels.shape[1]
    size, places = pixels.shape[2:], tuple(range(2, pixels.ndim))
    # All systems side by side as channels of one input: convolutions are then several times faster.
    flat = (1, count * channels, *size)
    # In pictures the channels lie side by side in memory too: a third of the time is saved.
    order = torch.channels_last if len(size) == 2 else torch.contiguous_format
    unknown = hidden.expand(count, channels, *size).reshape(flat).to(pixels.dtype)
    unknown = unknown.contiguous(memory_format=order)
    mean = pixels.mean(places, keepdim=True)
    answer = torch.where(hidden, mean, pixels).reshape(flat).contiguous(memory_format=order)
    levels = _levels(unknown)
    residual = -_system(answer, levels[0])
    direction = _cycle(residual, levels)
    energy = (residual * direction).sum(places, keepdim=True)
    # Nothing is left to do where all is hidden, nor of what is rounding.
    rounding = (8 * torch.finfo(pixels.dtype).eps) ** 2 * (answer**2).sum(places, keepdim=True)
    enough = torch.maximum(tolerance**2 * energy, rounding)
    enough = torch.where(unknown.amin(places, keepdim=True) > 0, torch.inf, enough)
    for _ in range(_ITERATIONS):
        if bool((energy <= enough).all()):
            return answer.reshape(count, channels, *size)
        image = _system(direction, levels[0])
        # What is solved goes on with steps of 0.
        length = energy / (direction * image).sum(places, keepdim=True)
        step = torch.where(energy > enough, length, 0.0)
        answer.addcmul_(step, direction)
        residual.addcmul_(step, image, value=-1)
        better = _cycle(residual, levels)
        now = (residual * better).sum(places, keepdim=True)
        direction = better.addcmul_(torch.where(energy > enough, now / energy, 0.0), direction)
        energy = now
    raise BadInput(
        "The hidden places could not be filled in from those around them; choose another fill."
    )


class _Level(NamedTuple):
    unknown: Tensor  # 1 where a place is, else 0
    weights: Tensor  # what its neighbours weigh together
    damped: Tensor  # what a residual is multiplied by
    stencil: Tensor  # what each neighbour weighs: (1 2 1) along every axis, without its middle
    halving: Tensor  # the transpose of linear interpolation to twice the size


def _levels(unknown: Tensor) -> list[_Level]:
    # From fine to coarse: a coarse place is unknown where all of it is.
    axes, channels = unknown.ndim - 2, unknown.shape[1]
    stencil = _kernel(unknown, (1.0, 2.0, 1.0))
    stencil[(1,) * axes] = 0
    stencil = (stencil / stencil.sum()).expand(channels, 1, *stencil.shape)
    halving = _kernel(unknown, (0.25, 0.75, 0.75, 0.25))
    halving = halving.expand(channels, 1, *halving.shape)
    levels: list[_Level] = []
    while True:
        weights = _CONV[axes](torch.ones_like(unknown[:, :1]), stencil[:1], padding=1)
        levels.append(_Level(unknown, weights, _DAMPING * unknown / weights, stencil, halving))
        if max(unknown.shape[2:]) <= 3 or not unknown.any():
            return levels
        even = functional.pad(unknown, _to_even(unknown), value=1)
        for axis in range(2, unknown.ndim):
            pairs = even.unflatten(axis, (-1, 2))
            even = torch.minimum(pairs.select(axis + 1, 0), pairs.select(axis + 1, 1))
        unknown = even


def _to_even(values: Tensor) -> list[int]:
    return list(itertools.chain(*((0, side % 2) for side in reversed(values.shape[2:]))))


def _kernel(like: Tensor, row: tuple[float, ...]) -> Tensor:
    kernel, weights = like.new_tensor(1.0), like.new_tensor(row)
    for _ in range(like.ndim - 2):
        kernel = kernel[..., None] * weights
    return kernel


def _system(values: Tensor, level: _Level) -> Tensor:
    conv, channels = _CONV[values.ndim - 2], values.shape[1]
    neighbours = conv(values, level.stencil, padding=1, groups=channels)
    return (level.weights * values).sub_(neighbours).mul_(level.unknown)


def _cycle(residual: Tensor, levels: list[_Level]) -> Tensor:
    # One symmetric V of damped Jacobi; what comes back is 0 where places are known.
    level, coarser = levels[0], levels[1:]
    values = level.damped * residual
    if coarser:
        axes, channels = residual.ndim - 2, residual.shape[1]
        correction = functional.pad(residual - _system(values, level), _to_even(residual))
        # Interpolation continues the edges, and so does what it is the transpose of.
        padded = functional.pad(correction, (1, 1) * axes, mode="replicate")
        small = _CONV[axes](padded, level.halving, stride=2, groups=channels)
        # A coarse place is two fine ones wide: there the same weights mean 2 ** (axes - 2) as much.
        change = _cycle(small.mul_(coarser[0].unknown), coarser).mul_(2.0 ** (2 - axes))
        large = functional.interpolate(change, scale_factor=2, mode=_LINEAR[axes])
        for axis, side in enumerate(residual.shape[2:], 2):
            large = large.narrow(axis, 0, side)
        values = values.addcmul_(level.unknown, large)
    return values.addcmul_(level.damped, residual - _system(values, level))
