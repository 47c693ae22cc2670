"""Integrated gradients: the score's difference to a baseline, attributed to pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import Field

from whylens import Explainer, Heatmap, Need, Params, Partial, hookimpl
from whylens.plugins._arrays import as_array, bit_reversed_order, completeness_gap, slices

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import Subject

TOLERANCE = 0.05


class IntegratedGradientsParams(Params):
    """Where the path starts and how many points it has."""

    baseline: Literal["black", "grey", "blur", "mean"] = Field(
        default="black", description="What counts as 'nothing there'; defined in pixel space."
    )
    rule: Literal["midpoint", "gauss-legendre"] = Field(
        default="midpoint", title="Quadrature", description="How points on the path are placed."
    )
    steps: int = Field(
        default=32, ge=8, le=128, multiple_of=8, description="Points on the path to begin with."
    )
    max_steps: int = Field(
        default=256,
        ge=8,
        le=1024,
        multiple_of=8,
        title="Most steps",
        description="Steps are doubled until the gap is below 5 % or this many are reached.",
    )


class IntegratedGradients(Explainer[IntegratedGradientsParams]):
    """Complete up to a gap that is measured, shown, and reduced below 5 % where steps allow."""

    name = "integrated-gradients"
    title = "Integrated Gradients"
    family = "Gradient"
    summary = (
        "How much each pixel adds to the score on the way from a baseline picture to this one; all "
        "pixels together add up to the score's change."
    )
    limits = (
        "Depends on the baseline: what looks like it (black on black) gets nothing. Pixel-fine "
        "maps look noisy."
    )
    when = "For single pixels, and where shares must add up to the score's change."
    source = "Sundararajan et al. 2017, Axiomatic Attribution for Deep Networks, eq. 1"
    cost = "steps (32 to 256) forward and backward passes"
    needs = frozenset({Need.GRADIENTS})
    Params = IntegratedGradientsParams

    def baselines(self, subject: Subject, params: IntegratedGradientsParams) -> torch.Tensor:
        """Return (1, C, *S) the picture in which the path begins."""
        return subject.baseline(params.baseline)

    def explain(self, subject: Subject, params: IntegratedGradientsParams) -> Iterator[Partial]:
        """Yield the signed map in units of the score per pixel, ever more complete."""
        start = self.baselines(subject, params)
        ends = subject.scores(torch.cat([start, subject.x]))
        change = float(ends[1] - ends[0])
        step = subject.x - start
        steps, done_steps = min(params.steps, params.max_steps), 0
        while True:
            points, weights = quadrature(params.rule, steps)
            last = 2 * steps > params.max_steps
            for gradient, fraction in _path_gradients(subject, start, step, points, weights):
                values = (step * gradient)[0].sum(0)
                gap = completeness_gap(float(values.sum()), change, subject.rounding)
                finished = fraction == 1 and (gap < TOLERANCE or last)
                diagnostics = {"steps": steps, "score change": change, "completeness gap": gap}
                note = _note(gap) if finished else ""
                heat = Heatmap(as_array(values), subject.unit_per_place, True, diagnostics, note)
                if finished:
                    yield Partial(heat, 1.0)
                    return
                # Work done over work known so far; a doubling that follows makes it drop back.
                yield Partial(
                    heat, min(0.99, (done_steps + fraction * steps) / (done_steps + steps))
                )
            done_steps, steps = done_steps + steps, 2 * steps


def _path_gradients(
    subject: Subject, start: Tensor, step: Tensor, points: list[float], weights: list[float]
) -> Iterator[tuple[Tensor, float]]:
    # Points are visited so that any beginning covers the whole path, and the running mean is
    # scaled as if it were all: a partial map then has the right size already.
    order = bit_reversed_order(len(points))
    total, weight_sum = torch.zeros_like(start), 0.0
    for piece in slices(len(order), subject.batch_size):
        indices = order[piece]
        place = torch.tensor([points[i] for i in indices], dtype=start.dtype, device=start.device)
        weight = torch.tensor([weights[i] for i in indices], dtype=start.dtype, device=start.device)
        shape = (-1,) + (1,) * (start.ndim - 1)
        gradients = subject.input_gradients(start + place.view(shape) * step)
        total = total + (weight.view(shape) * gradients).sum(0, keepdim=True)
        weight_sum += float(weight.sum())
        yield total / weight_sum, piece.stop / len(order)


def quadrature(
    rule: Literal["midpoint", "gauss-legendre"], steps: int
) -> tuple[list[float], list[float]]:
    """Return points in (0, 1) and weights that sum to 1.

    Args:
        rule: "midpoint" puts point i at (i + 1/2) / n; "gauss-legendre" at Legendre roots.
    """
    if rule == "midpoint":
        return [(i + 0.5) / steps for i in range(steps)], [1 / steps] * steps
    roots, weights = np.polynomial.legendre.leggauss(steps)
    return [float(r) for r in (roots + 1) / 2], [float(w) for w in weights / 2]


def _note(gap: float) -> str:
    if gap < TOLERANCE:
        return ""
    return (
        f"The attributions miss the score's change by {100 * gap:.0f} % of it at the largest "
        "number of steps: read the map with care, or allow more steps."
    )


@hookimpl
def explainers() -> list[IntegratedGradients]:
    """Return this file's explainer."""
    return [IntegratedGradients()]
