"""SISE: RISE with the network's own feature maps as masks, from several depths, fused."""

from __future__ import annotations

from collections.abc import Iterator
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
    """The number of masks per stage, and the fill of hidden places."""

    masks: int = Field(
        default=64,
        ge=8,
        le=512,
        multiple_of=8,
        title="Masks per stage",
        description="The channels with the largest mean gradient; the paper takes all positive.",
    )
    fill: Literal["black", "grey", "mean", "blur"] = Field(
        default="black", description="What hidden places show; defined in pixel space."
    )


class SISE(Explainer[SISEParams]):
    """Masks from feature maps of every stage, fused from early and fine to late and specific."""

    name = "sise"
    title = "SISE"
    family = "Class activation"
    summary = (
        "The picture is seen through feature maps of every stage that speak for the target; what "
        "they score is fused from early and fine to late and telling."
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
        layers = subject.layers("mean over stages")
        fill = subject.baseline(params.fill)
        base, total, done = float(subject.scores(fill)[0]), torch.zeros(subject.size), 0
        for number, layer in enumerate(layers):
            channels = positive_channels(layer.gradients, layer.features, params.masks)
            shares: list[Tensor] = []
            for piece in slices(len(channels), subject.batch_size):
                maps = layer.features[:, channels[piece]]
                masks = unit_masks(maps, subject.size)
                scores = torch.cat(list(subject.masked_scores([masks.transpose(0, 1)], fill)))
                rises = torch.where(scores - base > subject.rounding, scores - base, 0.0)
                shares.append(weighted_sum(rises, masks))
                within = (piece.stop / len(channels)) * 0.99
                yield Partial(_heat(total, done + piece.stop), (number + within) / len(layers))
            done += len(channels)
            stage = torch.stack(shares).sum(0).relu() if shares else torch.zeros(subject.size)
            total = fuse_stages(total, stage) if number else as_shares(stage)
            yield Partial(_heat(total, done), (number + 1) / len(layers))


def _heat(values: Tensor, done: int) -> Heatmap:
    return Heatmap(as_array(values), "share of the largest value", diagnostics={"masks": done})


def positive_channels(gradients: Tensor, features: Tensor, most: int) -> list[int]:
    """Return the channels whose mean gradient is positive and whose map varies, strongest first.

    Where the mean gradient of every channel is negative there is none. The reference code compares
    with the largest mean then, and so keeps all channels.

    Args:
        gradients: (1, K, *s) derivative of the score.
        features: (1, K, *s).
        most: How many at most.
    """
    slopes, maps = gradients[0].flatten(1).mean(1), features[0].flatten(1)
    spread = maps.amax(1) - maps.amin(1)
    positive = slopes > ROUNDING * slopes.abs().max()
    positive &= spread > 1e-6 * maps.abs().amax(1)
    channels: list[int] = positive.nonzero()[:, 0].tolist()
    order = strongest_first(slopes[channels].double().cpu().numpy())
    return [channels[i] for i in order[:most]]


def as_shares(values: Tensor) -> Tensor:
    """Return a non-negative map as shares of its largest value; one that is 0 stays so."""
    top = float(values.max())
    return values / top if top > 0 else values


def fuse_stages(earlier: Tensor, later: Tensor) -> Tensor:
    """Return the fusion of two maps as shares: their sum where the later one is strong, else 0.

    Strong is what lies above Otsu's threshold; a map of one value has none, and nothing of it is
    strong unless it is positive.

    Args:
        earlier: (*S) shares, of all stages so far.
        later: (*S) not negative, of the next stage.
    """
    share = as_shares(later)
    plain = share.double().numpy() if share.device.type == "cpu" else share.double().cpu().numpy()
    strong = plain > otsu_threshold(plain)
    mask = torch.from_numpy(strong.astype(np.float32)).to(share)
    return as_shares((earlier.to(share) + share) * mask)


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
    apart = (sums[-1] - sums[rises]) / (total - low) - sums[rises] / low
    between = low * (total - low) * apart**2
    cut = rises[first_largest(between, 1e-6 * float(between.max()))]
    return float(ordered[cut] + ordered[cut + 1]) / 2


@hookimpl
def explainers() -> list[SISE]:
    """Return this file's explainer."""
    return [SISE()]
