"""Score-CAM: channels weighted by the score of the picture seen through them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from whylens import Explainer, Heatmap, Need, Partial, hookimpl
from whylens.plugins._arrays import (
    as_array,
    bit_reversed_order,
    slices,
    unit_masks,
    varying_channels,
    weighted_sum,
)
from whylens.plugins._gaussian_process import (
    fit_gaussian_process,
    rank_correlation,
    squared_distances,
)
from whylens.plugins._layers import LayerParams, explain_layers

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import FeatureLayer, Subject

# The promise is 0.999. The estimate is itself uncertain, so it must pass a higher bar, and again
# after another round: a single channel that scores unlike its neighbours can decide a softmax.
REQUIRED_AGREEMENT = 0.9992
REQUIRED_PASSES = 2
FIRST_CHANNELS, ROUND_CHANNELS, SAMPLES = 48, 16, 64
# Buffers of eight pictures stay below the size at which glibc returns memory after every layer.
PIECE = 8
FALLBACK_NOTE = (
    "Fast mode fell back to exact: too little could be predicted, so every channel was asked."
)


class ScoreCAMParams(LayerParams):
    """The feature map, the weights of its channels, and the fill of hidden places."""

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
    mode: Literal["fast", "exact"] = Field(
        default="fast",
        description=(
            "fast: ask channels until the map's ranks are known to agree with the exact map's "
            "(Spearman 0.999, estimated); exact: ask every channel."
        ),
    )


class ScoreCAM(Explainer[ScoreCAMParams]):
    """One masked forward pass per channel; no gradients."""

    name = "score-cam"
    title = "Score-CAM"
    family = "Class activation"
    summary = (
        "Feature maps weighted by how well the network still scores when it sees the picture only "
        "where that map is active; no gradients."
    )
    limits = (
        "Softmax weighting lets a few channels decide when scores are large. Positive evidence "
        "only. The fast mode predicts the channels that it does not ask."
    )
    when = "To check a gradient's map by asking the network instead."
    source = "Wang et al. 2020, Score-CAM, eqs. 4 to 7 and algorithm 1"
    cost = "one forward pass per channel (512 to 2,048), or for a part of them in fast mode"
    needs = frozenset({Need.SPATIAL_FEATURES})
    Params = ScoreCAMParams
    test_params = ScoreCAMParams(mode="exact", fill="black")

    def explain(self, subject: Subject, params: ScoreCAMParams) -> Iterator[Partial]:
        """Yield the non-negative map, in units of the feature map, ever more channels in it."""
        yield from explain_layers(
            subject.layers(params.layer), lambda layer: _explain_layer(subject, layer, params)
        )


def _explain_layer(
    subject: Subject, layer: FeatureLayer, params: ScoreCAMParams
) -> Iterator[Partial]:
    maps = layer.features
    varying = varying_channels(maps)
    diagnostics = {
        "channels": float(maps.shape[1]),
        "constant channels": float(maps.shape[1] - len(varying)),
    }
    if len(varying) == 0:
        blank = torch.zeros(maps.shape[2:])
        yield Partial(Heatmap(as_array(blank), "activation", diagnostics=diagnostics), 1.0)
        return
    channels = _ChannelScores(subject, maps[:, varying], params)
    if params.mode == "exact" or len(varying) <= FIRST_CHANNELS + ROUND_CHANNELS:
        yield from _exact(channels, diagnostics)
    else:
        yield from _fast(channels, diagnostics)


class _ChannelScores:
    """The scores of an input masked by each channel; one object per explanation.

    Attributes:
        maps: (1, k, *S) the channels that are not constant.
        scores: (k,) float64, NaN where not yet measured.
    """

    def __init__(self, subject: Subject, maps: Tensor, params: ScoreCAMParams) -> None:
        self.subject = subject
        self.weighting = params.weighting
        self.maps = maps
        self.empty = subject.baseline(params.fill)
        probability = subject.target.as_probability()
        self.quantity = probability if params.weighting == "probability" else None
        hidden = torch.zeros_like(self.empty[:, :1])
        (floor,) = subject.masked_scores([hidden], self.empty, quantity=self.quantity)
        self.floor = float(floor[0])
        self.scores = torch.full((maps.shape[1],), torch.nan, dtype=torch.float64)

    def measure(self, indices: list[int]) -> Iterator[int]:
        """Measure channels' scores, yielding how many are known after each piece."""
        for piece in slices(len(indices), min(PIECE, self.subject.batch_size)):
            some = indices[piece]
            masks = unit_masks(self.maps[:, some], self.subject.size).transpose(0, 1)
            scores = self.subject.masked_scores([masks], self.empty, quantity=self.quantity)
            self.scores[some] = torch.cat(list(scores)).double().cpu()
            yield int((~self.scores.isnan()).sum())

    def weights(self, scores: Tensor) -> Tensor:
        """Return (k, N) weights of (k, N) scores; 0 where a score is NaN."""
        known_scores = torch.where(scores.isnan(), -torch.inf, scores)
        return channel_weights(known_scores, self.floor, self.weighting)

    def heat(self, weights: Tensor, diagnostics: dict[str, float], note: str = "") -> Heatmap:
        values = weighted_sum(weights.to(self.maps), self.maps).relu()
        return Heatmap(as_array(values), "activation", diagnostics=diagnostics, note=note)


