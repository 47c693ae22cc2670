"""Score-CAM: channels weighted by the score of the picture seen through them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from core import Explainer, Heatmap, Need, Params, Partial, hookimpl
from plugins._maps import as_array, resized, slices, spread_order, weighted_sum

if TYPE_CHECKING:
    from torch import Tensor

    from core import Subject


class ScoreCAMParams(Params):
    """How channels are weighted and what hidden places show."""

    weighting: Literal["softmax", "increase", "probability"] = Field(
        default="softmax",
        description=(
            "softmax: of the score's increase over the empty picture (the paper); increase: that "
            "increase itself where positive; probability: of the class, as the authors' code does."
        ),
    )
    fill: Literal["black", "grey", "mean", "blur"] = Field(
        default="mean", description="What hidden places show; defined in pixel space."
    )


class ScoreCAM(Explainer[ScoreCAMParams]):
    """Gradient-free: every channel is asked once."""

    name = "score-cam"
    title = "Score-CAM"
    family = "CAM"
    summary = (
        "Feature maps weighted by how well the network still scores when it sees the picture only "
        "where that map is active; no gradients."
    )
    limits = (
        "One forward pass per channel. Softmax weighting lets a few channels decide when scores "
        "are large. Positive evidence only."
    )
    source = "Wang et al. 2020, Score-CAM, eqs. 4 to 7 and algorithm 1"
    cost = "one forward pass per channel (512 to 2,048)"
    needs = frozenset({Need.SPATIAL_FEATURES})
    Params = ScoreCAMParams

    def explain(self, subject: Subject, params: ScoreCAMParams) -> Iterator[Partial]:
        """Yield the non-negative map, in units of the feature map, ever more channels in it."""
        maps = subject.features
        alive = [int(k) for k in varying_channels(maps)]
        empty = subject.filled(params.fill)
        floor = float(_measured(subject, empty, params.weighting)[0])
        order = [alive[i] for i in spread_order(len(alive))]
        scores = torch.full((maps.shape[1],), -torch.inf, dtype=torch.float64)
        checks = {"channels": maps.shape[1], "constant channels": maps.shape[1] - len(alive)}
        if not alive:
            blank = torch.zeros(maps.shape[2:])
            yield Partial(Heatmap(as_array(blank), "activation", checks=checks), 1.0)
            return
        for piece in slices(len(order), subject.batch_size):
            chosen = order[piece]
            masks = unit_masks(maps[:, chosen], subject.size)
            shown = empty + masks.transpose(0, 1) * (subject.x - empty)
            scores[chosen] = _measured(subject, shown, params.weighting).double().cpu()
            weights = channel_weights(scores, floor, params.weighting)
            values = weighted_sum(weights.to(maps), maps).relu()
            heat = Heatmap(as_array(values), "activation", checks=checks)
            yield Partial(heat, piece.stop / len(order))


def _measured(subject: Subject, inputs: Tensor, weighting: str) -> Tensor:
    if weighting == "probability":
        return subject.batch_logits(inputs).softmax(-1)[:, subject.target.index]
    return subject.scores(inputs)


def varying_channels(maps: Tensor) -> Tensor:
    """Return the indices of channels that are not constant; a constant mask hides nothing.

    Args:
        maps: (1, K, *S).
    """
    flat = maps[0].flatten(1)
    spread = flat.amax(1) - flat.amin(1)
    return (spread > 1e-6 * flat.abs().amax(1)).nonzero()[:, 0]


def unit_masks(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return (1, K, *size): each map enlarged, then scaled to [0, 1]. Eqs. 5 and 6.

    Args:
        maps: (1, K, *S) of channels that are not constant.
        size: Spatial size of the input.
    """
    large = resized(maps, size)
    axes = tuple(range(2, large.ndim))
    low, high = large.amin(axes, keepdim=True), large.amax(axes, keepdim=True)
    return (large - low) / (high - low)


def channel_weights(scores: Tensor, floor: float, weighting: str) -> Tensor:
    """Return (K,) weights; 0 for channels whose score is -inf, that is, not (yet) measured.

    Args:
        scores: (K,) float64.
        floor: Score of the empty picture.
        weighting: "softmax", "increase" or "probability".
    """
    measured = scores.isfinite()
    if weighting == "softmax":
        return (scores - floor).softmax(0)
    rise = scores if weighting == "probability" else (scores - floor).relu()
    return torch.where(measured, rise, 0.0)


@hookimpl
def explainers() -> list[ScoreCAM]:
    """Return this file's explainer."""
    return [ScoreCAM()]
