"""SISE: RISE with the network's own feature maps as masks, from several depths, fused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import Field

from whylens import Explainer, Heatmap, Need, Params, Partial, hookimpl
from whylens.plugins._arrays import as_array, slices, unit_masks, weighted_sum
from whylens.plugins._order import ROUNDING, first_largest, strongest_first

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from whylens import Subject


class SISEParams(Params):
    """The number of masks per stage, what they weigh, and the fill of hidden places."""

    masks: int = Field(
        default=64,
        ge=8,
        le=512,
        multiple_of=8,
        title="Masks per stage",
        description="The channels with the largest mean gradient; the paper takes all positive.",
    )
    weights: Literal["confidence", "rise"] = Field(
        default="confidence",
        description="What a mask weighs: the confidence in what it shows, divided by its size, as "
        "in the paper; or the rise of the score above that of the fill.",
    )
    fill: Literal["black", "grey", "mean", "blur"] = Field(
        default="black", description="What hidden places show; defined in pixel space."
    )


class SISE(Explainer[SISEParams]):
    """Masks from feature maps of every stage, fused from early and fine to late and specific.

    It departs from the paper in one way: which channels speak for the target is for the gradient of
    its own score to say, a logit's as a rule, since that of a confidence near 1 is all rounding.
    """

    name = "sise"
    title = "SISE"
    family = "Class activation"
    summary = (
        "The picture is seen through feature maps of every stage that speak for the target; how "
        "sure the network is of what they show is fused from early and fine to late and telling."
    )
    limits = (
        "Positive evidence only, in shares and not in units of the score; a late stage that finds "
        "nothing hides what early ones found."
    )
    when = "When both outline and class matter and there is time to wait."
    source = "Sattarzadeh et al. 2021, Explaining CNNs through Attribution-Based Input Sampling"
    cost = "one forward pass per mask (64 per stage), and one backward pass per stage"
    needs = frozenset({Need.GRADIENTS, Need.SPATIAL_FEATURES})
    Params = SISEParams
    test_params = SISEParams(masks=8)

    def explain(self, subject: Subject, params: SISEParams) -> Iterator[Partial]:
        """Yield the non-negative map in shares, stage after stage."""
        layers, fill = subject.layers("mean over stages"), subject.baseline(params.fill)
        paper = params.weights == "confidence"
        judge, floor = (by_confidence(subject), 0.0) if paper else (subject, subject.scores(fill))
        in_class = paper and subject.target.quantity not in _NO_CLASS
        unit = "probability" if in_class else subject.unit
        nothing = torch.zeros(subject.size, dtype=torch.float64, device=subject.x.device)
        total, mask_count = nothing, 0

        def part(fraction: float) -> Partial:
            words = f"share of the largest value, weighed by {unit}"
            return Partial(
                Heatmap(as_array(total), words, diagnostics={"masks": mask_count}), fraction
            )

        for number, layer in enumerate(layers):
            channels = positive_channels(layer.gradients, layer.features, params.masks)
            stage = nothing
            for piece in slices(len(channels), subject.batch_size):
                masks = unit_masks(layer.features[:, channels[piece]], subject.size)
                windows = masks.transpose(0, 1)
                weights = torch.cat(list(judge.masked_scores([windows], fill))) - floor
                wide = masks.double()
                if paper:
                    weights = weights / wide[0].flatten(1).sum(-1)
                else:
                    weights = torch.where(weights > subject.rounding, weights, 0.0).double()
                stage = stage + weighted_sum(weights, wide)
                mask_count += len(windows)
                yield part((number + piece.stop / len(channels) * 0.99) / len(layers))
            total = fuse_stages(total, stage) if number else unit_range(stage)
            yield part((number + 1) / len(layers))


_NO_CLASS = ("value", "function")


def by_confidence(subject: Subject) -> Subject:
    """Return the question with a probability as its score: of A, or of A among A and B.

    A number that is no class's stays as it is.
    """
    target = subject.target
    if target.quantity in _NO_CLASS:
        return subject
    if target.versus is None:
        return replace(subject, target=target.as_probability())

    def share(logits: Tensor) -> Tensor:
        return target.score(logits).sigmoid()

    pair = replace(target, quantity="function", versus=None, function=share)
    return replace(subject, target=pair)


def positive_channels(gradients: Tensor, features: Tensor, limit: int) -> list[int]:
    """Return the channels whose mean gradient is positive and whose map varies, strongest first.

    Where the mean gradient of every channel is negative there is none. The reference code compares
    with the largest mean then, and so keeps all channels.

    Args:
        gradients: (1, K, *s) derivative of the score.
        features: (1, K, *s).
        limit: How many at most.
    """
    slopes, maps = gradients[0].flatten(1).mean(1), features[0].flatten(1)
    spread = maps.amax(1) - maps.amin(1)
    positive = slopes > ROUNDING * slopes.abs().max()
    positive &= spread > 1e-6 * maps.abs().amax(1)
    channels: list[int] = positive.nonzero()[:, 0].tolist()
    order = strongest_first(slopes[channels].double().cpu().numpy())
    return [channels[i] for i in order[:limit]]


def unit_range(values: Tensor) -> Tensor:
    """Return a map scaled to [0, 1]; zeros where all values are the same up to rounding."""
    low, high = values.amin(), values.amax()
    if high - low <= ROUNDING * values.abs().amax():
        return torch.zeros_like(values)
    return (values - low) / (high - low)


def fuse_stages(earlier: Tensor, later: Tensor) -> Tensor:
    """Return the fusion of two maps in [0, 1]: their sum where the later one is strong, else 0.

    Strong is what lies above Otsu's threshold; a map of one value says nothing about places.

    Args:
        earlier: (*S) of all stages so far, in [0, 1].
        later: (*S) of the next stage, in any unit.
    """
    later = unit_range(later)
    plain = later.double().cpu().numpy()
    strong = torch.from_numpy(plain > otsu_threshold(plain)).to(later.device)
    return unit_range((earlier + later) * strong)


def otsu_threshold(values: npt.NDArray[np.float64]) -> float:
    """Return the threshold between two groups of values as far apart as can be; 0 if all are equal.

    Otsu 1979 cuts a histogram: whether a value falls into one bin or the next is then for rounding
    to say, and one value moves the cut by a whole bin. Here every value is a bin of its own, the
    cut lies midway between two of them, and of cuts as good to a millionth the lowest is taken.

    Args:
        values: Of any shape.
    """
    ordered = np.sort(values, axis=None)
    rises = np.flatnonzero(np.diff(ordered) > ROUNDING * np.abs(ordered).max())
    if not len(rises):
        return 0.0
    low, total = rises + 1.0, float(len(ordered))
    sums = np.cumsum(ordered)
    mean_difference = (sums[-1] - sums[rises]) / (total - low) - sums[rises] / low
    between = low * (total - low) * mean_difference**2
    cut_index = rises[first_largest(between, 1e-6 * float(between.max()))]
    return float(ordered[cut_index] + ordered[cut_index + 1]) / 2


@hookimpl
def explainers() -> list[SISE]:
    """Return this file's explainer."""
    return [SISE()]
