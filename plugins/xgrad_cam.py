"""XGrad-CAM: channels weighted by the gradient where they are active."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from whylens import Explainer, Heatmap, Need, hookimpl
from whylens.plugins._layers import SignedLayerParams, weighted_features
from whylens.plugins._order import ROUNDING

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import Subject


class XGradCAM(Explainer[SignedLayerParams]):
    """The one weight per channel with which the map adds up to gradient times feature."""

    name = "xgrad-cam"
    title = "XGrad-CAM"
    family = "Class activation"
    summary = (
        "As Grad-CAM, but a channel's gradient is averaged where the channel is active, so that "
        "the map adds up to the first-order share of all features in the target score."
    )
    limits = (
        "Coarse and first-order. Where a channel takes both signs, as in transformers, its values "
        "may nearly cancel out, and its weight is then large for no good reason."
    )
    when = "In place of Grad-CAM for layers below the last, on networks with ReLUs."
    source = "Fu et al. 2020, Axiom-based Grad-CAM, eq. 8"
    cost = "1 forward pass and 1 backward pass down to the layer"
    needs = frozenset({Need.GRADIENTS, Need.SPATIAL_FEATURES})
    Params = SignedLayerParams

    def explain(self, subject: Subject, params: SignedLayerParams) -> Heatmap:
        """Return the map in units of the score."""
        return weighted_features(
            subject,
            params,
            lambda layer: channel_weights(layer.features, layer.gradients),
            subject.unit,
        )


def channel_weights(features: Tensor, gradients: Tensor) -> Tensor:
    """Return (K,): the mean gradient, each place weighted by its share of the channel. Eq. 8.

    The authors add 1e-6 to the divisor, which makes a weight depend on the size of the features.
    Here a channel whose values add up to nothing but rounding has no weight.

    Args:
        features: (1, K, *S).
        gradients: (1, K, *S) derivative of the score.
    """
    maps, slopes = features[0].flatten(1).double(), gradients[0].flatten(1)
    total = maps.sum(-1)
    empty = total.abs() <= ROUNDING * maps.abs().sum(-1)
    weights = (maps * slopes).sum(-1) / torch.where(empty, 1.0, total)
    return torch.where(empty, 0.0, weights).to(features)


@hookimpl
def explainers() -> list[XGradCAM]:
    """Return this file's explainer."""
    return [XGradCAM()]
