"""Permutation importance: the score's drop when a region shows pixels of the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor

from whylens import Explainer, Heatmap, Partial, hookimpl
from whylens.plugins._arrays import as_array, bit_reversed_order, slices, zero_rounding
from whylens.plugins._regions import RegionParams, regions_to_map
from whylens.plugins._segments import segments

if TYPE_CHECKING:
    from whylens import Subject


class PermutationParams(RegionParams):
    """The regions, and the number of repeats."""

    repeats: int = Field(
        default=8, ge=2, le=64, description="How often each region is filled with another draw."
    )


# Permuting a feature map's channels over positions would be the other reading of the name. But an
# average over positions, the head of most networks, does not change under it: every channel would
# come out at zero, however much the score rests on it.
class Permutation(Explainer[PermutationParams]):
    """A region is filled with the picture's own pixels, so that no fill colour is needed."""

    name = "permutation"
    title = "Permutation importance"
    family = "Perturbation"
    summary = (
        "How far the target score falls on average when a region's pixels are replaced by pixels "
        "drawn at random from the rest of the picture."
    )
    limits = (
        "Blind to what is present twice, to what the rest of the picture looks like too, and a "
        "region of mixed pixels looks like noise, to which a network may react by itself."
    )
    when = "To see what a region is worth against the rest of the same picture."
    source = (
        "Breiman 2001, Random Forests, sec. 10, and Fisher et al. 2019, All Models are Wrong, but "
        "Many are Useful, eq. 3, over the places of one picture instead of the rows of a data set"
    )
    cost = "one forward pass per region and repeat (about 320)"
    needs = frozenset()
    Params = PermutationParams
    test_params = PermutationParams(segments=24, regions="boxes", repeats=2)

    def explain(self, subject: Subject, params: PermutationParams) -> Iterator[Partial]:
        """Yield the signed map in units of the score, ever more repeats in it."""
        labels = segments(subject, params.segments, params.regions)
        regions = int(labels.max()) + 1
        base = float(subject.scores(subject.x)[0])
        diagnostics = {"regions": float(regions), "repeats": float(params.repeats), "score": base}
        if regions == 1:
            blank = as_array(torch.zeros(subject.size))
            note = "The whole view is one region: there is no rest to draw pixels from."
            yield Partial(Heatmap(blank, subject.unit, True, diagnostics, note), 1.0)
            return
        sampler = _ReplacementSampler(labels, subject.generator())
        # Repeat by repeat, so that every region has its first value early.
        order = bit_reversed_order(regions) * params.repeats
        drops = torch.zeros(params.repeats, regions, dtype=torch.float64)
        counts = torch.zeros(regions, dtype=torch.int64)
        for piece in slices(len(order), subject.batch_size):
            batch = order[piece]
            inputs = subject.x.flatten(2).repeat(len(batch), 1, 1)
            for mixed_input, region in zip(inputs, batch, strict=True):
                places, sources = sampler.sample(region)
                mixed_input[:, places] = mixed_input[:, sources]
            scores = subject.scores(inputs.unflatten(2, subject.size))
            drop = zero_rounding(base - scores.double().cpu(), subject.rounding)
            for region, value in zip(batch, drop, strict=True):
                drops[counts[region], region] = value
                counts[region] += 1
            means, errors = mean_drops(drops, counts)
            error = None if errors is None else as_array(regions_to_map(errors, labels))
            values = as_array(regions_to_map(means, labels))
            heat = Heatmap(values, subject.unit, True, diagnostics, error=error)
            yield Partial(heat, piece.stop / len(order))


class _ReplacementSampler:
    """Random places whose pixels replace those of a region; one object per explanation."""

    def __init__(self, labels: Tensor, generator: torch.Generator) -> None:
        flat = labels.flatten()
        self.generator = generator
        self.by_region = flat.argsort(stable=True)
        self.sizes: list[int] = torch.bincount(flat).tolist()
        self.starts = [0, *torch.tensor(self.sizes).cumsum(0).tolist()]

    def sample(self, region: int) -> tuple[Tensor, Tensor]:
        """Return the region's places and, for each of them, a place of the rest; int64."""
        start, size = self.starts[region], self.sizes[region]
        rows = torch.randint(0, len(self.by_region) - size, (size,), generator=self.generator)
        # Places sorted by region: those from `start` on lie behind the region itself.
        rows = rows + size * (rows >= start)
        return self.by_region[start : start + size], self.by_region[rows]


def mean_drops(drops: Tensor, counts: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return (regions,) mean falls and their standard errors, of what is measured so far.

    Args:
        drops: (repeats, regions) float64, each column measured from the top, 0 below.
        counts: (regions,) int64, how much of each column is measured.

    Returns:
        Means, 0 where nothing is measured; errors, None before every region was measured twice.
    """
    means = drops.sum(0) / counts.clamp_min(1)
    if int(counts.min()) < 2:
        return means, None
    measured = torch.arange(len(drops))[:, None] < counts
    squares = torch.where(measured, (drops - means) ** 2, 0.0).sum(0)
    return means, (squares / (counts - 1) / counts).sqrt()


@hookimpl
def explainers() -> list[Permutation]:
    """Return this file's explainer."""
    return [Permutation()]
