"""What a network's scores are where they are no logits: probabilities, their logarithms or odds.

Found by numbers on inputs of any size and by the last step of the network's own graph; what
neither can tell is said in a note.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from whylens.core.errors import NETWORK_ERRORS
from whylens.core.inputs.spec import InputSpec, probe_inputs
from whylens.core.models.last_step import LAST_STEPS, last_step

# Of "softmax" on, the classes share 1; of the last three each label has a probability of its own.
ScoreKind = Literal[
    "softmax",
    "one minus",
    "negative log",
    "log2",
    "negative log2",
    "log10",
    "negative log10",
    "decibel",
    "odds",
    "log odds",
    "sigmoid",
    "per cent",
    "log sigmoid",
]
LABEL_KINDS: tuple[ScoreKind, ...] = ("sigmoid", "per cent", "log sigmoid")
# Scores that are logarithms of probabilities after this factor.
_LOGARITHMS: dict[ScoreKind, float] = {
    "negative log": -1.0,
    "log2": math.log(2),
    "negative log2": -math.log(2),
    "log10": math.log(10),
    "negative log10": -math.log(10),
    "decibel": math.log(10) / 10,
}
_ANOTHER_NUMBER = " If it is another number, say its unit."
_TAKEN = "were taken for {}, and the logits below them are explained."
_READ_AS: dict[ScoreKind, str] = {
    "negative log": "negative logarithms",
    "log2": "logarithms to base 2",
    "negative log2": "negative logarithms to base 2",
    "log10": "logarithms to base 10",
    "negative log10": "negative logarithms to base 10",
    "decibel": "decibels",
    "odds": "odds, p / (1 - p)",
    "log odds": "logarithms of odds",
}
KIND_NOTES: dict[ScoreKind, str] = {
    "softmax": "Its scores add up to one, or 100 %: they were taken for probabilities, and the "
    "logits below them are explained.",
    "one minus": "Its scores stay within 0 and 1 and add up to one less than the classes: they "
    + _TAKEN.format("1 minus the probabilities"),
    "sigmoid": "Its scores stay within 0 and 1 for inputs of any size: each was taken for a "
    "probability, and its logit is explained.",
    "per cent": "Its scores stay within 0 and 100 and reach both for inputs of any size: each was "
    "taken for a probability in per cent, and its logit is explained." + _ANOTHER_NUMBER,
    "log sigmoid": "Its scores are logarithms of sigmoids: each was taken for that of a "
    "probability, and its logit is explained.",
}
KIND_NOTES |= {
    kind: f"Read as {name}, its scores are probabilities that add up to one: they "
    + _TAKEN.format("those")
    for kind, name in _READ_AS.items()
}
_OR_A_UNIT = ", or say its unit if it is a number and no score"
_DECISIONS = (
    "Its scores are 0, 1 or -1 and nothing between: they are decisions, as after an argmax or a "
    "threshold. Give the network without that step."
)
_FEATURES = 16  # numbers, which are hardly all positive by chance
_TOLERANCE = 1e-3  # of a sum of probabilities, which may come in 16 bits
_SCALES = (1e5, 0.0, -1.0, 4.0, -16.0, 64.0, -256.0, 4096.0, -1e5)
_SMALLEST = 1e-7  # beside 1, what 32 bits can still tell from it
_STEPS = 12


class Reading(NamedTuple):
    """What a network's scores are.

    Attributes:
        kind: How they become logits; None of logits.
        note: What its owner should know; empty of logits.
    """

    kind: ScoreKind | None
    note: str


class LogitReader(nn.Module):
    """A network that gives no logits, of which logits are read."""

    def __init__(self, network: nn.Module, kind: ScoreKind) -> None:
        super().__init__()
        self.network = network
        self.kind: ScoreKind = kind

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C) logits."""
        return logits_of(self.network(x), self.kind)


def logits_of(scores: Tensor, kind: ScoreKind) -> Tensor:
    """Return the (N, C) logits of a network's (N, C) scores; their softmax or sigmoid is exact."""
    tiny = torch.finfo(torch.float32).tiny
    if kind in _LOGARITHMS:
        return scores * _LOGARITHMS[kind]
    if kind == "softmax":
        return scores.clamp_min(tiny).log()
    if kind == "one minus":
        return (1 - scores).clamp_min(_SMALLEST).log()
    if kind == "odds":
        return -torch.log1p(1 / scores.clamp_min(tiny))
    if kind == "log odds":
        return nn.functional.logsigmoid(scores)
    if kind == "log sigmoid":
        return scores - torch.log(-torch.expm1(scores.clamp_max(-_SMALLEST)))
    shares = scores / 100 if kind == "per cent" else scores
    return shares.clamp(_SMALLEST, 1 - _SMALLEST).logit()


