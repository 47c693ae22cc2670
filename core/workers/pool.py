"""A few working processes, shared by all visitors: work goes in, steps come out, and bad work dies.

Quick work has processes of its own, so that it never waits for what takes minutes. Work that takes
too long, or that nobody waits for any more, is stopped, and killed where it does not stop; the
process is replaced.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from whylens.core.engine import SECONDS_TO_WAIT
from whylens.core.errors import Busy, ExplainerFailed, TooSlow, WorkerLost, WorkStopped
from whylens.core.workers.process import EngineFactory, Work, WorkerProcess

log = logging.getLogger(__name__)
SECONDS_OF_WORK = 120.0
SECONDS_TO_START = 300.0  # all that is imported, from a slow disk as well
# One that hangs holds its process until its time is over: others have one process more once it has
# been at it for so long. Not once they have waited so long: in a crowd all do, and a process more
# for each costs what would have answered fifty.
QUICK_PATIENCE, SLOW_PATIENCE = 1.0, 20.0
SECONDS_BETWEEN_LOOKS = 0.25  # at whether work is still wanted
SECONDS_TO_SETTLE = 1.0  # from an error to where other work can be taken


_WANTED: ContextVar[Callable[[], bool]] = ContextVar("wanted", default=lambda: True)


@contextmanager
def while_wanted(wanted: Callable[[], bool]) -> Iterator[None]:
    """Return a context in which work that begins ends once `wanted` says no, with `WorkStopped`."""
    token = _WANTED.set(wanted)
    try:
        yield
    finally:
        _WANTED.reset(token)


@dataclass(eq=False)  # two of one visitor are two
class _Task:
    visitor: str
    work: Work
    still_wanted: Callable[[], bool]
    began: float = math.inf  # when its process was given it
    stopped: bool = False
    overtaken: bool = False


class _Overtaken(Exception):
    """Background work made room for what somebody waits for."""


@dataclass
class _Lane:
    """Processes for one kind of work, as many as may be busy at a time."""

    size: int
    patience: float  # seconds that work may take before others have one process more
    processes: set[WorkerProcess] = field(default_factory=set)
    free: list[WorkerProcess] = field(default_factory=list)
    busy: int = 0
    alone: set[str] = field(default_factory=set)  # what is busy beside the others
    waiting: int = 0  # pieces of work that are not of the background
    tasks: list[_Task] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def places(self) -> int:
        """Return for how many pieces of work there are processes beside what is alone."""
        return self.size + any(self._overdue_in(task) <= 0 for task in self.tasks)

    def seconds_to_look(self) -> float:
        """Return after how long there may be more places, where nothing ends or begins."""
        waits = [wait for task in self.tasks if (wait := self._overdue_in(task)) > 0]
        return min([*waits, self.patience])

    def is_full(self, *, leaving: int = 0) -> bool:
        """Return whether no process more is needed beside those that are busy or free.

        Args:
            leaving: How many of the busy ones are about to be neither.
        """
        return self.busy - leaving - len(self.alone) + len(self.free) >= self.places()

    def _overdue_in(self, task: _Task) -> float:
        if task.work.alone or task.work.makes_room:
            return math.inf
        return task.began + self.patience - time.monotonic()


class WorkerPool:
    """Runs work in processes of this machine, a process doing one piece at a time."""

    def __init__(
        self,
        factory: EngineFactory,
        *,
        size: int = 1,
        memory: int,
        busy_timeout: float = SECONDS_TO_WAIT,
    ) -> None:
        """Make a pool; processes are started as work comes.

        Args:
            factory: A function of a module, which makes a process's engine.
            size: Processes for quick work, and again for other work.
            memory: Bytes that all of them may take for their networks and their work.
            busy_timeout: Seconds after which waiting work is refused.
        """
        self._factory, self._busy_timeout = factory, busy_timeout
        self._memory = memory // (2 * size)
        self.public = False  # whether processes load only what strangers may name
        self._lanes = {True: _Lane(size, QUICK_PATIENCE), False: _Lane(size, SLOW_PATIENCE)}
        self._closed = False

    def run(
        self,
        work: Work,
        *,
        visitor: str = "",
        quick: bool = False,
        seconds: float = SECONDS_OF_WORK,
        step_seconds: float | None = None,
        progress: Callable[[float, str], None] | None = None,
    ) -> Iterator[Any]:
        """Yield the steps of work, as a process makes them; closing the iterator ends the work.

        Args:
            visitor: Who asks, for `stop`.
            quick: For what takes well below a second.
            seconds: How long it may take; the wait for a process is not counted.
            step_seconds: How long each step after the first may take, in place of that; by default
                no step has a time of its own.
            progress: Called where the work tells how far it is within a step.

        Raises:
            Busy: All processes stayed busy, or a new one did not start.
            TooSlow: It took too long.
            ExplainerFailed: The method ended its process.
            WorkStopped: It was stopped.
            WorkerLost: Something else did.
            CoreError: What the work raised.
        """
        count, still_wanted = 0, _WANTED.get()
        while True:
            task = _Task(visitor, work, still_wanted)
            steps = self._run_once(task, self._lanes[quick], seconds, step_seconds, progress)
            try:
                for number, step in enumerate(steps):
                    if number >= count:  # else it was yielded before the work was overtaken
                        count += 1
                        yield step
            except _Overtaken:
                continue
            finally:
                steps.close()
            return

    def _run_once(
        self,
        task: _Task,
        lane: _Lane,
        seconds: float,
        step_seconds: float | None,
        progress: Callable[[float, str], None] | None,
    ) -> Generator[Any, None, None]:
        work = task.work
        process = self._take(lane, work)
        with lane.changed:
            lane.tasks.append(task)
        healthy = False
        try:
            until, is_sent = time.monotonic() + SECONDS_TO_START, False
            while True:
                if process.ready and not is_sent:
                    process.send(work)
                    is_sent, task.began = True, time.monotonic()
                    until = task.began + seconds
                event = process.receive(SECONDS_BETWEEN_LOOKS)
                if task.stopped or not task.still_wanted():
                    raise WorkStopped("It was stopped.")
                self._refuse_once_closed()
                if task.overtaken:
                    raise _Overtaken
                kind: str
                value: Any
                kind, value = event or ("nothing", None)
                # An end is taken, however late; steps without end are as bad as none.
                if kind in ("nothing", "step", "progress") and time.monotonic() > until:
                    if is_sent:
                        raise TooSlow(work.method, seconds)
                    raise Busy(
                        f"No working process started within {SECONDS_TO_START:.0f} s. "
                        "Try again shortly."
                    )
                if kind == "idle":
                    if is_sent:
                        healthy = not process.is_worn
                        return
                elif kind == "error":
                    # The process says that it is idle next.
                    reply = process.receive(SECONDS_TO_SETTLE)
                    healthy = reply is not None and reply[0] == "idle" and not process.is_worn
                    raise value
                elif kind == "progress":
                    if progress is not None:
                        progress(*value)
                elif kind == "step":
                    yield value
                    if step_seconds is not None:
                        seconds, until = step_seconds, time.monotonic() + step_seconds
        except WorkerLost as exc:
            self._refuse_once_closed()
            if work.method:
                raise ExplainerFailed(work.method, str(exc)) from exc
            raise WorkerLost(f"What was asked for is not there: {exc}. Try again.") from exc
        finally:
            with lane.changed:
                lane.tasks.remove(task)
            if healthy:
                self._give_back(lane, process, work)
            else:
                # Whoever waits for the end of this need not wait for the end of the work.
                threading.Thread(
                    target=self._settle, args=(lane, process, work), daemon=True
                ).start()

    def ahead(self, *, quick: bool) -> int:
        """Return how many pieces of work go before one that would come now."""
        lane = self._lanes[quick]
        with lane.changed:
            works = [task.work for task in lane.tasks]
            under_way = sum(not (work.is_background or work.alone) for work in works)
            return max(0, under_way + lane.waiting + 1 - lane.size)

    def stop(self, visitor: str, method: str = "") -> None:
        """End what a visitor's work is still doing.

        Args:
            method: Only the work of this method; "" is all.
        """
        for lane in self._lanes.values():
            with lane.changed:
                for task in lane.tasks:
                    if task.visitor == visitor and method in ("", task.work.method):
                        task.stopped = True

    def close(self) -> None:
        """End all processes."""
        self._closed = True
        for lane in self._lanes.values():
            with lane.changed:
                for task in lane.tasks:
                    task.stopped = True
                lane.free.clear()
                lane.changed.notify_all()
            for process in list(lane.processes):
                process.kill()

    def _refuse_once_closed(self) -> None:
        if self._closed:
            raise WorkStopped("The server is ending.")

    def _new_process(self, lane: _Lane) -> WorkerProcess:
        self._refuse_once_closed()
        try:
            process = WorkerProcess(
                self._factory,
                self._memory,
                public=self.public,
                gives_way=lane is self._lanes[False],
            )
        except (OSError, EOFError) as exc:  # no memory, no descriptor; or whatever forks is lost
            raise Busy(f"No working process can be started ({exc}). Try again shortly.") from exc
        lane.processes.add(process)
        if self._closed:  # meanwhile; whoever closes ends those that are there by then
            self._end_process(lane, process)
            self._refuse_once_closed()
        return process

    def _end_process(self, lane: _Lane, process: WorkerProcess) -> None:
        process.end()
        lane.processes.discard(process)

    def _take(self, lane: _Lane, work: Work) -> WorkerProcess:
        began, background = time.monotonic(), work.is_background
        with lane.changed:
            lane.waiting += not background
            try:
                while True:
                    waited = time.monotonic() - began
                    places = lane.size if background else lane.places()
                    # What is alone of its kind has a place of its own, for hours if need be.
                    if (
                        lane.busy < places + len(lane.alone) + bool(work.alone)
                        and work.alone not in lane.alone
                        and not (background and lane.waiting)
                    ):
                        break
                    self._refuse_once_closed()
                    if not background:
                        _overtake(lane)
                    if waited > self._busy_timeout:
                        raise Busy(
                            f"All working processes stayed busy for {self._busy_timeout:.0f} s. "
                            "Try again shortly."
                        )
                    patience = min(lane.seconds_to_look(), self._busy_timeout - waited)
                    lane.changed.wait(max(0.0, patience))
            finally:
                lane.waiting -= not background
                lane.changed.notify_all()
            lane.busy += 1
            if work.alone:
                lane.alone.add(work.alone)
            while lane.free:
                process = lane.free.pop()
                if process.alive:
                    return process
                self._end_process(lane, process)
        try:
            return self._new_process(lane)
        except BaseException:
            with lane.changed:
                lane.busy -= 1
                lane.alone.discard(work.alone)
                lane.changed.notify_all()
            raise

    def _give_back(self, lane: _Lane, process: WorkerProcess | None, work: Work) -> None:
        with lane.changed:
            lane.busy -= 1
            lane.alone.discard(work.alone)
            surplus = self._closed or lane.is_full()
            if process is not None and not surplus:
                lane.free.append(process)
            lane.changed.notify_all()
        if process is not None and surplus:
            self._end_process(lane, process)

    def _settle(self, lane: _Lane, process: WorkerProcess, work: Work) -> None:
        """Bring a process whose work was broken off into order, or put another in its place."""
        if process.is_worn or not (process.ready and process.stop_work()):
            self._end_process(lane, process)
            with lane.changed:
                needed = not lane.is_full(leaving=not work.alone)
            self._give_back(lane, self._replacement(lane) if needed else None, work)
        else:
            self._give_back(lane, process, work)

    def _replacement(self, lane: _Lane) -> WorkerProcess | None:
        try:
            return self._new_process(lane)
        except WorkStopped:
            return None
        except Busy as exc:  # whoever comes next tries again: the place is not lost
            log.warning("%s", exc)
            return None


def _overtake(lane: _Lane) -> None:
    """Let what is judged in the background make room; what loads a network is waited for."""
    for task in lane.tasks:
        if task.work.makes_room:
            task.overtaken = True
            return
