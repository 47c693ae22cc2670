"""A training in a process of its own: stopped, left or killed, it harms nobody else."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from benchmarks.bad_plugins import bad_engine, bad_registry
from benchmarks.page_server import memory_of, tree_of
from tests.support.pictures import SLIM
from tests.support.worker_jobs import colours, own_process, refusing
from whylens.core.errors import BadInput, Busy, WorkerLost
from whylens.core.train.recipe import Recipe
from whylens.core.train.report import read_report
from whylens.core.workers.engine import WorkerEngine
from whylens.core.workers.training import TrainingRunner

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no signals here")
RECIPE = Recipe(backbone="resnet18", arguments=SLIM, size=32, batch=16, epochs=500, lr=0.01)


@pytest.fixture
def runner():
    engine = WorkerEngine(bad_engine, bad_registry())
    yield TrainingRunner(engine)
    engine.close()


def test_it_runs_elsewhere_and_a_stop_keeps_the_best_so_far(runner, tmp_path):
    messages, out = [], tmp_path / "m"
    for step in runner.run("me", colours, RECIPE, out, own_process):
        messages.append(step.message)
        if step.epoch == 2 and "val_accuracy" in step.figures:
            with pytest.raises(Busy, match="under way already"):
                next(runner.run("you", colours, RECIPE, tmp_path / "n", own_process))
            assert not runner.stop("another")
            assert runner.stop("me")
    assert messages[0] == f"{len(bad_registry().explainers)} methods"
    assert "examining the best so far" in messages
    assert messages[-1] == "done"
    name, pid = messages[-2].split(" in ")
    assert name == "colours"
    assert int(pid) != os.getpid()
    assert not read_report(out).complete
    assert not runner.stop("me")


@pytest.mark.slow  # who is told that a process was lost is asked in test_workers.py
def test_one_that_is_ended_from_outside_says_so_and_keeps_the_best(runner, tmp_path):
    steps = runner.run("me", colours, RECIPE, tmp_path / "m", own_process)
    next(step for step in steps if step.epoch == 2)
    os.kill(runner._training._process.pid, signal.SIGKILL)
    with pytest.raises(WorkerLost, match=r"ended by SIGKILL.*best network so far is kept as m"):
        list(steps)
    with pytest.raises(BadInput, match="do not do"):
        list(runner.run("you", refusing, RECIPE, tmp_path / "n", own_process))
    assert not (tmp_path / "n").exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").is_file(), reason="memory is not told here")
@pytest.mark.parametrize("in_worker", [True, False])
def test_memory_is_given_back_when_it_is_over(tmp_path, in_worker):
    engine = WorkerEngine(bad_engine, bad_registry()) if in_worker else bad_engine()
    # torch 2.14 writes past its buffers where a strided 1 x 1 convolution reads fewer than 16
    # channels of large maps in channels_last, on processors with AVX-512.
    wide = {**SLIM, "channels": (16, 16, 16, 16)}
    large = RECIPE.model_copy(update={"arguments": wide, "size": 256, "batch": 48, "epochs": 1})
    over, readings = threading.Event(), []

    def watch():
        while not over.wait(0.05):
            readings.append(memory_of(tree_of(os.getpid())))

    def train(recipe, name):
        *_, _ = TrainingRunner(engine).run("me", colours, recipe, tmp_path / name, own_process)

    try:
        train(RECIPE.model_copy(update={"epochs": 1}), "small")  # so that all is loaded
        before = memory_of(tree_of(os.getpid()))
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            train(large, "large")
        finally:
            over.set()
            watcher.join()
        assert max(readings) > 1.3 * before
        assert memory_of(tree_of(os.getpid())) < 1.2 * before
    finally:
        engine.close()


def test_one_whose_page_was_left_ends(runner, tmp_path):
    steps = runner.run("me", colours, RECIPE, tmp_path / "m", own_process)
    next(step for step in steps if step.epoch == 2)
    steps.close()
    assert runner.join(60)
    assert read_report(tmp_path / "m") is not None
