"""What a network's head is, found by numbers and never by type or name.

A ConvNeXt ends in a Linear of the right width and yet is not pool-then-linear; only trying it out
tells. Where no linear layer can be shown to end the network, the mean of the feature map over its
positions stands for the input.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from whylens.core.errors import NETWORK_ERRORS, NeedsNotMet
from whylens.core.models.layouts import Features
from whylens.core.models.split import Split
from whylens.core.speed.folded import agree

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinearHead:
    """The weights of a head that is exactly pool-then-linear.

    Attributes:
        weight: (C, K).
        bias: (C,).
    """

    weight: Tensor
    bias: Tensor


def linear_head(head: Callable[[Features], Tensor], example: Features) -> LinearHead:
    """Return the weights of a head for which logits = weight @ mean(map) + bias, for any map.

    The head is asked, not inspected: it must give the same answer for a map and for its mean
    spread evenly, and be affine; then its weights are its answers to unit vectors.

    Args:
        head: Feature map to (N, C) logits.
        example: Features of one or more real inputs, for shape and scale.

    Raises:
        NeedsNotMet: It is something else, or its scores do not change with the features.
    """
    real = example.map[:1].detach()
    generator = torch.Generator().manual_seed(0)
    scale = real.abs().mean().clamp_min(1e-3)

    def noisy() -> Tensor:
        return torch.randn(real.shape, generator=generator).to(real) * scale + real

    first, second = noisy(), noisy()
    prefix_tokens = None if example.prefix_tokens is None else example.prefix_tokens[:1]

    def logits(features: Tensor) -> Tensor:
        return head(Features(features, prefix_tokens)).double()

    with torch.no_grad():
        at_first, at_second, at_zero = logits(first), logits(second), logits(torch.zeros_like(real))
        spread = float((at_first - at_second).abs().max())
        size = max(float(value.abs().max()) for value in (at_first, at_second, at_zero))
        if spread <= 1e-6 * max(size, 1e-6):
            raise NeedsNotMet("cannot tell: its scores do not change with the features")
        pooled = first.flatten(2).mean(-1)[(...,) + (None,) * (real.ndim - 2)]
        if float((logits(pooled.expand_as(real)) - at_first).abs().max()) > 1e-3 * spread:
            raise NeedsNotMet("its head is not an average over positions")
        at_sum = logits(first + second)
        # A multiple as well: a ReLU that happens to pass all of the noise is affine on sums only.
        at_multiple = logits(-3 * first)
        nonlinearity = max(
            float((at_sum - at_first - at_second + at_zero).abs().max()),
            float((at_multiple + 3 * at_first - 4 * at_zero).abs().max()) / 4,
        )
        if nonlinearity > 1e-3 * spread:
            raise NeedsNotMet("its head is not linear after the average")
        weight = torch.cat([logits(unit) - at_zero for unit in _unit_maps(real)]).T.float()
    return LinearHead(weight.contiguous(), at_zero[0].float())


def _unit_maps(real: Tensor) -> list[Tensor]:
    channels = real.shape[1]
    eye = torch.eye(channels, dtype=real.dtype, device=real.device)
    view = eye[(...,) + (None,) * (real.ndim - 2)]
    return [rows.expand(-1, -1, *real.shape[2:]) for rows in torch.split(view, 64)]


def gradient_problem(logits: Callable[[Tensor], Tensor], probe: Tensor) -> str | None:
    """Return why input gradients are of no use, or None if they are.

    Args:
        logits: (N, C, *S) inputs to (N, C) logits.
        probe: Inputs that are not constant.
    """
    x = probe[:1].detach().clone().requires_grad_()
    gradients: list[Tensor | None]
    try:
        with torch.enable_grad():
            scores = logits(x * 1)  # a leaf may not be changed in place
            if not scores.requires_grad:
                return (
                    "the network cuts its gradient: take torch.no_grad(), .detach() or .numpy() "
                    "out of its forward, or give it as it was before it was quantised"
                )
            gradients = list(torch.autograd.grad(scores[0].max(), x, allow_unused=True))
    except NETWORK_ERRORS as exc:
        reason = " ".join(str(exc).split())[:200] or type(exc).__name__
        return f"torch cannot follow them through it ({reason.removesuffix('.')})"
    gradient = gradients[0]
    if gradient is None:
        return (
            "no gradient reaches its input, as in a quantised network: give it as it was before, "
            "in float32"
        )
    if not torch.isfinite(gradient).all():
        return "its gradients are not finite"
    if not float(gradient.abs().max()) > 0:
        return "its gradients are zero everywhere"
    return None


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


def embedder_of(
    module: nn.Module, linear: LinearHead | None, split: Split | None, probe: Tensor
) -> Embedder:
    """Return how a network embeds inputs: by what its last linear layer reads, if it has any.

    Args:
        module: Frozen, in eval mode.
        linear: The weights of its pool-then-linear head, if it has such a head.
        probe: (N, C, *S) inputs that are not constant.

    Raises:
        NeedsNotMet: It has neither such a layer nor a feature map.
    """
    if linear is None:
        embedder = _pre_logits(module, probe)
        if embedder is not None:
            return embedder
    if split is None:
        raise NeedsNotMet("it has no features by which inputs could be compared")
    return Embedder(
        lambda x: split.features(x).map.flatten(2).mean(-1),
        None if linear is None else linear.weight,
    )


def _pre_logits(module: Any, probe: Tensor) -> Embedder | None:
    if not callable(getattr(module, "forward_head", None)):
        return None
    try:
        last = module.get_classifier()
        if not isinstance(last, nn.Linear):
            return None

        def embed(x: Tensor) -> Tensor:
            vectors: Tensor = module.forward_head(module.forward_features(x), pre_logits=True)
            return vectors

        with torch.no_grad():
            vectors, logits = embed(probe), module(probe)
            from_vectors = last(vectors)
    except NETWORK_ERRORS as exc:
        log.info("%s has no vector before its logits: %s", type(module).__name__, exc)
        return None
    if vectors.ndim != 2 or not agree(from_vectors, logits, 1e-4):
        return None
    weight = last.weight.detach()
    if len(weight) == 1:  # as in `as_two_logits`
        weight = torch.cat([-weight / 2, weight / 2])
    return Embedder(embed, weight)
