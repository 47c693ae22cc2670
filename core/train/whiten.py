"""First filters that whiten small patches of the pictures, so that training need not find them.

May touch torch and the training's parts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from whylens.core.errors import BadInput
from whylens.core.train.head import inputs
from whylens.core.train.network import Network
from whylens.core.train.pictures import Frames
from whylens.core.train.recipe import Recipe

_PICTURES = 2000
_FLOOR = 5e-4  # added to variances: directions in which patches hardly differ are noise


def whitening_filters(pictures: Tensor, count: int, side: int) -> Tensor:
    """Return (K, C, side, side): K filters, of which each second half is the first negated.

    On patches like these the outputs of the first half are uncorrelated and, but for the floor
    under the variance, of variance 1. A rectifier after them loses neither sign.

    Args:
        pictures: (N, C, H, W) as the network is fed them.
        count: Number of filters wanted; K is the largest even number that it and twice the
            number of values in a patch allow.
        side: Of a filter, in pixels.

    Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024), section 3.2. There
    the filters stay as they are; here they are where training starts.
    """
    patches = torch.nn.functional.unfold(pictures, side, stride=side)
    rows = patches.transpose(1, 2).reshape(-1, patches.shape[1]).double()
    rows = rows - rows.mean(0)
    variances, directions = torch.linalg.eigh(rows.T @ rows / len(rows))
    half = min(count // 2, len(variances))
    filters = (directions / (variances + _FLOOR).sqrt()).T.flip(0)[:half]
    filters = filters.reshape(half, pictures.shape[1], side, side).to(pictures)
    return torch.cat([filters, -filters])


def whiten(network: Network, frames: Frames, recipe: Recipe) -> None:
    """Give a network's first layer whitening filters; those beyond their number stay random.

    Args:
        network: Not yet trained; changed in place.
        frames: The training pictures.
        recipe: Names the backbone, for the message.

    Raises:
        BadInput: It does not begin with square filters over the three colours.
    """
    first = next((part for part in network.module.modules() if isinstance(part, nn.Conv2d)), None)
    sides = set() if first is None else set(first.kernel_size)
    if first is None or first.weight.shape[1] != 3 or len(sides) > 1 or first.out_channels < 2:
        raise BadInput(
            f"{recipe.backbone} does not begin with filters over the three colours, which 'whiten' "
            "would set. Leave it out of the recipe, or choose another backbone."
        )
    places = list(range(0, len(frames.indices), -(-len(frames.indices) // _PICTURES)))
    seen = inputs(frames, places, network)
    filters = whitening_filters(seen, first.out_channels, first.kernel_size[0])
    with torch.no_grad():
        first.weight[: len(filters)] = filters
