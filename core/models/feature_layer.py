"""A feature map between an input and a score: its values, their gradients, replacing them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from whylens.core.errors import InvalidParameter
from whylens.core.models.backbone import Backbone
from whylens.core.models.layouts import as_two_logits
from whylens.core.models.stages import at_stage, with_maps
from whylens.core.targets import Target

LAST = "last"
ALL = "mean over stages"


@dataclass(frozen=True)
class FeatureLayer:
    """A feature map between input and score.

    Attributes:
        name: "last", or "stage 1" and so on.
        features: (1, K, *s) the map, detached.
        gradients_of: Returns (1, K, *s), the derivative of a target's score.
        logits_of: Returns (n, C) logits of (n, K, *s) maps put in its place, without gradients.
        target: What is explained.
        batch_size: Largest number of maps at once.
    """

    name: str
    features: Tensor
    gradients_of: Callable[[Target], Tensor]
    logits_of: Callable[[Tensor], Tensor]
    target: Target
    batch_size: int

    @cached_property
    def gradients(self) -> Tensor:
        """(1, K, *s) derivative of the target score with respect to the map."""
        return self.gradients_of(self.target)

    def logits(self, maps: Tensor) -> Tensor:
        """Return (N, C) logits of (N, K, *s) maps put in place of this one."""
        with torch.no_grad():
            return torch.cat([self.logits_of(piece) for piece in maps.split(self.batch_size)])

    def scores(self, maps: Tensor) -> Tensor:
        """Return (N,) target scores of (N, K, *s) maps put in place of this one."""
        return self.target.score(self.logits(maps))


def stage_layer(
    backbone: Backbone, x: Tensor, name: str, target: Target, batch: int
) -> FeatureLayer:
    """Return the layer of a stage.

    Args:
        x: (1, C, *S) the input.
        name: "stage 1" and so on.
        batch: Largest number of maps at once.

    Raises:
        InvalidParameter: The network has no such stage.
    """
    stages = backbone.stages
    number = int(name.removeprefix("stage "))
    if not 1 <= number <= len(stages):
        choices = f"stages 1 to {len(stages)} and the last layer"
        choices = choices if stages else "only the last layer"
        raise InvalidParameter(f"{backbone.name} has {choices}, not {name!r}. Choose one of them.")
    stage = stages[number - 1]
    features, raw = at_stage(backbone.module, stage, x)
    leaf = features.map

    def gradients(target: Target) -> Tensor:
        with torch.enable_grad():
            score = target.score(as_two_logits(raw))[0]
        (slope,) = torch.autograd.grad(score, leaf, retain_graph=True)
        return slope

    def logits(maps: Tensor) -> Tensor:
        return as_two_logits(with_maps(backbone.module, stage, x, maps))

    return FeatureLayer(name, leaf.detach(), gradients, logits, target, batch)
