"""One input through one network, computed once and shared by all questions about it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from whylens.core.errors import BadArtifact, BadInput, NeedsNotMet
from whylens.core.models.backbone import Backbone
from whylens.core.models.layouts import Features
from whylens.core.targets import Target


class ForwardPass:
    """The logits, features and gradients of an input, shared by all methods.

    The faster copy computes the features, without gradients; the network's own head reads them and
    keeps a graph, so that each further class costs one short backward pass.

    Attributes:
        memo: What was worked out about this input at some cost, by whoever needs it again.
    """

    def __init__(self, backbone: Backbone, x: Tensor) -> None:
        if (
            x.shape[1:] != (backbone.input_spec.channels, *backbone.input_spec.size)
            or x.shape[0] != 1
        ):
            raise BadInput(f"The input is {tuple(x.shape)}, not one of {backbone.input_spec.size}.")
        self.backbone = backbone
        self.x = x.detach()
        self.memo: dict[Hashable, Any] = {}
        self._leaf: Tensor | None = None
        self._last_gradient: tuple[Target, Tensor] | None = None
        if backbone.split is None:
            with torch.no_grad():
                scores = backbone.logits(self.x)
            self._scores, self._features = scores, None
        else:
            with torch.no_grad():
                features = backbone.fast_features(self.x)
            leaf = features.map.clone(memory_format=torch.contiguous_format)
            self._leaf = leaf.requires_grad_()
            self._features = Features(self._leaf, features.prefix_tokens)
            with torch.enable_grad():
                self._scores = backbone.head(self._features)
        self.logits = self._scores.detach()
        if not torch.isfinite(self.logits).all():
            with torch.no_grad():
                probe_logits = backbone.logits(backbone.probe_inputs())
            if not torch.isfinite(probe_logits).all():
                raise BadArtifact(
                    f"{backbone.name} gives NaN or infinite scores for any input, though its "
                    "weights are finite: look for a division by 0, a logarithm of 0 or an overflow "
                    "in its forward."
                )
            raise BadInput("The network's scores for this input are not finite; check the input.")

    @property
    def features(self) -> Tensor:
        """(1, K, *s) the feature map, detached.

        Raises:
            NeedsNotMet: The network has none.
        """
        return self._leaf_and_features[0].detach()

    @property
    def _leaf_and_features(self) -> tuple[Tensor, Features]:
        if self._leaf is None or self._features is None:
            raise NeedsNotMet(f"{self.backbone.name} has no feature map to look at.")
        return self._leaf, self._features

    def gradients(self, target: Target) -> Tensor:
        """Return (1, K, *s): derivative of the target score with respect to the feature map.

        That of the last target is cached: methods that are compared ask for the same in turn.
        """
        cached = self._last_gradient
        if cached is None or cached[0] != target:
            leaf, _ = self._leaf_and_features
            with torch.enable_grad():
                score = target.score(self._scores)[0]
            # The graph stays for the next class; it covers the head alone.
            (gradient,) = torch.autograd.grad(score, leaf, retain_graph=True)
            cached = self._last_gradient = target, gradient.detach()
        return cached[1].clone()  # a plugin may write into it

    def head_logits(self, maps: Tensor) -> Tensor:
        """Return (N, C) logits of (N, K, *s) feature maps, with this input's prefix tokens."""
        _, features = self._leaf_and_features
        return self.backbone.head(Features(maps, features.prefix_tokens))

    @property
    def bytes(self) -> int:
        """Bytes that it takes in memory, roughly."""
        tensors = [self.x, self.logits] + ([] if self._leaf is None else [self._leaf])
        return 8 * sum(t.numel() * t.element_size() for t in tensors)
