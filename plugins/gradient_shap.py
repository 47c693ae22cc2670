"""Gradient SHAP: integrated gradients averaged over many baselines, each path sampled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from whylens import (
    Explainer,
    Heatmap,
    Need,
    Params,
    Partial,
    denormalize,
    hookimpl,
    normalize,
    per_channel,
)
from whylens.plugins._arrays import as_array, bit_reversed_order, relative_residual, value_limits

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from whylens import Subject

FILLS: tuple[Literal["black", "grey", "mean", "blur"], ...] = ("black", "grey", "mean", "blur")
TOLERANCE = 0.05
Baselines = Literal["fills", "noise"]


class GradientShapParams(Params):
    """Where paths start, and the number of points on them."""

    baselines: Baselines = Field(
        default="fills",
        description="Paths start at black, grey, mean colour and blur in equal shares, with noise "
        "added; or at pictures of pure noise.",
    )
    noise: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        multiple_of=0.01,
        title="Noise on fills",
        description="Standard deviation of the noise on the fills, as a share of the input's range "
        "of values.",
    )
    samples: int = Field(
        default=128, ge=16, le=1024, multiple_of=16, description="Points drawn, one per pass."
    )


class GradientShap(Explainer[GradientShapParams]):
    """Expected gradients over fills and noise, with an unbiased standard error."""

    name = "gradient-shap"
    title = "Gradient SHAP"
    family = "Gradient"
    summary = (
        "How much each pixel adds to the score on the way to this picture from many empty ones; "
        "all pixels together add up to the score's change, averaged over the empty ones."
    )
    limits = (
        "The empty pictures are fills and noise, not other photos, and what they are decides what "
        "counts as evidence. Sampled: two seeds' maps of a photo (SqueezeNet) correlate by 0.83."
    )
    when = "As Integrated Gradients, where no single baseline is neutral."
    source = (
        "Lundberg and Lee 2017, A Unified Approach to Interpreting Model Predictions (SHAP's "
        "GradientExplainer); Erion et al. 2021, Improving performance of deep learning models with "
        "axiomatic attribution priors and expected gradients, eq. 3"
    )
    cost = "samples (128) forward and backward passes, as many forward ones for the noisy baselines"
    needs = frozenset({Need.GRADIENTS})
    Params = GradientShapParams
    test_params = GradientShapParams(samples=16)

    def explain(self, subject: Subject, params: GradientShapParams) -> Iterator[Partial]:
        """Yield the signed map in units of the score per pixel, with its standard error.

        The path's points are stratified, and so are the fills: points come in pairs, both of one
        fill and one stretch of the path. The pairs' means make the map, and the differences
        within pairs its standard error, without bias.
        """
        generator = subject.generator()
        strata = params.samples // 2
        total = torch.zeros(subject.size, dtype=torch.float64, device=subject.x.device)
        squared = torch.zeros_like(total)
        change_sum = change_squares = 0.0
        at_once = max(1, subject.batch_size // 2)
        order = list(visit_order(strata, params.baselines))
        for begin in range(0, strata, at_once):
            pairs = [
                draw_pair(subject, params, fill, stretch, generator)
                for fill, stretch in order[begin : begin + at_once]
            ]
            starts = torch.cat([start for start, _ in pairs])
            shares = torch.cat([share for _, share in pairs]).to(starts)
            step = subject.x - starts
            gradients = subject.input_gradients(starts + per_sample(shares, starts) * step)
            # Channels are summed after multiplying: each has its own step.
            values = (step * gradients).double().sum(1).unflatten(0, (-1, 2))
            total += values.mean(1).sum(0)
            squared += ((values[:, 0] - values[:, 1]) ** 2).sum(0) / 4
            change = (subject.score - subject.scores(starts).double()).unflatten(0, (-1, 2))
            residual = (values.flatten(2).sum(-1) - change).cpu()
            change_sum += float(change.mean(1).sum())
            change_squares += float(((residual[:, 0] - residual[:, 1]) ** 2).sum()) / 4
            pair_count = begin + len(pairs)
            mean, error = total / pair_count, squared.sqrt() / pair_count
            heat = _heat(
                subject,
                mean,
                error,
                change_sum / pair_count,
                change_squares**0.5 / pair_count,
                pair_count,
                strata,
            )
            yield Partial(heat, pair_count / strata)


def visit_order(strata: int, baselines: Baselines) -> Iterator[tuple[int, tuple[float, float]]]:
    """Yield (fill, (from, to)) for each pair of points; any beginning covers fills and path.

    Args:
        strata: Pairs, a multiple of 4 for fills.
        baselines: With "fills" each fill has a quarter of the pairs and stretches of its own, which
            cover the whole path; with "noise" one set of stretches covers it.
    """
    kinds = len(FILLS) if baselines == "fills" else 1
    pieces = strata // kinds
    for piece in bit_reversed_order(pieces):
        for kind in range(kinds):
            yield kind, (piece / pieces, (piece + 1) / pieces)


def draw_pair(
    subject: Subject,
    params: GradientShapParams,
    fill: int,
    stretch: tuple[float, float],
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    """Return (2, C, *S) baselines and (2,) shares of the path, drawn independently.

    Args:
        fill: Which of `FILLS`; of no matter for "noise".
    """
    low, high = stretch
    shares = low + (high - low) * torch.rand(2, generator=generator, dtype=torch.float64)
    pixels = denormalize(subject.x, subject.backbone.input_spec)
    least, most = value_limits(pixels)
    shape = (2, *subject.x.shape[1:])
    if params.baselines == "noise":
        # A picture's noise takes all values a pixel can have, a signal's those that occur in it.
        if len(subject.size) == 2:
            least, most = least.clamp_max(0), most.clamp_min(1)
        noise = torch.rand(shape, generator=generator).to(pixels)
        pixels = least + (most - least) * noise
        return normalize(pixels, subject.backbone.input_spec), shares
    start = subject.baseline(FILLS[fill]).expand(shape)
    deviation = params.noise * (most - least) / per_channel(subject.backbone.input_spec.std, pixels)
    return start + deviation * torch.randn(shape, generator=generator).to(start), shares


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Return (N, 1, 1, ...): one number per sample, shaped to meet (N, C, *S)."""
    return values.view(-1, *[1] * (like.ndim - 1))


def _heat(
    subject: Subject,
    mean: Tensor,
    error: Tensor,
    change: float,
    spread: float,
    pair_count: int,
    strata: int,
) -> Heatmap:
    residual = float(mean.sum()) - change
    gap = relative_residual(residual, change, subject.rounding)
    diagnostics = {
        "samples": 2.0 * pair_count,
        "score change": change,
        "completeness gap": gap,
        "gap's standard error": relative_residual(spread, change, subject.rounding),
    }
    note = ""
    if pair_count == strata and gap >= TOLERANCE:
        note = (
            f"The attributions miss the score's mean change by {100 * gap:.0f} % of it: read the "
            "map with care, or allow more samples."
        )
    unit = subject.unit_per_place
    return Heatmap(as_array(mean), unit, True, diagnostics, note, as_array(error))


@hookimpl
def explainers() -> list[GradientShap]:
    """Return this file's explainer."""
    return [GradientShap()]
