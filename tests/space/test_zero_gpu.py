"""A lent GPU is asked for what is slow, in another process; without one the processor answers."""

from __future__ import annotations

import pickle
import subprocess
import sys
import types
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch

from whylens.core.engine import Engine
from whylens.core.errors import CoreError
from whylens.core.explanation import Question
from whylens.core.workers.engine import WorkerEngine
from whylens.ui.space import zero_gpu
from whylens.ui.space.zero_gpu import (
    ZeroGpuEngine,
    allotted_cores,
    engine_in_process,
    gpu_decorator,
    local_engine,
)

ROOT = Path(__file__).resolve().parents[2]
SLOW, QUICK = ("occlusion", {"window": 48, "stride": 24}), ("grad-cam", {})


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def warnings(monkeypatch):
    """What is said in the log."""
    messages: list[str] = []
    monkeypatch.setattr(zero_gpu.log, "warning", lambda text, *args: messages.append(text % args))
    return messages


@pytest.fixture
def question(rng):
    return Question("untrained:test_resnet", rng.integers(0, 256, (80, 90, 3), dtype=np.uint8))


class Lender:
    """Lends as ZeroGPU does: what goes in and what comes out is pickled; only gr.Error is known."""

    def __init__(self, failing: str = "", after: int = 0) -> None:
        self.failing, self.after = failing, after
        self.asked: list[str] = []
        self.closed = False

    def __call__(self, task):
        def call(*arguments):
            arguments = pickle.loads(pickle.dumps(arguments))
            self.asked.append(arguments[1])
            work = task(*arguments)
            try:
                for number, answer in enumerate(work):
                    if self.failing and number >= self.after:
                        raise gr.Error(self.failing)
                    yield pickle.loads(pickle.dumps(answer))
            finally:
                work.close()
                self.closed = True

        return call


def final(engine, question, method, params):
    *_, answer = engine.explain(question, method, params)
    assert answer.finished
    return answer.result.values


@pytest.mark.slow
def test_slow_methods_go_to_the_lent_gpu_and_give_the_same_map(question):
    lend = Lender()
    gpu_engine, plain = ZeroGpuEngine(on_gpu=lend, device="cpu"), Engine()
    assert np.array_equal(final(gpu_engine, question, *SLOW), final(plain, question, *SLOW))
    assert lend.asked == ["occlusion"]
    assert gpu_engine.models.cached_keys() == []  # the network was loaded over there


def test_quick_methods_cost_visitors_nothing_of_their_share(question):
    lend = Lender()
    final(ZeroGpuEngine(on_gpu=lend, device="cpu"), question, *QUICK)
    assert lend.asked == []


def test_an_error_says_the_same_from_over_there(question):
    messages = []
    for engine in (ZeroGpuEngine(on_gpu=Lender(), device="cpu"), Engine()):
        with pytest.raises(CoreError) as error:
            list(engine.explain(question, "occlusion", {"window": -1}))
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert "window" in messages[0]


