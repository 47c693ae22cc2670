"""Contrastive explanations: the least to add that changes the class, the least that suffices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from whylens import Explainer, Heatmap, Need, Params, Partial, denormalize, hookimpl, normalize
from whylens.plugins._arrays import as_array, value_limits

if TYPE_CHECKING:
    from whylens import Subject

STEP = 0.1  # first step of the search, times gradients that are at most about the constant
FIRST_CONSTANT = 1.0  # the class may then count ten times as much as the default beta
CONSTANT_GROWTH = 10.0
STEPS_PER_PARTIAL = 8  # steps between two looks

Find = Literal["pertinent negative", "pertinent positive"]


class ContrastiveParams(Params):
    """The goal of the search, its start, and its length."""

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
        default=4,
        ge=1,
        le=9,
        title="Constants tried",
        description="How often the weight of the class is set anew, between too low and too high.",
    )


@dataclass(frozen=True)
class SearchBounds:
    """The smallest, largest and first change of a search, in pixel space.

    Attributes:
        base: (1, C, *S) what the change is added to.
        low: (1, C, *S) least change, at most 0.
        high: (1, C, *S) largest change, at least 0.
        start: (1, C, *S) first change.
    """

    base: Tensor
    low: Tensor
    high: Tensor
    start: Tensor


class Contrastive(Explainer[ContrastiveParams]):
    """The answer is an input that was tried on the network, not a share of its score."""

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
    cost = "steps times constants (400) forward and backward passes"
    needs = frozenset({Need.GRADIENTS})
    Params = ContrastiveParams
    # Small nets have small margins; a pertinent negative is nothing for all classes but one.
    test_params = ContrastiveParams(find="pertinent positive", kappa=0.0, steps=20, constants=1)

    def explain(self, subject: Subject, params: ContrastiveParams) -> Iterator[Partial]:
        """Yield the smallest change so far that succeeds, or the one that comes nearest.

        Departures from the paper: plain ISTA, and its proximal step in full, so that the step's
        size multiplies beta; the constant is counted in units of the first gradient's largest
        value, so that it means the same for any network; a pertinent positive is searched from the
        whole input, which suffices, rather than from nothing.
        """
        negative = params.find == "pertinent negative"
        sign = 1.0 if negative else -1.0
        bounds = search_bounds(subject, params.find, params.empty)
        competitors = competing_classes(subject)
        required = max(params.kappa, subject.rounding)
        if (
            negative
            and margin(subject.forward_pass.logits[0], subject.target.index, competitors) <= 0
        ):
            # Another class is chosen already: the least to add is nothing.
            yield Partial(_heat(subject, params, bounds, competitors, bounds.start, True), 1.0)
            return
        gradient, _ = _loss_gradient(
            subject, bounds.base + bounds.start, competitors, sign, enough=torch.inf
        )
        scale = float(gradient.abs().max()) or 1.0
        best: Tensor | None = None
        nearest, nearest_lead = bounds.start, -torch.inf
        smallest = torch.inf
        low, high, constant = 0.0, torch.inf, FIRST_CONSTANT
        total = params.steps * params.constants
        for attempt in range(params.constants):
            change, succeeded = bounds.start, False
            for step in range(params.steps + 1):
                gradient, logits = _loss_gradient(
                    subject, bounds.base + change, competitors, sign, enough=required
                )
                lead = -sign * margin(logits, subject.target.index, competitors)
                size = elastic_net(change, params.beta)
                if lead >= required:
                    # The whole input suffices at any constant: what counts is where it leads.
                    succeeded |= step > params.steps // 2
                    if size < smallest:
                        best, smallest = change, size
                elif lead > nearest_lead:
                    nearest, nearest_lead = change, lead
                step_number = attempt * params.steps + step
                if step % STEPS_PER_PARTIAL == STEPS_PER_PARTIAL - 1 and step_number < total:
                    current = nearest if best is None else best
                    heat = _heat(subject, params, bounds, competitors, current, False)
                    yield Partial(heat, step_number / total)
                pull = gradient * (constant / scale)
                rate = STEP * (1 - min(step, params.steps - 1) / params.steps) ** 0.5
                change = ista_step(change, pull, rate, params.beta, bounds.low, bounds.high)
            if succeeded:
                high = constant
            else:
                low = constant
            constant = (low + high) / 2 if high < torch.inf else constant * CONSTANT_GROWTH
        final = nearest if best is None else best
        yield Partial(_heat(subject, params, bounds, competitors, final, True), 1.0)


def search_bounds(
    subject: Subject, find: Find, empty: Literal["black", "grey", "blur"]
) -> SearchBounds:
    """Return the bounds of the search.

    To add is to move a value away from its empty one, up to the limits of what values can be: 0 to
    1 in pictures, the range of its channel in signals. To keep is to stay between the two.
    """
    pixels = denormalize(subject.x, subject.backbone.input_spec)
    blank = denormalize(subject.baseline(empty), subject.backbone.input_spec)
    # Values that are equal but for the rounding of two conversions are equal.
    content = pixels - blank
    content = torch.where(content.abs() <= 8 * torch.finfo(content.dtype).eps, 0.0, content)
    if find == "pertinent positive":
        return SearchBounds(blank, content.clamp_max(0), content.clamp_min(0), content)
    least, most = value_limits(pixels)
    if len(subject.size) == 2:
        least, most = least.clamp_max(0), most.clamp_min(1)
    down, up = (least - pixels).clamp_max(0), (most - pixels).clamp_min(0)
    low = torch.where(content > 0, torch.zeros_like(down), down)
    high = torch.where(content < 0, torch.zeros_like(up), up)
    return SearchBounds(pixels, low, high, torch.zeros_like(pixels))


def competing_classes(subject: Subject) -> Tensor:
    """Return (C,) which classes compete with the target: all others, or B of "A rather than B"."""
    target, logits = subject.target, subject.forward_pass.logits[0]
    mask = torch.zeros_like(logits, dtype=torch.bool)
    if target.versus is not None:
        mask[target.versus] = True
        return mask
    mask[:] = True
    mask[target.index] = False
    return mask


def margin(logits: Tensor, index: int, competitors: Tensor) -> float:
    """Return by how much the class leads its best competitor; negative where it does not.

    Args:
        logits: (C,).
        competitors: (C,) which classes compete.
    """
    return float(logits[index] - logits[competitors].max())


def elastic_net(change: Tensor, beta: float) -> float:
    """Return beta |change|_1 + |change|_2^2."""
    values = change.double()
    return float(beta * values.abs().sum() + (values**2).sum())


def ista_step(
    change: Tensor, class_gradient: Tensor, rate: float, beta: float, low: Tensor, high: Tensor
) -> Tensor:
    """Return the change after one proximal step on c f + beta |d|_1 + |d|_2^2 within bounds.

    Args:
        change: (1, C, *S).
        class_gradient: (1, C, *S) gradient of c f at the change.
        low: (1, C, *S) bounds, at most 0.
        high: (1, C, *S) bounds, at least 0.
    """
    descent_point = change - rate * (class_gradient + 2 * change)
    soft_threshold = descent_point.sign() * (descent_point.abs() - rate * beta).clamp_min(0)
    # Shrinking, then clipping, is exact: the bounds hold 0, and places do not mix.
    return torch.minimum(torch.maximum(soft_threshold, low), high)


def _loss_gradient(
    subject: Subject, pixels: Tensor, competitors: Tensor, sign: float, *, enough: float
) -> tuple[Tensor, Tensor]:
    """Return the gradient of the class's lead, signed, and the logits.

    Args:
        enough: Beyond such a lead only the size counts, and the gradient is 0: no backward pass is
            spent on it.
    """
    # One input at a time, so that the search's path does not depend on a batch's order of sums.
    leaf = pixels.detach().requires_grad_()
    with torch.enable_grad():
        x = normalize(leaf, subject.backbone.input_spec)
        logits = subject.backbone.fast_logits(x)[0]
        loss = sign * (logits[subject.target.index] - logits[competitors].max())
    if -float(loss.detach()) >= enough:
        return torch.zeros_like(leaf), logits.detach()
    (gradient,) = torch.autograd.grad(loss, leaf)
    return gradient, logits.detach()


def _heat(
    subject: Subject,
    params: ContrastiveParams,
    bounds: SearchBounds,
    competitors: Tensor,
    change: Tensor,
    finished: bool,
) -> Heatmap:
    negative = params.find == "pertinent negative"
    x = normalize(bounds.base + change, subject.backbone.input_spec)
    logits = subject.fast_logits(x)[0]
    index = subject.target.index
    lead = margin(logits, index, competitors)
    succeeded = (-lead if negative else lead) >= max(params.kappa, subject.rounding)
    sizes = change[0].double()
    before = subject.backbone.probabilities(subject.forward_pass.logits)[0]
    after = subject.backbone.probabilities(logits[None])[0]
    best = int(logits.argmax())
    diagnostics = {
        "found": float(succeeded),
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
        note = _note(
            subject, competitors, logits, succeeded, negative=negative, empty=not sizes.any()
        )
    values = sizes.sum(0) if negative else sizes.abs().sum(0)
    unit = "pixel value added" if negative else "pixel value kept"
    return Heatmap(as_array(values), unit, negative, diagnostics, note)


def _note(
    subject: Subject,
    competitors: Tensor,
    logits: Tensor,
    succeeded: bool,
    *,
    negative: bool,
    empty: bool,
) -> str:
    labels, index = subject.backbone.labels, subject.target.index
    own = labels[index]
    # Where all others compete this is the class that is chosen.
    winner = labels[int(torch.where(competitors, logits, -torch.inf).argmax())]
    contrast = subject.target.versus is not None
    if negative and margin(subject.forward_pass.logits[0], index, competitors) <= 0:
        return f"Nothing needs adding: the network prefers {winner} to {own} as it is."
    if negative and succeeded:
        verb = "prefers" if contrast else "chooses"
        return f"With what the map shows added, the network {verb} {winner} rather than {own}."
    if succeeded and empty:
        return f"Nothing needs keeping: the network chooses {own} even where nothing is shown."
    if succeeded:
        verb = f"prefers {own} to {winner}" if contrast else f"chooses {own}"
        return f"Shown only what the map keeps, the network {verb}."
    lead = margin(logits, index, competitors)
    goal = (
        "something that, added, makes the network leave"
        if negative
        else "a part that is enough for"
    )
    return (
        f"The search did not find {goal} {own} by the margin asked for. The map shows the attempt "
        f"that came nearest: there {own} has {lead:+.3g} logits on {winner}."
    )


@hookimpl
def explainers() -> list[Contrastive]:
    """Return this file's explainer."""
    return [Contrastive()]
