"""What the tests of shipped networks share: an engine that knows them, and quick questions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from whylens.core.engine import Engine
from whylens.core.explainer import is_single_step
from whylens.core.models import checkpoints
from whylens.core.params import controls_of

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints"
QUICK = {
    "mode": "fast", "steps": 40, "window": 64, "stride": 64, "count": 2, "masks": 64,
    "samples": 400, "repeats": 2, "constants": 1, "swaps": 2, "candidates": 50,
}  # fmt: skip

COUNTS = (
    "steps", "max_steps", "masks", "samples", "repeats", "constants", "swaps", "candidates",
)  # fmt: skip


@contextlib.contextmanager
def shipped_engine() -> Iterator[Engine]:
    """Yield an engine that finds the shipped networks, which other tests do not see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "SHIPPED", SHIPPED)
        yield Engine()


def available(engine: Engine, name: str, *, quick: bool = False) -> list[str]:
    """Return the methods that explain a network, or those of them that take one step."""
    reasons, explainers = engine.unavailable(name), engine.registry.explainers
    methods = [method for method in explainers if method not in reasons]
    return [m for m in methods if is_single_step(explainers[m])] if quick else methods


def final_answer(engine: Engine, question, method: str, *, fewest: bool = False):
    """Return a method's last answer, with few samples, or with the fewest that it allows."""
    params = engine.registry.explainers[method].Params
    params_given = {k: v for k, v in QUICK.items() if k in params.model_fields}
    if fewest:
        params_given |= {c.name: int(c.low) for c in controls_of(params) if c.name in COUNTS}
    *_, answer = engine.explain(question, method, params_given)
    return answer
