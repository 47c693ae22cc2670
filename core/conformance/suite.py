"""The eighteen conformance tests, in order.

A number may have several parts; each is run, and fails, alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from whylens.core.conformance import (
    additivity,
    galleries,
    inputs,
    localisation,
    randomness,
    side_effects,
    targets,
)
from whylens.core.conformance.under_test import ExplainerUnderTest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Check(Generic[T]):
    """One conformance test, or a part of one.

    Attributes:
        number: 1 to 18, of metrics 1 to 8.
        name: What it is about, kebab-case.
        run: Raises `CheckFailed` where it is not met, `NotApplicable` where it does not apply.
        slow: Whether it takes minutes.
    """

    number: int
    name: str
    run: Callable[[T], None]
    slow: bool = False

    @property
    def id(self) -> str:
        """Its number and name, as in "08-state-restored"."""
        return f"{self.number:02d}-{self.name}"

    @property
    def says(self) -> str:
        """What it holds to, in a sentence."""
        return (self.run.__doc__ or "").strip()


CHECKS: tuple[Check[ExplainerUnderTest], ...] = (
    Check(1, "one-segment", localisation.one_segment),
    Check(2, "one-patch", localisation.one_patch),
    Check(3, "linear-rank", additivity.linear_rank),
    Check(3, "linear-shares", additivity.linear_shares),
    Check(4, "cam-identity", additivity.cam_identity),
    Check(5, "one-channel", additivity.one_channel),
    Check(5, "scale-of-scores", additivity.scale_of_scores),
    Check(6, "stated-error", randomness.stated_error),
    Check(6, "convergence", randomness.convergence, slow=True),
    Check(7, "determinism", randomness.determinism),
    Check(7, "batch-size", randomness.batch_size),
    Check(7, "in-place-layers", randomness.in_place),
    Check(7, "cpu-equals-gpu", randomness.accelerator),
    Check(8, "state-restored", side_effects.restored),
    Check(8, "state-after-failure", side_effects.after_failure),
    Check(9, "degenerate-input", inputs.degenerate),
    Check(10, "layouts", inputs.layouts),
    Check(10, "every-part", inputs.every_part),
    Check(11, "class-sensitivity", targets.class_sensitivity),
    Check(11, "other-weights", targets.other_weights),
    Check(12, "shift", localisation.shift),
    Check(13, "beats-chance", localisation.beats_chance),
    Check(14, "sign-of-score", targets.sign_of_score),
    Check(14, "one-logit", targets.one_logit),
    Check(15, "batch-bound", side_effects.batch_bound),
    Check(15, "flat-memory", side_effects.flat_memory, slow=True),
    Check(16, "threads", side_effects.threads),
    Check(17, "axes", localisation.axes),
    Check(17, "signals", localisation.signals),
    Check(18, "never-itself", galleries.never_itself),
    Check(18, "bound-to-weights", galleries.bound_to_weights),
)
