"""The choice of a feature map, and the mean of several layers' maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from whylens import Heatmap, Params, Partial
from whylens.plugins._arrays import as_array, resize, weighted_sum

if TYPE_CHECKING:
    from whylens import FeatureLayer, Subject

LayerChoice = Literal[
    "last", "mean over stages", "stage 1", "stage 2", "stage 3", "stage 4", "stage 5", "stage 6",
    "stage 7", "stage 8", "stage 9", "stage 10", "stage 11", "stage 12",
]  # fmt: skip


class LayerParams(Params):
    """Which feature map."""

    layer: LayerChoice = Field(
        default="last",
        description=(
            "Feature map to look at: the last, one of the network's stages (early ones are finer "
            "and know less of classes), or the mean of all stages' maps."
        ),
    )


class SignedLayerParams(LayerParams):
    """Which feature map, and whether to keep counter-evidence."""

    signed: bool = Field(
        default=False,
        title="Keep negative values",
        description="The paper keeps positive evidence only; tick to see what speaks against.",
    )


def mean_of_maps(maps: Sequence[Tensor]) -> Tensor:
    """Return the mean of maps, each as a share of its own largest value, at the finest one's size.

    A single map comes back as it is, in its own unit.
    """
    if len(maps) == 1:
        return maps[0]
    finest = max((m.shape for m in maps), key=lambda shape: shape.numel())
    large = [resize(m[None, None], tuple(finest))[0, 0] for m in maps]
    shares = [m / m.abs().max() if bool(m.any()) else m for m in large]
    return torch.stack(shares).mean(0)


def map_unit(layers: Sequence[FeatureLayer], unit: str) -> str:
    """Return the unit of a map made of these layers."""
    return unit if len(layers) == 1 else "mean over stages of shares of the largest value"


def weighted_features(
    subject: Subject,
    params: SignedLayerParams,
    weights_of: Callable[[FeatureLayer], Tensor],
    unit: str,
) -> Heatmap:
    """Return the sum over channels of weight times feature map, its positive part unless signed.

    Args:
        weights_of: Returns (K,) of a layer.
        unit: Of the map of a single layer.
    """
    layers = subject.layers(params.layer)
    maps = [weighted_sum(weights_of(layer), layer.features) for layer in layers]
    values = mean_of_maps(maps if params.signed else [m.relu() for m in maps])
    return Heatmap(as_array(values), map_unit(layers, unit), signed=params.signed)


def mean_gradients(gradients: Tensor) -> Tensor:
    """Return (K,): the mean over positions of each channel's gradient. Grad-CAM, eq. 1.

    Args:
        gradients: (1, K, *S) derivative of the score with respect to the feature map.
    """
    return gradients[0].flatten(1).mean(-1)


def explain_layers(
    layers: Sequence[FeatureLayer], explain_layer: Callable[[FeatureLayer], Iterator[Partial]]
) -> Iterator[Partial]:
    """Yield the map of one layer as it grows, or the mean of several, layer after layer."""
    layer_maps: list[Heatmap] = []
    for number, layer in enumerate(layers):
        heat: Heatmap | None = None
        for part in explain_layer(layer):
            if not isinstance(part.result, Heatmap):
                raise TypeError("Only maps can be averaged over layers.")
            heat = part.result
            mean = heat if len(layers) == 1 else _mean([*layer_maps, heat], layers)
            yield Partial(mean, (number + part.fraction) / len(layers))
        if heat is not None:
            layer_maps.append(heat)


def _mean(heats: Sequence[Heatmap], layers: Sequence[FeatureLayer]) -> Heatmap:
    diagnostics = {
        f"{layer.name}: {name}": value
        for layer, heat in zip(layers, heats, strict=False)  # fewer heats in partial answers
        for name, value in heat.diagnostics.items()
    }
    shares = [torch.tensor(h.values) for h in heats]
    if len(shares) == 1:
        shares = shares * 2  # so that the first partial map is in shares already
    return Heatmap(
        as_array(mean_of_maps(shares)), map_unit(layers, ""), heats[0].signed, diagnostics
    )
