"""The eighteen conformance tests, in order.

May touch the tests beside it. A number may have several parts; each is run, and fails, alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from whylens.core.conformance import additivity as sums
from whylens.core.conformance import galleries, inputs, targets
from whylens.core.conformance import localisation as places
from whylens.core.conformance import randomness as chance
from whylens.core.conformance import side_effects as state
from whylens.core.conformance.under_test import ExplainerUnderTest


@dataclass(frozen=True, slots=True)
class Check:
    """One conformance test, or a part of one.

    Attributes:
        number: 1 to 18.
        name: What it is about, kebab-case.
        run: Raises `CheckFailed` where an explainer fails, `NotApplicable` where it does not apply.
        slow: Whether it takes minutes.
    """

    number: int
    name: str
    run: Callable[[ExplainerUnderTest], None]
    slow: bool = False

    @property
    def id(self) -> str:
        """Its number and name, as in "08-state-restored"."""
        return f"{self.number:02d}-{self.name}"

    @property
    def says(self) -> str:
        """What it holds an explainer to, in a sentence."""
        return (self.run.__doc__ or "").strip()


CHECKS = (
    Check(1, "one-segment", places.one_segment),
    Check(2, "one-patch", places.one_patch),
    Check(3, "linear-rank", sums.linear_rank),
    Check(3, "linear-shares", sums.linear_shares),
    Check(4, "cam-identity", sums.cam_identity),
    Check(5, "one-channel", sums.one_channel),
    Check(5, "scale-of-scores", sums.scale_of_scores),
    Check(6, "stated-error", chance.stated_error),
    Check(6, "convergence", chance.convergence, slow=True),
    Check(7, "determinism", chance.determinism),
    Check(7, "batch-size", chance.batch_size),
    Check(7, "in-place-layers", chance.in_place),
    Check(7, "cpu-equals-gpu", chance.accelerator),
    Check(8, "state-restored", state.restored),
    Check(8, "state-after-failure", state.after_failure),
    Check(9, "degenerate-input", inputs.degenerate),
    Check(10, "layouts", inputs.layouts),
    Check(11, "class-sensitivity", targets.class_sensitivity),
    Check(11, "other-weights", targets.other_weights),
    Check(12, "shift", places.shift),
    Check(13, "beats-chance", places.beats_chance),
    Check(14, "sign-of-score", targets.sign_of_score),
    Check(14, "one-logit", targets.one_logit),
    Check(15, "batch-bound", state.batch_bound),
    Check(15, "flat-memory", state.flat_memory, slow=True),
    Check(16, "threads", state.threads),
    Check(17, "axes", places.axes),
    Check(18, "never-itself", galleries.never_itself),
    Check(18, "bound-to-weights", galleries.bound_to_weights),
)
