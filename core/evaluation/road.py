"""ROAD: the class as places are removed so that nobody sees it, the strongest or weakest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from whylens.core.evaluation.hiding import Quantity, Setting, hiding_curve
from whylens.core.evaluation.metric import Metric, Score
from whylens.core.evaluation.ordering import cells
from whylens.core.evaluation.random_maps import RandomMaps, with_chance
from whylens.core.results import Heatmap
from whylens.core.subject import Subject

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
Order = Literal["morf", "lerf", "gap"]


def road(
    subject: Subject,
    heat: Heatmap,
    *,
    order: Order = "gap",
    shares: tuple[float, ...] = SHARES,
    quantity: Quantity = "probability",
    chance: bool = True,
) -> Iterator[Score]:
    """Yield the class's score, mean over shares of the places that are removed.

    What is removed is filled in from its surroundings, with a little noise, so that the shape of
    the hole says nothing; exactly as many whole cells as a share says, equal ones by chance.
    Source: Rong et al. 2022, ROAD; theirs is the accuracy over a data set, this the score of one
    input. The noise has 1/100 of the input's range, theirs is 0.01 in [0, 1].

    Args:
        order: "morf", the most relevant places first: low is good. "lerf", the least relevant
            first: high is good. "gap", the second minus the first: high is good, chance is 0.
        shares: Between 0 and 1, ascending; what comes to none or all of the cells is left out.
        chance: Whether to ask what random maps as smooth get; of a gap that is known.
    """
    setting, values = Setting("linear", quantity), cells(heat, subject.size)
    cell_count = values.numel()
    counts = sorted({min(max(round(share * cell_count), 1), cell_count - 1) for share in shares})
    if cell_count < 2:
        yield Score(None, note="A map of one place has no order.")
        return
    places = np.array(counts) / cell_count
    means, passes = np.zeros(len(counts)), 0
    for sign in {"morf": (1,), "lerf": (-1,), "gap": (1, -1)}[order]:
        *_, curve = hiding_curve(subject, sign * values, setting, counts)
        means, passes = curve.points()[1] - means, passes + curve.passes
    curve_of = tuple(places.tolist()), tuple(means.tolist())
    score = Score(float(means.mean()), 0.0, "", passes, 1.0, *curve_of)
    if order == "gap":
        yield score
        return

    def level(random: RandomMaps) -> float:
        return float(random.expectation(places).mean())

    score = replace(score, chance=None)
    yield from with_chance(subject, values, setting, iter([score]), level) if chance else [score]


ROAD = Metric(
    "road",
    "ROAD",
    "How much more it costs to remove the strongest places, unseen, than the weakest.",
    "Rong et al. 2022, ROAD; the probability of one input, noise of 1/100 of its range",
    "higher",
    lambda case: road(case.subject, case.heat),
)
