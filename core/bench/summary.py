"""What the rows of a benchmark come to: means with intervals over inputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from whylens.core.bench.columns import PARTS, STEPS
from whylens.core.bench.plan import REFERENCES, BenchPlan
from whylens.core.bench.rows import Row
from whylens.core.evaluation.parts import PartMarks, fitted_threshold

RESAMPLES = 1000


@dataclass(frozen=True)
class Figure:
    """A figure over inputs.

    Attributes:
        low: Lower end of its 95 % interval; None of a single input.
        high: Upper end.
        chance: Mean of what a random map is expected to get; None where chance has no meaning.
        pictures: How many inputs it is of.
    """

    mean: float
    low: float | None
    high: float | None
    chance: float | None
    pictures: int


@dataclass(frozen=True)
class BenchRow:
    """A method's figures.

    Attributes:
        method: Its name, or a reference's in parentheses.
        owner: Distribution and version; "" of a reference.
        figures: By name, as far as it says anything.
        pictures: How many inputs were answered.
        failed: How many were not.
        reason: The first reason for that, or why a metric has no figure, or "".
        threshold: Share of the map's positive sum from which on it points at a part, fitted on
            other inputs; None where there are no parts.
    """

    method: str
    owner: str
    figures: dict[str, Figure]
    pictures: int
    failed: int
    reason: str
    threshold: float | None = None


@dataclass(frozen=True)
class BenchSummary:
    """What a benchmark of one network came to.

    Attributes:
        pictures: How many inputs were shown.
        few: How many of them the costly metrics and slow methods saw.
        recognised: Share of them that the network recognises.
        background: Share of the things around that the network is independent of; None where
            nothing can be left out.
        rows: References first, then methods in the order in which they were asked for.
        steps: Of deletion and insertion; the default is that of runs that did not say it.
        repeats: Of how many inputs methods of many steps have the figures that repeat a method.
        random_maps: How many the row of random maps is the mean of, where it is compared with
            others; None of earlier runs, which took one for each input.
    """

    model: str
    model_sha256: str
    data: str
    pictures: int
    few: int
    recognised: float
    background: float | None
    rows: tuple[BenchRow, ...]
    steps: int = 32
    random_maps: int | None = None
    repeats: int = 0


def read_summary(content: bytes) -> BenchSummary:
    """Return the summary that JSON of its `asdict` holds.

    Raises:
        ValueError: It holds none.
    """
    try:
        facts = json.loads(content)
        rows = [
            BenchRow(**{**row, "figures": {k: Figure(**v) for k, v in row["figures"].items()}})
            for row in facts["rows"]
        ]
        return BenchSummary(**{**facts, "rows": tuple(rows)})
    except (TypeError, KeyError, AttributeError) as exc:
        raise ValueError(str(exc)) from exc


def summary_of(plan: BenchPlan, rows: Sequence[Row]) -> BenchSummary:
    """Return the figures of all rows that belong to the plan's methods."""
    current = [row for row in rows if plan.owners.get(row["method"], "") == row["owner"]]
    test = [row for row in current if row["split"] == "test"]
    pictures = {row["picture"]: row for row in test}.values()
    independent = [row["independent"] for row in pictures if row["independent"] is not None]
    return BenchSummary(
        plan.bench.model,
        plan.backbone.identity.digest,
        plan.dataset.name,
        len(pictures),
        min(plan.bench.few, len(pictures)),
        float(np.mean([row["recognised"] for row in pictures])),
        float(np.mean(independent)) if independent else None,
        tuple(
            _row(name, plan.owners.get(name, ""), current, plan.unavailable.get(name, ""))
            for name in (*REFERENCES, *plan.bench.methods)
        ),
        STEPS,
        plan.bench.random_maps,
        min(plan.bench.repeats, plan.bench.few, len(pictures)),
    )


def interval(values: Iterable[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean by a seeded percentile bootstrap; None of one value."""
    array = np.array(list(values), np.float64)
    return _ends(array[_resamples(len(array))].mean(1)) if len(array) > 1 else None


def _bootstrap(
    count: int, figure: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float] | None:
    """Return the 95 % interval of a figure of some inputs, drawn again with replacement.

    Args:
        figure: Returns (R,) figures, NaN where there is none, of (R, N) drawn inputs.
    """
    if count < 2:
        return None
    values = figure(_resamples(count))
    return _ends(values[~np.isnan(values)])


def _resamples(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(count, size=(RESAMPLES, count))


def _ends(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _row(name: str, owner: str, rows: list[Row], unavailable: str) -> BenchRow:
    own = [row for row in rows if row["method"] == name]
    reasons = [row["reason"] for row in own if row["reason"] and row["split"] == "test"]
    test_rows = [row for row in own if not row["reason"] and row["split"] == "test"]
    figures: dict[str, Figure] = {}
    for metric in dict.fromkeys(key for row in test_rows for key in row["values"]):
        values = [row["values"][metric] for row in test_rows if metric in row["values"]]
        chances = [row["chance"][metric] for row in test_rows if metric in row["chance"]]
        chance = float(np.mean(chances)) if chances else None
        figures[metric] = _figure(values, chance)
    threshold = None
    val_marks = [_marks(row) for row in own if row["split"] == "val" and row["parts"]]
    if val_marks:
        threshold = fitted_threshold(val_marks)
        figures |= _part_figures(test_rows, threshold)
    failed = (row["failed"] for row in test_rows if row.get("failed"))  # earlier runs say nothing
    reason = unavailable or next(iter(reasons), "") or next(failed, "")
    return BenchRow(name, owner, figures, len(test_rows), len(reasons), reason, threshold)


def _figure(values: Sequence[float], chance: float | None) -> Figure:
    low, high = interval(values) or (None, None)
    return Figure(float(np.mean(values)), low, high, chance, len(values))


def _marks(row: Row) -> PartMarks:
    return PartMarks(**{name: tuple(values) for name, values in row["parts"].items()})


def _part_figures(test_rows: list[Row], threshold: float) -> dict[str, Figure]:
    """Return the figures that hang on a threshold, and the mean X as FunnyBirds defines it."""
    names = [column.name for column in PARTS[:-1]]
    rows = [
        {**row["values"], **(_marks(row).at(threshold) if row["parts"] else {})}
        for row in test_rows
    ]
    table = np.array([[row.get(name, np.nan) for name in names] for row in rows], np.float64)
    table = table.reshape(len(rows), len(names))
    figures = {
        name: _figure(list(values), None)
        for name, column in zip(names[:4], table.T, strict=False)
        if len(values := column[~np.isnan(column)])
    }

    def mean_x(rows: np.ndarray) -> np.ndarray:
        csdc, pc, dc, d, sd, ts = (_known_mean(column, rows) for column in table.T)
        mean: np.ndarray = (((csdc + pc + dc) / 3 + d) / 2 + sd + ts) / 3
        return mean

    whole = float(mean_x(np.arange(len(test_rows))))
    if not np.isnan(whole):
        low, high = _bootstrap(len(test_rows), mean_x) or (None, None)
        figures[PARTS[-1].name] = Figure(whole, low, high, None, len(test_rows))
    return figures


def _known_mean(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the mean of the values in these rows that are known; NaN where none is."""
    is_there = ~np.isnan(values)
    total, count = np.nan_to_num(values)[rows].sum(-1), is_there[rows].sum(-1)
    mean: np.ndarray = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean
