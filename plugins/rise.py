"""RISE: what a place scores on average over random masks that show it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from whylens import Explainer, MaskedMeans, Partial, hookimpl
from whylens.plugins._random_masks import MASKS_PER_DRAW, MaskParams, map_of_means, random_masks

if TYPE_CHECKING:
    from whylens import Subject


class RISEParams(MaskParams):
    """The masks: number, coarseness, share and fill."""


class RISE(Explainer[RISEParams]):
    """The masked mean of scores, for any network: no gradients, no feature map."""

    name = "rise"
    title = "RISE"
    family = "Perturbation"
    summary = (
        "How much better the network scores when a random mask shows this place, on average over "
        "many masks; works on any network."
    )
    limits = (
        "An estimate: fewer masks, more grain; its standard error is kept, and the agreement with "
        "another seed is shown. As coarse as the masks' cells."
    )
    when = "When only inputs and scores can be had, and you want to know how sure the map is."
    source = "Petsiuk et al. 2018, RISE, eqs. 5 and 6"
    cost = "one forward pass per mask (1,024)"
    needs = frozenset()
    Params = RISEParams
    test_params = RISEParams(masks=128, cells=4)

    def explain(self, subject: Subject, params: RISEParams) -> Iterator[Partial]:
        """Yield the signed map in units of the score, ever more precise."""
        generator, fill = subject.generator(), subject.baseline(params.fill)
        means = MaskedMeans(subject.size)
        while means.count < params.masks:
            masks = random_masks(
                MASKS_PER_DRAW, subject.size, params.cells, params.shown, generator
            )
            scores = torch.cat(list(subject.masked_scores([masks.to(fill)], fill)))
            means.add(masks, scores)
            yield map_of_means(means, params.masks, subject.unit, subject.rounding)


@hookimpl
def explainers() -> list[RISE]:
    """Return this file's explainer."""
    return [RISE()]
