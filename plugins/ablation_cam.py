"""Ablation-CAM: channels weighted by how far the score falls when each is switched off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from whylens import Explainer, Heatmap, Need, Partial, hookimpl
from whylens.plugins._arrays import as_array, slices, weighted_sum, zero_rounding
from whylens.plugins._layers import SignedLayerParams, explain_layers

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import FeatureLayer, Subject

PARTIAL_MAPS = 8  # partial maps on the way


class AblationCAM(Explainer[SignedLayerParams]):
    """One pass through what follows the layer per channel; no gradients."""

    name = "ablation-cam"
    title = "Ablation-CAM"
    family = "Class activation"
    summary = (
        "Feature maps weighted by how far the target score falls when that one channel is switched "
        "off; no gradients."
    )
    limits = (
        "Channels that stand in for one another all look unimportant, and one weight serves a "
        "channel's every place."
    )
    when = "Where gradients cannot be had or are saturated."
    source = "Desai and Ramaswamy 2020, Ablation-CAM, eqs. 3 and 4"
    cost = "1 forward pass, and per channel one pass through what follows the layer"
    needs = frozenset({Need.SPATIAL_FEATURES})
    Params = SignedLayerParams

    def explain(self, subject: Subject, params: SignedLayerParams) -> Iterator[Partial]:
        """Yield the map in units of score times activation, ever more channels in it."""
        layers = subject.layers(params.layer)
        yield from explain_layers(
            layers, lambda layer: _explain_layer(subject, layer, signed=params.signed)
        )


def _explain_layer(subject: Subject, layer: FeatureLayer, *, signed: bool) -> Iterator[Partial]:
    maps = layer.features
    count = maps.shape[1]
    weights = torch.zeros(count, dtype=maps.dtype, device=maps.device)
    base = float(layer.scores(maps)[0])
    for piece in slices(count, -(-count // PARTIAL_MAPS)):
        drops = base - layer.scores(zero_channels(maps, piece))
        # A dead channel changes nothing, and rounding must not give it a weight.
        weights[piece] = zero_rounding(drops, subject.rounding)
        values = weighted_sum(weights, maps)
        heat = Heatmap(
            as_array(values if signed else values.relu()),
            f"{subject.unit} times activation",
            signed,
            {"channels": count, "channels that matter": int((weights != 0).sum())},
        )
        yield Partial(heat, piece.stop / count)


def zero_channels(maps: Tensor, channels: slice) -> Tensor:
    """Return (n, K, *s): n copies, in each of which the next of n channels is 0. Eq. 3.

    The weight is then the difference of scores. The paper divides it by the score, which turns
    every sign where that is negative; a constant factor changes no map.

    Args:
        maps: (1, K, *s).
    """
    numbers = range(channels.start, channels.stop)
    copies = maps.repeat(len(numbers), *[1] * (maps.ndim - 1))
    for row, channel in enumerate(numbers):
        copies[row, channel] = 0
    return copies


@hookimpl
def explainers() -> list[AblationCAM]:
    """Return this file's explainer."""
    return [AblationCAM()]
