"""How a file of weights wants its pictures, where neither it nor the recipe says so.

May touch torch and the head's fit. Networks converted from elsewhere often expect values up to
255; fed otherwise they hardly see anything, and no error tells.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from whylens.core.progress import map_progress, result_of
from whylens.core.train import head
from whylens.core.train.network import Network
from whylens.core.train.pictures import Frames
from whylens.core.train.recipe import PRETRAINED, Recipe

_CLEARLY = 0.9  # of the loss; the usual way is left only for one that is better by more
_PICTURES = 192
Way = tuple[tuple[float, ...], tuple[float, ...]]


def is_open(recipe: Recipe, network: Network) -> bool:
    """Return whether mean and deviation are a guess.

    Args:
        recipe: May state them.
        network: May know them.
    """
    said = recipe.mean is not None or recipe.std is not None
    return network.trained and not (said or network.told or recipe.weights == PRETRAINED)


def best_fed(
    network: Network, frames: Frames, labels: Tensor, classes: int
) -> Generator[float, None, Network]:
    """Yield the share done and return the network with the way of feeding that tells most.

    Each way is judged by a linear layer on the trunk's features of a few training pictures,
    fitted on one half of them and tried on the other.

    Args:
        network: With trained weights.
        frames: The training pictures.
        labels: (N,) their classes.
        classes: Number of classes.
    """
    spec = network.spec
    usual: Way = (spec.mean, spec.std)
    ways: list[Way] = [usual, (spec.mean, (1 / 255,) * 3), ((0.5,) * 3, (0.5,) * 3)]
    count = len(frames.indices)
    # In the order of the set, which is that of the classes in a folder: both halves get each.
    order = labels.argsort(stable=True)
    places = order[np.linspace(0, count - 1, min(count, _PICTURES)).astype(int)]
    some = Frames(
        frames.dataset,
        tuple(frames.indices[place] for place in places.tolist()),
        frames.spec,
        frames.batch(places.tolist()),
    )
    truth = labels[places]
    losses = []
    for done, (mean, std) in enumerate(ways):
        fed = replace(network, spec=spec.model_copy(update={"mean": mean, "std": std}))
        work = head.features(fed, some, batch=32, mirrored=False)
        features = yield from map_progress(
            work,
            lambda share, done=done: (done + share) / len(ways),  # type: ignore[misc]
        )
        one, other = (features[::2], truth[::2]), (features[1::2], truth[1::2])
        losses.append(_loss(one, other, classes))
    best = int(np.argmin(losses))
    if losses[best] > _CLEARLY * losses[0]:
        best = 0
    mean, std = ways[best]
    said = ", ".join(f"{loss:.3f}" for loss in losses)
    note = (
        "The weights do not say how they want their pictures. Of three ways, mean "
        f"{tuple(round(m, 3) for m in mean)} and deviation {tuple(round(s, 4) for s in std)} "
        f"tells the classes apart best (losses {said}); give mean and std in a recipe if you know."
    )
    return replace(
        network,
        spec=spec.model_copy(update={"mean": mean, "std": std}),
        notes=(*network.notes, note),
    )


def _loss(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], classes: int) -> float:
    return result_of(head.fit(one, other, torch.ones(classes))).loss
