"""Measures of prototypes: purity, consistency, stability, sparsity.

Purity and consistency need pictures whose parts are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from whylens import iter_tensors
from whylens.plugins._order import ROUNDING, strongest_first
from whylens.plugins.protopnet.head import Head
from whylens.plugins.protopnet.similarity import PatchMetric, cosine_maps, top_mean

if TYPE_CHECKING:
    from whylens import Backbone, Dataset

Bools = npt.NDArray[np.bool_]

TOP = 10
# 32 of 224 pixels, as in PIP-Net's purity; 72 of 224 as in Huang et al.'s consistency.
SMALL, LARGE = 32 / 224, 72 / 224
# What covers more of a picture than this, a whole head or the background, would make any patch
# pure; left and right are one part.
LARGEST = 0.15
_SIDES = ("left_", "right_")


def small_parts(pictures: Sequence[Mapping[str, Bools]]) -> set[str]:
    """Return the names of the parts that purity is measured by: small ones, sides merged."""
    areas: dict[str, list[float]] = {}
    for parts in pictures:
        for name, mask in parts.items():
            if not name.startswith(_SIDES):
                areas.setdefault(name, []).append(float(mask.mean()))
    return {name for name, shares in areas.items() if np.mean(shares) <= LARGEST}


def parts_in(parts: Mapping[str, Bools], centre: tuple[float, float], share: float) -> set[str]:
    """Return the names of the parts that have pixels in a box.

    Args:
        parts: (H, W) bool each.
        centre: x and y in shares of the sides.
        share: Side of the box as a share of the picture's.
    """
    names = set()
    for name, mask in parts.items():
        height, width = mask.shape
        x0, x1 = (round(width * (centre[0] + sign * share / 2)) for sign in (-1, 1))
        y0, y1 = (round(height * (centre[1] + sign * share / 2)) for sign in (-1, 1))
        if mask[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)].any():
            names.add(name)
    return names


def part_quality(
    dataset: Dataset,
    positions: list[int],
    backbone: Backbone,
    metric: PatchMetric,
    owner: npt.NDArray[np.int64],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Return purity, consistency and stability against known parts, or {} where none are known.

    Args:
        positions: Which of them; the test split, not seen in training.
        owner: (M,) their classes.
    """
    if not positions or not dataset.parts(positions[0]):
        return {}
    values, centres = _peaks(dataset, positions, backbone, metric, None)
    generator = torch.Generator().manual_seed(seed)
    noisy_centres = _peaks(dataset, positions, backbone, metric, generator)[1]
    parts = [dataset.parts(i) for i in positions]
    small = small_parts(parts)

    def of(i: int) -> dict[str, Bools]:
        return {name: mask for name, mask in parts[i].items() if name in small}

    labels = np.array([dataset.items[i].label for i in positions])
    purity, names, consistent, stable = [], [], [], []
    for p in range(metric.count):
        top = strongest_first(values[:, p], ROUNDING)[:TOP]
        counts: dict[str, int] = {}
        for i in top:
            for name in parts_in(of(int(i)), tuple(centres[i, p]), SMALL):
                counts[name] = counts.get(name, 0) + 1
        best = max(counts, key=lambda name: counts[name]) if counts else ""
        names.append(best)
        purity.append(counts.get(best, 0) / len(top))
        own = [int(i) for i in np.flatnonzero(labels == owner[p])]
        inside = [parts_in(of(i), tuple(centres[i, p]), LARGE) for i in own]
        rates = [
            sum(name in names_in for names_in in inside) / len(own)
            for name in {name for names_in in inside for name in names_in}
        ]
        consistent.append(max(rates, default=0.0) >= 0.8)
        noisy_parts = [parts_in(of(i), tuple(noisy_centres[i, p]), LARGE) for i in own]
        stable.append(float(np.mean([a == b for a, b in zip(inside, noisy_parts, strict=True)])))
    return {
        "purity": float(np.mean(purity)),
        "purity_each": [round(x, 3) for x in purity],
        "part_each": names,
        "consistency": float(np.mean(consistent)),
        "stability": float(np.mean(stable)),
        "pictures": len(positions),
    }


def _peaks(
    dataset: Dataset,
    positions: list[int],
    backbone: Backbone,
    metric: PatchMetric,
    noise: torch.Generator | None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    values, centres = [], []
    for _, x in iter_tensors(dataset, positions, backbone.input_spec):
        noisy = x
        if noise is not None:
            noisy = x + (0.2 * torch.randn(x.shape, generator=noise)).clamp(-0.25, 0.25)
        with torch.no_grad():
            features = backbone.features(noisy).map.float()
        maps = cosine_maps(metric.to_white(features), metric.rotation, metric.patches)
        values.append(top_mean(maps).numpy())
        rows, columns = maps.shape[2:]
        place = maps.flatten(2).argmax(2)
        y = (torch.div(place, columns, rounding_mode="floor") + 0.5) / rows
        centres.append(torch.stack([(place % columns + 0.5) / columns, y], -1).numpy())
    return np.concatenate(values), np.concatenate(centres).astype(np.float32)


def sparsity(head: Head, sims: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return mean numbers of prototypes: per class, and for 90 % of a decision.

    Args:
        sims: (N, M) similarities of some pictures.
    """
    is_used = np.abs(head.weight) > 1e-9
    predicted = head.scores(sims).argmax(1)
    points = np.abs(head.weight[predicted] * (sims - sims.mean(0)))
    order = -np.sort(-points, axis=1)
    reach = np.cumsum(order, axis=1) >= 0.9 * order.sum(1, keepdims=True)
    return {
        "prototypes_per_class": float(is_used.sum(1).mean()),
        "prototypes_for_90_percent_of_a_decision": float((reach.argmax(1) + 1).mean()),
    }
