"""LIME: a weighted linear model of the score as a function of which regions are shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor

from whylens import Explainer, Heatmap, Partial, hookimpl
from whylens.plugins._arrays import as_array, zero_rounding
from whylens.plugins._regions import (
    RegionFill,
    RegionParams,
    region_fill,
    region_scores,
    regions_to_map,
)
from whylens.plugins._segments import segments

if TYPE_CHECKING:
    from whylens import Subject

KERNEL_WIDTH = 0.25
# The lime package's 1 shrinks coefficients by about 1 % at 1,000 samples. There are more samples
# than regions, so the ridge only has to keep the first partial answers solvable.
RIDGE = 1e-3
# Below this share of the scores' variance the surrogate is not a description of the network.
MIN_R2 = 0.5


class LIMEParams(RegionParams):
    """The regions, the number of samples, and the fill of hidden regions."""

    samples: int = Field(
        default=1000,
        ge=50,
        le=5000,
        multiple_of=50,
        description="Pictures asked about, each with a random half of the regions hidden.",
    )
    fill: RegionFill = Field(
        default="segment mean",
        description="What a hidden region shows; its own mean keeps its colour, not its detail.",
    )


class LIME(Explainer[LIMEParams]):
    """The fit of the surrogate is measured on held-out samples, and reported."""

    name = "lime"
    title = "LIME"
    family = "Perturbation"
    summary = (
        "What showing each region adds to the score in a linear model fitted to pictures with "
        "random regions hidden, those close to the whole picture counting most."
    )
    limits = (
        "Only as good as a linear model can be: regions that matter together, or stand in for "
        "each other, share one number each; other regions or another fill give another map."
    )
    when = "When the picture falls into regions that people can name."
    source = (
        "Ribeiro et al. 2016, 'Why Should I Trust You?', eq. 1 and algorithm 1, with ridge "
        "regression on all regions, cosine distance and width 0.25 as in the authors' package"
    )
    cost = "one forward pass per sample (1,000)"
    needs = frozenset()
    Params = LIMEParams
    test_params = LIMEParams(segments=24, regions="boxes", samples=50, fill="black")

    def explain(self, subject: Subject, params: LIMEParams) -> Iterator[Partial]:
        """Yield the signed map in units of the score, ever more samples in it."""
        labels = segments(subject, params.segments, params.regions)
        regions = int(labels.max()) + 1
        samples = random_samples(params.samples, regions, subject.generator())
        weights = locality(samples)
        empty = region_fill(subject, labels, params.fill)
        base = float(subject.scores(subject.x)[0])
        scores = torch.zeros(0, dtype=torch.float64)
        fit, fit_samples = None, 0
        for piece in region_scores(subject, samples, labels, empty):
            scores = torch.cat([scores, zero_rounding(piece - base, subject.rounding)])
            sample_count = len(scores)
            # Refitting at every piece would cost more than the network where pieces are small.
            if fit is None or sample_count == len(samples) or sample_count >= 1.1 * fit_samples:
                fit = fit_linear_surrogate(samples[:sample_count], scores, weights[:sample_count])
                fit_samples = sample_count
            diagnostics = {
                "regions": float(regions),
                "samples": float(fit_samples),
                "score": base,
                "surrogate R2": fit.fit,
                "held-out R2": fit.held_out,
            }
            heat = Heatmap(
                as_array(regions_to_map(fit.coefficients, labels)),
                subject.unit,
                True,
                diagnostics,
                _note(fit.held_out) if sample_count == len(samples) else "",
                as_array(regions_to_map(fit.errors, labels)),
            )
            yield Partial(heat, sample_count / len(samples))


def random_samples(count: int, regions: int, generator: torch.Generator) -> Tensor:
    """Return (count, regions) float64: 1 where a region is shown; the first shows all of them."""
    samples = torch.randint(0, 2, (count, regions), generator=generator).double()
    samples[0] = 1
    return samples


def locality(samples: Tensor, width: float = KERNEL_WIDTH) -> Tensor:
    """Return (N,) weights in (0, 1]: how close each sample is to the whole picture.

    The square root of exp(-d^2 / width^2), as in the authors' package, with the cosine distance
    d = 1 - sqrt(share of regions shown).

    Args:
        samples: (N, regions) of 0 and 1.
    """
    distance = 1 - samples.mean(1).sqrt()
    return (-(distance**2) / (2 * width**2)).exp()


@dataclass(frozen=True, slots=True)
class LinearSurrogate:
    """A weighted linear model of the score.

    Attributes:
        coefficients: (regions,) float64, what showing a region adds.
        errors: (regions,) float64 standard errors over the draw of the samples.
        intercept: Score difference with no region shown.
        fit: Weighted R^2 on the samples; 1 where all score alike and nothing is left to explain.
        held_out: The same, each sample predicted by the model fitted to all others.
    """

    coefficients: Tensor
    errors: Tensor
    intercept: float
    fit: float
    held_out: float


def fit_linear_surrogate(
    samples: Tensor, scores: Tensor, weights: Tensor, ridge: float = RIDGE
) -> LinearSurrogate:
    """Return the b, c that minimise sum_i w_i (y_i - c - z_i b)^2 + ridge |b|^2, solved exactly.

    The standard errors are of the sandwich form with left-out residuals (HC3, MacKinnon and White
    1985): what is left over is not noise of one size but where the network is not linear, so it
    may differ from sample to sample. They say how far another draw of samples would move a
    coefficient, not how far the network is from linear: that is what R^2 says.

    Args:
        samples: (N, regions) float64.
        scores: (N,) float64, score units.
        weights: (N,) float64, above 0.
        ridge: At least 0; above 0 where samples may be fewer than regions.
    """
    design = torch.cat([torch.ones(len(samples), 1, dtype=samples.dtype), samples], 1)
    weighted = weights[:, None] * design
    normal = design.T @ weighted
    normal.diagonal()[1:] += ridge  # the intercept is free
    inverse = torch.linalg.inv(normal)
    solution = inverse @ (weighted.T @ scores)
    residuals = scores - design @ solution
    # Leaving a sample out costs no second fit (Sherman-Morrison), with a ridge as without.
    leverage = ((design @ inverse) * weighted).sum(1)
    left_out = residuals / (1 - leverage).clamp_min(1e-9)
    influence = inverse @ (weighted * left_out[:, None]).T
    errors = influence.square().sum(1).sqrt()
    share = weights / weights.sum()
    deviations = scores - share @ scores
    left_out_deviations = deviations / (1 - share).clamp_min(1e-9)
    return LinearSurrogate(
        solution[1:],
        errors[1:],
        float(solution[0]),
        _r_squared(weights, residuals, deviations),
        _r_squared(weights, left_out, left_out_deviations),
    )


def _r_squared(weights: Tensor, residuals: Tensor, deviations: Tensor) -> float:
    total = float(weights @ deviations**2)
    return 1 - float(weights @ residuals**2) / total if total > 0 else 1.0


def _note(held_out: float) -> str:
    if held_out >= MIN_R2:
        return ""
    return (
        f"The linear model explains {100 * max(0.0, held_out):.0f} % of the variance of scores "
        "that it has not seen: the network is not additive in these regions, so read the map with "
        "care, or choose other regions or more samples."
    )


@hookimpl
def explainers() -> list[LIME]:
    """Return this file's explainer."""
    return [LIME()]
