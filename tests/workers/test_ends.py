"""However a page ends, no process of its stays."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import threading
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.forkserver import ForkServer
from operator import methodcaller

import pytest

from tests.support.lingers import LINGERED
from tests.support.worker_jobs import forking, never_made
from whylens.core.errors import Busy, WorkerLost, WorkStopped
from whylens.core.storage.child_processes import _kill_running, start_process
from whylens.core.workers.pool import WorkerPool
from whylens.core.workers.process import PRELOADED, Work, process_context

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no signals here")
WORK = Work(never_made, ())


class Process:
    """Stands for a working process: what is done to it is noted."""

    made: list[Process] = []
    ready, is_worn, alive = True, False, True
    at_start = at_send = staticmethod(lambda: None)

    def __init__(self, *_, **__):
        type(self).at_start()
        self.made.append(self)
        self.ended = False

    def send(self, work):
        type(self).at_send()

    def receive(self, seconds):
        if self.ended:
            raise WorkerLost("its process ended by SIGKILL")
        return "step", "a step"

    def stop_work(self):
        return False

    def kill(self):
        self.ended = True

    end = kill


@pytest.fixture
def pool(monkeypatch):
    """A pool of such processes, and threads that run where they are started."""
    monkeypatch.setattr("whylens.core.workers.pool.WorkerProcess", Process)
    monkeypatch.setattr(Process, "made", [])
    monkeypatch.setattr(threading, "Thread", Immediate)
    return WorkerPool(never_made, memory=1)


class Immediate:
    """A thread that is over once it is started."""

    def __init__(self, *, target, args, daemon):
        self.start = lambda: target(*args)


def close_at(pool, monkeypatch, moment):
    monkeypatch.setattr(Process, moment, staticmethod(pool.close))


def test_one_that_is_being_started_while_the_page_ends_is_ended(pool, monkeypatch):
    close_at(pool, monkeypatch, "at_start")
    with pytest.raises(WorkStopped):
        next(pool.run(WORK))
    assert [process.ended for process in Process.made] == [True]


def test_none_is_started_once_the_page_ends(pool):
    pool.close()
    with pytest.raises(WorkStopped):
        next(pool.run(WORK))
    assert Process.made == []


@pytest.mark.parametrize("method", ["", "somebody"])
def test_work_that_loses_its_process_to_the_end_is_stopped_and_nobody_is_to_blame(
    pool, monkeypatch, method
):
    close_at(pool, monkeypatch, "at_send")
    with pytest.raises(WorkStopped):
        next(pool.run(Work(never_made, (), method)))
    assert [process.ended for process in Process.made] == [True]  # and no other in its place


def test_one_that_takes_the_place_of_another_meanwhile_is_ended(pool, monkeypatch):
    steps = pool.run(WORK)
    next(steps)
    close_at(pool, monkeypatch, "at_start")
    steps.close()
    assert [process.ended for process in Process.made] == [True, True]


def test_where_none_can_be_started_its_place_is_not_lost(pool, monkeypatch):
    def refuse():
        raise EOFError("unexpected EOF")

    steps = pool.run(WORK)
    next(steps)
    with monkeypatch.context() as patch:
        patch.setattr(Process, "at_start", staticmethod(refuse))
        steps.close()
        with pytest.raises(Busy, match=r"can be started \(unexpected EOF\)"):
            next(pool.run(WORK))
    assert next(pool.run(WORK)) == "a step"


def test_where_temporary_files_were_removed_processes_are_started_all_the_same(
    tmp_path, monkeypatch
):
    server = forkserver.ForkServer()
    server.set_forkserver_preload([])
    monkeypatch.setattr(forkserver, "_forkserver", server)
    monkeypatch.setattr(forkserver, "connect_to_new_process", server.connect_to_new_process)
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", str(place))
    try:
        for _ in range(2):
            line, process = start_process(process_context(), methodcaller("send", "hello"))
            assert line.recv() == "hello"
            process.join()
            line.close()
            shutil.rmtree(place)
    finally:
        with suppress(FileNotFoundError):
            server._stop()


def held_line():
    line, process = start_process(process_context(), forking, own_group=True)
    assert line.recv() == "forked"
    return line, process


def test_one_whose_parent_is_gone_ends_with_what_it_started():
    line, process = held_line()
    process._popen.finalizer()  # closes what tells of this process, as its end would
    with pytest.raises(EOFError):  # nobody holds the other end any more
        line.recv()


def test_one_that_runs_when_this_process_ends_is_not_asked():
    line, process = held_line()
    _kill_running(lambda: process)
    with pytest.raises(EOFError):
        line.recv()
    process.join()
    _kill_running(lambda: process)  # that it is over by itself is no matter
    _kill_running(lambda: None)


def test_what_all_are_forked_from_does_not_take_itself_apart(tmp_path, monkeypatch):
    for last, lingers in (([PRELOADED], False), ([], True)):
        mark = tmp_path / f"lingered-{lingers}"
        monkeypatch.setenv(LINGERED, str(mark))
        server = ForkServer()
        server.set_forkserver_preload(["tests.support.lingers", *last])
        server.ensure_running()
        number = server._forkserver_pid
        os.close(server._forkserver_alive_fd)  # its last client is gone
        assert os.waitpid(number, 0)[1] == 0
        assert mark.exists() == lingers