def _exact(channels: _ChannelScores, diagnostics: dict[str, float]) -> Iterator[Partial]:
    order = bit_reversed_order(len(channels.scores))
    for channel_count in channels.measure(order):
        current = {**diagnostics, "channels asked": float(channel_count)}
        heat = channels.heat(channels.weights(channels.scores), current)
        yield Partial(heat, channel_count / len(order))


def _fast(channels: _ChannelScores, diagnostics: dict[str, float]) -> Iterator[Partial]:
    # Channels whose masks are alike score alike. So a regression over masks, fitted to measured
    # channels, predicts the others; channels measured at random reveal its error. Samples of it are
    # possible exact maps: where they agree, more channels add nothing; where they do not, the
    # channels that make them differ are measured next.
    maps, count = channels.maps[0].flatten(1).double().cpu(), len(channels.scores)
    low, high = maps.amin(1, keepdim=True), maps.amax(1, keepdim=True)
    masks = (maps - low) / (high - low)
    distances = squared_distances(masks)
    trend = torch.stack([torch.ones(count, dtype=torch.float64), masks.mean(1)], 1)
    generator = channels.subject.generator()
    at_random: list[int] = torch.randperm(count, generator=generator).tolist()
    batch = control = at_random[:FIRST_CHANNELS]
    weights, fraction, expected, passes = None, 0.0, count, 0
    while True:
        for channel_count in channels.measure(batch):
            diagnostics = {**diagnostics, "channels asked": float(channel_count)}
            current = channels.weights(channels.scores) if weights is None else weights
            fraction = max(fraction, min(0.98, channel_count / expected))
            yield Partial(channels.heat(current, diagnostics), fraction)
        if channel_count == count:
            diagnostics = {**diagnostics, "rank agreement": 1.0}
            final = channels.weights(channels.scores)
            yield Partial(channels.heat(final, diagnostics, FALLBACK_NOTE), 1.0)
            return
        fit = fit_gaussian_process(distances, trend, channels.scores, torch.tensor(control))
        outcomes = channels.weights(fit.sample(channels.scores, SAMPLES, generator))
        weights = outcomes.mean(1)
        agreement = _agreement(maps, weights, outcomes)
        diagnostics = {**diagnostics, "rank agreement": agreement}
        passes = passes + 1 if agreement >= REQUIRED_AGREEMENT else 0
        if passes >= REQUIRED_PASSES:
            yield Partial(
                channels.heat(weights, diagnostics, _note(channel_count, count, agreement)), 1.0
            )
            return
        # The error falls about as one over the root of the channels measured.
        need = channel_count * ((1 - agreement) / (1 - REQUIRED_AGREEMENT)) ** 0.5
        expected = min(count, max(channel_count + ROUND_CHANNELS, int(need)))
        # Rounds grow, so that fitting stays cheap beside measuring.
        size = max(ROUND_CHANNELS, channel_count // 6)
        influence = outcomes.std(1) * maps.std(1)
        influence[~channels.scores.isnan()] = -1
        influential = influence.argsort(descending=True, stable=True).tolist()[: size - size // 4]
        unmeasured = channels.scores.isnan().tolist()
        random = [k for k in at_random if unmeasured[k] and k not in influential][: size // 4]
        batch = [k for k in [*influential, *random] if unmeasured[k]]
        control = [*control, *random]


def _agreement(maps: Tensor, weights: Tensor, outcomes: Tensor) -> float:
    # The third lowest of 64: a lower bound of the agreement with the exact map, 19 times out of 20.
    values = (maps.T @ weights).relu()
    correlations = rank_correlation(values, (maps.T @ outcomes).relu())
    return min(1.0, float(correlations.sort().values[SAMPLES // 20 - 1]))  # rounding can pass 1


def _note(measured: int, count: int, agreement: float) -> str:
    return (
        f"Fast mode asked {measured} of {count} channels and predicted the others: the ranks of "
        f"the map agree with those of the exact map to {agreement:.4f} or better, by estimate."
    )


def channel_weights(scores: Tensor, floor: float, weighting: str) -> Tensor:
    """Return weights; 0 for channels whose score is -inf, that is, not (yet) measured.

    Args:
        scores: (K,) or, for N ways in which they may come out, (K, N) float64.
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
