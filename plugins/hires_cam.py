"""HiResCAM: gradient times feature, place by place, which adds up to the score where it can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from whylens import Explainer, Heatmap, Need, hookimpl
from whylens.plugins._arrays import as_array
from whylens.plugins._layers import LayerParams, map_unit, mean_of_maps
from whylens.plugins._order import ROUNDING

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import Subject


class HiResCAM(Explainer[LayerParams]):
    """Faithful to the score wherever what follows the layer is linear."""

    name = "hires-cam"
    title = "HiResCAM"
    family = "Class activation"
    summary = (
        "How much each place of a feature map raises or lowers the target score, to first order: "
        "the gradient is not averaged over the picture."
    )
    limits = (
        "Exact only where all that follows the layer is linear; after pooling it is Grad-CAM. "
        "Noisy in early stages."
    )
    when = "When the map has to add up to the score, or Grad-CAM looks too smooth."
    source = "Draelos and Carin 2020, Use HiResCAM instead of Grad-CAM, eq. 5"
    cost = "1 forward pass and 1 backward pass down to the layer"
    needs = frozenset({Need.GRADIENTS, Need.SPATIAL_FEATURES})
    Params = LayerParams

    def explain(self, subject: Subject, params: LayerParams) -> Heatmap:
        """Return the signed map in units of the score; its sum is the score less a constant."""
        layers = subject.layers(params.layer)
        maps = [hirescam_map(layer.features, layer.gradients) for layer in layers]
        diagnostics = {} if len(maps) > 1 else {"sum of map": float(maps[0].sum())}
        blank = not any(m.any() for m in maps)
        cancelled = blank and any(layer.gradients.any() for layer in layers)
        note = _CANCELLED if cancelled else ""
        unit = map_unit(layers, subject.unit)
        return Heatmap(as_array(mean_of_maps(maps)), unit, True, diagnostics, note)


_CANCELLED = (
    "Gradient times feature cancels out at every place: what follows this layer normalises over "
    "channels, so that the size of a feature says nothing. Choose a stage before it, or Grad-CAM."
)


def hirescam_map(features: Tensor, gradients: Tensor) -> Tensor:
    """Return (*s) in score units: the sum over channels of gradient times feature. Eq. 5.

    The paper shows its positive part; we keep the sign. Where positive and negative terms cancel
    to within rounding it is 0: before a layer that normalises over channels they do so everywhere.

    Args:
        features: (1, K, *s).
        gradients: (1, K, *s) derivative of the score.
    """
    terms = (gradients.double() * features)[0]
    total = terms.sum(0)
    return torch.where(total.abs() > ROUNDING * terms.abs().sum(0).max(), total, 0.0)


@hookimpl
def explainers() -> list[HiResCAM]:
    """Return this file's explainer."""
    return [HiResCAM()]
