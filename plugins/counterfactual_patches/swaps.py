"""Greedy search for cells of another picture's feature map that change the decision."""

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
    """The decision that is to change, and into which.

    Attributes:
        start: The class that the network prefers.
        goal: The class that it is to prefer.
        between: Whether only the two are compared, as in a contrast, or all classes.
    """

    start: int
    goal: int
    between: bool

    def is_reached(self, logits: Tensor) -> bool:
        """Return whether (C,) logits decide for the goal."""
        if self.between:
            return bool(logits[self.goal] > logits[self.start])
        return int(logits.argmax()) == self.goal


@dataclass(frozen=True, slots=True)
class Swap:
    """One cell replaced by one of the other picture.

    Attributes:
        query_cell: The cell of the visitor's picture, counted in row order.
        distractor_cell: The cell of the other picture.
        logits: (C,) after this swap and all before it.
        pair_count: How many swaps were tried to find this one.
        possible: How many there were.
    """

    query_cell: int
    distractor_cell: int
    logits: Tensor
    pair_count: int
    possible: int


def find_decision(subject: Subject) -> Decision:
    """Return the decision that a question is about.

    Of a contrast it is that between its two classes. Else the prediction is to become the target
    or, where the target is predicted, the runner-up.
    """
    logits, target = subject.forward_pass.logits[0], subject.target
    if target.versus is not None:
        first, second = target.index, target.versus
        if not bool(logits[first] >= logits[second]):
            first, second = second, first
        return Decision(first, second, between=True)
    first, second = (int(i) for i in logits.argsort(descending=True, stable=True)[:2])
    return Decision(first, second if target.index == first else target.index, between=False)


def greedy_swaps(
    subject: Subject, distractor_map: Tensor, decision: Decision, *, budget: int, candidates: int
) -> Iterator[tuple[float, Swap | None]]:
    """Yield shares of the search for each swap, and with share 1 the swap, until the goal.

    Each step takes the swap after which the goal is most probable (Goyal et al. 2019, eq. 4), of
    swaps that are alike but for rounding the first; no cell of either picture is used twice.

    Args:
        distractor_map: (1, K, *s) feature map of the other picture.
        budget: Swaps at most.
        candidates: How many are tried at each step; if there are more, those of the largest
            first-order estimate.
    """
    current = subject.features.clone()
    count = current[0, 0].numel()
    own_cells, other_cells = list(range(count)), list(range(distractor_map[0, 0].numel()))
    for _ in range(min(budget, len(own_cells), len(other_cells))):
        pairs = candidate_swaps(
            subject, current, distractor_map, decision, (own_cells, other_cells), candidates
        )
        best: tuple[float, tuple[int, int], Tensor] | None = None
        for piece in slices(len(pairs), subject.batch_size):
            logits = subject.feature_logits(apply_swaps(current, distractor_map, pairs[piece]))
            log_p = logits.double().log_softmax(-1)[:, decision.goal].cpu()
            margin = ROUNDING * float(logits.abs().max())
            top = first_largest(log_p.numpy(), margin)
            if best is None or float(log_p[top]) > best[0] + margin:
                best = float(log_p[top]), pairs[piece][top], logits[top]
            if piece.stop < len(pairs):
                yield piece.stop / len(pairs), None
        if best is None:
            return
        _, (i, j), logits = best
        current = apply_swaps(current, distractor_map, [(i, j)])
        yield 1.0, Swap(i, j, logits, len(pairs), len(own_cells) * len(other_cells))
        if decision.is_reached(logits):
            return
        own_cells.remove(i)
        other_cells.remove(j)


def candidate_swaps(
    subject: Subject,
    current: Tensor,
    distractor_map: Tensor,
    decision: Decision,
    cells: tuple[Sequence[int], Sequence[int]],
    candidates: int,
) -> list[tuple[int, int]]:
    """Return pairs of a query's and a distractor's cell to try: all, or the most promising.

    Args:
        current: (1, K, *s) its feature map with the swaps so far.
        distractor_map: (1, K, *s) feature map of the other picture.
        candidates: How many at most.
    """
    own_cells, other_cells = cells
    if len(own_cells) * len(other_cells) <= candidates:
        return [(i, j) for i in own_cells for j in other_cells]
    margin = replace(
        subject.target, index=decision.goal, quantity="contrast", versus=decision.start
    )
    gradients = subject.feature_gradients(current, quantity=margin)[0].flatten(1)
    slope = gradients[:, own_cells].double()
    old = current[0].flatten(1)[:, own_cells].double()
    new = distractor_map[0].flatten(1)[:, other_cells].double()
    # What swapping i for j does to the margin, to first order: slope_i (new_j - old_i).
    gains = slope.T @ new - (slope * old).sum(0)[:, None]
    indices = sorted(strongest_first(gains.flatten().cpu().numpy())[:candidates])
    pairs = [divmod(k, len(other_cells)) for k in indices]
    return [(own_cells[i], other_cells[j]) for i, j in pairs]


def apply_swaps(
    current: Tensor, distractor_map: Tensor, pairs: Sequence[tuple[int, int]]
) -> Tensor:
    """Return (N, K, *s): one copy of a map per pair, with one cell of another map.

    Args:
        current: (1, K, *s).
        distractor_map: (1, K, *s).
        pairs: (query cell, distractor cell) in row order.
    """
    query_cells, distractor_cells = ([pair[side] for pair in pairs] for side in (0, 1))
    maps = current.flatten(2).repeat(len(pairs), 1, 1)
    maps[torch.arange(len(pairs)), :, query_cells] = (
        distractor_map[0].flatten(1)[:, distractor_cells].T
    )
    return maps.reshape(len(pairs), *current.shape[1:])
