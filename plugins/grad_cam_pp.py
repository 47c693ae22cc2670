"""Grad-CAM++: positive gradients weighted so that several occurrences count alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from whylens import Explainer, Heatmap, Need, hookimpl
from whylens.plugins._arrays import as_array, weighted_sum
from whylens.plugins._layers import LayerParams, map_unit, mean_of_maps

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import Subject


class GradCAMPlusPlus(Explainer[LayerParams]):
    """Exact: the denominator is simplified, not padded with an absolute epsilon."""

    name = "grad-cam++"
    title = "Grad-CAM++"
    family = "Class activation"
    summary = (
        "As Grad-CAM, but weighs each position's positive gradient, so that several objects of one "
        "class all light up."
    )
    limits = (
        "With a head that averages and applies one linear layer its weights are about 1/2 "
        "everywhere: it then adds little to Grad-CAM. Positive evidence only."
    )
    when = "When an object appears several times."
    source = "Chattopadhay et al. 2018, Grad-CAM++, eqs. 5, 10 and 19"
    cost = "1 forward pass and 1 backward pass through the head"
    needs = frozenset({Need.GRADIENTS, Need.SPATIAL_FEATURES})
    Params = LayerParams

    def explain(self, subject: Subject, params: LayerParams) -> Heatmap:
        """Return the non-negative map in units of the score."""
        layers = subject.layers(params.layer)
        maps = [
            weighted_sum(channel_weights(layer.features, layer.gradients), layer.features).relu()
            for layer in layers
        ]
        unit = map_unit(layers, f"{subject.unit}, weighted by position")
        return Heatmap(as_array(mean_of_maps(maps)), unit)


def channel_weights(features: Tensor, gradients: Tensor) -> Tensor:
    """Return (K,): sum over positions of alpha times the positive gradient. Eqs. 5 and 19.

    The paper's alpha = g^2 / (2 g^2 + sum(A) g^3) is divided through by g^2, which is exact and
    leaves no small numbers to guard: alpha = 1 / (2 + sum(A) g) where g is not 0, else 0. The
    paper's factor exp(score) is one positive constant for the whole map and is left out.

    Args:
        features: (1, K, *S).
        gradients: (1, K, *S) derivative of the score.
    """
    maps, slopes = features[0].flatten(1), gradients[0].flatten(1)
    total = maps.sum(-1, keepdim=True)
    denominator = 2 + total * slopes
    # Where the two terms cancel, alpha has a pole; relative to their size that is "zero".
    cancelled = denominator.abs() <= 1e-6 * (2 + (total * slopes).abs())
    alpha = torch.where(cancelled | (slopes == 0), 0.0, 1 / denominator)
    return (alpha * slopes.relu()).sum(-1)


@hookimpl
def explainers() -> list[GradCAMPlusPlus]:
    """Return this file's explainer."""
    return [GradCAMPlusPlus()]
