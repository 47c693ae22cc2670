"""Views of pictures, a batch at a time: zoomed, shifted, mirrored, recoloured, partly blanked.

All chance comes from the generator given.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from whylens.core.train.recipe import Recipe

_Between = Callable[[float, float], Tensor]


def random_views(
    frames: Tensor,
    size: tuple[int, int],
    recipe: Recipe,
    *,
    crop: float,
    generator: torch.Generator,
) -> Tensor:
    """Return (B, 3, h, w) float32 in [0, 1].

    At strength 0 it is the middle `crop` of each picture, which is what the network is fed later.

    Args:
        frames: (B, 3, H, W) uint8.
        crop: Share of the frame that the network sees later.
    """
    count, device = len(frames), frames.device

    def between(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    theta = _windows(between, crop, recipe).to(device)
    grid = torch.nn.functional.affine_grid(theta, [count, 3, *size], align_corners=False)
    images = torch.nn.functional.grid_sample(
        frames.float() / 255.0, grid, padding_mode="reflection", align_corners=False
    )
    if recipe.strength:
        images = _recolour(images, between, recipe.strength)
    if recipe.cutout:
        images = _blank(images, between, recipe.cutout)
    return images.contiguous(memory_format=torch.channels_last)


def _windows(between: _Between, crop: float, recipe: Recipe) -> Tensor:
    # A window's half side and its centre, in units in which the frame reaches from -1 to 1.
    strength = recipe.strength
    zoom = crop * between(1 - 0.45 * strength, 1 + 0.1 * strength)
    stretch = between(-0.15 * strength, 0.15 * strength).exp()
    wide, tall = zoom * stretch, zoom / stretch
    slack = 0.1 * strength  # beyond the edge the picture is mirrored
    across = between(-1, 1) * ((1 - wide).clamp_min(0) + slack) * (strength > 0)
    down = between(-1, 1) * ((1 - tall).clamp_min(0) + slack) * (strength > 0)
    mirrored = (between(0, 1) < 0.5) & recipe.flip
    turned = between(-1, 1) * math.radians(10) * strength
    theta = torch.zeros(len(zoom), 2, 3)
    theta[:, 0, 0] = wide * turned.cos() * torch.where(mirrored, -1.0, 1.0)
    theta[:, 0, 1] = -tall * turned.sin()
    theta[:, 1, 0] = wide * turned.sin() * torch.where(mirrored, -1.0, 1.0)
    theta[:, 1, 1] = tall * turned.cos()
    theta[:, 0, 2], theta[:, 1, 2] = across, down
    return theta


def _recolour(images: Tensor, between: _Between, strength: float) -> Tensor:
    def factor() -> Tensor:
        return between(1 - 0.4 * strength, 1 + 0.4 * strength)[:, None, None, None].to(images)

    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * factor()
    middle = images.mean((1, 2, 3), keepdim=True)
    return (middle * factor() + (images - middle) * factor()).clamp_(0, 1)


def _blank(images: Tensor, between: _Between, share: float) -> Tensor:
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device)[None, :] + 0.5
    columns = torch.arange(width, device=images.device)[None, :] + 0.5
    down = (between(0, 1) * height)[:, None].to(images)
    across = (between(0, 1) * width)[:, None].to(images)
    inside = ((rows - down).abs() < share * height / 2)[:, None, :, None] & (
        (columns - across).abs() < share * width / 2
    )[:, None, None, :]
    return torch.where(inside, images.mean((0, 2, 3), keepdim=True), images)
