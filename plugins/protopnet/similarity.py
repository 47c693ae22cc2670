"""Similarity of an input's patches to prototypes: whitening, cosine, mean of the best places.

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

# Places averaged to one similarity: a single lucky position then counts for a third.
PLACES = 3


@dataclass(frozen=True, slots=True)
class PatchMetric:
    """The space in which patches are compared, and the patches of the prototypes.

    Attributes:
        mean: (K,) of the features.
        whiten: (D, K) principal directions, scaled to unit variance.
        rotation: (D, D), trained, of whitened features; the identity before training.
        patches: (P, D) of unit length.
        prototype_of: (P,) the prototype of each patch; merged prototypes have several.
    """

    mean: Tensor
    whiten: Tensor
    rotation: Tensor
    patches: Tensor
    prototype_of: Tensor

    @property
    def count(self) -> int:
        """How many prototypes there are."""
        return int(self.prototype_of.max()) + 1 if len(self.prototype_of) else 0

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of an artifact; their keys are a file format."""
        return {
            "mean": self.mean.numpy(),
            "whiten": self.whiten.numpy(),
            "turn": self.rotation.numpy(),
            "patches": self.patches.numpy(),
            "member": self.prototype_of.numpy().astype(np.int32),
        }

    def select(self, patches: list[int]) -> PatchMetric:
        """Return the metric of some of the patches, each a prototype by itself."""
        return replace(self, patches=self.patches[patches], prototype_of=torch.arange(len(patches)))

    def to_white(self, features: Tensor) -> Tensor:
        """Return (N, D, *S): (N, K, *S) features in whitened principal directions."""
        shift = self.whiten @ self.mean
        white = torch.einsum("dk,nk...->nd...", self.whiten, features)
        return white - shift[(None, ...) + (None,) * (features.ndim - 2)]


def metric_from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> PatchMetric:
    """Return the metric of an artifact, from what `PatchMetric.arrays` gave."""
    mean, whiten, rotation, patches = (
        torch.tensor(np.array(arrays[k])) for k in ("mean", "whiten", "turn", "patches")
    )
    prototype_of = torch.tensor(np.array(arrays["member"]), dtype=torch.long)
    return PatchMetric(mean, whiten, rotation, patches, prototype_of)


def cosine_maps(white: Tensor, rotation: Tensor, patches: Tensor) -> Tensor:
    """Return (N, P, *S): cosine between every place and every patch.

    Args:
        white: (N, D, *S) whitened features.
        rotation: (D, D).
        patches: (P, D) of unit length.
    """
    places = torch.einsum("de,ne...->nd...", rotation, white)
    # As functional.normalize would, whose norm over channels takes ten times as long.
    length = places.square().sum(1, keepdim=True).clamp_min(1e-24).sqrt()
    return torch.einsum("pd,nd...->np...", patches, places / length)


def top_mean(maps: Tensor) -> Tensor:
    """Return (N, P): the mean of the highest values of each of (N, P, *S) maps."""
    flat = maps.flatten(2)
    return flat.topk(min(PLACES, flat.shape[2]), dim=2).values.mean(2)


def max_over_patches(values: Tensor, metric: PatchMetric) -> Tensor:
    """Return (N, M): per prototype the value of its best patch, of (N, P) values."""
    if len(metric.prototype_of) == metric.count:
        return values
    best = values.new_full((len(values), metric.count), -1.0)
    return best.scatter_reduce(1, metric.prototype_of.expand(len(values), -1), values, "amax")


def similarities(features: Tensor, metric: PatchMetric) -> Tensor:
    """Return (N, M): how much each input looks like each prototype, -1 to 1.

    Args:
        features: (N, K, *S).
    """
    maps = cosine_maps(metric.to_white(features), metric.rotation, metric.patches)
    return max_over_patches(top_mean(maps), metric)
