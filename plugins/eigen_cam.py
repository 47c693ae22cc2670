"""Eigen-CAM: the feature map seen along its first principal direction, whatever the class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from whylens import Explainer, Heatmap, Need, hookimpl
from whylens.plugins._arrays import as_array
from whylens.plugins._layers import LayerParams, map_unit, mean_of_maps
from whylens.plugins._order import first_largest

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import Subject


class EigenCAM(Explainer[LayerParams]):
    """The layer's strongest response; no gradients, no class."""

    name = "eigen-cam"
    title = "Eigen-CAM"
    family = "Class activation"
    summary = "Where a feature map responds most strongly along its main direction of activity."
    limits = (
        "Knows no class: the map is the same for every class, so it cannot say why this one and "
        "not another."
    )
    when = "To see what the network responds to at all, before asking about a class."
    source = "Muhammad and Yeasin 2020, Eigen-CAM, eqs. 2 and 3"
    cost = "1 forward pass and a singular value decomposition"
    needs = frozenset({Need.SPATIAL_FEATURES})
    class_blind = True
    Params = LayerParams

    def explain(self, subject: Subject, params: LayerParams) -> Heatmap:
        """Return the signed map in units of the feature map, with the share that it explains."""
        layers = subject.layers(params.layer)
        parts = [principal_map(layer.features) for layer in layers]
        diagnostics = {} if len(parts) > 1 else {"share of activity": parts[0][1]}
        values = mean_of_maps([values for values, _ in parts])
        return Heatmap(as_array(values), map_unit(layers, "activation"), True, diagnostics)


def principal_map(features: Tensor) -> tuple[Tensor, float]:
    """Return (*s) the features along the first right singular vector, and its share of energy.

    As in the paper nothing is centred. A singular vector has no sign of its own: we take that by
    which the map's sum is positive or, where positive and negative parts weigh the same, its
    largest value.

    Args:
        features: (1, K, *s).
    """
    columns = features[0].flatten(1).T.double()  # positions by channels
    _, strengths, directions = torch.linalg.svd(columns, full_matrices=False)
    values = columns @ directions[0]
    balance, weight = float(values.sum()), float(values.abs().sum())
    if abs(balance) <= 1e-4 * weight:
        balance = float(values[first_largest(values.abs().cpu().numpy())])
    values = values if balance >= 0 else -values
    energy = float((strengths**2).sum())
    share = float(strengths[0] ** 2) / energy if energy > 0 else 0.0
    return values.view(features.shape[2:]), share


@hookimpl
def explainers() -> list[EigenCAM]:
    """Return this file's explainer."""
    return [EigenCAM()]
