"""How faithful a map is: the network's scores as the places it names are hidden, or shown alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from whylens.core.evaluation.ordering import on_input, ranked
from whylens.core.results import Heatmap
from whylens.core.subject import Subject

Mode = Literal["deletion", "insertion"]


@dataclass(frozen=True, slots=True)
class Curve:
    """The target's probability along the way.

    Attributes:
        shares: Share of the places hidden (deletion) or shown (insertion), from 0 to 1.
        probabilities: Of the target class, mean over ways of breaking ties.
        area: Under the curve, by trapezoids; low is good for deletion, high for insertion.
    """

    shares: tuple[float, ...]
    probabilities: tuple[float, ...]
    area: float


def faithfulness(
    subject: Subject,
    heatmap: Heatmap,
    fill: Tensor,
    mode: Mode,
    *,
    steps: int = 20,
    draws: int = 3,
) -> Curve:
    """Return the curve of a map: its strongest places first.

    Exactly k places are changed at each step, never "all above a threshold": a map with many equal
    values would lose all of them at once. Ties are broken at random, several times, seeded.
    Source: Petsiuk et al. 2018, RISE, sec. 4.1.

    Args:
        subject: The question; its class is followed, as a probability, or its value.
        fill: (1, C, *S) what hidden places show.
        mode: "deletion" hides them, "insertion" shows them on the fill.
    """
    values, generator = on_input(heatmap, subject.size), subject.generator()
    counts = [round(step * values.numel() / steps) for step in range(steps + 1)]
    asked = subject.target.as_probability()
    rows = []
    for _ in range(draws):
        order = ranked(values.flatten(), generator)
        masks = torch.zeros(len(counts), values.numel())
        for row, count in zip(masks, counts, strict=True):
            row[order[:count]] = 1
        shown = masks if mode == "insertion" else 1 - masks
        pieces = subject.masked_scores(
            [shown.view(-1, 1, *subject.size).to(fill)], fill, quantity=asked
        )
        rows.append(torch.cat(list(pieces)).double().cpu())
    mean = torch.stack(rows).mean(0)
    shares = torch.tensor(counts, dtype=torch.float64) / values.numel()
    area = float(torch.trapezoid(mean, shares))
    return Curve(tuple(shares.tolist()), tuple(mean.tolist()), area)
