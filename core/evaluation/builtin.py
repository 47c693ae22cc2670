"""The metrics that come with this package."""

from __future__ import annotations

from whylens.core.evaluation import curves, in_mask, infidelity, randomised_weights, steadiness
from whylens.core.evaluation.metric import Metric

BUILTIN: tuple[Metric, ...] = (
    curves.DELETION,
    curves.INSERTION,
    curves.RANDOM_MAPS,
    infidelity.METRIC,
    randomised_weights.SIGNED,
    randomised_weights.SIZES,
    randomised_weights.ENTROPY,
    steadiness.SEED_AGREEMENT,
    steadiness.MAX_SENSITIVITY,
    steadiness.SHIFT_EQUIVARIANCE,
    in_mask.MASS,
    in_mask.RANK,
    in_mask.POINTING_GAME,
)
