"""What a network says when places of its input are changed, and whether a map foresaw it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from whylens.core.evaluation.agreement import rank_correlation
from whylens.core.evaluation.ordering import on_input, strongest
from whylens.core.results import Heatmap
from whylens.core.subject import Subject
from whylens.core.targets import ClassScore, class_scores


@dataclass(frozen=True)
class ChangedInput:
    """An input, the same with places changed, and what the network says of both.

    Attributes:
        hidden: (*S) in [0, 1]: 1 shows the fill, 0 the input.
        fill: (1, C, *S).
        x: (1, C, *S) the changed input, normalised as the network wants it.
        before: The best classes of the input as it is.
        after: The same classes, of the changed input, and its own best where that is another.
        scores: The asked class's probability, or the network's value, of the input and of the
            changed one.
    """

    hidden: Tensor
    fill: Tensor
    x: Tensor
    before: tuple[ClassScore, ...]
    after: tuple[ClassScore, ...]
    scores: tuple[float, float]

    @property
    def fell(self) -> float:
        """By how much the score of what is asked about fell."""
        return self.scores[0] - self.scores[1]


def change_input(subject: Subject, hidden: Tensor, fill: Tensor, *, top: int = 5) -> ChangedInput:
    """Return what becomes of a question's input and classes when places show the fill.

    Args:
        hidden: (*S) in [0, 1]: 1 shows the fill, 0 the input.
        fill: (1, C, *S).
        top: How many classes.
    """
    backbone = subject.backbone
    changed_input = subject.x + hidden[None, None].to(subject.x) * (fill - subject.x)
    logits = subject.fast_logits(torch.cat([subject.x, changed_input]))
    every = [
        class_scores(row, backbone.labels, backbone.outputs, backbone.unit, top=len(row))
        for row in logits
    ]
    before = every[0][:top]
    indices = {score.index for score in (*before, every[1][0])}
    intact, covered = subject.target.as_probability().score(logits).tolist()
    return ChangedInput(
        hidden,
        fill,
        changed_input,
        before,
        tuple(score for score in every[1] if score.index in indices),
        (intact, covered),
    )


def strongest_places(subject: Subject, heat: Heatmap, share: float) -> Tensor:
    """Return (*S) bool: the places with the largest values of a map, exactly a share of all.

    Equal values are in random order, by the question's seed.

    Args:
        share: 0 to 1.
    """
    values = on_input(heat, subject.size)
    count = max(1, round(share * values.numel()))
    return strongest(values, [count], subject.generator())[0]


@dataclass(frozen=True)
class Foresight:
    """Whether a map foresaw what a change does.

    Attributes:
        evidence: Share of what the map calls evidence that lay in the changed places, 0 to 1.
        area: Share of the input that was changed, 0 to 1.
        fell: By how much the asked class fell.
        elsewhere: By how much it falls where the same shape is changed at other places, mean.
        agreement: Spearman correlation, over all these places, of the evidence that lay there with
            the fall; None where either is the same everywhere.
    """

    evidence: float
    area: float
    fell: float
    elsewhere: float
    agreement: float | None

    @property
    def foresaw(self) -> bool | None:
        """Whether more evidence than area lay where the class fell more than elsewhere.

        Or less where it fell less. None where it falls alike, within a hundredth, everywhere.
        """
        if abs(self.fell - self.elsewhere) < 0.01:
            return None
        return (self.evidence > self.area) == (self.fell > self.elsewhere)


def falls_elsewhere(
    subject: Subject, changed: ChangedInput, *, places: int = 8
) -> tuple[Tensor, Tensor]:
    """Return how much the asked class falls as a shape is changed here and at other places.

    The shape is moved around the edges, so that its area stays what it is.

    Args:
        changed: The input with the shape changed here.
        places: How many others.

    Returns:
        (places + 1, *S) the changed places, the given first, and (places + 1,) float64 falls.
    """
    generator = subject.generator()
    hidden, fill = changed.hidden.float(), changed.fill
    axes = tuple(range(hidden.ndim))
    rolled_masks = []
    for _ in range(places):
        steps = [int(torch.randint(side, (1,), generator=generator)) for side in hidden.shape]
        rolled_masks.append(torch.roll(hidden, steps, axes))
    rolled_mask = torch.stack(rolled_masks)
    masks = (1 - rolled_mask)[:, None].to(fill)
    target = subject.target.as_probability()
    scores = torch.cat(list(subject.masked_scores([masks], fill, quantity=target))).double().cpu()
    own_score = scores.new_tensor([changed.scores[1]])
    return torch.cat([hidden[None], rolled_mask]), changed.scores[0] - torch.cat(
        [own_score, scores]
    )


def foresight(heat: Heatmap, shapes: Tensor, falls: Tensor) -> Foresight:
    """Return whether a map foresaw the falls.

    Args:
        shapes: (n, *S) from `falls_elsewhere`.
        falls: (n,) likewise.
    """
    positive = on_input(heat, tuple(shapes.shape[1:])).double().clamp_min(0)
    total = float(positive.sum())
    area = float(shapes[0].mean())
    shares = (shapes.double() * positive).flatten(1).sum(1) / total if total > 0 else None
    agreement = None
    if shares is not None and not any((row == row[0]).all() for row in (shares, falls)):
        agreement = rank_correlation(shares.numpy(), falls.numpy())
    evidence = area if shares is None else float(shares[0])
    fell, elsewhere = float(falls[0]), float(falls[1:].mean())
    return Foresight(evidence, area, fell, elsewhere, agreement)
