"""What random maps get that are as smooth as a given one: the chance level of order-based metrics.

They are computed once for an input, a class, a fill and a smoothness, and stay with the input: all
methods are compared with the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from whylens.core.evaluation.hiding import Floats, Setting, area, scores_hiding
from whylens.core.evaluation.ordering import strongest
from whylens.core.subject import Subject

PAIRS = 10  # of a random map and its negative
STEPS = 8


@dataclass(frozen=True)
class RandomAreas:
    """Areas of the random maps that are there already, two of each pair.

    Attributes:
        deletion: (n,).
        insertion: (n,), of the same maps.
        finished: Whether all of them are there.
        passes: Forward passes spent on them by this call.
    """

    deletion: Floats
    insertion: Floats
    finished: bool
    passes: int


def coarse(setting: Setting) -> Setting:
    """Return the steps at which random maps are measured: some of those of a map's own curve."""
    return replace(setting, steps=STEPS) if setting.steps % STEPS == 0 else setting


def smoothness(values: Tensor) -> float:
    """Return the width, in cells, of the Gaussian that makes noise as smooth as a map.

    Of the map's order alone, so that no rescaling changes it: where the autocorrelation of its
    ranks falls to 1/2, mean over axes. Noise under a Gaussian of width s does so at 1.67 s. A
    power of two, or 0 for a map without neighbours that agree: then many maps share one width.

    Args:
        values: (*grid).
    """
    from scipy.stats import rankdata  # a second to import, which only this needs

    ranks = rankdata(values.numpy()).reshape(values.shape)
    ranks -= ranks.mean()
    power, halves = float((ranks**2).mean()), []
    for axis, side in enumerate(ranks.shape):
        if side < 2 or power == 0:
            continue
        before, lag, rows = 1.0, 1, np.moveaxis(ranks, axis, 0)
        while lag <= max(1, side // 2):
            now = float((rows[:-lag] * rows[lag:]).mean()) / power
            if now < 0.5:
                break
            before, lag = now, lag + 1
        else:
            now = 0.0
        halves.append(lag - 1 + (before - 0.5) / (before - now))
    width = float(np.mean(halves)) / (2 * math.sqrt(math.log(2))) if halves else 0.0
    return 0.0 if width < 0.4 else max(0.5, 2.0 ** round(math.log2(width)))


def random_areas(subject: Subject, values: Tensor, setting: Setting) -> Iterator[RandomAreas]:
    """Yield the areas of random maps as smooth as a map, pair after pair.

    The negative of a map shows what the map hides: its insertion is the map's deletion, read
    backwards. So one evaluation of a pair gives both metrics of both maps.

    Args:
        values: (*grid) of the map that they are to be like.
    """
    from scipy.ndimage import gaussian_filter

    setting, grid = coarse(setting), tuple(values.shape)
    width = smoothness(values)
    key = ("random maps", grid, width, setting, subject.target, subject.seed)
    areas: dict[int, tuple[float, float]] = subject.forward_pass.memo.setdefault(key, {})
    counts, generator = setting.counts(values.numel()), subject.generator()
    # Not the numbers that a method draws from the same seed.
    generator.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
    inner, shares = counts[1:-1], np.array(counts, np.float64) / values.numel()
    passes = 0
    ends: list[float] = []
    for number in range(PAIRS):
        noise = torch.randn(grid, generator=generator, dtype=torch.float64)
        if number in areas:
            continue
        smooth = torch.from_numpy(gaussian_filter(noise.numpy(), width, mode="wrap"))
        pair = (smooth, -smooth)
        masks = [strongest(side, count, generator) for side in pair for count in inner]
        if not ends:
            masks += [torch.zeros(grid, dtype=torch.bool), torch.ones(grid, dtype=torch.bool)]
        scores = np.concatenate(list(scores_hiding(subject, torch.stack(masks), setting)))
        passes += len(scores)
        ends = ends or scores[-2:].tolist()
        first, second = (
            area(shares, np.array([ends[0], *part, ends[1]]))
            for part in (scores[: len(inner)], scores[len(inner) : 2 * len(inner)])
        )
        areas[number] = first, second
        yield _both(areas, passes)
    yield _both(areas, passes)


def _both(areas: dict[int, tuple[float, float]], passes: int) -> RandomAreas:
    pairs = np.array(list(areas.values()))
    flat, swapped = pairs.ravel(), pairs[:, ::-1].ravel()
    return RandomAreas(flat, swapped, len(areas) == PAIRS, passes)
