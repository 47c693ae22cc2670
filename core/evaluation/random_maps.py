"""What random maps get that are as smooth as a given one: the chance level of order-based metrics.

They are computed once for an input, a class, a fill and a smoothness, and stay with the input: all
methods are compared with the same. They come in pairs of a map and its negative: one shows what the
other hides, so that one evaluation gives deletion and insertion of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from whylens.core.evaluation.hiding import Floats, Setting, area, known_ends, scores_hiding
from whylens.core.evaluation.metric import Score
from whylens.core.evaluation.ordering import strongest
from whylens.core.subject import Subject

PAIRS = 10  # of a random map and its negative
STEPS = 8


@dataclass(frozen=True)
class RandomMaps:
    """Scores of the random maps that are there already, two of each pair.

    Attributes:
        shares: (k,) that are hidden, from 0 to 1.
        scores: (n, k) with the strongest places of each map hidden.
        passes: Forward passes spent on them by this call.
    """

    shares: Floats
    scores: Floats
    passes: int

    @property
    def fraction(self) -> float:
        """Share of the random maps that are there, 0 to 1."""
        return len(self.scores) / (2 * PAIRS)

    @property
    def deletion(self) -> Floats:
        """(n,) areas as the strongest places are hidden."""
        return np.array([area(self.shares, scores) for scores in self.scores])

    @property
    def insertion(self) -> Floats:
        """(n,) areas, of the same maps, as the strongest places are shown."""
        # What shows the strongest hides the weakest: the deletion of the negative, its neighbour.
        return self.deletion.reshape(-1, 2)[:, ::-1].ravel()

    def expectation(self, shares: Floats) -> Floats:
        """Return the mean score with such shares hidden, linearly between the steps.

        The strongest or the weakest: the negative of a random map is one.
        """
        expected: Floats = np.interp(shares, self.shares, self.scores.mean(0))
        return expected


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


def random_maps(subject: Subject, values: Tensor, setting: Setting) -> Iterator[RandomMaps]:
    """Yield the scores of random maps as smooth as a map, pair after pair.

    Args:
        values: (*grid) of the map that they are to be like.
    """
    from scipy.ndimage import gaussian_filter

    setting, grid = coarse(setting), tuple(values.shape)
    width = smoothness(values)
    key = ("random maps", grid, width, setting, subject.target, subject.seed)
    pairs: dict[int, Floats] = subject.forward_pass.memo.setdefault(key, {})
    counts, generator = setting.counts(values.numel()), subject.generator()
    # Not the numbers that a method draws from the same seed.
    generator.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
    inner, passes = counts[1:-1], 0
    shares = np.array(counts, np.float64) / values.numel()
    ends = known_ends(subject, setting)
    for number in range(PAIRS):
        noise = torch.randn(grid, generator=generator, dtype=torch.float64)
        if number in pairs:
            continue
        smooth = torch.from_numpy(gaussian_filter(noise.numpy(), width, mode="wrap"))
        masks = torch.cat([strongest(side, inner, generator) for side in (smooth, -smooth)])
        missing = [end for end in (False, True) if end not in ends]
        masks = torch.cat([masks, *(torch.full_like(masks[:1], end) for end in missing)])
        scores = np.concatenate([np.empty(0), *scores_hiding(subject, masks, setting)])
        passes += len(scores)
        ends.update(zip(missing, scores[2 * len(inner) :].tolist(), strict=True))
        halves = scores[: 2 * len(inner)].reshape(2, -1)
        pairs[number] = np.column_stack([[ends[False]] * 2, halves, [ends[True]] * 2])
        yield RandomMaps(shares, np.concatenate(list(pairs.values())), passes)
    yield RandomMaps(shares, np.concatenate(list(pairs.values())), passes)


def with_chance(
    subject: Subject,
    values: Tensor,
    setting: Setting,
    scores: Iterator[Score],
    level: Callable[[RandomMaps], float],
) -> Iterator[Score]:
    """Yield scores, and then the last of them beside what random maps as smooth get.

    Args:
        values: (*grid) of the map that is scored.
        level: What is expected of a map by chance, on the scale of the scores.
    """
    last = Score(None)
    for last in scores:
        yield replace(last, fraction=last.fraction / 2)
    for random in random_maps(subject, values, setting):
        yield replace(
            last,
            chance=level(random),
            passes=last.passes + random.passes,
            fraction=(1 + random.fraction) / 2,
        )
