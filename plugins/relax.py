"""RELAX: how like itself an input stays, to the network, where masks show a place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from whylens import Explainer, MaskedMeans, Need, Partial, hookimpl
from whylens.plugins._random_masks import MASKS_PER_DRAW, MaskParams, map_of_means, random_masks

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import Subject

ROUNDING = 64 * torch.finfo(torch.float32).eps  # of a cosine


class RELAXParams(MaskParams):
    """The masks: number, coarseness, share and fill."""

    masks: int = Field(
        default=1024,
        ge=64,
        le=8192,
        multiple_of=64,
        description="How many random masks to try; the authors' code tries 3,000.",
    )
    fill: Literal["grey", "black", "mean", "blur"] = Field(
        default="grey", description="What hidden places show; defined in pixel space."
    )


class RELAX(Explainer[RELAXParams]):
    """The masked mean of the cosine between what the head reads of the masked and the whole input.

    It departs from the authors' code in three ways: the mean over all masks is taken off, which is
    the same at every place; masks are moved by up to a whole cell, as RISE's are; and the error is
    the standard error of the map, where theirs is the spread of the cosines at a place.
    """

    name = "relax"
    title = "RELAX"
    family = "Perturbation"
    summary = (
        "Which places, when a random mask shows them, keep what the network sees in the picture "
        "most like what it sees in all of it."
    )
    limits = (
        "Knows no class: the map is the same for every class. An estimate: fewer masks, more "
        "grain; the agreement with another seed is shown."
    )
    when = "To see what a network reads at all, as one that was trained without labels."
    source = (
        "Wickstrøm et al. 2023, RELAX: Representation Learning Explainability, by the authors' code"
    )
    cost = "one forward pass per mask (1,024)"
    needs = frozenset({Need.SPATIAL_FEATURES})
    class_blind = True
    Params = RELAXParams
    test_params = RELAXParams(masks=64, cells=4)

    def explain(self, subject: Subject, params: RELAXParams) -> Iterator[Partial]:
        """Yield the signed map of cosines above their mean, ever more precise."""
        generator, fill = subject.generator(), subject.baseline(params.fill)
        means = MaskedMeans(subject.size)
        while means.count < params.masks:
            masks = random_masks(
                MASKS_PER_DRAW, subject.size, params.cells, params.shown, generator
            )
            means.add(masks, _likeness(subject, masks.to(fill), fill))
            yield map_of_means(means, params.masks, "cosine", ROUNDING)


def _likeness(subject: Subject, masks: Tensor, fill: Tensor) -> Tensor:
    # (n,) cosines of the network's vectors for the masked input and for the whole one.
    backbone = subject.backbone

    def vectors(x: Tensor) -> Tensor:
        if backbone.linear is None:
            return backbone.embed(x)
        return backbone.fast_features(x).map.flatten(2).mean(-1)  # the same, in half the time

    with torch.no_grad():
        variants = [
            vectors(fill + mask * (subject.x - fill)) for mask in masks.split(subject.batch_size)
        ]
        return torch.cosine_similarity(torch.cat(variants), vectors(subject.x))


@hookimpl
def explainers() -> list[RELAX]:
    """Return this file's explainer."""
    return [RELAX()]
