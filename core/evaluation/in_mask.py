"""How much of a map lies where the evidence is known to lie.

Of use only where the network does look there: a network that learnt a shortcut has its evidence
elsewhere, and its best map scores badly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from torch import Tensor

from whylens.core.evaluation.agreement import Floats, among_strongest, on_grid, without_rounding
from whylens.core.evaluation.metric import Case, Metric, Score, require
from whylens.core.results import Heatmap

TOLERANCE = 15 / 224  # of the shorter side


def mass_in_mask(heat: Heatmap, mask: Tensor) -> Score:
    """Return which share of a map's positive values lies in a mask; chance is the mask's area.

    The note has the lift: the share as so many times that area.

    Source: Arras et al. 2022, CLEVR-XAI, "relevance mass accuracy", of the positive part.

    Args:
        mask: (*S) bool.
    """
    values, inside = _on_mask(heat, mask)
    positive = values.clip(min=0)
    if not positive.sum():
        return Score(None, float(inside.mean()), "Nothing in the map is positive.")
    return _with_lift(positive[inside].sum() / positive.sum(), inside)


def rank_in_mask(heat: Heatmap, mask: Tensor) -> Score:
    """Return which share of a map's K strongest places lies in a mask of K places.

    Equal values share what is left, as random orders of them do on average; chance is the mask's
    area. Source: Arras et al. 2022, CLEVR-XAI, "relevance rank accuracy".

    Args:
        mask: (*S) bool.
    """
    values, inside = _on_mask(heat, mask)
    count = int(inside.sum())
    hits = among_strongest(values, count)[inside].sum()
    return _with_lift(hits / count, inside)


def pointing_game(heat: Heatmap, mask: Tensor, *, tolerance: float = TOLERANCE) -> Score:
    """Return the chance that a map's strongest place lies in a mask or next to it: mostly 0 or 1.

    Of several strongest places each is as likely, so that a map without a preference gets the
    area, which is chance: the mask's with all that is near enough.
    Source: Zhang et al. 2016, Top-down Neural Attention, sec. 4.1; 15 pixels of 224 count as a hit.

    Args:
        mask: (*S) bool.
        tolerance: How far from the mask still is a hit, as a share of the shorter side.
    """
    from scipy.ndimage import distance_transform_edt

    values, inside = _on_mask(heat, mask)
    near = distance_transform_edt(~inside) < tolerance * min(inside.shape)
    near |= inside
    return Score(float(near[values == values.max()].mean()), float(near.mean()))


def _with_lift(share: float, inside: np.ndarray) -> Score:
    """Return a share with what it is times the mask's area, which chance would get."""
    area = float(inside.mean())
    return Score(float(share), area, f"{share / area:.3g} times the mask's area.")


def _on_mask(heat: Heatmap, mask: Tensor) -> tuple[Floats, np.ndarray]:
    inside = mask.detach().cpu().numpy().astype(bool)
    return without_rounding(on_grid(heat.values, inside.shape)), inside


def _measure(score: Callable[[Heatmap, Tensor], Score]) -> Callable[[Case], Iterator[Score]]:
    def measure(case: Case) -> Iterator[Score]:
        mask: Tensor = require(case, "mask")
        share = float(mask.float().mean())
        if 0 < share < 1:
            yield score(case.heat, mask)
        else:
            yield Score(None, note="The mask holds all of the input, or none of it.")

    return measure


MASS = Metric(
    name="mass-in-mask",
    title="Mass in the mask",
    summary="Which share of what speaks for the class lies where its evidence is known to lie?",
    source="Arras et al. 2022, relevance mass accuracy, of the positive part.",
    direction="higher",
    best=1.0,
    measure=_measure(mass_in_mask),
    asks=frozenset({"mask"}),
)
RANK = replace(
    MASS,
    name="rank-in-mask",
    title="Rank in the mask",
    summary="Of as many strongest places as the evidence has, which share is evidence?",
    source="Arras et al. 2022, relevance rank accuracy; ties by expectation.",
    measure=_measure(rank_in_mask),
)
POINTING_GAME = replace(
    MASS,
    name="pointing-game",
    title="Pointing game",
    summary="Is the strongest place where the evidence is known to lie, or next to it?",
    source="Zhang et al. 2016; within 15 pixels of 224; ties by expectation.",
    measure=_measure(pointing_game),
)
