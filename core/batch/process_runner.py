"""Pieces of a run shared out among processes of this machine.

A process serves one run and ends with it, or with the process that started it: after a kill -9
nobody goes on writing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from whylens.core.batch.protocol import FilesDone, Job, thread_variables
from whylens.core.batch.shards import ShardDone
from whylens.core.errors import CoreError, WorkerLost, disk_problem
from whylens.core.storage.child_processes import start_process


class ShardWorker(Protocol):
    """Does one shard of a run after another."""

    def work(self, number: int, tick: Callable[[], None], /) -> Any:
        """Return what became of a shard; `tick` tells that a part of it is done."""


class ProcessJob(Protocol):
    """A run, as plain data that crosses into another process."""

    @property
    def threads(self) -> int:
        """Of one process's arithmetic."""

    def worker(self) -> ShardWorker:
        """Return what does the work in this process."""


class LocalProcesses:
    """Runs shards in processes of this machine."""

    def __init__(self, workers: int) -> None:
        """Choose how many; nothing is started yet."""
        self.workers = workers

    def run(self, job: Job, shards: Iterable[int]) -> Generator[FilesDone | ShardDone]:
        """Yield what the processes say, as they say it; closing the generator ends them.

        Raises:
            CoreError: A process cannot do its work, or was lost.
        """
        work = run_in_processes(job, shards, self.workers)
        try:
            for finished in work:
                yield FilesDone(1) if finished is None else finished
        finally:
            work.close()


def run_in_processes(job: ProcessJob, numbers: Iterable[int], workers: int) -> Generator[Any]:
    """Yield what became of each shard as it is finished, and None where a part of one is.

    Closing the generator ends the processes.

    Raises:
        CoreError: A process cannot do its work, or was lost.
    """
    remaining = iter(numbers)
    pool: dict[Connection[Any, Any], BaseProcess] = {}
    try:
        for _ in range(workers):
            number = next(remaining, None)
            if number is None:
                break
            line, process = _start_process(job)
            pool[line] = process
            line.send(number)
        while pool:
            for ready in wait(list(pool)):
                assert isinstance(ready, Connection)  # noqa: S101 - nothing else is waited for
                event = _receive(ready, pool[ready])
                if isinstance(event, CoreError):
                    raise event
                if event is not None:
                    number = next(remaining, None)
                    ready.send(number)
                    if number is None:
                        pool.pop(ready).join()
                        ready.close()
                yield event
    finally:
        for process in pool.values():
            process.terminate()
        for line, process in pool.items():
            process.join()
            line.close()


def _start_process(job: ProcessJob) -> tuple[Connection[Any, Any], BaseProcess]:
    with _environment(thread_variables(job.threads)):
        return start_process(multiprocessing.get_context("spawn"), _serve, job)


def _receive(line: Connection[Any, Any], process: BaseProcess) -> Any:
    try:
        return line.recv()
    except (EOFError, ConnectionError) as exc:
        process.join()
        raise WorkerLost(
            f"A working process ended (exit code {process.exitcode}); what it printed is above, "
            "and where there is nothing, memory was short. What is finished is kept: run the same "
            "command again, with fewer --workers if need be."
        ) from exc


def _serve(job: ProcessJob, line: Connection[Any, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be blocked: on Windows
    try:
        worker = job.worker()
        while (number := line.recv()) is not None:
            line.send(worker.work(number, lambda: line.send(None)))
    except CoreError as exc:
        line.send(exc)
    except OSError as exc:
        line.send(CoreError(disk_problem(exc)))


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    # Libraries read their number of threads when they are loaded, before any code of this project.
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
