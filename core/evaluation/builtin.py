"""The metrics that come with this package."""

from __future__ import annotations

from collections.abc import Iterable

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
from whylens.core.hookspecs import hookimpl

BUILTIN: tuple[Metric, ...] = (
    curves.DELETION,
    curves.INSERTION,
    curves.RANDOM_MAPS,
    curves.AOPC,
    road.ROAD,
    infidelity.METRIC,
    randomised_weights.SIGNED,
    randomised_weights.SIZES,
    randomised_weights.ENTROPY,
    random_logit.METRIC,
    steadiness.SEED_AGREEMENT,
    steadiness.SEED_OVERLAP,
    steadiness.MAX_SENSITIVITY,
    steadiness.SHIFT_EQUIVARIANCE,
    steadiness.SHIFT_OVERLAP,
    in_mask.MASS,
    in_mask.RANK,
    in_mask.POINTING_GAME,
    completeness.METRIC,
    shape.SPARSENESS,
    shape.COMPLEXITY,
    brightness.AVERAGE_DROP,
    brightness.AVERAGE_INCREASE,
    brightness.AVERAGE_GAIN,
)


@hookimpl
def metrics() -> Iterable[Metric]:
    """Return them, in the order to show them."""
    return BUILTIN
