"""What a loaded network offers, found by numbers and never by type or name.

May touch torch and the splits. A ConvNeXt ends in a Linear of the right width and yet is not
pool-then-linear; only trying it out tells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from whylens.core.errors import NeedsNotMet
from whylens.core.models.layouts import Features
from whylens.core.needs import Need

Head = Callable[[Features], Tensor]


@dataclass(frozen=True, slots=True)
class LinearHead:
    """The weights of a head that is exactly pool-then-linear.

    Attributes:
        weight: (C, K).
        bias: (C,).
    """

    weight: Tensor
    bias: Tensor


def linear_head(head: Head, like: Features) -> LinearHead:
    """Return the weights of a head for which logits = weight @ mean(map) + bias, for any map.

    The head is asked, not inspected: it must give the same answer for a map and for its mean
    spread evenly, and be affine; then its weights are its answers to unit vectors.

    Args:
        head: Feature map to (N, C) logits.
        like: Features of one or more real inputs, for shape and scale.

    Raises:
        NeedsNotMet: It is something else, or it cannot be told.
    """
    real = like.map[:1].detach()
    generator = torch.Generator().manual_seed(0)
    scale = real.abs().mean().clamp_min(1e-3)

    def noisy() -> Tensor:
        return torch.randn(real.shape, generator=generator).to(real) * scale + real

    noise = [noisy(), noisy()]
    rest = None if like.prefix_tokens is None else like.prefix_tokens[:1]

    def ask(features: Tensor) -> Tensor:
        return head(Features(features, rest)).double()

    with torch.no_grad():
        one, two, zero = ask(noise[0]), ask(noise[1]), ask(torch.zeros_like(real))
        spread = float((one - two).abs().max())
        size = max(float(one.abs().max()), float(two.abs().max()), float(zero.abs().max()))
        if spread <= 1e-6 * max(size, 1e-6):
            raise NeedsNotMet("cannot tell: its scores do not change with the features")
        pooled = noise[0].flatten(2).mean(-1)[(...,) + (None,) * (real.ndim - 2)]
        if float((ask(pooled.expand_as(real)) - one).abs().max()) > 1e-3 * spread:
            raise NeedsNotMet("its head is not an average over positions")
        both = ask(noise[0] + noise[1])
        # Doubling as well: a ReLU that happens to pass all of the noise is affine on sums only.
        far = ask(-3 * noise[0])
        crooked = max(
            float((both - one - two + zero).abs().max()),
            float((far + 3 * one - 4 * zero).abs().max()) / 4,
        )
        if crooked > 1e-3 * spread:
            raise NeedsNotMet("its head is not linear after the average")
        weight = torch.cat([ask(unit) - zero for unit in _units(real)]).T.float()
    return LinearHead(weight.contiguous(), zero[0].float())


def _units(real: Tensor) -> list[Tensor]:
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
    with torch.enable_grad():
        scores = logits(x)
        if not scores.requires_grad:
            return "the network cuts its gradient"
        (gradient,) = torch.autograd.grad(scores[0].max(), x, allow_unused=True)
    if gradient is None or not torch.isfinite(gradient).all():
        return "its gradients are missing or not finite"
    if not float(gradient.abs().max()) > 0:
        return "its gradients are zero everywhere"
    return None


def explain_unmet(needs: frozenset[Need], reasons: dict[Need, str]) -> str | None:
    """Return in words why `needs` are not met, or None if they are.

    Args:
        needs: What a method asks for.
        reasons: For each need that a model lacks, why.
    """
    lacking = [need for need in Need if need in needs and need in reasons]
    if not lacking:
        return None
    return "; ".join(f"needs {need.value}: {reasons[need]}" for need in lacking) + "."