@pytest.mark.parametrize("after", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_without_a_gpu_the_processor_computes_and_the_visitor_is_told(question, after):
    lend = Lender("You have exceeded your quota.", after)
    with pytest.warns(UserWarning, match="quota. The processor computes instead"):
        values = final(ZeroGpuEngine(on_gpu=lend, device="cpu"), question, *SLOW)
    assert np.array_equal(values, final(Engine(), question, *SLOW))


def test_stop_reaches_the_lent_gpu(question):
    lend = Lender()
    work = ZeroGpuEngine(on_gpu=lend, device="cpu").explain(question, "occlusion", {"stride": 8})
    assert next(work).fraction < 1
    assert not lend.closed
    work.close()
    assert lend.closed


def test_the_decorator_is_that_of_spaces_or_the_identity(monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", None)
    assert gpu_decorator(30)(len) is len
    durations = []
    fake = types.SimpleNamespace(
        GPU=lambda duration: durations.append(duration) or (lambda f: "lent")
    )
    monkeypatch.setitem(sys.modules, "spaces", fake)
    assert gpu_decorator(30)(len) == "lent"
    assert durations == [30]


def test_only_a_zero_gpu_space_borrows(monkeypatch):
    monkeypatch.setattr(zero_gpu, "gpu_decorator", lambda seconds: Lender())
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert type(local_engine()) is WorkerEngine
    monkeypatch.setenv("WHYLENS_WORKERS", "0")
    assert type(local_engine()) is Engine
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert type(local_engine()) is ZeroGpuEngine


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [("WHYLENS_WORKERS", "0", "WHYLENS_WORKERS is 0"), ("SPACES_ZERO_GPU", "1", "ZeroGPU lends")],
)
def test_what_is_not_bounded_in_one_process_is_said_at_the_start(
    warnings, monkeypatch, name, value, cause
):
    monkeypatch.setattr(zero_gpu, "gpu_decorator", lambda seconds: Lender())
    monkeypatch.setattr(zero_gpu, "harmful_plugins", dict)
    assert type(local_engine()) is WorkerEngine
    assert warnings == []  # all is bounded
    monkeypatch.setenv(name, value)
    assert not isinstance(local_engine(), WorkerEngine)
    (message,) = warnings
    assert message.startswith(cause)
    assert "no answer has a deadline" in message
    assert "ends the page for everybody" in message


@pytest.mark.parametrize(
    ("setting", "kind", "places"),
    [
        ("00", Engine, None),
        ("3", WorkerEngine, 3),
        ("many", WorkerEngine, 1),
        ("-1", WorkerEngine, 1),
    ],
)
def test_a_number_of_processes_is_taken_for_what_it_is(
    warnings, monkeypatch, setting, kind, places
):
    monkeypatch.setattr(zero_gpu, "harmful_plugins", dict)
    monkeypatch.setenv("CPU_CORES", "2")
    monkeypatch.setenv("WHYLENS_WORKERS", setting)
    engine = local_engine()
    assert type(engine) is kind
    assert places in (None, engine.places)
    assert any("no number" in message for message in warnings) == (not setting.isdecimal())


@pytest.mark.parametrize(
    ("setting", "cores"),
    [("", None), ("2", 2), ("7.5", 7), ("0.5", 1), ("many", None), ("inf", None)],
)
def test_the_share_of_the_cores_is_that_of_the_space(monkeypatch, setting, cores):
    monkeypatch.setenv("CPU_CORES", setting)
    assert allotted_cores() == cores


def test_the_share_of_the_cores_bounds_threads_and_slots(monkeypatch):
    monkeypatch.setenv("CPU_CORES", "4")
    engine = engine_in_process()
    assert torch.get_num_threads() == 4
    slots = [engine._slots.acquire(blocking=False) for _ in range(3)]
    assert slots == [True, True, False]


FORKED = """
import multiprocessing, numpy as np, torch
from whylens.core.explanation import Question
from whylens.core.engine import Engine
from whylens.ui.space.zero_gpu import ZeroGpuEngine

context = multiprocessing.get_context("fork")

def lend(task):
    def borrowed(*given):
        results = context.SimpleQueue()
        def work():
            for answer in task(*given):
                results.put(answer)
            results.put(None)
        process = context.Process(target=work, daemon=True)
        process.start()
        while (answer := results.get()) is not None:
            yield answer
        process.join()
    return borrowed

pixels = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
question = Question("untrained:test_resnet", pixels)
engine = ZeroGpuEngine(on_gpu=lend, device="cpu", slots=1)
engine.predict(question)  # the parent's threads and caches have been used
*_, here = Engine().explain(question, "occlusion", {"window": 64, "stride": 64})
with engine._slots, engine.models._lock, engine._forward_passes._lock:  # as others may hold them
    *_, there = engine.explain(question, "occlusion", {"window": 64, "stride": 64})
assert np.allclose(here.result.values, there.result.values, rtol=1e-5, atol=1e-6)
print("the same map")
"""


@pytest.mark.slow
def test_a_fork_beside_threads_that_hold_locks_still_answers():
    run = subprocess.run(
        [sys.executable, "-c", FORKED], cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert run.returncode == 0, run.stderr
    assert "the same map" in run.stdout
