"""Whether a map says of a picture's parts what leaving each of them out does to the score.

After FunnyBirds (Hesse et al. 2023), but over all that the data set can leave out, and without a
threshold that is fitted: not comparable with the paper's figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from whylens.core.evaluation.agreement import on_grid, rank_correlation
from whylens.core.evaluation.metric import Score
from whylens.core.results import Heatmap

THRESHOLDS = np.linspace(0.01, 0.5, 80)  # shares of the map's positive sum
IRRELEVANT = 0.05  # share of the score that leaving such a part out takes at most


@dataclass(frozen=True)
class Removals:
    """What leaving out each part of a picture does.

    Attributes:
        score: Of the whole picture.
        drops: By part: how far the score falls without it.
        masks: By part: (h, w) bool, where the network sees it.
    """

    score: float
    drops: Mapping[str, float]
    masks: Mapping[str, Tensor]


def single_deletion(heat: Heatmap, removals: Removals) -> Score:
    """Return how well a map's sums over parts order the parts by their drops: 0 to 1.

    Source: Hesse et al. 2023, FunnyBirds, SD: 1/2 + 1/2 Spearman; parts widened by two pixels.
    """
    sums = list(_part_sums(heat, removals).values())
    drops = list(removals.drops.values())
    if len(drops) < 2 or not np.ptp(sums) or not np.ptp(drops):
        return Score(None, 0.5, "Its parts, or their drops, are all equal.")
    return Score((1 + rank_correlation(sums, drops)) / 2, 0.5)


def distractibility(heat: Heatmap, removals: Removals) -> Score:
    """Return the share of irrelevant parts that a map does not point at, mean over thresholds.

    A part is irrelevant where leaving it out takes less than 5 % of the score, and pointed at
    where it holds more than a threshold of the map's positive sum. A map spread thin does well:
    never alone. Source: Hesse et al. 2023, FunnyBirds, D.
    """
    total = float(heat.values.clip(min=0).sum())
    sums = _part_sums(heat, removals)
    most = IRRELEVANT * abs(removals.score)
    shares = np.array([sums[name] for name, drop in removals.drops.items() if drop < most])
    if not total or not len(shares):
        return Score(None, note="Nothing in the map is positive, or no part is irrelevant.")
    return Score(float((shares[:, None] <= THRESHOLDS).mean()))


def _part_sums(heat: Heatmap, removals: Removals) -> dict[str, float]:
    """Return the share of a map's positive sum that lies in each part, or 0 of an empty map."""
    from scipy.ndimage import binary_dilation

    shape = tuple(next(iter(removals.masks.values())).shape) if removals.masks else (1, 1)
    positive = on_grid(heat.values, shape).clip(min=0)
    total = float(positive.sum()) or 1.0
    square = np.ones((5, 5), bool)
    return {
        name: float(positive[binary_dilation(mask.numpy(), square)].sum()) / total
        for name, mask in removals.masks.items()
    }
