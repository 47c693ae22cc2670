"""The figures of a benchmark, in groups: what each group asks, and which of them are dear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from whylens.core.evaluation import (
    brightness,
    completeness,
    curves,
    in_mask,
    infidelity,
    random_logit,
    randomised_weights,
    road,
    shape,
    steadiness,
)
from whylens.core.evaluation.metric import Metric

STEPS = 16  # of a curve: half as many as the page takes, over many more inputs
# One fill, and the curve that deletion and insertion have of it: with three, an input costs three
# times as much.
BEATS = replace(
    curves.RANDOM_MAPS,
    measure=lambda case: curves.beats_random_maps(
        case.subject, case.heat, steps=STEPS, fill="blur"
    ),
)
# Three fills, and no random maps of each: what chance gets is in the column beside them.
DELETION, INSERTION, AOPC = (
    replace(
        metric,
        measure=partial(curves.over_fills, partial(measure, steps=STEPS, chance=False)),
    )
    for metric, measure in (
        (curves.DELETION, curves.deletion),
        (curves.INSERTION, curves.insertion),
        (curves.AOPC, curves.aopc),
    )
)


@dataclass(frozen=True)
class Column:
    """A figure of the tables.

    Attributes:
        name: As in a row's figures.
        direction: Which way is good, "higher" or "lower"; "none" for what only describes.
    """

    name: str
    title: str
    direction: str


@dataclass(frozen=True)
class Group:
    """Figures that answer one question.

    Attributes:
        name: Kebab-case.
        question: Heading of their table.
    """

    name: str
    question: str
    columns: tuple[Column, ...]


EVIDENCE = (in_mask.MASS, in_mask.RANK, in_mask.POINTING_GAME)
FAITHFUL = (BEATS, DELETION, INSERTION, AOPC, road.ROAD, infidelity.METRIC)
LEARNT = (
    randomised_weights.SIGNED,
    randomised_weights.SIZES,
    randomised_weights.ENTROPY,
    random_logit.METRIC,
)
STEADY = (
    steadiness.SEED_AGREEMENT,
    steadiness.SEED_OVERLAP,
    steadiness.MAX_SENSITIVITY,
    steadiness.SHIFT_EQUIVARIANCE,
    steadiness.SHIFT_OVERLAP,
    completeness.METRIC,
)
SHAPE = (
    shape.SPARSENESS,
    shape.COMPLEXITY,
    brightness.AVERAGE_DROP,
    brightness.AVERAGE_INCREASE,
    brightness.AVERAGE_GAIN,
)
KNOWN = {m.name: m for m in (*EVIDENCE, *FAITHFUL, *LEARNT, *STEADY, *SHAPE)}
# A pass or none: every input is measured. All others see the first inputs only.
CHEAP = frozenset({m.name for m in EVIDENCE} | {shape.SPARSENESS.name, shape.COMPLEXITY.name})
GRID = Column("grid-pointing", "Grid pointing game", "higher")
# They ask a method again and again: twenty times what the map itself took.
REPEATING = frozenset({m.name for m in (*LEARNT, *STEADY)} - {completeness.METRIC.name})

PARTS = (
    Column("signs-covered", "CSDC", "higher"),
    Column("preservation", "PC", "higher"),
    Column("part-deletion", "DC", "higher"),
    Column("distractibility", "D", "higher"),
    Column("single-deletion", "SD", "higher"),
    Column("target-sensitivity", "TS", "higher"),
    Column("parts", "Mean X", "higher"),
)
SHORTCUT = Column("shortcut", "AUROC of the planted hint", "higher")


def metrics_of(registered: Mapping[str, Metric]) -> tuple[Metric, ...]:
    """Return what is measured of every map: the built-in metrics, then those of plugins."""
    strangers = (metric for name, metric in registered.items() if name not in KNOWN)
    return (*KNOWN.values(), *strangers)


def groups_of(registered: Mapping[str, Metric]) -> tuple[Group, ...]:
    """Return all groups, in the order of their tables."""

    def group(name: str, question: str, metrics: tuple[Metric, ...]) -> Group:
        columns = tuple(Column(m.name, m.title, m.direction) for m in metrics)
        return Group(name, question, columns)

    strangers = metrics_of(registered)[len(KNOWN) :]
    evidence = group("evidence", "Does it find the evidence?", EVIDENCE)
    return (
        replace(evidence, columns=(*evidence.columns, GRID)),
        group("faithful", "Does hiding what it marks change the network's mind?", FAITHFUL),
        Group("parts", "Does it know what each part does?", PARTS),
        Group("shortcut", "Does it find a hint that gives a class away?", (SHORTCUT,)),
        group("learnt", "Does it depend on what was learnt, and on the class?", LEARNT),
        group("steady", "Is it steady?", STEADY),
        group("shape", "What it looks like, and what rewards looks", SHAPE),
        group("plugins", "Metrics of plugins", strangers),
    )
