"""Work in processes: whatever a plugin does to its own, everybody else is served."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from weakref import WeakSet

import numpy as np
import pytest

from benchmarks.bad_plugins import (
    CHANGERS,
    HANGERS,
    KILLERS,
    RAISERS,
    TOO_LARGE,
    bad_engine,
    bad_registry,
)
from tests.support.quick import some_quick
from tests.support.worker_jobs import (
    counting,
    leaking,
    modules,
    never_made,
    niceness,
    oom_score,
    process_id,
    surroundings,
    until_there,
    without_memory,
)
from whylens.core.errors import BadInput, Busy, ExplainerFailed, NeedsNotMet, TooSlow, WorkStopped
from whylens.core.explanation import Question
from whylens.core.params import Params
from whylens.core.progress import last_of
from whylens.core.workers.engine import WorkerEngine
from whylens.core.workers.failures import FAILURES_IN_A_ROW
from whylens.core.workers.pool import QUICK_PATIENCE, WorkerPool, while_wanted
from whylens.core.workers.process import NICENESS, OOM_SCORE, SPARE_BYTES, Work

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no signals here")
PATIENCE = 60.0
ASKED = {"model": "untrained:resnet18", "target": "predicted", "quantity": "logit"}


@pytest.fixture(scope="module")
def engine():
    worker_engine = WorkerEngine(bad_engine, bad_registry(), seconds=PATIENCE, memory=1_000_000_000)
    yield worker_engine
    worker_engine.close()


@pytest.fixture
def question(rng) -> Question:
    return Question("toy", rng.integers(0, 256, (40, 60, 3), dtype=np.uint8), visitor="me")


def tasks_of(engine) -> list[str]:
    return [task.work.method for lane in engine._pool._lanes.values() for task in lane.tasks]


def is_sound(engine, question) -> bool:
    return bool((last_of(engine.explain(question, "good")).result.values == 1).all())


def test_an_answer_is_that_of_an_engine_in_this_process(engine, question):
    local_engine = bad_engine()
    assert engine.predict(question).classes == local_engine.predict(question).classes
    assert engine.card("toy") == local_engine.card("toy")
    assert engine.unavailable("toy") == local_engine.unavailable("toy")
    actual, expected = (last_of(e.explain(question, "good")) for e in (engine, local_engine))
    assert np.array_equal(actual.result.values, expected.result.values)
    assert actual.question is question
    assert replace(actual, seconds=0, result=None) == replace(expected, seconds=0, result=None)
    judgement = last_of(engine.judge(actual))
    assert judgement.verdict.word == last_of(local_engine.judge(expected)).verdict.word
    assert judgement.question is question
    # It takes longer to import than all else, and nothing of this needs it.
    assert "torch._dynamo" not in last_of(engine.run(modules, quick=True))


@pytest.mark.parametrize("name", sorted({*KILLERS, *RAISERS, *TOO_LARGE}))
def test_who_asked_is_told_who_failed_and_the_next_is_served(engine, question, name):
    before = int(engine.failures().get(name, "0"))
    with pytest.raises(ExplainerFailed, match=name):
        last_of(engine.explain(question, name))
    assert engine.failures()[name] == f"{before + 1}"
    assert is_sound(engine, question)


def test_what_a_method_changes_of_its_process_changes_no_map_of_others(question):
    engine = WorkerEngine(bad_engine, bad_registry(), seconds=PATIENCE)
    expected = last_of(bad_engine().explain(question, "saliency")).result.values
    try:
        before = last_of(engine.run(surroundings, quick=True))
        for name in CHANGERS:
            assert last_of(engine.explain(question, name)).finished
            assert last_of(engine.run(surroundings, quick=True)) == before
            values = last_of(engine.explain(question, "saliency")).result.values
            assert np.abs(values - expected).max() <= 1e-6 * np.abs(expected).max()
    finally:
        engine.close()


@pytest.mark.parametrize("name", sorted(set(RAISERS) - {"memory"}))
def test_in_one_process_as_well_none_of_it_is_for_others(question, name):
    with ThreadPoolExecutor(1) as threads:  # as a page answers
        answer = threads.submit(lambda: last_of(bad_engine().explain(question, name)))
        with pytest.raises(ExplainerFailed, match=name):
            answer.result()


def test_ctrl_c_ends_what_a_program_computes_itself(question):
    with pytest.raises(KeyboardInterrupt):
        last_of(bad_engine().explain(question, "interrupt"))


# What holds the interpreter cannot even be asked to end.
@pytest.mark.parametrize("name", some_quick(HANGERS, lambda _, name: name == "holds"))
def test_what_hangs_is_ended_in_its_time(question, name):
    engine = WorkerEngine(bad_engine, bad_registry(), seconds=1.0)
    try:
        with pytest.raises(TooSlow, match=f"{name}.*longer than 1 s"):
            last_of(engine.explain(question, name))
        assert engine.failures() == {name: "1"}
        engine._seconds = PATIENCE
        assert is_sound(engine, question)
    finally:
        engine.close()


def test_a_process_that_does_not_start_is_not_waited_for(question, monkeypatch):
    monkeypatch.setattr("whylens.core.workers.pool.SECONDS_TO_START", 0.5)
    engine = WorkerEngine(never_made, bad_registry(), seconds=PATIENCE)
    try:
        with pytest.raises(Busy, match="No working process started within 0 s"):
            last_of(engine.explain(question, "good"))
        assert engine.failures() == {}  # the method is not to blame
    finally:
        engine.close()


def test_of_steps_the_last_alone_is_held():
    class Step:
        references = WeakSet()

        def __init__(self):
            self.references.add(self)

    highest = 0

    def steps():
        nonlocal highest
        for _ in range(50):
            yield Step()
            highest = max(highest, len(Step.references))

    assert isinstance(last_of(steps()), Step)
    assert highest <= 2
    with pytest.raises(ValueError, match="no step"):
        last_of(iter(()))


def test_nobody_waits_for_the_end_of_what_hangs(question):
    engine = WorkerEngine(bad_engine, bad_registry(), seconds=PATIENCE)
    try:
        with ThreadPoolExecutor(1) as threads:
            hanging = threads.submit(lambda: last_of(engine.explain(question, "sleeps")))
            deadline = time.monotonic() + PATIENCE
            while not tasks_of(engine):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert (engine.ahead("good"), engine._pool.ahead(quick=False)) == (1, 0)
            assert is_sound(engine, replace(question, visitor="another"))
            assert not hanging.done()
            engine.stop("me")
            with pytest.raises(WorkStopped):
                hanging.result()
        assert is_sound(engine, question)
        lane = engine._pool._lanes[True]
        while lane.busy or len(lane.processes) != 1:  # the one more goes
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        engine.close()


def test_a_crowd_starts_no_process_and_one_that_hangs_starts_one_for_all(monkeypatch, tmp_path):
    clock = SimpleNamespace(now=0.0)
    monotonic = SimpleNamespace(monotonic=lambda: clock.now)
    monkeypatch.setattr("whylens.core.workers.pool.time", monotonic)
    pool, starts = WorkerPool(bad_engine, memory=1_000_000_000), Queue()
    lane = pool._lanes[True]

    def ask(name):
        steps = pool.run(Work(until_there, (tmp_path / name,)), quick=True)
        starts.put((name, next(steps)))
        return list(steps)

    def take(seconds):
        name, process = starts.get(timeout=PATIENCE)
        clock.now += seconds
        (tmp_path / name).touch()
        return process

    try:
        with ThreadPoolExecutor(5) as threads:
            crowd = [threads.submit(ask, name) for name in "abcde"]
            # Each is done in less than the patience; the last has waited for more than thrice that.
            in_turn = {take(0.8 * QUICK_PATIENCE) for _ in crowd}
            assert len(in_turn) == 1
            hangs = threads.submit(ask, "hangs")
            _, hung = starts.get(timeout=PATIENCE)
            clock.now += 2 * QUICK_PATIENCE
            waits = [threads.submit(ask, name) for name in "fgh"]
            processes = {take(0.0) for _ in waits}
            assert in_turn == {hung}
            assert len(processes | in_turn) == len(lane.processes) == 2
            (tmp_path / "hangs").touch()
            hangs.result()
        deadline = time.monotonic() + PATIENCE
        while len(lane.processes) != 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        pool.close()


@pytest.mark.parametrize("name", ["exits", "interrupt"])
def test_one_that_fails_again_and_again_rests_and_the_others_do_not(question, monkeypatch, name):
    engine = WorkerEngine(bad_engine, bad_registry(), seconds=PATIENCE)
    try:
        for _ in range(FAILURES_IN_A_ROW):
            with pytest.raises(ExplainerFailed):
                last_of(engine.explain(question, name))
        with pytest.raises(NeedsNotMet, match="rests: 3 times"):
            last_of(engine.explain(question, name))
        assert "rests" in engine.unavailable("toy")[name]
        assert set(engine.unavailable("toy")) == {name}
        assert engine.failures() == {name: f"{FAILURES_IN_A_ROW}; resting"}
        assert is_sound(engine, question)
        monkeypatch.setattr("whylens.core.workers.failures.REST_SECONDS", 0.0)
        assert engine.unavailable("toy") == {}
        with pytest.raises(ExplainerFailed):  # asked again, and no better
            last_of(engine.explain(question, name))
    finally:
        engine.close()


def test_what_is_asked_of_it_beyond_its_defaults_is_not_held_against_a_method(monkeypatch):
    class Steps(Params):
        steps: int = 50

    registry = bad_registry()
    explainer = registry.explainer("good")
    monkeypatch.setattr(type(explainer), "Params", Steps)
    engine = WorkerEngine(bad_engine, registry)

    def takes_too_long(*_, **__):
        raise TooSlow("good", 120.0)
        yield

    monkeypatch.setattr(engine._pool, "run", takes_too_long)
    for _ in range(FAILURES_IN_A_ROW + 1):
        with pytest.raises(TooSlow):
            last_of(engine.explain(Question("toy"), "good", {"steps": 1000}))
    for params in ({}, {"steps": 50}, {}):
        with pytest.raises(TooSlow):
            last_of(engine.explain(Question("toy"), "good", params))
    assert engine.failures() == {"good": f"{2 * FAILURES_IN_A_ROW + 1}; resting"}


def test_closing_an_answer_ends_its_work_and_keeps_the_process(engine, question):
    before = pid_of(engine)
    steps = engine.explain(question, "stepping")
    assert next(steps).fraction == 0.5
    steps.close()
    assert pid_of(engine) == before  # the step was broken off: nothing had to be loaded anew


def test_who_leaves_is_worked_for_no_longer_and_others_are(engine, question):
    steps = engine.explain(question, "stepping")
    next(steps)
    engine.stop("somebody else")
    engine.stop("me", "another method")
    engine.forget("me")
    with pytest.raises(WorkStopped):
        next(steps)


def test_what_is_not_wanted_any_more_ends_within_a_step(engine, question):
    before = pid_of(engine, quick=True)
    with while_wanted(lambda: False), pytest.raises(WorkStopped):
        last_of(engine.explain(question, "sleeps"))
    assert pid_of(engine, quick=True) == before


def pid_of(engine, *, quick: bool = False) -> int:
    (pid,) = engine.run(process_id, quick=quick)
    return pid


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="nothing is counted here")
def test_one_that_leaks_or_has_no_memory_left_is_replaced_before_the_next_asks(engine):
    def outcome(work, *arguments) -> bool:
        before = pid_of(engine)
        with contextlib.suppress(BadInput):
            last_of(engine.run(work, *arguments))
        return pid_of(engine) == before

    allocator = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")
    assert outcome(leaking, 10_000_000)
    assert not outcome(leaking, SPARE_BYTES // 2)
    assert outcome(without_memory, ValueError("of another kind"))
    assert not outcome(without_memory, MemoryError())
    assert not outcome(without_memory, allocator)


@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").is_file(), reason="there is none here")
def test_where_memory_ends_the_kernel_ends_a_process_and_not_the_server(engine):
    assert last_of(engine.run(oom_score)) >= OOM_SCORE


def test_processes_end_with_the_engine(question):
    engine = WorkerEngine(bad_engine, bad_registry())
    pid = pid_of(engine)
    engine.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
    pytest.fail("it still runs")


def test_judging_makes_room_for_what_somebody_waits_for_and_goes_on(engine):
    judging = engine._pool.run(Work(counting, (), "good", is_background=True), visitor="me")
    assert [next(judging) for _ in range(3)] == [0, 1, 2]
    with ThreadPoolExecutor(1) as threads:
        # Both of one visitor and of one method: what ends one must not be taken for the other.
        work = Work(niceness, (), "good")
        future = threads.submit(lambda: last_of(engine._pool.run(work, visitor="me")))
        numbers = [next(judging)]
        while not future.done():
            numbers.append(next(judging))
        assert future.result() >= NICENESS
    numbers += [next(judging) for _ in range(3)]
    assert numbers == list(range(3, 3 + len(numbers)))  # nothing twice, nothing left out
    engine.stop("me")
    with pytest.raises(WorkStopped):
        last_of(judging)
    assert tasks_of(engine) == []
    assert is_sound(engine, Question("toy", np.zeros((40, 60, 3), np.uint8)))
    assert last_of(engine.run(niceness)) >= NICENESS  # its lane is there for the next


def test_what_takes_an_hour_is_alone_of_its_kind_and_not_in_the_way(monkeypatch):
    # Nothing waits here, whatever its patience, but a second one of a kind.
    monkeypatch.setattr("whylens.core.workers.pool.SLOW_PATIENCE", 600.0)
    pool = WorkerPool(bad_engine, memory=1_000_000_000, busy_timeout=0.5)
    try:
        fit_work, load_work = (pool.run(Work(counting, (), alone=name)) for name in ("fit", "load"))
        assert next(fit_work) == next(load_work) == 0
        assert pool.ahead(quick=False) == 0
        stream = pool.run(Work(counting, ()))
        assert next(stream) == 0
        pool._lanes[False].patience = 0.1
        with pytest.raises(Busy):
            next(pool.run(Work(counting, (), alone="fit")))
        fit_work.close()
        deadline = time.monotonic() + PATIENCE
        while "fit" in pool._lanes[False].alone:  # the end of its work is not waited for
            assert time.monotonic() < deadline
        assert next(pool.run(Work(counting, (), alone="fit"))) == 0
    finally:
        pool.close()


def test_slow_work_gives_way_to_quick_work(engine):
    quick, slow = (last_of(engine.run(niceness, quick=quick)) for quick in (True, False))
    assert quick == os.nice(0)
    assert slow == min(19, quick + NICENESS)
