"""SISE: RISE with the network's own feature maps as masks, from several depths, fused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import Field

from whylens import Explainer, Heatmap, Need, Params, Partial, hookimpl
from whylens.plugins._arrays import as_array, resize, slices, weighted_sum
from whylens.plugins._order import ROUNDING, first_largest, strongest_first

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from whylens import FeatureLayer, Subject


class SISEParams(Params):
    """How many masks a stage may give and what they hide."""

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
    """Fine from the early stages, about the class from the late ones."""

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
        base, fused, asked = float(subject.scores(fill)[0]), torch.zeros(subject.size), 0
        for number, layer in enumerate(layers):
            chosen = speaking_channels(layer.gradients, layer.features, params.masks)
            shares: list[Tensor] = []
            for piece in slices(len(chosen), subject.batch_size):
                masks = unit_masks(layer, chosen[piece], subject.size)
                rises = torch.cat(list(subject.masked_scores([masks], fill))) - base
                shares.append(weighted_sum(_told(rises, subject.rounding), masks.transpose(0, 1)))
                within = (piece.stop / len(chosen)) * 0.99
                yield Partial(_heat(fused, asked + piece.stop), (number + within) / len(layers))
            asked += len(chosen)
            stage = torch.stack(shares).sum(0).relu() if shares else torch.zeros(subject.size)
            fused = cascaded(fused, stage) if number else as_shares(stage)
            yield Partial(_heat(fused, asked), (number + 1) / len(layers))


def _heat(values: Tensor, asked: int) -> Heatmap:
    return Heatmap(as_array(values), "share of the largest value", diagnostics={"masks": asked})


def _told(rises: Tensor, rounding: float) -> Tensor:
    return torch.where(rises > rounding, rises, 0.0)


def speaking_channels(gradients: Tensor, features: Tensor, most: int) -> list[int]:
    """Return the channels whose mean gradient is positive and whose map varies, strongest first.

    Where the gradient of every channel is negative there is none: nothing speaks for the target.
    The reference code compares with the largest mean then, and so keeps all of them.

    Args:
        gradients: (1, K, *s) derivative of the score.
        features: (1, K, *s).
        most: How many at most.
    """
    slopes, maps = gradients[0].flatten(1).mean(1), features[0].flatten(1)
    spread = maps.amax(1) - maps.amin(1)
    speaks = slopes > ROUNDING * slopes.abs().max()
    speaks &= spread > 1e-6 * maps.abs().amax(1)
    channels: list[int] = speaks.nonzero()[:, 0].tolist()
    order = strongest_first(slopes[channels].double().cpu().numpy())
    return [channels[i] for i in order[:most]]


def unit_masks(layer: FeatureLayer, channels: list[int], size: tuple[int, ...]) -> Tensor:
    """Return (n, 1, *size): channels enlarged, then scaled to [0, 1] each."""
    large = resize(layer.features[:, channels], size)[0]
    flat = large.flatten(1)
    shape = (-1, *[1] * len(size))
    low, high = flat.amin(1).view(shape), flat.amax(1).view(shape)
    return ((large - low) / (high - low))[:, None]


def as_shares(values: Tensor) -> Tensor:
    """Return a non-negative map as shares of its largest value; one that is 0 stays so."""
    top = float(values.max())
    return values / top if top > 0 else values


def cascaded(earlier: Tensor, later: Tensor) -> Tensor:
    """Return the fusion of two maps: their sum, kept where the later one is strong, as shares.

    Strong is what lies above Otsu's threshold; a map of one value has none, and nothing of it is
    strong unless it is positive.

    Args:
        earlier: (*S) shares, of all stages so far.
        later: (*S) not negative, of the next stage.
    """
    share = as_shares(later)
    plain = share.double().numpy() if share.device.type == "cpu" else share.double().cpu().numpy()
    strong = plain > otsu_threshold(plain)
    kept = torch.from_numpy(strong.astype(np.float32)).to(share)
    return as_shares((earlier.to(share) + share) * kept)


def otsu_threshold(values: npt.NDArray[np.float64]) -> float:
    """Return what parts values into two groups as far apart as can be; 0 where all are equal.

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
