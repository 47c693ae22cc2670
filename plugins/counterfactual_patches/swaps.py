"""Greedy search for the cells that, taken over from another picture, change the decision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from whylens.plugins._arrays import slices
from whylens.plugins._order import ROUNDING, first_largest, strongest_first

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import Subject


@dataclass(frozen=True, slots=True)
class Decision:
    """Which decision is to be changed into which.

    Attributes:
        start: The class that the network prefers.
        goal: The class that it is to prefer.
        between: Whether only the two are compared, as in a contrast, or all classes.
    """

    start: int
    goal: int
    between: bool

    def reached(self, logits: Tensor) -> bool:
        """Return whether (C,) logits decide for the goal."""
        if self.between:
            return bool(logits[self.goal] > logits[self.start])
        return int(logits.argmax()) == self.goal


@dataclass(frozen=True, slots=True)
class Swap:
    """One cell taken over.

    Attributes:
        replaced: The cell of the visitor's picture, counted in row order.
        taken: The cell of the other picture.
        logits: (C,) after this swap and all before it.
        tried: How many swaps were tried to find this one.
        possible: How many there were.
    """

    replaced: int
    taken: int
    logits: Tensor
    tried: int
    possible: int


def decision(subject: Subject) -> Decision:
    """Return the decision that a question is about.

    Of a contrast it is the one between its two classes. Else the prediction is to become the class
    asked about or, where that is what is predicted, the runner-up.
    """
    logits, target = subject.forward_pass.logits[0], subject.target
    if target.versus is not None:
        one, other = target.index, target.versus
        ahead = bool(logits[one] >= logits[other])
        return Decision(*((one, other) if ahead else (other, one)), between=True)
    first, second = (int(i) for i in logits.argsort(descending=True, stable=True)[:2])
    return Decision(first, second if target.index == first else target.index, between=False)


def greedy_swaps(
    subject: Subject, there: Tensor, aim: Decision, *, budget: int, candidates: int
) -> Iterator[tuple[float, Swap | None]]:
    """Yield shares of the search for each swap, and with share 1 the swap, until the goal.

    Each step takes the swap after which the goal is most probable (Goyal et al. 2019, eq. 4), of
    swaps that are alike but for rounding the first; no cell of either picture is used twice.

    Args:
        subject: The question; its feature map is edited.
        there: (1, K, *s) feature map of the other picture.
        budget: Swaps at most.
        candidates: How many are tried at each step; if there are more, those of the largest
            first-order estimate.
    """
    current = subject.features.clone()
    count = current[0, 0].numel()
    here_left, there_left = list(range(count)), list(range(there[0, 0].numel()))
    for _ in range(min(budget, len(here_left), len(there_left))):
        pairs = promising(subject, current, there, aim, (here_left, there_left), candidates)
        best: tuple[float, tuple[int, int], Tensor] | None = None
        for piece in slices(len(pairs), subject.batch_size):
            logits = subject.feature_logits(edited(current, there, pairs[piece]))
            chances = logits.double().log_softmax(-1)[:, aim.goal].cpu()
            margin = ROUNDING * float(logits.abs().max())
            top = first_largest(chances.numpy(), margin)
            if best is None or float(chances[top]) > best[0] + margin:
                best = float(chances[top]), pairs[piece][top], logits[top]
            if piece.stop < len(pairs):
                yield piece.stop / len(pairs), None
        if best is None:
            return
        _, (i, j), logits = best
        current = edited(current, there, [(i, j)])
        yield 1.0, Swap(i, j, logits, len(pairs), len(here_left) * len(there_left))
        if aim.reached(logits):
            return
        here_left.remove(i)
        there_left.remove(j)


def promising(
    subject: Subject,
    current: Tensor,
    there: Tensor,
    aim: Decision,
    left: tuple[Sequence[int], Sequence[int]],
    candidates: int,
) -> list[tuple[int, int]]:
    """Return the (replaced, taken) pairs to try: all, or those that promise most.

    Args:
        current: (1, K, *s) its feature map with the swaps so far.
        there: (1, K, *s) feature map of the other picture.
        candidates: How many at most.
    """
    here_left, there_left = left
    if len(here_left) * len(there_left) <= candidates:
        return [(i, j) for i in here_left for j in there_left]
    margin = replace(subject.target, index=aim.goal, quantity="contrast", versus=aim.start)
    slope = subject.feature_gradients(current, quantity=margin)[0].flatten(1)[:, here_left].double()
    old = current[0].flatten(1)[:, here_left].double()
    new = there[0].flatten(1)[:, there_left].double()
    # What swapping i for j does to the margin, to first order: slope_i (new_j - old_i).
    gains = slope.T @ new - (slope * old).sum(0)[:, None]
    chosen = sorted(strongest_first(gains.flatten().cpu().numpy())[:candidates])
    return [(here_left[k // len(there_left)], there_left[k % len(there_left)]) for k in chosen]


def edited(current: Tensor, there: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Return (N, K, *s): one copy of a map per pair, with one cell taken over from another.

    Args:
        current: (1, K, *s).
        there: (1, K, *s).
        pairs: (replaced, taken) cells in row order.
    """
    replaced, taken = ([pair[side] for pair in pairs] for side in (0, 1))
    maps = current.flatten(2).repeat(len(pairs), 1, 1)
    maps[torch.arange(len(pairs)), :, replaced] = there[0].flatten(1)[:, taken].T
    return maps.reshape(len(pairs), *current.shape[1:])
