"""Processes that share out parts: each part once, one environment, and nobody left behind."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import subprocess
import sys
from contextlib import nullcontext

import pytest

from tests.conftest import ROOT
from tests.support.batch_jobs import EndingJob, EndlessJob, InterruptedJob, RefusingJob, TellingJob
from whylens.core.batch.process_runner import LocalProcesses
from whylens.core.batch.protocol import FilesDone
from whylens.core.batch.shards import ShardDone
from whylens.core.errors import BadInput, WorkerLost
from whylens.core.storage.interrupts import interrupts_blocked


def job(kind, place, threads=1):
    return kind(place, place, threads, "cpu")


def test_every_part_is_given_out_once_and_told_of_once(tmp_path):
    events = list(LocalProcesses(2).run(job(TellingJob, tmp_path, threads=3), range(3, 20)))
    shards = [s for s in events if isinstance(s, ShardDone)]
    assert sorted(s.shard for s in shards) == list(range(3, 20))
    assert sum(s.images for s in events if isinstance(s, FilesDone)) == 17
    parts, threads, workers = zip(*(p.name.split("-") for p in tmp_path.iterdir()), strict=True)
    assert sorted(map(int, parts)) == list(range(3, 20))
    assert set(threads) == {"3"}
    assert len(set(workers)) <= 2
    assert not multiprocessing.active_children()


def test_our_own_environment_stays_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    list(LocalProcesses(1).run(job(TellingJob, tmp_path), range(1)))
    assert dict(os.environ) == before


def test_no_more_processes_than_parts_are_started(tmp_path):
    list(LocalProcesses(8).run(job(TellingJob, tmp_path), range(2)))
    assert len({p.name.split("-")[2] for p in tmp_path.iterdir()}) == 2
    assert list(LocalProcesses(2).run(job(TellingJob, tmp_path), [])) == []


def test_ctrl_c_is_for_the_process_that_started_the_others(tmp_path, capfd):
    events = list(LocalProcesses(2).run(job(InterruptedJob, tmp_path), range(4)))
    assert sum(isinstance(s, ShardDone) for s in events) == 4
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("ignored", [True, False])
def test_ctrl_c_while_a_process_starts_is_delivered_afterwards(ignored):
    before = signal.getsignal(signal.SIGINT)
    starts = []
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
        expected = nullcontext() if ignored else pytest.raises(KeyboardInterrupt)
        with expected, interrupts_blocked():
            signal.raise_signal(signal.SIGINT)
            starts.append(True)
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.signal(signal.SIGINT, before)
    assert starts


def test_a_process_that_ends_is_told_of_with_the_remedy(tmp_path):
    with pytest.raises(WorkerLost, match=r"exit code 9.*run the same command again"):
        list(LocalProcesses(2).run(job(EndingJob, tmp_path), range(4)))
    assert not multiprocessing.active_children()


def test_what_a_process_refuses_is_raised_here(tmp_path):
    with pytest.raises(BadInput, match="this cannot be done"):
        list(LocalProcesses(2).run(job(RefusingJob, tmp_path), range(4)))
    assert not multiprocessing.active_children()


def test_closing_ends_all_processes_at_work(tmp_path):
    work = LocalProcesses(2).run(job(EndlessJob, tmp_path), range(4))
    assert next(work) == FilesDone(1)
    assert len(multiprocessing.active_children()) == 2
    work.close()
    assert not multiprocessing.active_children()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="processes are watched by Linux's pidfd")
def test_after_a_kill_9_no_process_goes_on():
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.support.batch_jobs"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    ids = [int(child.stdout.readline()) for _ in range(2)]
    handles = []
    for pid in ids:
        try:
            handles.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue  # gone already
    child.wait(60)
    child.stdout.close()
    assert child.returncode == -9
    for handle in handles:
        ready, _, _ = select.select([handle], [], [], 60)
        os.close(handle)
        assert ready, "a working process outlived the one that started it"
