"""Another class: does a map change where another class is asked about?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from whylens.core.evaluation.agreement import likeness
from whylens.core.evaluation.metric import Case, Metric, Score, require
from whylens.core.results import Heatmap
from whylens.core.subject import Subject


def random_logit(
    subject: Subject, heat: Heatmap, explain: Callable[[Subject], Heatmap], *, classes: int = 3
) -> Iterator[Score]:
    """Yield Spearman's correlation of a map with those of other classes, mean over a few.

    Of two classes whose scores mirror each other the maps do too: then -1 is right.
    Source: Sixt et al. 2020, When Explanations Lie, sec. 5; several classes for one.

    Args:
        classes: How many others are asked about, drawn at random, seeded.
    """
    target, count = subject.target, subject.forward_pass.logits.shape[1]
    if target.quantity in ("value", "function"):
        yield Score(None, note=f"A {target.quantity} is explained: there is no other class.")
        return
    order = torch.randperm(count, generator=subject.generator()).tolist()
    other_classes = [i for i in order if i not in (target.index, target.versus)][:classes]
    if not other_classes:
        yield Score(None, note="There is no other class.")
    agreements: list[float] = []
    for index in other_classes:
        class_heat = explain(replace(subject, target=replace(target, index=index)))
        agreements.append(likeness(heat, class_heat))
        yield Score(float(np.mean(agreements)), 0.0, "", 0, len(agreements) / len(other_classes))


def _measure(case: Case) -> Iterator[Score]:
    if case.class_blind:
        yield Score(None, note="The method has one answer for all classes, and says so.")
        return
    yield from random_logit(case.subject, case.heat, require(case, "method"))


METRIC = Metric(
    name="random-logit",
    title="Like other classes",
    summary="How like is the map to maps of other classes?",
    source="Sixt et al. 2020: Spearman's correlation, mean of 3 random classes.",
    direction="lower",
    measure=_measure,
    asks=frozenset({"method"}),
)
