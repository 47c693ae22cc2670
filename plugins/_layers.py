"""Which feature map a method looks at, and how the maps of several become one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from whylens import Heatmap, Params, Partial
from whylens.plugins._arrays import as_array, resized

if TYPE_CHECKING:
    from whylens import FeatureLayer

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


def fused(maps: Sequence[Tensor]) -> Tensor:
    """Return (*s) one map of several: each as a share of its own largest value, then the mean.

    A single map comes back as it is, in its own unit.

    Args:
        maps: (*s) each, of any sizes; the result has the finest.
    """
    if len(maps) == 1:
        return maps[0]
    finest = max((m.shape for m in maps), key=lambda shape: shape.numel())
    large = [resized(m[None, None], tuple(finest))[0, 0] for m in maps]
    shares = [m / m.abs().max() if bool(m.any()) else m for m in large]
    return torch.stack(shares).mean(0)


def unit_of(layers: Sequence[FeatureLayer], unit: str) -> str:
    """Return the unit of a map made of these layers."""
    return unit if len(layers) == 1 else "mean over stages of shares of the largest value"


def over_layers(
    layers: Sequence[FeatureLayer], work: Callable[[FeatureLayer], Iterator[Partial]]
) -> Iterator[Partial]:
    """Yield the map of one layer as it grows, or the mean of several, layer after layer."""
    done: list[Heatmap] = []
    for number, layer in enumerate(layers):
        heat: Heatmap | None = None
        for part in work(layer):
            if not isinstance(part.result, Heatmap):
                raise TypeError("Only maps can be averaged over layers.")
            heat = part.result
            shown = heat if len(layers) == 1 else _mean([*done, heat], layers)
            yield Partial(shown, (number + part.fraction) / len(layers))
        if heat is not None:
            done.append(heat)


def _mean(heats: Sequence[Heatmap], layers: Sequence[FeatureLayer]) -> Heatmap:
    checks = {
        f"{layer.name}: {name}": value
        for layer, heat in zip(layers, heats, strict=False)  # fewer while it is under way
        for name, value in heat.diagnostics.items()
    }
    shares = [torch.tensor(h.values) for h in heats]
    if len(shares) == 1:
        shares = shares * 2  # a share of its largest value from the first on
    return Heatmap(as_array(fused(shares)), unit_of(layers, ""), heats[0].signed, checks)
