"""LayerCAM: every place weighted by its own positive gradient, at any depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whylens import Explainer, Heatmap, Need, hookimpl
from whylens.plugins._arrays import as_array
from whylens.plugins._layers import LayerParams, map_unit, mean_of_maps

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import Subject


class LayerCAM(Explainer[LayerParams]):
    """Grad-CAM without its mean over positions, so that finer layers can be read as well."""

    name = "layer-cam"
    title = "LayerCAM"
    family = "Class activation"
    summary = (
        "Where a feature map, also an early and fine one, holds what raises the target score, each "
        "place by its own gradient."
    )
    limits = (
        "Positive gradients and positive evidence only; in early stages it marks edges and "
        "textures, of which the network makes an object only later."
    )
    when = "When the last layer is too coarse: take an earlier stage."
    source = "Jiang et al. 2021, LayerCAM, eqs. 5 to 7"
    cost = "1 forward pass and 1 backward pass down to the layer"
    needs = frozenset({Need.GRADIENTS, Need.SPATIAL_FEATURES})
    Params = LayerParams

    def explain(self, subject: Subject, params: LayerParams) -> Heatmap:
        """Return the non-negative map in units of the score."""
        layers = subject.layers(params.layer)
        maps = [layer_activation_map(layer.features, layer.gradients) for layer in layers]
        return Heatmap(as_array(mean_of_maps(maps)), map_unit(layers, subject.unit))


def layer_activation_map(features: Tensor, gradients: Tensor) -> Tensor:
    """Return (*s): relu of the sum over channels of relu(gradient) times feature. Eqs. 5 to 7.

    The paper stretches the maps of early stages by tanh before they are added; we add maps as
    shares of their largest value, and leave a single one raw.

    Args:
        features: (1, K, *s).
        gradients: (1, K, *s) derivative of the score.
    """
    total: Tensor = (gradients.relu() * features)[0].sum(0).relu()
    return total


@hookimpl
def explainers() -> list[LayerCAM]:
    """Return this file's explainer."""
    return [LayerCAM()]
