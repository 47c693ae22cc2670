"""Infidelity: does what a map holds inside a window foresee what the score loses without it?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from whylens.core.evaluation.agreement import Floats, cell_shares, correlation, without_rounding
from whylens.core.evaluation.metric import Metric, Score
from whylens.core.inputs.preprocess import Fill
from whylens.core.results import Heatmap
from whylens.core.subject import Subject


def infidelity(
    subject: Subject,
    heat: Heatmap,
    *,
    windows: int = 64,
    share: float = 0.25,
    fill: Fill = "blur",
) -> Iterator[Score]:
    """Yield the correlation of a map's sums over windows with what the score loses by filling them.

    It is 1 where each loss is one positive factor times the sum, plus a constant, whatever the
    map's unit; negative for a map turned over; and 0 on average for values in random places.
    Source: Yeh et al. 2019, On the (In)fidelity and Sensitivity of Explanations, eq. 1 and sec.
    2.3. After the best scaling of the map, infidelity over the mean squared loss is 1 - cosine^2.
    This is that cosine, of what differs from the mean: where any window lowers the score, or as on
    many photos raises the logit, the mean outweighs all else, and a map of one value does well.
    The windows are of one size, where the paper's are of all.

    Args:
        windows: How many are filled, each at a place of its own, seeded.
        share: Of each axis that a window covers, 0 to 1.
    """
    values = np.asarray(heat.values, np.float64).ravel()
    if not values.any():
        yield Score(None, note="The map is blank: it foresees nothing.")
        return
    boxes = _boxes(subject.size, windows, share, subject.generator())
    sums, losses = _shares_inside(heat, boxes, subject.size) @ values, np.empty(0)
    sums = without_rounding(sums)
    intact = float(subject.scores(subject.x)[0])
    for scores in subject.window_scores(boxes, subject.baseline(fill)):
        losses = np.append(losses, intact - scores.double().cpu().numpy())
        n = len(losses)
        if np.abs(losses).max() <= subject.rounding:
            yield Score(None, None, "No window changes the score.", 1 + n, n / len(boxes))
        else:
            yield Score(correlation(sums[:n], losses), 0.0, "", 1 + n, n / len(boxes))


def _boxes(
    size: tuple[int, ...], count: int, share: float, generator: torch.Generator
) -> list[tuple[slice, ...]]:
    columns = []
    for length in size:
        side = min(length, max(1, round(share * length)))
        starts = torch.randint(length - side + 1, (count,), generator=generator)
        columns.append([slice(start, start + side) for start in starts.tolist()])
    return list(zip(*columns, strict=True))


def _shares_inside(heat: Heatmap, boxes: list[tuple[slice, ...]], size: tuple[int, ...]) -> Floats:
    """Return (boxes, places of the map): how much of each place lies in each box, 0 to 1."""
    shares = np.ones((len(boxes), 1))
    for axis, (length, cells) in enumerate(zip(size, heat.values.shape, strict=True)):
        low = np.array([box[axis].start for box in boxes]) / length
        high = np.array([box[axis].stop for box in boxes]) / length
        inside = cell_shares(cells, low, high)
        shares = (shares[:, :, None] * inside[:, None]).reshape(len(boxes), -1)
    return shares


METRIC = Metric(
    name="infidelity",
    title="Foresees losses",
    summary="Do a map's sums over windows foresee what the score loses without them?",
    source="Yeh et al. 2019, eq. 1, as a correlation: after the best scaling, with its sign.",
    direction="higher",
    best=1.0,
    measure=lambda case: infidelity(case.subject, case.heat),
)
