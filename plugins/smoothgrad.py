"""SmoothGrad: the gradient of the score, averaged over noisy copies of the input."""

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
    expected_agreement,
    hookimpl,
    per_channel,
)
from whylens.plugins._arrays import as_array, slices, value_limits

if TYPE_CHECKING:
    from torch import Tensor

    from whylens import Subject

STABLE = 0.99
Value = Literal["gradient", "gradient x input", "magnitude"]


class SmoothGradParams(Params):
    """The noise, the number of copies, and the value of their gradients."""

    noise: float = Field(
        default=0.15,
        ge=0,
        le=0.5,
        multiple_of=0.01,
        description="Standard deviation of the noise, as a share of the input's range of values.",
    )
    samples: int = Field(
        default=64, ge=4, le=512, multiple_of=4, description="Noisy copies to average over."
    )
    value: Value = Field(
        default="gradient",
        description="The gradients' sum over channels, that of gradient times input, or their "
        "length over channels.",
    )


class SmoothGrad(Explainer[SmoothGradParams]):
    """The mean of gradients, not of their sizes: what flips sign with the noise cancels out."""

    name = "smoothgrad"
    title = "SmoothGrad"
    family = "Gradient"
    summary = (
        "How strongly the target score reacts to each pixel, averaged over noisy copies of the "
        "picture so that accidents of a single gradient cancel out."
    )
    limits = (
        "A gradient says what a small change would do, not what the score rests on. Single pixels "
        "depend on the seed: with SqueezeNet and a photo the maps of two seeds correlate by 0.73 "
        "at 64 copies (0.99 would take some 2,300); each map states its own figure."
    )
    when = "To make a plain gradient readable; not as evidence by itself."
    source = "Smilkov et al. 2017, SmoothGrad: removing noise by adding noise, sec. 3"
    cost = "samples (64) forward and backward passes"
    needs = frozenset({Need.GRADIENTS})
    Params = SmoothGradParams
    test_params = SmoothGradParams(samples=8)

    def explain(self, subject: Subject, params: SmoothGradParams) -> Iterator[Partial]:
        """Yield the map with its standard error, ever steadier."""
        spread = noise_spread(subject, params.noise)
        generator = subject.generator()
        # Without noise all copies are the same.
        count = params.samples if spread.any() else 1
        mean = torch.zeros((), dtype=torch.float64, device=subject.x.device)
        scatter, sample_count = torch.zeros_like(mean), 0
        for piece in slices(count, subject.batch_size):
            number = piece.stop - piece.start
            # One by one: a generator's values depend on how many are drawn at once.
            noises = [torch.randn(subject.x.shape, generator=generator) for _ in range(number)]
            gradients = subject.input_gradients(
                subject.x + spread * torch.cat(noises).to(subject.x)
            )
            for summand in summands(gradients.double(), subject, params.value):
                sample_count += 1
                deviation = summand - mean
                mean = mean + deviation / sample_count
                scatter = scatter + deviation * (summand - mean)
            values = mean.norm(dim=0) if params.value == "magnitude" else mean.sum(0)
            error = (scatter.sum(0) / max(1, sample_count - 1) / sample_count).sqrt()
            yield Partial(
                _heat(subject, params, values, error, sample_count, count), sample_count / count
            )


def noise_spread(subject: Subject, share: float) -> Tensor:
    """Return (1, C, 1, ...) the noise's standard deviation in the network's units.

    Args:
        share: Of the range that the input's values span in pixel space.
    """
    low, high = value_limits(denormalize(subject.x, subject.backbone.input_spec))
    return share * (high - low) / per_channel(subject.backbone.input_spec.std, subject.x)


def summands(gradients: Tensor, subject: Subject, value: Value) -> Tensor:
    """Return (N, k, *S) the terms of the mean: linear in the gradients, so that signs can cancel.

    A sum over channels is taken here, which is the same as after averaging and leaves one field
    whose error is the map's own. A length is taken of the mean: k stays C, and the error is the
    root mean square distance between mean and truth, which bounds that of the length.

    Args:
        gradients: (N, C, *S) in the network's units.
        value: "gradient x input" counts the input from black, where pixel space is 0.
    """
    if value == "magnitude":
        return gradients
    if value == "gradient x input":
        gradients = gradients * (subject.x - subject.baseline("black"))
    return gradients.sum(1, keepdim=True)


def _heat(
    subject: Subject,
    params: SmoothGradParams,
    values: Tensor,
    error: Tensor,
    sample_count: int,
    count: int,
) -> Heatmap:
    unit = f"{subject.unit} per network unit"
    if params.value == "gradient x input":
        unit = subject.unit_per_place
    diagnostics = {"samples": float(sample_count), "score": subject.score}
    note = ""
    if sample_count > 1:
        diagnostics["expected agreement of seeds"] = agreement = expected_agreement(values, error)
        if sample_count == count and agreement < STABLE and values.any():
            about = "at least" if params.value == "magnitude" else "about"
            note = (
                f"Another seed's map would correlate with this one by {about} {agreement:.2f}: "
                "read groups of pixels, not single ones, or allow more samples."
            )
    signed = params.value != "magnitude"
    # One copy says nothing about its error; without noise there is none.
    standard_error = as_array(error) if sample_count > 1 else None
    return Heatmap(as_array(values), unit, signed, diagnostics, note, standard_error)


@hookimpl
def explainers() -> list[SmoothGrad]:
    """Return this file's explainer."""
    return [SmoothGrad()]
