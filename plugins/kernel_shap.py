"""KernelSHAP: Shapley values of regions, by weighted least squares over coalitions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor

from whylens import Explainer, Heatmap, Partial, hookimpl
from whylens.plugins._arrays import as_array, bit_reversed_order, zero_rounding
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

EXACT = 10  # up to that many regions all 2^n coalitions are asked


class KernelSHAPParams(RegionParams):
    """The regions, the number of coalitions, and the fill of hidden regions."""

    samples: int = Field(
        default=1200,
        ge=50,
        le=5000,
        multiple_of=50,
        description="Coalitions asked about; all of them, whatever this says, up to 10 regions.",
    )
    fill: RegionFill = Field(
        default="grey",
        description="What a hidden region shows; its own mean keeps its colour, not its detail.",
    )


class KernelSHAP(Explainer[KernelSHAPParams]):
    """Values add up to the score's change by construction, sampled or not."""

    name = "kernel-shap"
    title = "KernelSHAP"
    family = "Perturbation"
    summary = (
        "The Shapley value of each region: what it adds to the score on average over all orders in "
        "which regions could be uncovered; together they add up to the score's change."
    )
    limits = (
        "Averages over mostly covered pictures that look unlike any photo, depends on the fill, "
        "and beyond 10 regions it is estimated from a sample of the coalitions."
    )
    when = "When shares of regions must add up, whatever the network."
    source = (
        "Lundberg and Lee 2017, A Unified Approach to Interpreting Model Predictions, theorem 2; "
        "paired coalitions as in Covert and Lee 2021"
    )
    cost = "one forward pass per coalition (1,200)"
    needs = frozenset()
    Params = KernelSHAPParams
    test_params = KernelSHAPParams(segments=24, regions="boxes", samples=100, fill="black")

    def explain(self, subject: Subject, params: KernelSHAPParams) -> Iterator[Partial]:
        """Yield the signed map in units of the score, ever more coalitions in it."""
        labels = segments(subject, params.segments, params.regions)
        regions = int(labels.max()) + 1
        empty = region_fill(subject, labels, params.fill)
        ends = subject.scores(torch.cat([subject.x, empty])).double().cpu()
        (change,) = zero_rounding(ends[:1] - ends[1:], subject.rounding).tolist()
        pairs = coalition_pairs(regions, params.samples, subject.generator())
        diagnostics = {"regions": float(regions), "score": float(ends[0]), "score change": change}
        values, errors = torch.full((regions,), change / regions, dtype=torch.float64), None
        if regions == 1:  # there is nothing to share out
            yield Partial(
                _heat(subject, labels, values, errors, {**diagnostics, "coalitions": 2.0}), 1
            )
            return
        both = torch.stack([pairs.coalitions, 1 - pairs.coalitions], 1).flatten(0, 1)
        scores, fit_samples = torch.zeros(0, dtype=torch.float64), 0
        for piece in region_scores(subject, both, labels, empty):
            scores = torch.cat([scores, piece])
            pair_count = len(scores) // 2
            # Refitting at every piece would cost more than the network where pieces are small.
            if len(scores) == len(both) or pair_count >= max(1, 1.1 * fit_samples):
                pair_scores = scores[: 2 * pair_count].view(-1, 2)
                gaps = zero_rounding(pair_scores[:, 0] - pair_scores[:, 1], subject.rounding)
                values, errors = shapley_values(pairs.first(pair_count), gaps, change)
                fit_samples = pair_count
            current = {**diagnostics, "coalitions": float(len(scores) + 2)}
            yield Partial(_heat(subject, labels, values, errors, current), len(scores) / len(both))


def _heat(
    subject: Subject,
    labels: Tensor,
    values: Tensor,
    errors: Tensor | None,
    diagnostics: dict[str, float],
) -> Heatmap:
    gap = abs(float(values.sum()) - diagnostics["score change"])
    return Heatmap(
        as_array(regions_to_map(values, labels)),
        subject.unit,
        True,
        {**diagnostics, "efficiency gap": gap},
        error=None if errors is None else as_array(regions_to_map(errors, labels)),
    )


@dataclass(frozen=True, slots=True)
class Pairs:
    """Coalitions of regions, each scored together with its complement.

    Attributes:
        coalitions: (M, regions) float64, 1 where a region is shown in the first of the pair.
        weights: (M,) float64, share of the Shapley kernel that the pair stands for.
        sampled: (M,) bool, True where the pair was drawn at random, False where it stands only for
            itself.
    """

    coalitions: Tensor
    weights: Tensor
    sampled: Tensor

    def first(self, count: int) -> Pairs:
        """Return the first of them; a part of the pairs is a sample in any case."""
        if count == len(self.coalitions):
            return self
        return Pairs(
            self.coalitions[:count], self.weights[:count], torch.ones(count, dtype=torch.bool)
        )