def scores_of(logits: Tensor, kind: ScoreKind) -> Tensor:
    """Return the (N, C) scores that a network of this kind makes of its (N, C) logits."""
    if kind in _LOGARITHMS:
        return logits.log_softmax(-1) / _LOGARITHMS[kind]
    if kind in LABEL_KINDS:
        shares = logits.sigmoid()
        return {"per cent": 100 * shares, "log sigmoid": nn.functional.logsigmoid(logits)}.get(
            kind, shares
        )
    shares = logits.softmax(-1)
    if kind == "one minus":
        return 1 - shares
    if kind == "softmax":
        return shares
    return shares / (1 - shares) if kind == "odds" else shares.logit()


def are_probabilities(scores: Tensor) -> bool:
    """Return whether (N, C) scores are never negative and add up to 1, or 100, for each input."""
    if scores.ndim != 2 or scores.shape[1] < 2:
        return False
    wholes = (1, 100)  # the softmax of the logarithm is the same
    sums = any(bool(((scores.sum(1) / n - 1).abs() <= _TOLERANCE).all()) for n in wholes)
    return sums and bool((scores >= 0).all())


def read_scores(read: Callable[[Tensor], Tensor], scores: Tensor, input_spec: InputSpec) -> Reading:
    """Return what a network's scores are.

    Args:
        read: (N, C, *S) inputs to (N, C) scores.
        scores: (N, C) of the probe inputs, so that most networks are not run again.
    """
    if _shares_one(scores):  # they are logarithms of probabilities, which are logits
        return Reading(None, "")
    scaled_scores = _ScoresOfScales(read, scores, input_spec)
    # Zeros for every input are those of a network that is dead.
    decides = (
        _are_decisions(scores) and bool(scores.any()) and all(map(_are_decisions, scaled_scores))
    )
    if are_probabilities(scores):
        return Reading("softmax", _DECISIONS if decides else KIND_NOTES["softmax"])
    if decides:
        return Reading(None, _DECISIONS)
    for shared in _shared_kinds(scores):
        if all(shared in _shared_kinds(batch) for batch in scaled_scores):
            return Reading(shared, KIND_NOTES[shared])
    low, high = float(scores.min()), float(scores.max())
    if not (low >= 0 or high <= 0 or (low >= -1 and high <= 1)):
        return Reading(None, "")
    step = last_step(read, probe_inputs(input_spec).to(scores.device))
    if step == "linear":
        return Reading(None, _features_note(scores))
    kind = _label_kind(step, scores, scaled_scores)
    if kind is not None:
        doubt = kind == "sigmoid" != step and scores.shape[1] == 1
        return Reading(kind, KIND_NOTES[kind] + (_ANOTHER_NUMBER if doubt else ""))
    return Reading(None, _features_note(scores) or _bounds_note(step, scores, scaled_scores))


