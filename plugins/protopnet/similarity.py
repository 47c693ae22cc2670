"""How much a picture's patches look like the prototypes: projection, cosine, best places.

All of it can be differentiated, and works over any spatial axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

# Places averaged to one similarity: a single lucky position then counts for a third.
PLACES = 3


@dataclass(frozen=True, slots=True)
class Metric:
    """Where patches are compared, and with what.

    Attributes:
        mean: (K,) of the features that were whitened.
        whiten: (D, K) principal directions, scaled to unit variance.
        turn: (D, D) learnt after whitening; the identity before.
        patches: (P, D) of unit length.
        member: (P,) which prototype each patch belongs to; merged prototypes have several.
    """

    mean: Tensor
    whiten: Tensor
    turn: Tensor
    patches: Tensor
    member: Tensor

    @property
    def count(self) -> int:
        """How many prototypes there are."""
        return int(self.member.max()) + 1 if len(self.member) else 0

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the parts as arrays for an artifact."""
        return {
            "mean": self.mean.numpy(),
            "whiten": self.whiten.numpy(),
            "turn": self.turn.numpy(),
            "patches": self.patches.numpy(),
            "member": self.member.numpy().astype(np.int32),
        }

    def keeping(self, patches: list[int], member: list[int]) -> Metric:
        """Return the metric of some of the patches."""
        return replace(
            self, patches=self.patches[patches], member=torch.tensor(member, dtype=torch.long)
        )


def metric_of(arrays: Mapping[str, npt.NDArray[Any]]) -> Metric:
    """Return the metric of an artifact."""
    parts = {k: torch.tensor(np.array(arrays[k])) for k in ("mean", "whiten", "turn", "patches")}
    return Metric(**parts, member=torch.tensor(np.array(arrays["member"]), dtype=torch.long))


def whitened(features: Tensor, mean: Tensor, whiten: Tensor) -> Tensor:
    """Return (N, D, *S): features in whitened principal directions.

    Args:
        features: (N, K, *S).
        mean: (K,).
        whiten: (D, K).
    """
    shift = whiten @ mean
    turned = torch.einsum("dk,nk...->nd...", whiten, features)
    return turned - shift[(None, ...) + (None,) * (features.ndim - 2)]


def cosine_maps(white: Tensor, turn: Tensor, patches: Tensor) -> Tensor:
    """Return (N, P, *S): cosine between every place and every patch.

    Args:
        white: (N, D, *S) whitened features.
        turn: (D, D).
        patches: (P, D) of unit length.
    """
    places = functional.normalize(torch.einsum("de,ne...->nd...", turn, white), dim=1)
    return torch.einsum("pd,nd...->np...", patches, places)


def best_places(maps: Tensor) -> Tensor:
    """Return (N, P): the mean of the highest values of each map.

    Args:
        maps: (N, P, *S).
    """
    flat = maps.flatten(2)
    return flat.topk(min(PLACES, flat.shape[2]), dim=2).values.mean(2)


def strongest(values: Tensor, member: Tensor, count: int) -> Tensor:
    """Return (N, M): per prototype the value of its best patch.

    Args:
        values: (N, P).
        member: (P,).
    """
    if len(member) == count:
        return values
    found = values.new_full((len(values), count), -1.0)
    return found.scatter_reduce(1, member.expand(len(values), -1), values, "amax")


def similarities(features: Tensor, metric: Metric) -> Tensor:
    """Return (N, M): how much each picture looks like each prototype, -1 to 1.

    Args:
        features: (N, K, *S).
    """
    white = whitened(features, metric.mean, metric.whiten)
    values = best_places(cosine_maps(white, metric.turn, metric.patches))
    return strongest(values, metric.member, metric.count)