def coalition_pairs(regions: int, budget: int, generator: torch.Generator) -> Pairs:
    """Return coalitions, every beginning of the list spread over all sizes; none for one region.

    Sizes are enumerated from the outside in, as long as drawing would ask for each of their
    coalitions once or more; what is left of the budget is drawn by the kernel's weights from the
    other sizes. So up to 2^regions - 2 within the budget all coalitions are enumerated.

    Args:
        budget: Coalitions to ask about, the two of a pair counted each; more where all 2^regions
            of at most 10 regions need more.
    """
    if regions <= EXACT:
        budget = max(budget, 2**regions - 2)
    pairs = budget // 2
    sizes = list(range(1, regions // 2 + 1))
    # Theorem 2's kernel, summed over the coalitions of a size and of the complements' size.
    kernel = [(1 if 2 * s == regions else 2) / (s * (regions - s)) for s in sizes]
    shares = [k / sum(kernel) for k in kernel]
    samples, weights = [torch.zeros(0, regions, dtype=torch.float64)], []
    while sizes:
        size, share = sizes[0], shares[0]
        count = math.comb(regions, size) // (2 if 2 * size == regions else 1)
        if pairs * share / sum(shares) < count * (1 - 1e-9):
            break
        samples.append(_enumerate_coalitions(regions, size, count))
        weights += [share / count] * count
        pairs -= count
        sizes, shares = sizes[1:], shares[1:]
    enumerated = len(weights)
    if sizes:
        draws = torch.multinomial(
            torch.tensor(shares, dtype=torch.float64), pairs, True, generator=generator
        )
        coalition_sizes = torch.tensor(sizes)[draws, None]
        keys = torch.rand(pairs, regions, generator=generator)
        order = keys.argsort(dim=1, stable=True).argsort(dim=1)
        samples.append((order < coalition_sizes).double())
        weights += [sum(shares) / pairs] * pairs
    total = len(weights)
    order = torch.tensor(bit_reversed_order(total) if total else [], dtype=torch.int64)
    return Pairs(
        torch.cat(samples)[order],
        torch.tensor(weights, dtype=torch.float64)[order],
        order >= enumerated,
    )


def _enumerate_coalitions(regions: int, size: int, count: int) -> Tensor:
    # In lexicographic order the first half of the middle size holds region 0, and its complements
    # are the other half.
    members = list(itertools.islice(itertools.combinations(range(regions), size), count))
    return torch.zeros(count, regions, dtype=torch.float64).scatter_(1, torch.tensor(members), 1)


def shapley_values(pairs: Pairs, gaps: Tensor, change: float) -> tuple[Tensor, Tensor | None]:
    """Return (regions,) float64 values that sum to `change`, and their standard errors.

    The weighted least squares of theorem 2 under the constraint of efficiency. With values
    change / n + v, sum(v) = 0, a coalition z and its complement differ in score by
    change (2 |z| - n) / n + 2 (z - mean(z)) v, so every pair is one equation in v alone. Where
    pairs are too few to tell, v is the smallest that fits. The errors are of the sandwich form
    with left-out residuals (HC3) over the pairs drawn; pairs that were enumerated have none.

    Args:
        gaps: (M,) float64 score of each coalition less its complement's.

    Returns:
        Values and errors; None for errors where nothing was drawn.
    """
    regions = pairs.coalitions.shape[1]
    centred = pairs.coalitions - pairs.coalitions.mean(1, keepdim=True)
    targets = (gaps - change * (2 * pairs.coalitions.mean(1) - 1)) / 2
    weighted = pairs.weights[:, None] * centred
    inverse = torch.linalg.pinv(centred.T @ weighted, rtol=1e-10, hermitian=True)
    offsets = inverse @ (weighted.T @ targets)
    values = change / regions + offsets
    if not pairs.sampled.any():
        return values, None
    leverage = ((centred @ inverse) * weighted).sum(1)
    left_out = (targets - centred @ offsets) / (1 - leverage).clamp_min(1e-9)
    moves = (weighted * left_out[:, None])[pairs.sampled]
    return values, (inverse @ moves.T).square().sum(1).sqrt()


@hookimpl
def explainers() -> list[KernelSHAP]:
    """Return this file's explainer."""
    return [KernelSHAP()]
