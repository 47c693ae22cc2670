"""Grad-CAM: channels weighted by the mean gradient of the score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whylens import Explainer, Heatmap, Need, hookimpl
from whylens.plugins._arrays import as_array, weighted_sum
from whylens.plugins._layers import SignedLayerParams, map_unit, mean_of_maps

if TYPE_CHECKING:
    from torch import Tensor

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
        layers = subject.layers(params.layer)
        maps = [weighted_sum(channel_weights(layer.gradients), layer.features) for layer in layers]
        values = mean_of_maps(maps if params.signed else [m.relu() for m in maps])
        unit = map_unit(layers, f"{subject.unit} per position")
        return Heatmap(as_array(values), unit, signed=params.signed)


def channel_weights(gradients: Tensor) -> Tensor:
    """Return (K,): the mean over positions of each channel's gradient. Eq. 1.

    Args:
        gradients: (1, K, *S) derivative of the score with respect to the feature map.
    """
    return gradients[0].flatten(1).mean(-1)


@hookimpl
def explainers() -> list[GradCAM]:
    """Return this file's explainer."""
    return [GradCAM()]
