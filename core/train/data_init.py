"""What the training pictures decide before training: the range of inputs, and first filters.

Networks converted from elsewhere often expect values up to 255; fed otherwise they hardly see
anything, and no error tells.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from whylens.core.errors import BadInput
from whylens.core.progress import map_progress, run
from whylens.core.train import head
from whylens.core.train.head import inputs
from whylens.core.train.network import Network
from whylens.core.train.pictures import Frames
from whylens.core.train.recipe import PRETRAINED, Recipe

# The usual way is left only for one whose loss is a smaller share of its own, and smaller by more:
# where every way tells the classes apart, all losses are about 0, and their ratio is of chance.
_CLEARLY, _GAIN = 0.9, 0.02
_RANGE_PICTURES = 192
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


def input_range_unknown(recipe: Recipe, network: Network) -> bool:
    """Return whether mean and deviation are a guess: neither recipe nor weights state them."""
    is_given = recipe.mean is not None or recipe.std is not None
    return network.trained and not (is_given or network.spec_known or recipe.weights == PRETRAINED)


def guess_input_range(
    network: Network, frames: Frames, labels: Tensor, classes: int
) -> Generator[float, None, Network]:
    """Yield the share done and return the network with the mean and deviation that tell most.

    Each is judged by a linear layer on the encoder's features of a few training pictures, fitted
    on one half of them and tried on the other.

    Args:
        labels: (N,) their classes.
    """
    input_spec = network.input_spec
    usual: Normalisation = (input_spec.mean, input_spec.std)
    ways: list[Normalisation] = [usual, (input_spec.mean, (1 / 255,) * 3), ((0.5,) * 3, (0.5,) * 3)]
    count = len(frames.indices)
    # In the order of the set, which is that of the classes in a folder: both halves get each.
    order = labels.argsort(stable=True)
    places = order[np.linspace(0, count - 1, min(count, _RANGE_PICTURES)).astype(int)]
    some = Frames(
        frames.dataset,
        tuple(frames.indices[place] for place in places.tolist()),
        frames.input_spec,
        frames.batch(places.tolist()),
    )
    truth = labels[places]
    losses = []
    for number, (mean, std) in enumerate(ways):
        normalised_network = replace(
            network, input_spec=input_spec.model_copy(update={"mean": mean, "std": std})
        )
        work = head.features(normalised_network, some, batch=32, mirrored=False)
        features = yield from map_progress(
            work,
            lambda share, number=number: (number + share) / len(ways),  # type: ignore[misc]
        )
        train, val = (features[::2], truth[::2]), (features[1::2], truth[1::2])
        losses.append(run(head.fit(train, val, torch.ones(classes))).loss)
    chosen = clearly_best(losses)
    mean, std = ways[chosen]
    is_best = losses[chosen] == min(losses)
    words = "tells" if is_best else "was kept, as none of the others clearly tells"
    figures = ", ".join(f"{loss:.3f}" for loss in losses)
    note = (
        "The weights do not say how they want their pictures. Of three ways, mean "
        f"{tuple(round(m, 3) for m in mean)} and deviation {tuple(round(s, 4) for s in std)} "
        f"{words} the classes apart {'best' if is_best else 'better'} (losses {figures}); give "
        "mean and std in a recipe if you know."
    )
    return replace(
        network,
        input_spec=input_spec.model_copy(update={"mean": mean, "std": std}),
        notes=(*network.notes, note),
    )


def clearly_best(losses: Sequence[float]) -> int:
    """Return the place of the least loss, or 0 where it is not clearly less than the first."""
    best = int(np.argmin(losses))
    is_clear = losses[best] <= min(_CLEARLY * losses[0], losses[0] - _GAIN)
    return best if is_clear else 0


_WHITENING_PICTURES = 2000
_FLOOR = 5e-4  # added to variances: directions in which patches hardly differ are noise


def whitening_filters(pictures: Tensor, count: int, side: int) -> Tensor:
    """Return (K, C, side, side): K filters, of which each second half is the first negated.

    On patches like these the outputs of the first half are uncorrelated and, but for the floor
    under the variance, of variance 1. A rectifier after them loses neither sign.

    Args:
        pictures: (N, C, H, W) as the network is fed them.
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
    places = list(range(0, len(frames.indices), -(-len(frames.indices) // _WHITENING_PICTURES)))
    images = inputs(frames, places, network)
    filters = whitening_filters(images, first.out_channels, first.kernel_size[0])
    with torch.no_grad():
        first.weight[: len(filters)] = filters
