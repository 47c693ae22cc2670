"""Grad-CAM: channels weighted by the mean gradient of the score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whylens import Explainer, Heatmap, Need, hookimpl
from whylens.plugins._layers import SignedLayerParams, mean_gradients, weighted_features

if TYPE_CHECKING:
    from whylens import Subject


class GradCAM(Explainer[SignedLayerParams]):
    """The generalisation of CAM to any head that has gradients."""

    name = "grad-cam"
    title = "Grad-CAM"
    family = "Class activation"
    summary = (
        "Where a feature map, by default the last, holds what raises the target score, by one "
        "backward pass."
    )
    limits = (
        "Coarse, first-order, and averages the gradient over positions: it can miss small or "
        "repeated parts."
    )
    when = "First, on any network: fast, and the best known."
    source = "Selvaraju et al. 2017, Grad-CAM, eqs. 1 and 2"
    cost = "1 forward pass and 1 backward pass through the head"
    needs = frozenset({Need.GRADIENTS, Need.SPATIAL_FEATURES})
    Params = SignedLayerParams

    def explain(self, subject: Subject, params: SignedLayerParams) -> Heatmap:
        """Return the map in units of the score per position."""
        unit = f"{subject.unit} per position"
        return weighted_features(
            subject, params, lambda layer: mean_gradients(layer.gradients), unit
        )


@hookimpl
def explainers() -> list[GradCAM]:
    """Return this file's explainer."""
    return [GradCAM()]
