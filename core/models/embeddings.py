"""What the classifier's last linear layer reads, found by trying and never by type.

May touch torch and the splits. Where no linear layer can be shown to end the network, the mean of
the feature map over its positions stands for the input.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from whylens.core.errors import NeedsNotMet
from whylens.core.models.network_errors import NETWORK_ERRORS

if TYPE_CHECKING:
    from whylens.core.models.backbone import Backbone

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Embedder:
    """Inputs to vectors.

    Attributes:
        embed: (N, C, *S) inputs to (N, D) vectors.
        weight: (classes, D) where logits = weight @ vector + bias, or None: then the vector is the
            mean of the feature map, and a class's weights are a gradient.
    """

    embed: Callable[[Tensor], Tensor]
    weight: Tensor | None


def embedder_of(backbone: Backbone) -> Embedder:
    """Return how a network embeds inputs: by what its last linear layer reads where it has one.

    Args:
        backbone: A loaded network.

    Raises:
        NeedsNotMet: It has neither such a layer nor a feature map.
    """

    def pooled(x: Tensor) -> Tensor:
        return backbone.features(x).map.flatten(2).mean(-1)

    if backbone.linear is not None:
        return Embedder(pooled, backbone.linear.weight)
    found = _pre_logits(backbone)
    if found is not None:
        return found
    if backbone.split is None:
        raise NeedsNotMet("it has no features by which inputs could be compared")
    return Embedder(pooled, None)


def _pre_logits(backbone: Backbone) -> Embedder | None:
    module: Any = backbone.module
    if not callable(getattr(module, "forward_head", None)):
        return None
    try:
        last = module.get_classifier()
        if not isinstance(last, nn.Linear):
            return None

        def embed(x: Tensor) -> Tensor:
            vectors: Tensor = module.forward_head(module.forward_features(x), pre_logits=True)
            return vectors

        probe = backbone.probe_inputs()
        with torch.no_grad():
            vectors, logits = embed(probe), module(probe)
            again = last(vectors)
    except NETWORK_ERRORS as misfit:
        log.info("%s has no vector before its logits: %s", backbone.name, misfit)
        return None
    scale = float(logits.abs().max()) + 1e-12
    if vectors.ndim != 2 or again.shape != logits.shape:
        return None
    if not float((again - logits).abs().max()) <= 1e-4 * scale:
        return None
    weight = last.weight.detach()
    if len(weight) == 1:  # as in `as_two_logits`
        weight = torch.cat([-weight / 2, weight / 2])
    return Embedder(embed, weight)
