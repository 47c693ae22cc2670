"""The metrics that come with this package."""

from __future__ import annotations

from whylens.core.evaluation.curves import DELETION, INSERTION, RANDOM_MAPS
from whylens.core.evaluation.metric import Metric

BUILTIN: tuple[Metric, ...] = (DELETION, INSERTION, RANDOM_MAPS)