class _ScoresOfScales:
    """Scores of the probe inputs at other sizes, each computed when it is first asked for."""

    def __init__(
        self, read: Callable[[Tensor], Tensor], scores: Tensor, input_spec: InputSpec
    ) -> None:
        self.read, self.input_spec = read, input_spec
        self._probe = probe_inputs(input_spec).to(scores.device)
        self._known: list[Tensor] = []
        self.searched: list[Tensor] = []
        self._search = self._other_inputs()

    def __iter__(self) -> Iterator[Tensor]:
        for at, scale in enumerate(_SCALES):
            if at == len(self._known):
                self._known.append(self._scores(scale * self._probe))
            yield self._known[at]

    def _scores(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            scores = self.read(x)
        # An exponential of what is too large is no number, and says nothing.
        return scores[~scores.isnan().any(1)]

    def everywhere(self, holds: Callable[[Tensor], bool]) -> bool:
        """Return whether something holds of scores for inputs of many kinds.

        Besides other sizes, other inputs are tried, and the way along the scores' slope is gone.
        """
        if not all(map(holds, [*self, *self.searched])):
            return False
        for scores in self._search:
            self.searched.append(scores)
            if not holds(scores):
                return False
        return True

    def _other_inputs(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(21)
        shape = self._probe.shape
        for size in (0.1, 1.0, 10.0, 1000.0):
            even = torch.randn(*shape[:2], generator=generator)
            fine = torch.randn(shape, generator=generator)
            for x in (
                even.reshape(*shape[:2], *[1] * len(self.input_spec.size)).expand(shape),
                fine,
            ):
                for sign in (size, -size):
                    yield self._scores(sign * x.to(self._probe))
        for way in (-0.5, 0.5):
            for start in (0.1 * self._probe, self._probe):
                yield from self._along_the_slope(start, way)

    def _along_the_slope(self, x: Tensor, way: float) -> Iterator[Tensor]:
        for _ in range(_STEPS):
            x = x.detach().requires_grad_()
            try:
                with torch.enable_grad():
                    scores = self.read(x * 1)  # a leaf may not be changed in place
                    (slope,) = torch.autograd.grad(scores.sum(), x)
            except NETWORK_ERRORS:  # it has none
                return
            yield scores.detach()
            length = slope.norm()
            if not bool(torch.isfinite(length)) or float(length) == 0:
                return
            x = x + way * slope / length * x.norm().clamp_min(1)


def _shared_kinds(scores: Tensor) -> list[ScoreKind]:
    """Return of which probabilities that add up to one (N, C) scores may be made."""
    count = scores.shape[1] if scores.ndim == 2 else 0
    if count < 2 or bool(scores.isnan().any()):
        return []
    x = scores.double()

    def is_one(sums: Tensor) -> bool:
        return bool(((sums - 1).abs() <= _TOLERANCE).all())

    kinds = [k for k, factor in _LOGARITHMS.items() if is_one((factor * x).logsumexp(1).exp())]
    if bool((x >= 0).all()) and is_one((1 / (1 + 1 / x)).sum(1)):
        kinds.append("odds")
    if count > 2 and is_one(x.sigmoid().sum(1)):  # of two it holds of any z and -z
        kinds.append("log odds")
    if count > 2 and _within(x, 1) and is_one(x.sum(1) - (count - 2)):
        kinds.append("one minus")
    return kinds


def _are_decisions(scores: Tensor) -> bool:
    """Return whether scores are 0 and 1, or -1 and 1, and nothing between."""
    return bool((scores.abs() == 1).logical_or(scores == 0).all())


def _label_kind(step: str, scores: Tensor, scaled_scores: _ScoresOfScales) -> ScoreKind | None:
    if step == "log sigmoid":
        return "log sigmoid"
    if step in LAST_STEPS.values() and step != "sigmoid":
        return None
    # Zeros for every input are those of a network that is dead.
    if _within(scores, 1) and not _is_dead(scores, scaled_scores):
        certain = step == "sigmoid" and all(_within(scaled, 1) for scaled in scaled_scores)
        return "sigmoid" if certain or scaled_scores.everywhere(lambda s: _within(s, 1)) else None
    if _within(scores, 100) and scaled_scores.everywhere(lambda s: _within(s, 100)):
        every = torch.cat([*scaled_scores, *scaled_scores.searched])
        if float(every.max()) > 99.9 and float(every.min()) < 0.1:
            return "per cent"
    return None


def _is_dead(scores: Tensor, scaled_scores: Iterable[Tensor]) -> bool:
    return all(torch.allclose(scaled, scores[:1].expand_as(scaled)) for scaled in scaled_scores)


def _features_note(scores: Tensor) -> str:
    count = scores.shape[1]
    if count < _FEATURES or float(scores.min()) < 0:
        return ""
    return (
        f"None of its {count} scores is negative, as those of features before a classifier: if it "
        "has no classifier, give it with one."
    )


def _bounds_note(step: str, scores: Tensor, scaled_scores: _ScoresOfScales) -> str:
    """Return what can be said of scores that may be no logits, where numbers cannot tell."""
    single = scores.shape[1] == 1
    unit = _OR_A_UNIT if single else ""
    if step != "tanh" and _is_dead(scores, scaled_scores):
        return ""
    if step == "tanh" or scaled_scores.everywhere(lambda s: bool((s.abs() <= 1).all())):
        return (
            f"Its score{' stays' if single else 's stay'} between -1 and 1, as behind a tanh or as "
            f"cosines: {'it is taken as a logit' if single else 'they are taken as logits'}, so "
            f"that no probability is near 0 or 1. Give the network without that step{unit}."
        )
    if bool((scores <= 0).all()):
        if scaled_scores.everywhere(lambda s: bool((s <= 0).all())):
            if single:
                return (
                    "Its score is never positive, so the first label is always decided on. If it "
                    f"is the logarithm of a sigmoid, give the network without it{unit}."
                )
            return (
                "None of its scores is ever positive, and they are taken as they are: if they are "
                "logarithms of sigmoids, give it without them."
            )
    elif bool((scores >= 0).all()) and (
        step == "positive" or scaled_scores.everywhere(lambda s: bool((s >= 0).all()))
    ):
        if single:
            return (
                "Its score is never negative, so the second label is always decided on. If it is "
                f"odds or a distance, give its logarithm or its negative as the score{unit}."
            )
        return (
            "None of its scores is ever negative, and they are taken as they are: the largest is "
            "decided on. If they are distances, where the smallest decides, give their negatives; "
            "if odds or counts, their logarithms."
        )
    return ""


def _shares_one(scores: Tensor) -> bool:
    return scores.shape[1] > 1 and bool((scores.logsumexp(1).abs() <= _TOLERANCE).all())


def _within(scores: Tensor, most: float) -> bool:
    return bool(((scores >= 0) & (scores <= most)).all())
