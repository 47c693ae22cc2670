"""Jobs for the tests of working processes; nothing heavy is loaded, so a process starts fast."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from whylens.core.batch.process_runner import LocalProcesses
from whylens.core.batch.protocol import Job
from whylens.core.batch.shards import ShardDone
from whylens.core.errors import BadInput


@dataclass(frozen=True)
class Telling:
    """A worker that writes down which part it was given, under how many threads."""

    out: Path

    def work(self, part, tick):
        name = self.out / f"{part}-{os.environ['OMP_NUM_THREADS']}-{os.getpid()}"
        name.touch(exist_ok=False)
        tick()
        return ShardDone(part, 1, 0, 0.0, None)


class TellingJob(Job):
    """Its work takes no time."""

    def worker(self):
        return Telling(self.out)


class EndingJob(Job):
    """Its processes end before they work, as for lack of memory."""

    def worker(self):
        os._exit(9)


class InterruptedJob(TellingJob):
    """Its processes get Ctrl-C before any of their own code runs, and again at work."""

    def __reduce__(self):
        return _with_ctrl_c, (self.folder, self.out, self.threads, self.device)

    def worker(self):
        os.kill(os.getpid(), signal.SIGINT)
        return super().worker()


def _with_ctrl_c(*fields):
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGINT)
    return InterruptedJob(*fields)


class RefusingJob(Job):
    """Its processes cannot do the work, and say so."""

    def worker(self):
        raise BadInput("this cannot be done")


@dataclass(frozen=True)
class Endless:
    """A worker that never ends its first part."""

    def work(self, part, tick):
        tick()
        while True:
            pass


class EndlessJob(Job):
    """Its processes work for ever."""

    def worker(self):
        return Endless()


def killed_at_work() -> None:
    """Kill this process once two of its own are at work; their ids are on stdout."""
    work = LocalProcesses(2).run(EndlessJob(Path(), Path(), 1, "cpu"), range(2))
    next(work)
    next(work)
    for process in multiprocessing.active_children():
        sys.stdout.write(f"{process.pid}\n")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    killed_at_work()
