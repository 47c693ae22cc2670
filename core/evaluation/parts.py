"""What a map says of a picture's parts, beside what leaving them out does to the network.

After FunnyBirds (Hesse et al. 2023, sec. 4), with these departures: a part's importance is its
share of the map's positive sum; pictures that the network does not recognise do not count for what
is asked of its class; a class has one set of parts that suffices. Not comparable with the paper's
figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from whylens.core.evaluation.agreement import Floats, on_grid, rank_correlation, without_rounding
from whylens.core.evaluation.metric import Score
from whylens.core.results import Heatmap

THRESHOLDS = np.linspace(0.01, 0.5, 80)  # shares of the map's positive sum
IRRELEVANT = 0.05  # share of the score that leaving such a part out takes at most
_WIDENED = 5  # pixels: the side of the square by which a part grows


@dataclass(frozen=True)
class Parts:
    """A picture's parts, and what the network makes of the picture without some of them.

    Attributes:
        label: The picture's class.
        score: Of the whole picture.
        drops: By part: how far the score falls without it.
        masks: By part: (h, w) bool, where the network sees it.
        own: Parts of what the label names; the others lie around it.
        signs: Those that make the label.
        named_without: Returns the class that the network names without such parts.
    """

    label: int
    score: float
    drops: Mapping[str, float]
    masks: Mapping[str, Tensor]
    own: tuple[str, ...]
    signs: frozenset[str]
    named_without: Callable[[frozenset[str]], int]

    @property
    def irrelevant(self) -> frozenset[str]:
        """Parts without which the score falls by less than 5 %."""
        most = IRRELEVANT * abs(self.score)
        return frozenset(name for name, drop in self.drops.items() if drop < most)

    @property
    def background_independence(self) -> float | None:
        """Share of what lies around that is irrelevant: of the network; None where nothing does."""
        around = [name for name in self.drops if name not in self.own]
        return len(self.irrelevant.intersection(around)) / len(around) if around else None


@dataclass(frozen=True)
class PartMarks:
    """What a map points at, for any threshold; all but `irrelevant` only of a recognised picture.

    Attributes:
        shares: Of the map's positive sum in each own part, largest first.
        covered: (n + 1) shares of the signs among the first 0 to n of these parts.
        preserved: (n + 1): whether the class stays with those parts alone.
        changed: (n + 1): whether the class changes without them.
        irrelevant: Shares of the map's positive sum in each irrelevant part.
    """

    shares: tuple[float, ...]
    covered: tuple[float, ...]
    preserved: tuple[bool, ...]
    changed: tuple[bool, ...]
    irrelevant: tuple[float, ...]

    def at(self, threshold: float) -> dict[str, float]:
        """Return completeness checks and distractibility where a part counts from a share on."""
        figures = {}
        if self.covered:
            count = sum(share > threshold for share in self.shares)
            figures["signs-covered"] = self.covered[count]
            figures["preservation"] = float(self.preserved[count])
            figures["part-deletion"] = float(self.changed[count])
        if self.irrelevant:
            pointed_at = np.array(self.irrelevant) > threshold
            figures["distractibility"] = 1 - float(pointed_at.mean())
        return figures


def part_marks(heat: Heatmap, parts: Parts) -> PartMarks | None:
    """Return what a map points at; None where nothing in it is positive.

    Source: Hesse et al. 2023, sec. 4: controlled synthetic data check, preservation check,
    deletion check, distractibility.
    """
    if not (heat.values > 0).any():
        return None
    shares = _part_sums(np.asarray(heat.values).clip(min=0), parts.masks, relative=True)
    irrelevant = tuple(sorted((shares[name] for name in parts.irrelevant), reverse=True))
    everything = frozenset(parts.own)
    if parts.named_without(frozenset()) != parts.label:
        return PartMarks((), (), (), (), irrelevant)
    order = sorted(parts.own, key=lambda name: -shares[name])
    first = [frozenset(order[:count]) for count in range(len(order) + 1)]
    return PartMarks(
        tuple(shares[name] for name in order),
        tuple(len(parts.signs & chosen) / len(parts.signs) for chosen in first),
        tuple(parts.named_without(everything - chosen) == parts.label for chosen in first),
        tuple(parts.named_without(chosen) != parts.label for chosen in first),
        irrelevant,
    )


def fitted_threshold(marks: Sequence[PartMarks]) -> float:
    """Return the threshold at which maps of a method do best: of pictures that are not the test's.

    Source: Hesse et al. 2023, supplement: the one of 80 with the largest (CSDC + PC + DC) / 3 + D.
    """

    def quality(threshold: float) -> float:
        rows = [m.at(threshold) for m in marks]
        checks = [
            _mean([row[name] for row in rows if name in row])
            for name in ("signs-covered", "preservation", "part-deletion")
        ]
        aside = _mean([row["distractibility"] for row in rows if "distractibility" in row])
        return sum(checks) / 3 + aside

    return float(max(THRESHOLDS, key=quality))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def single_deletion(heat: Heatmap, parts: Parts) -> Score:
    """Return how well a map's sums over own parts order them by their drops: 0 to 1.

    Source: Hesse et al. 2023, SD: 1/2 + 1/2 Spearman.
    """
    by_part = _part_sums(np.asarray(heat.values), parts.masks, relative=False)
    sums = [by_part[name] for name in parts.own]
    drops = [parts.drops[name] for name in parts.own]
    if len(drops) < 2 or not np.ptp(sums) or not np.ptp(drops):
        return Score(None, 0.5, "Its parts, or their drops, are all equal.")
    return Score((1 + rank_correlation(sums, drops)) / 2, 0.5)


def target_sensitivity(maps: Sequence[Heatmap], signs: Sequence[Tensor]) -> float:
    """Return how often the map of a class gives its own sign more than the other class's map does.

    Of a picture that has a sign of each of two classes: 0, 0.5 or 1; equal sums count half.
    Source: Hesse et al. 2023, TS; on one sign each, not on pairs of parts.

    Args:
        maps: Of the first and of the second class.
        signs: (h, w) bool: the first class's sign, and the second's.
    """
    masks = {"first": signs[0], "second": signs[1]}
    first, second = (_part_sums(np.asarray(heat.values), masks, relative=False) for heat in maps)
    wins = ((first["first"], second["first"]), (second["second"], first["second"]))
    return sum(0.5 * (right > wrong) + 0.25 * (right == wrong) for right, wrong in wins)


def auroc_of_place(heat: Heatmap, place: Tensor) -> float:
    """Return how often a map is larger at a point of a place than at one beside it; equal half.

    Args:
        place: (h, w) bool, where something lies that the network goes by.
    """
    from scipy.stats import rankdata

    inside = place.numpy().ravel()
    ranks = rankdata(without_rounding(on_grid(heat.values, tuple(place.shape))).ravel())
    count, outside_count = int(inside.sum()), int((~inside).sum())
    return float((ranks[inside].sum() - count * (count + 1) / 2) / (count * outside_count))


def _part_sums(values: Floats, masks: Mapping[str, Tensor], *, relative: bool) -> dict[str, float]:
    """Return the sum of a map in each part, or its share of the whole; 0 of an empty map."""
    from scipy.ndimage import binary_dilation

    shape = tuple(next(iter(masks.values())).shape) if masks else (1, 1)
    spread = on_grid(values, shape)
    total = (float(spread.sum()) or 1.0) if relative else 1.0
    square = np.ones((_WIDENED,) * len(shape), bool)
    return {
        name: float(spread[binary_dilation(mask.numpy(), square)].sum()) / total
        for name, mask in masks.items()
    }
