"""RISE: what a place scores on average over random masks that show it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from whylens import Explainer, Heatmap, MaskedMeans, Params, Partial, expected_agreement, hookimpl
from whylens.plugins._arrays import as_array
from whylens.plugins._random_masks import MASKS_PER_DRAW, agreement_note, random_masks

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import Subject


class RISEParams(Params):
    """The masks: number, coarseness, share and fill."""

    masks: int = Field(
        default=1024, ge=64, le=8192, multiple_of=64, description="How many random masks to try."
    )
    cells: int = Field(
        default=7, ge=2, le=16, description="Cells of a mask along the shorter side of the view."
    )
    shown: float = Field(
        default=0.5,
        ge=0.1,
        le=0.9,
        multiple_of=0.05,
        description="Share of the cells that a mask shows.",
    )
    fill: Literal["grey", "black", "mean", "blur"] = Field(
        default="black", description="What hidden places show; defined in pixel space."
    )


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
            values, errors = _zero_rounding(means, subject.rounding)
            agreement = expected_agreement(values, errors)
            done = means.count >= params.masks
            yield Partial(
                Heatmap(
                    as_array(values),
                    subject.unit,
                    signed=True,
                    diagnostics={"masks": means.count, "expected agreement of seeds": agreement},
                    note=agreement_note(agreement) if done else "",
                    error=as_array(errors),
                ),
                means.count / params.masks,
            )


def _zero_rounding(means: MaskedMeans, rounding: float) -> tuple[Tensor, Tensor]:
    # Scores that are alike up to rounding whatever the mask are no evidence.
    values, errors = means.values(), means.errors()
    if float(values.abs().max()) <= rounding:
        return torch.zeros_like(values), torch.zeros_like(errors)
    return values, errors


@hookimpl
def explainers() -> list[RISE]:
    """Return this file's explainer."""
    return [RISE()]
