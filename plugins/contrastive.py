"""Contrastive explanations: the least to add that changes the class, the least that suffices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from whylens import Explainer, Heatmap, Need, Params, Partial, denormalize, hookimpl
from whylens.plugins._arrays import as_array
from whylens.plugins._pixel_space import inputs_of_pixels, limits_of, pixels_of

if TYPE_CHECKING:
    from whylens import Subject

STEP = 0.1  # first step of the search, times gradients that are at most about the constant
FIRST = 1.0  # first constant: the class may then count ten times as much as the default beta
RAISE = 10.0
SHOWN = 8  # steps between two looks

Find = Literal["pertinent negative", "pertinent positive"]


class ContrastiveParams(Params):
    """What to look for, from where, and for how long."""

    find: Find = Field(
        default="pertinent negative",
        description="The least to add so that the class changes, or the least of the input that is "
        "enough for the class.",
    )
    empty: Literal["black", "grey", "blur"] = Field(
        default="black",
        title="Shows nothing",
        description="What a place without information looks like; to add is to move away from it.",
    )
    kappa: float = Field(
        default=0.1,
        ge=0,
        le=10,
        multiple_of=0.1,
        title="Margin (kappa)",
        description="By how many logits one class must lead.",
    )
    beta: float = Field(
        default=0.1,
        ge=0,
        le=1,
        multiple_of=0.01,
        title="Sparsity (beta)",
        description="Weight of the sum of changes beside that of their squares.",
    )
    steps: int = Field(
        default=100, ge=10, le=1000, multiple_of=10, description="Steps for each constant."
    )
    constants: int = Field(
        default=5,
        ge=1,
        le=9,
        title="Constants tried",
        description="How often the weight of the class is set anew, between too low and too high.",
    )


@dataclass(frozen=True)
class Room:
    """Where the search may go: changes in pixel space.

    Attributes:
        base: (1, C, *S) what the change is added to, in pixel space.
        low: (1, C, *S) least change, at most 0.
        high: (1, C, *S) largest change, at least 0.
        start: (1, C, *S) first change.
    """

    base: Tensor
    low: Tensor
    high: Tensor
    start: Tensor


class Contrastive(Explainer[ContrastiveParams]):
    """Answers with a picture that was tried on the network, not with a share of its score."""

    name = "contrastive"
    title = "Contrastive (CEM)"
    family = "Contrast"
    summary = (
        "The least that would have to be added for the network to choose another class, or the "
        "least of the picture that is enough for it to choose this one."
    )
    limits = (
        "A search: a smaller change may exist. Without the paper's autoencoder term what is added "
        "need not look like anything a camera could see."
    )
    question_kind = "what if"
    when = "When the question is what is missing, or what is enough."
    source = (
        "Dhurandhar et al. 2018, Explanations based on the Missing: Towards Contrastive "
        "Explanations with Pertinent Negatives, eq. 1 to 4, with gamma = 0 (no autoencoder)"
    )
    cost = "steps times constants (500) forward and backward passes"
    needs = frozenset({Need.GRADIENTS})
    Params = ContrastiveParams
    # Small nets have small margins; a pertinent negative is nothing for all classes but one.
    test_params = ContrastiveParams(find="pertinent positive", kappa=0.0, steps=30, constants=1)

    def explain(self, subject: Subject, params: ContrastiveParams) -> Iterator[Partial]:
        """Yield the smallest change found so far, or the one that came nearest.

        Departures from the paper: plain ISTA, and its proximal step in full, so that the step's
        size multiplies beta; the constant is counted in units of the first gradient's largest
        value, so that it means the same for any network; a pertinent positive is searched from the
        whole input, which suffices, rather than from nothing.
        """
        negative = params.find == "pertinent negative"
        sign = 1.0 if negative else -1.0
        room = room_of(subject, params.find, params.empty)
        rival = rivals(subject)
        wanted = max(params.kappa, subject.rounding)
        if negative and margin(subject.trace.logits[0], subject.target.index, rival) <= 0:
            # Another class is chosen already: the least to add is nothing.
            yield Partial(_heat(subject, params, room, rival, room.start, True), 1.0)
            return
        slope, _ = _slope(subject, room.base + room.start, rival, sign)
        scale = float(slope.abs().max()) or 1.0
        best: Tensor | None = None
        nearest, nearest_lead = room.start, -torch.inf
        least = torch.inf
        low, high, constant = 0.0, torch.inf, FIRST
        total = params.steps * params.constants
        for attempt in range(params.constants):
            change, succeeded = room.start, False
            for step in range(params.steps + 1):
                slope, logits = _slope(subject, room.base + change, rival, sign)
                lead = -sign * margin(logits, subject.target.index, rival)
                size = elastic_net(change, params.beta)
                if lead >= wanted:
                    # The whole input suffices at any constant: what counts is where it leads.
                    succeeded |= step > params.steps // 2
                    if size < least:
                        best, least = change, size
                elif lead > nearest_lead:
                    nearest, nearest_lead = change, lead
                done = attempt * params.steps + step
                if step % SHOWN == SHOWN - 1 and done < total:
                    shown = nearest if best is None else best
                    yield Partial(_heat(subject, params, room, rival, shown, False), done / total)
                # Beyond the margin the class has what it wants, and only the size counts.
                pull = slope * (constant / scale) if lead < wanted else torch.zeros_like(slope)
                rate = STEP * (1 - min(step, params.steps - 1) / params.steps) ** 0.5
                change = ista_step(change, pull, rate, params.beta, room.low, room.high)
            if succeeded:
                high = constant
            else:
                low = constant
            constant = (low + high) / 2 if high < torch.inf else constant * RAISE
        shown = nearest if best is None else best
        yield Partial(_heat(subject, params, room, rival, shown, True), 1.0)


def room_of(subject: Subject, find: Find, empty: Literal["black", "grey", "blur"]) -> Room:
    """Return where the search may go.

    To add is to move a value away from its empty one, up to the limits of what values can be: 0 to
    1 in pictures, the range of its channel in signals. To keep is to stay between the two.
    """
    pixels = pixels_of(subject)
    nothing = denormalize(subject.baseline(empty), subject.trace.backbone.spec)
    # Values that are equal but for the rounding of two conversions are equal.
    apart = pixels - nothing
    apart = torch.where(apart.abs() <= 8 * torch.finfo(apart.dtype).eps, 0.0, apart)
    if find == "pertinent positive":
        return Room(nothing, apart.clamp_max(0), apart.clamp_min(0), apart)
    least, most = limits_of(pixels)
    if len(subject.size) == 2:
        least, most = least.clamp_max(0), most.clamp_min(1)
    down, up = (least - pixels).clamp_max(0), (most - pixels).clamp_min(0)
    low = torch.where(apart > 0, torch.zeros_like(down), down)
    high = torch.where(apart < 0, torch.zeros_like(up), up)
    return Room(pixels, low, high, torch.zeros_like(pixels))


def rivals(subject: Subject) -> Tensor:
    """Return (C,) which classes compete with the target: all others, or B of "A rather than B"."""
    target, logits = subject.target, subject.trace.logits[0]
    mask = torch.zeros_like(logits, dtype=torch.bool)
    if target.versus is not None:
        mask[target.versus] = True
        return mask
    mask[:] = True
    mask[target.index] = False
    return mask


def margin(logits: Tensor, index: int, rival: Tensor) -> float:
    """Return by how much the class leads its best rival; negative where it does not.

    Args:
        logits: (C,).
        rival: (C,) which classes compete.
    """
    return float(logits[index] - logits[rival].max())


def elastic_net(change: Tensor, beta: float) -> float:
    """Return beta |change|_1 + |change|_2^2."""
    values = change.double()
    return float(beta * values.abs().sum() + (values**2).sum())


def ista_step(
    change: Tensor, pull: Tensor, rate: float, beta: float, low: Tensor, high: Tensor
) -> Tensor:
    """Return the change after one proximal step on c f + beta |d|_1 + |d|_2^2 within bounds.

    Args:
        change: (1, C, *S) where the search is.
        pull: (1, C, *S) gradient of c f there.
        low: (1, C, *S) bounds, at most 0.
        high: (1, C, *S) bounds, at least 0.
    """
    moved = change - rate * (pull + 2 * change)
    shrunk = moved.sign() * (moved.abs() - rate * beta).clamp_min(0)
    # Shrinking, then clipping, is exact: the bounds hold 0, and places do not mix.
    return torch.minimum(torch.maximum(shrunk, low), high)


def _slope(subject: Subject, pixels: Tensor, rival: Tensor, sign: float) -> tuple[Tensor, Tensor]:
    # One input at a time, so that the search's path does not depend on a batch's order of sums.
    leaf = pixels.detach().requires_grad_()
    with torch.enable_grad():
        logits = subject.trace.backbone.fast_logits(inputs_of_pixels(leaf, subject))[0]
        loss = sign * (logits[subject.target.index] - logits[rival].max())
    (gradient,) = torch.autograd.grad(loss, leaf)
    return gradient, logits.detach()


def _heat(
    subject: Subject,
    params: ContrastiveParams,
    room: Room,
    rival: Tensor,
    change: Tensor,
    finished: bool,
) -> Heatmap:
    negative = params.find == "pertinent negative"
    logits = subject.fast_logits(inputs_of_pixels(room.base + change, subject))[0]
    index = subject.target.index
    lead = margin(logits, index, rival)
    found = (-lead if negative else lead) >= max(params.kappa, subject.rounding)
    sizes = change[0].double()
    before, after = subject.trace.logits[0].softmax(-1), logits.softmax(-1)
    best = int(logits.argmax())
    checks = {
        "found": float(found),
        "class chosen": float(best),
        "its probability": float(after[best]),
        "target's probability": float(after[index]),
        "target's probability before": float(before[index]),
        "margin": lead,
        "places changed" if negative else "places kept": float((sizes != 0).any(0).double().mean()),
        "L1": float(sizes.abs().sum()),
        "L2": float(sizes.norm()),
    }
    note = ""
    if finished:
        nothing = not sizes.any()
        note = _note(subject, rival, logits, found=found, negative=negative, nothing=nothing)
    values = sizes.sum(0) if negative else sizes.abs().sum(0)
    unit = "pixel value added" if negative else "pixel value kept"
    return Heatmap(as_array(values), unit, negative, checks, note)


def _note(
    subject: Subject, rival: Tensor, logits: Tensor, *, found: bool, negative: bool, nothing: bool
) -> str:
    labels, index = subject.trace.backbone.labels, subject.target.index
    own = labels[index]
    # Where all others compete this is the class that is chosen.
    winner = labels[int(torch.where(rival, logits, -torch.inf).argmax())]
    rather = subject.target.versus is not None
    if negative and margin(subject.trace.logits[0], index, rival) <= 0:
        return f"Nothing needs adding: the network prefers {winner} to {own} as it is."
    if negative and found:
        verb = "prefers" if rather else "chooses"
        return f"With what the map shows added, the network {verb} {winner} rather than {own}."
    if found and nothing:
        return f"Nothing needs keeping: the network chooses {own} even where nothing is shown."
    if found:
        verb = f"prefers {own} to {winner}" if rather else f"chooses {own}"
        return f"Shown only what the map keeps, the network {verb}."
    lead = margin(logits, index, rival)
    kept = (
        "something that, added, makes the network leave"
        if negative
        else "a part that is enough for"
    )
    return (
        f"The search did not find {kept} {own} by the margin asked for. The map shows the attempt "
        f"that came nearest: there {own} has {lead:+.3g} logits on {winner}."
    )


@hookimpl
def explainers() -> list[Contrastive]:
    """Return this file's explainer."""
    return [Contrastive()]
