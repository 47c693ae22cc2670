"""Networks that give probabilities, with a softmax or sigmoids inside, and the way to logits.

Found by numbers: scores in 0 to 1 for inputs of any size are no logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from whylens.core.inputs.spec import InputSpec, probe_inputs

# "softmax": classes share 1; "sigmoid": each has a probability of its own.
ProbabilityKind = Literal["softmax", "sigmoid"]
PROBABILITY_NOTES: dict[ProbabilityKind, str] = {
    "softmax": "Its scores add up to one, or 100 %: they were taken for probabilities, and the "
    "logits below them are explained.",
    "sigmoid": "Its scores stay within 0 and 1 for inputs of any size: each was taken for a "
    "probability, and its logit is explained.",
}
NEVER_POSITIVE = (
    "None of its scores is ever positive, and they are taken as they are: if they are logarithms "
    "of sigmoids, give it without them."
)
_TOLERANCE = 1e-3  # of a sum of probabilities, which may come in 16 bits
_SCALES = (0.0, -1.0, 4.0, -16.0, 64.0, -256.0, 4096.0, -1e5, 1e5)
_SMALLEST = 1e-7  # beside 1, what 32 bits can still tell from it


class LogProbabilities(nn.Module):
    """A network that gives probabilities, of which the logarithm is read: their softmax is them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C) logits."""
        probabilities: Tensor = self.network(x)
        return probabilities.clamp_min(torch.finfo(torch.float32).tiny).log()


class LogOdds(nn.Module):
    """A network whose outputs are probabilities each: the sigmoid of what is read is them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C) logits."""
        probabilities: Tensor = self.network(x)
        return probabilities.clamp(_SMALLEST, 1 - _SMALLEST).logit()


def are_probabilities(scores: Tensor) -> bool:
    """Return whether (N, C) scores are never negative and add up to 1, or 100, for each input."""
    if scores.ndim != 2 or scores.shape[1] < 2:
        return False
    wholes = (1, 100)  # the softmax of the logarithm is the same
    sums = any(bool(((scores.sum(1) / n - 1).abs() <= _TOLERANCE).all()) for n in wholes)
    return sums and bool((scores >= 0).all())


def probability_kind(
    read: Callable[[Tensor], Tensor], scores: Tensor, spec: InputSpec
) -> ProbabilityKind | None:
    """Return which probabilities a network gives, or None of one that gives logits.

    Args:
        read: (N, C, *S) inputs to (N, C) scores.
        scores: (N, C) of the probe inputs, so that most networks are not run again.
    """
    if are_probabilities(scores):
        return "softmax"
    if not _within(scores):
        return None
    others = _scores_of_scales(read, scores, spec)
    # Zeros for every input are those of a network that is dead.
    varies = any(not torch.allclose(scaled, scores) for scaled in others)
    return "sigmoid" if varies and all(map(_within, others)) else None


def are_never_positive(read: Callable[[Tensor], Tensor], scores: Tensor, spec: InputSpec) -> bool:
    """Return whether scores stay below 0 and are no logarithms of probabilities that share 1.

    So are logarithms of sigmoids, but distances as well, which are logits: numbers cannot tell.

    Args:
        read: As `probability_kind` takes it.
        scores: Likewise.
    """
    shared = bool((scores.logsumexp(1).abs() <= _TOLERANCE).all())
    if scores.shape[1] < 2 or shared or bool((scores > 0).any()):
        return False
    return all(bool((scaled <= 0).all()) for scaled in _scores_of_scales(read, scores, spec))


def _scores_of_scales(
    read: Callable[[Tensor], Tensor], scores: Tensor, spec: InputSpec
) -> list[Tensor]:
    probe = probe_inputs(spec).to(scores.device)
    with torch.no_grad():
        return [read(scale * probe) for scale in _SCALES]


def undo(network: nn.Module, kind: ProbabilityKind) -> nn.Module:
    """Return a network of logits from one of probabilities."""
    return LogProbabilities(network) if kind == "softmax" else LogOdds(network)


def probabilities(logits: Tensor, kind: ProbabilityKind) -> Tensor:
    """Return (N, C) probabilities of (N, C) logits."""
    return logits.softmax(-1) if kind == "softmax" else logits.sigmoid()


def _within(scores: Tensor) -> bool:
    return bool(((scores >= 0) & (scores <= 1)).all())
