"""Methods that do harm when it is asked whether they can be used: the page is there for all."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.support.unready_plugins import (
    UNREADY,
    silent_engine,
    silent_registry,
    unready_engine,
    unready_registry,
)
from tests.support.worker_jobs import hanging_later, process_id
from whylens.core.errors import BadArtifact, NeedsNotMet, TooSlow
from whylens.core.explanation import Question
from whylens.core.progress import last_of
from whylens.core.workers.engine import WorkerEngine
from whylens.core.workers.failures import FAILURES_IN_A_ROW
from whylens.core.workers.pool import WorkerPool
from whylens.core.workers.process import Work
from whylens.ui.page import session

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no signals here")
QUESTION = Question("toy", np.zeros((40, 60, 3), np.uint8), visitor="me")
REFUSED = {f"{name}-why_not" for name in UNREADY}
# Of the others a process catches what they raise, and goes on.
HARMFUL = ("exits", "interrupt")


@pytest.fixture(scope="module")
def engine():
    worker_engine = WorkerEngine(unready_engine, unready_registry(), memory=1_000_000_000)
    yield worker_engine
    worker_engine.close()


def test_one_that_cannot_say_whether_it_runs_is_not_available_and_all_others_are(engine):
    for count in range(1, FAILURES_IN_A_ROW + 1):
        reasons = engine.unavailable("toy")
        assert set(reasons) == REFUSED
        assert all(name in reason for name, reason in reasons.items())
        assert "exit code 3" in reasons["exits-why_not"]
        counts = {f"{name}-why_not": str(count) for name in HARMFUL}
        rests = "; resting" if count == FAILURES_IN_A_ROW else ""
        assert engine.failures() == {name: count + rests for name, count in counts.items()}
    before = last_of(engine.run(process_id, quick=True))
    reasons = engine.unavailable("toy")
    assert set(reasons) == REFUSED
    assert "rests" in reasons["exits-why_not"]
    assert last_of(engine.run(process_id, quick=True)) == before  # those that rest are not asked
    assert last_of(engine.explain(QUESTION, "good")).finished
    with pytest.raises(NeedsNotMet, match="rests"):
        last_of(engine.explain(QUESTION, "exits-why_not"))


def test_one_that_cannot_say_whether_it_knows_an_input_is_left_out(engine):
    before = engine.failures()
    for _ in range(FAILURES_IN_A_ROW):
        assert engine.familiarity(QUESTION) == 0.5
        # It explains as well as before: of that there is nothing to rest from.
        assert last_of(engine.explain(QUESTION, "exits-familiarity")).finished
    counts = {f"{name}-familiarity": f"{FAILURES_IN_A_ROW}" for name in HARMFUL}
    assert engine.failures() == before | counts
    process = last_of(engine.run(process_id, quick=True))
    assert engine.familiarity(QUESTION) == 0.5
    assert last_of(engine.run(process_id, quick=True)) == process


def test_in_one_process_what_is_raised_is_the_reason():
    engine = unready_engine()
    names = [name for name in engine.registry.explainers if "exits" not in name]
    names = [name for name in names if "interrupt" not in name]  # as of a Ctrl-C
    reasons = engine.unavailable("toy", methods=names)
    assert set(reasons) == {"system-exit-why_not", "cancelled-why_not"}
    assert "SystemExit: 2" in reasons["system-exit-why_not"]
    assert engine.familiarity(QUESTION, methods=names) == 0.5


def test_one_that_does_not_say_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("whylens.core.workers.engine.SECONDS_TO_SAY", 0.5)
    engine = WorkerEngine(silent_engine, silent_registry())
    try:
        assert "took longer than 0 s" in engine.unavailable("toy")["silent"]
        assert engine.failures() == {"silent": "1"}
    finally:
        engine.close()


def test_a_step_has_its_own_time_from_the_first_on():
    pool = WorkerPool(unready_engine, memory=1_000_000_000)
    try:
        steps = pool.run(Work(hanging_later, ()), seconds=600.0, step_seconds=0.5)
        assert next(steps) is None
        with pytest.raises(TooSlow, match="longer than 0 s"):
            next(steps)
    finally:
        pool.close()


def test_a_network_that_fails_in_a_way_unknown_is_left_out(engine, monkeypatch):
    monkeypatch.setattr(session, "default_models", lambda: ["broken"])
    monkeypatch.setattr(session, "PRETRAINED", "toy")
    model, banner = session.first_model(engine)
    assert model == "toy"
    assert "broken is left out" in banner
    assert "MemoryError" in banner
    with pytest.raises(BadArtifact, match="Choose another model"):
        engine.unavailable("broken")
