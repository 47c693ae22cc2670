"""The network's scores as more and more of the input is hidden: what order-based metrics share."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from whylens.core.errors import BadInput
from whylens.core.evaluation.imputation import impute
from whylens.core.evaluation.ordering import on_places, strongest
from whylens.core.inputs.preprocess import Fill, denormalize, normalize
from whylens.core.subject import Subject
from whylens.core.targets import Target

Floats = npt.NDArray[np.float64]
Quantity = Literal["probability", "logit"]
# What hidden places show: "linear" is ROAD's, what their surroundings let one expect, with noise.
HidingFill = Fill | Literal["linear"]
FILLS: tuple[HidingFill, ...] = ("blur", "mean", "linear")  # where nothing decides for one of them
NOISE = 0.01  # of the input's range in pixel space
_NEAR_PLACES = 2**18  # of masks at a time


@dataclass(frozen=True)
class Setting:
    """How the network is asked.

    Attributes:
        fill: What hidden places show.
        quantity: Of the question's own class, whatever becomes of the input; a number is itself.
        steps: Equal steps from the whole input to nothing of it; as many as cells, if those are
            fewer.
    """

    fill: HidingFill = "blur"
    quantity: Quantity = "probability"
    steps: int = 32

    def __post_init__(self) -> None:
        if self.steps < 1 or self.quantity not in get_args(Quantity):
            raise BadInput(
                f"A curve has at least one step and is of a probability or a logit, not "
                f"{self.steps} steps of a {self.quantity}."
            )

    def target(self, subject: Subject) -> Target:
        """Return the quantity that is followed."""
        target = subject.target.as_probability()
        if self.quantity == "logit" and target.quantity == "probability":
            return replace(target, quantity="logit")
        return target

    def counts(self, cells: int) -> list[int]:
        """Return how many of so many cells are hidden at each step, from none to all."""
        return sorted({round(step * cells / self.steps) for step in range(self.steps + 1)})


def scores_hiding(subject: Subject, masks: Tensor, setting: Setting) -> Iterator[Floats]:
    """Yield (n,) scores with places hidden, a bounded piece at a time.

    Args:
        masks: (N, *grid) bool, True where hidden; cells of a grid are hidden whole.
    """
    target = setting.target(subject)
    fill = None if setting.fill == "linear" else subject.baseline(setting.fill)
    if not len(masks):
        return
    # What fills the holes is worked out for many at a time, however few the network takes, but for
    # no more than stay in the processor's cache.
    for piece in masks.split(max(4, _NEAR_PLACES // math.prod(subject.size))):
        hidden = on_places(piece, subject.size).to(subject.x)
        filling = _surroundings(subject, hidden) if fill is None else fill
        for scores in subject.masked_scores([1 - hidden], filling, quantity=target):
            yield scores.double().cpu().numpy()


def _surroundings(subject: Subject, hidden: Tensor) -> Tensor:
    # The same noise in every mask, so that two maps differ by their order alone.
    input_spec = subject.backbone.input_spec
    pixels = denormalize(subject.x, input_spec)
    noise = torch.randn(pixels.shape, generator=subject.generator()).to(pixels)
    size = NOISE * (pixels.max() - pixels.min())
    return normalize(impute(pixels, hidden > 0) + size * noise, input_spec)


@dataclass(frozen=True)
class HidingCurve:
    """Scores with the strongest places hidden, as far as they are known.

    Attributes:
        cells: How many there are.
        scores: By the number of hidden cells; at least the fewest and the most.
        finished: Whether every step is there.
        passes: Forward passes spent on it by this call.
    """

    cells: int
    scores: dict[int, float]
    finished: bool
    passes: int

    def points(self, counts: list[int] | None = None) -> tuple[Floats, Floats]:
        """Return shares that are hidden, 0 to 1, and the scores there.

        Args:
            counts: Steps to take; all that are known where None.
        """
        steps = sorted(self.scores) if counts is None else counts
        shares = np.array(steps, np.float64) / self.cells
        return shares, np.array([self.scores[step] for step in steps])

    def area(self, counts: list[int] | None = None) -> float:
        """Return the area under the curve, by trapezoids.

        Args:
            counts: Steps to take; all that are known where None.
        """
        return area(*self.points(counts))


def hiding_curve(
    subject: Subject, values: Tensor, setting: Setting, counts: Sequence[int] | None = None
) -> Iterator[HidingCurve]:
    """Yield the curve of the largest values hidden first, from a few steps to all of them.

    Exactly as many cells are hidden as a step says. Which of equal cells are, is drawn for every
    step anew, by the question's seed: the curve is then right on the mean, and its area varies
    less than that of a single order. Another call on the same input goes on where one stopped.

    Args:
        values: (*grid), one per cell; no finer than the input.
        counts: How many cells to hide, ascending; the setting's steps where None.
    """
    counts = list(counts or setting.counts(values.numel()))
    digest = hashlib.sha256(values.contiguous().numpy().tobytes()).digest()
    key = ("hiding", digest, tuple(values.shape), setting, *counts, subject.target, subject.seed)
    scores: dict[int, float] = subject.forward_pass.memo.setdefault(key, {})
    ends = known_ends(subject, setting)
    scores.update({n: ends[n > 0] for n in {0, values.numel()} & set(counts) if (n > 0) in ends})
    # Both ends, then the middle, the quarters, ...: an area is soon known, roughly.
    by_size = [(step & -step) or len(counts) for step in range(len(counts))]
    order = [counts[step] for step in sorted(range(len(counts)), key=lambda i: -by_size[i])]
    order = [counts[-1], *(count for count in order if count != counts[-1])]
    missing = [count for count in order if count not in scores]
    scored_count = 0
    if missing:
        masks = strongest(values, counts, subject.generator())
        masks = masks[[counts.index(count) for count in missing]]
        for piece in scores_hiding(subject, masks, setting):
            scores.update(
                zip(missing[scored_count : scored_count + len(piece)], piece.tolist(), strict=True)
            )
            scored_count += len(piece)
            if scored_count < len(missing) and counts[0] in scores and counts[-1] in scores:
                yield HidingCurve(values.numel(), dict(scores), False, scored_count)
    ends.update({n > 0: scores[n] for n in {0, values.numel()} & set(counts)})
    yield HidingCurve(values.numel(), dict(scores), True, scored_count)


def known_ends(subject: Subject, setting: Setting) -> dict[bool, float]:
    """Return the scores of the whole input (False) and of nothing of it (True), where known.

    All curves of one setting share them, whatever their map and grid; who finds them puts them in.
    """
    key = ("hiding nothing and all", replace(setting, steps=1), subject.target, subject.seed)
    ends: dict[bool, float] = subject.forward_pass.memo.setdefault(key, {})
    return ends


def area(shares: Floats, scores: Floats) -> float:
    """Return the area under a curve, by trapezoids."""
    return float(np.trapezoid(scores, shares))
