"""The only place where tensors of any layout become (N, K, *S) features or (N, C) logits.

NCHW, NHWC and token layouts with any number of prefix tokens; networks with a single output.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from whylens.core.errors import NeedsNotMet


def as_two_logits(logits: Tensor) -> Tensor:
    """Return (N, C) logits with at least two classes.

    A network with a single output z has the classes "no" and "yes" with logits -z/2 and +z/2: their
    softmax is sigmoid(z), their difference is z, and either side can be explained.
    """
    if logits.ndim == 2 and logits.shape[1] == 1:
        return torch.cat([-logits / 2, logits / 2], dim=1)
    return logits


def weighted_sum(logits: Tensor) -> Tensor:
    """Return a number that depends on every one of (N, C) logits.

    Weighted, since a network whose logits sum to a constant would else look dead.
    """
    weights = torch.linspace(1, -1, logits.shape[1], dtype=logits.dtype, device=logits.device)
    return (logits * weights).sum()


@dataclass(frozen=True, slots=True)
class Features:
    """A feature map and the tokens that have no position in it.

    Attributes:
        map: (N, K, *S).
        prefix_tokens: (N, P, K), or None.
    """

    map: Tensor
    prefix_tokens: Tensor | None = None


@dataclass(frozen=True, slots=True)
class ChannelsFirst:
    """(N, K, *S), as in convolutional networks."""

    def read(self, raw: Tensor) -> Features:
        """Return `raw` as a feature map."""
        return Features(raw)

    def write(self, features: Features) -> Tensor:
        """Return the network's own tensor; a copy, since heads may work in place."""
        return features.map.clone()


@dataclass(frozen=True, slots=True)
class ChannelsLast:
    """(N, *S, K), as in Swin."""

    def read(self, raw: Tensor) -> Features:
        """Return `raw` as a feature map."""
        return Features(raw.movedim(-1, 1))

    def write(self, features: Features) -> Tensor:
        """Return the network's own tensor; a copy, since heads may work in place."""
        return features.map.movedim(1, -1).contiguous().clone()


@dataclass(frozen=True, slots=True)
class Tokens:
    """(N, P + L, K): P prefix tokens, then L = product(grid) patches in row order."""

    prefix: int
    grid: tuple[int, ...]

    def read(self, raw: Tensor) -> Features:
        """Return the patches as a feature map and the prefix tokens beside it."""
        patches = raw[:, self.prefix :].transpose(1, 2)
        return Features(patches.reshape(*patches.shape[:2], *self.grid), raw[:, : self.prefix])

    def write(self, features: Features) -> Tensor:
        """Return the token sequence."""
        patches = features.map.flatten(2).transpose(1, 2)
        if features.prefix_tokens is None or features.prefix_tokens.shape[1] == 0:
            return patches.clone()
        prefix = features.prefix_tokens.expand(len(patches), -1, -1)
        return torch.cat([prefix, patches], dim=1)


Layout = ChannelsFirst | ChannelsLast | Tokens


def layout_of(raw: Any, size: tuple[int, ...], module: Any) -> Layout:
    """Return the layout of a feature tensor.

    Args:
        module: The network; `output_fmt`, `num_prefix_tokens`, `num_features` and
            `patch_embed.grid_size` are read where they exist, and believed only if they fit.

    Raises:
        NeedsNotMet: The tensor has no positions that can be placed on the input.
    """
    if not isinstance(raw, Tensor):
        raise NeedsNotMet("its features come as several tensors, not as one map")
    if raw.ndim == len(size) + 2 and not (len(size) == 1 and hasattr(module, "num_prefix_tokens")):
        width = getattr(module, "num_features", None)
        is_nhwc = str(getattr(module, "output_fmt", "")).upper().endswith("NHWC")
        by_width = raw.shape[-1] == width and raw.shape[1] != width
        first, last = tuple(raw.shape[2:]), tuple(raw.shape[1:-1])
        by_shape = proportional(last, size) and not proportional(first, size)
        return ChannelsLast() if is_nhwc or by_width or by_shape else ChannelsFirst()
    if raw.ndim == 3:
        for prefix, grid in _token_grids(raw.shape[1], size, module):
            return Tokens(prefix, grid)
        raise NeedsNotMet(f"its {raw.shape[1]} tokens do not form a grid of the input's shape")
    raise NeedsNotMet("its features have no positions left")


def proportional(grid: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Return whether a map of size `grid` has the proportions of the input, give or take a cell."""
    per_cell = [n / cells for n, cells in zip(size, grid, strict=True)]
    return all(
        n >= cells and abs(cells - n / ratio) <= 1
        for n, cells in zip(size, grid, strict=True)
        for ratio in per_cell
    )


def _token_grids(
    tokens: int, size: tuple[int, ...], module: Any
) -> Iterator[tuple[int, tuple[int, ...]]]:
    stated_grid = tuple(getattr(getattr(module, "patch_embed", None), "grid_size", None) or ())
    own_prefix = getattr(module, "num_prefix_tokens", None)
    # Believed first, but not blindly: class-attention networks add their class token only later.
    prefixes = ([] if own_prefix is None else [own_prefix]) + [0, 1, 2, 5, 4, 3]
    for prefix in prefixes:
        length = tokens - prefix
        if length < 1:
            continue
        if len(stated_grid) == len(size) and math.prod(map(int, stated_grid)) == length:
            yield prefix, tuple(map(int, stated_grid))
        if len(size) == 1:
            yield prefix, (length,)
        elif len(size) == 2:
            # Rows and columns in the input's own proportion: rows / columns = height / width.
            rows = round((length * size[0] / size[1]) ** 0.5)
            if rows >= 1 and length % rows == 0 and rows * size[1] == length // rows * size[0]:
                yield prefix, (rows, length // rows)
