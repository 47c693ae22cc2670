"""One input through one network, computed once and shared by all questions about it.

May touch torch and the models; knows no method.
"""

from __future__ import annotations

import torch
from torch import Tensor

from whylens.core.errors import BadInput, NeedsNotMet
from whylens.core.models.backbone import Backbone
from whylens.core.models.layouts import Features
from whylens.core.targets import Target


class ForwardPass:
    """One input through one network, computed once and shared by all methods.

    The folded copy computes the features, without gradients; the network's own head reads them and
    keeps a graph, so that each further class costs one short backward pass.
    """

    def __init__(self, backbone: Backbone, x: Tensor) -> None:
        if x.shape[1:] != (backbone.spec.channels, *backbone.spec.size) or x.shape[0] != 1:
            raise BadInput(f"The input is {tuple(x.shape)}, not one of {backbone.spec.size}.")
        self.backbone = backbone
        self.x = x.detach()
        self._leaf: Tensor | None = None
        self._kept: tuple[Target, Tensor] | None = None
        if backbone.split is None:
            with torch.no_grad():
                scores = backbone.logits(self.x)
            self._scores, self._features = scores, None
        else:
            with torch.no_grad():
                features = backbone.fast_features(self.x)
            kept = features.map.clone(memory_format=torch.contiguous_format)
            self._leaf = kept.requires_grad_()
            self._features = Features(self._leaf, features.prefix_tokens)
            with torch.enable_grad():
                self._scores = backbone.head(self._features)
        self.logits = self._scores.detach()
        if not torch.isfinite(self.logits).all():
            raise BadInput("The network's scores for this input are not finite; check the input.")

    @property
    def features(self) -> Tensor:
        """(1, K, *s) the feature map, detached.

        Raises:
            NeedsNotMet: The network has none.
        """
        return self._mapped[0].detach()

    @property
    def _mapped(self) -> tuple[Tensor, Features]:
        if self._leaf is None or self._features is None:
            raise NeedsNotMet(f"{self.backbone.name} has no feature map to look at.")
        return self._leaf, self._features

    def gradients(self, target: Target) -> Tensor:
        """Return (1, K, *s): derivative of the target score with respect to the feature map.

        The last one is kept: methods that are compared ask for the same target, one after another.

        Args:
            target: What is explained.
        """
        kept = self._kept
        if kept is None or kept[0] != target:
            leaf, _ = self._mapped
            with torch.enable_grad():
                score = target.score(self._scores)[0]
            # The graph is kept for the next class; it covers the head alone.
            (gradient,) = torch.autograd.grad(score, leaf, retain_graph=True)
            kept = self._kept = target, gradient.detach()
        return kept[1].clone()  # what a plugin writes into is its own

    def head_logits(self, maps: Tensor) -> Tensor:
        """Return (N, C) logits of feature maps put in place of this input's own.

        Args:
            maps: (N, K, *s); what has no place, such as a class token, stays this input's.
        """
        _, own = self._mapped
        return self.backbone.head(Features(maps, own.prefix_tokens))

    @property
    def bytes(self) -> int:
        """Bytes that keeping this trace takes, roughly."""
        kept = [self.x, self.logits] + ([] if self._leaf is None else [self._leaf])
        return 8 * sum(t.numel() * t.element_size() for t in kept)
