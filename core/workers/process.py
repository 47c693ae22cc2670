"""One process that computes for another: its start, what it says, and its end.

It holds an engine with networks of its own, does one piece of work at a time and sends what the
work yields. Whoever started it can end a piece in good order, or kill it with all that it started.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Literal

from whylens.core.engine import Engine
from whylens.core.errors import MOST_ERROR_LETTERS, CoreError, ExplainerFailed, WorkerLost, words_of
from whylens.core.storage.child_processes import kill_process, start_process
from whylens.core.storage.memory import MEMORY_VARIABLE, release_memory
from whylens.core.workers.surroundings import Surroundings

log = logging.getLogger(__name__)
EngineFactory = Callable[[], Engine]
# What a process says: a step of the work, how far a download is, that it can take work or has
# ended a piece, and why it could not.
Kind = Literal["step", "progress", "idle", "error"]
# Between two steps work ends by itself; a step that takes longer is broken off, then killed.
SECONDS_TO_END_A_STEP = 0.3
SECONDS_TO_BREAK_OFF = 1.0
SECONDS_TO_DIE = 5.0  # when killed; one that the kernel holds longer is not waited for
SECONDS_TO_CLOSE = 1.0  # from a broken line to the exit code that goes with it
# What a process may allocate beyond what its caches and its work are meant to take, and it has at
# its start.
SPARE_BYTES = 1_500_000_000
# What a step may take on its way into the serving process, which holds it for all to see; maps,
# pictures and what was fitted take a few megabytes.
MOST_STEP_BYTES = 100_000_000
# A core has about ten times as much time for what does not give way.
NICENESS = 10
# Added to what the kernel makes of its size: where memory ends it ends a process, not the server.
OOM_SCORE = 500
# What every process needs is loaded once; where processes can be forked they share it.
PRELOADED = "whylens.core.workers.fork_server"


@dataclass(frozen=True)
class Work:
    """A piece of work, as plain data that crosses into another process.

    Attributes:
        function: Of a module; yields the steps when called with the engine and the arguments.
        arguments: Its others.
        method: The method that it runs, for messages; "" for none.
        tells_progress: Whether `function` takes a `progress` callback.
        is_background: Whether it waits while there is other work.
        alone: A name of what takes long, of which one piece is done at a time, beside other work;
            "" for what waits its turn.
        most_bytes: How many bytes a step may take on its way.
    """

    function: Callable[..., Iterator[Any]]
    arguments: tuple[Any, ...]
    method: str = ""
    tells_progress: bool = False
    is_background: bool = False
    alone: str = ""
    most_bytes: int = MOST_STEP_BYTES

    @property
    def makes_room(self) -> bool:
        """Whether it is broken off, and done again later, for what somebody waits for."""
        return self.is_background and bool(self.method)


class WorkerProcess:
    """A process with an engine, as seen by the one that started it."""

    def __init__(
        self, factory: EngineFactory, memory: int, *, public: bool = False, gives_way: bool = False
    ) -> None:
        """Start it; it takes work once it has said that it is idle.

        Args:
            factory: A function of a module, which makes its engine.
            memory: Bytes that it may take for its networks and its work.
            public: Whether it loads only what strangers may name.
            gives_way: Whether others go first where the processor does not do for all.
        """
        self.line, self._process = start_process(
            process_context(), _serve, factory, memory, public, gives_way, own_group=True
        )
        self.ready = False
        self.is_worn = False  # whether another should take its place, now that it is idle

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.is_alive()

    def send(self, work: Work) -> None:
        """Give it work.

        Raises:
            WorkerLost: It ended.
        """
        try:
            self.line.send(work)
        except OSError as exc:
            raise self._worker_lost() from exc

    def receive(self, seconds: float) -> tuple[Kind, Any] | None:
        """Return what it says next, or None where it says nothing for so long.

        Raises:
            WorkerLost: It ended.
        """
        try:
            # What a plugin forked may hold the line open when the process is gone.
            ready = wait([self.line, self._process.sentinel], max(0.0, seconds))
            if not ready:
                return None
            if self.line not in ready:
                raise self._worker_lost()
            kind, value = self.line.recv()
        except (EOFError, OSError, pickle.UnpicklingError) as exc:
            raise self._worker_lost() from exc
        if kind == "idle":
            self.ready, self.is_worn = True, bool(value)
        return kind, value

    def stop_work(self) -> bool:
        """End its piece of work, and return whether it is there for another."""
        try:
            self.line.send(None)
            if self._is_idle_within(SECONDS_TO_END_A_STEP):
                return True
            if self._process.pid is None or not hasattr(signal, "SIGUSR1"):
                return False
            os.kill(self._process.pid, signal.SIGUSR1)
            return self._is_idle_within(SECONDS_TO_BREAK_OFF)
        except (OSError, WorkerLost):
            return False  # which its caller mends as well

    def _is_idle_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (remaining := until - time.monotonic()) > 0:
            event = self.receive(remaining)
            if event is not None and event[0] == "idle":
                return True
        return False

    def kill(self) -> None:
        """End it at once, with whatever it started; who works with it finds it lost."""
        kill_process(self._process)
        self._process.join(SECONDS_TO_DIE)

    def end(self) -> None:
        """End it at once, and the line to it: only for whoever works with it."""
        self.kill()
        self.line.close()

    def _worker_lost(self) -> WorkerLost:
        self._process.join(SECONDS_TO_CLOSE)
        return WorkerLost(f"its process {ending_of(self._process.exitcode)}")


def ending_of(code: int | None) -> str:
    """Return how a process ended, in words that follow its name.

    Args:
        code: Its exit code, negative of a signal; None where it runs on.
    """
    if code is None:
        return "closed its line"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def process_context() -> Any:
    """Return the context of multiprocessing by which processes are started."""
    # A fork of a process that has loaded all and computed nothing is there in a tenth of a second
    # and shares its memory; where that cannot be had, each process loads everything itself.
    if "forkserver" not in multiprocessing.get_all_start_methods() or sys.platform == "darwin":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    return context


def settle_in(
    factory: EngineFactory, memory: int, *, public: bool = False, gives_way: bool = False
) -> Engine:
    """Return this process's engine, having made of it one that works for another.

    Args:
        factory: As `WorkerProcess` takes it, and the others.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError):  # where there is no such file, or it cannot be written
        score = Path("/proc/self/oom_score_adj")
        score.write_text(f"{max(int(score.read_text()), OOM_SCORE)}")
    if gives_way and hasattr(os, "nice"):
        os.nice(NICENESS)
    os.environ[MEMORY_VARIABLE] = f"{memory}"
    engine = factory()
    if public:
        engine.load_public_models_only()
    _limit_memory(memory + SPARE_BYTES)
    return engine


def _serve(
    factory: EngineFactory, memory: int, public: bool, gives_way: bool, line: Connection[Any, Any]
) -> None:
    engine = settle_in(factory, memory, public=public, gives_way=gives_way)
    surroundings = Surroundings()
    inbox, at_start = _Inbox(line), _allocated_bytes()
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, inbox.break_off)
    line.send(("idle", None))
    while True:
        work, ran_out = inbox.next_work(), False
        surroundings.restore()
        try:
            with inbox.breakable():
                _do(work, engine, line, inbox)
        except _BrokenOff:
            pass
        # SystemExit and the like are a plugin's: none of them may end this loop.
        except BaseException as exc:  # noqa: BLE001 - it is sent, and raised at the other end
            ran_out = _is_out_of_memory(exc)
            line.send(("error", sendable(exc, work.method)))
        line.send(("idle", ran_out or _leaks(engine, at_start)))


class _BrokenOff(BaseException):
    """Raised within a step that is not wanted any more."""


def _do(work: Work, engine: Engine, line: Connection[Any, Any], inbox: _Inbox) -> None:
    extra: dict[str, Any] = {}
    if work.tells_progress:
        extra["progress"] = lambda share, words: line.send(("progress", (share, words)))
    steps = iter(work.function(engine, *work.arguments, **extra))
    try:
        for step in steps:
            if inbox.is_stopped:
                return
            # Made here and as a whole: how much it is has to be known before anybody reads it.
            message = ForkingPickler.dumps(("step", step))
            if len(message) > work.most_bytes:
                raise TypeError(
                    f"what it gave takes {len(message) / 1e6:,.0f} MB; at most "
                    f"{work.most_bytes / 1e6:,.0f} MB are shown"
                )
            with inbox.unbreakable():
                line.send_bytes(message)
            del message, step
    finally:
        close = getattr(steps, "close", None)
        if close is not None:
            close()


class _Inbox:
    """What the other end sends: work, or None to end the present piece."""

    def __init__(self, line: Connection[Any, Any]) -> None:
        self._line = line
        self._changed = threading.Condition()
        self._work: Work | None = None
        self.is_stopped = False
        self._is_breakable = False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                work = self._line.recv()
            except (EOFError, OSError):
                os._exit(1)  # nobody is there to work for
            except Exception:
                log.exception("A working process does not understand what it is asked")
                os._exit(1)
            with self._changed:
                if work is None:
                    self.is_stopped = True
                else:
                    self._work, self.is_stopped = work, False
                self._changed.notify()

    def next_work(self) -> Work:
        """Return the next piece, waiting for it."""
        with self._changed:
            while self._work is None:
                self._changed.wait()
            work, self._work = self._work, None
            return work

    def break_off(self, *_: object) -> None:
        """Raise out of the step that is being computed; a handler of signals."""
        if self._is_breakable and self.is_stopped:
            raise _BrokenOff

    @contextlib.contextmanager
    def breakable(self) -> Iterator[None]:
        """Return a context out of which `break_off` raises."""
        self._is_breakable = True
        try:
            yield
        finally:
            self._is_breakable = False

    @contextlib.contextmanager
    def unbreakable(self) -> Iterator[None]:
        """Return a context in which it does not: half a message would be the end of the line."""
        self._is_breakable = False
        try:
            yield
        finally:
            self._is_breakable = True


def sendable(exc: BaseException, method: str = "") -> CoreError | RuntimeError:
    """Return an error that can be read where no plugin's own classes are known.

    Args:
        method: The one that raised it, or "".
    """
    if not isinstance(exc, CoreError):
        log.error("%s failed in a working process", method or "Work", exc_info=exc)
        if not method:
            return RuntimeError(words_of(exc))
        exc = ExplainerFailed(method, exc)
    if len(f"{exc}") > 2 * MOST_ERROR_LETTERS:
        return CoreError(words_of(exc))
    try:
        pickle.loads(pickle.dumps(exc))  # noqa: S301 - made in the line above
    except Exception:  # noqa: BLE001 - its words cross all the same
        return CoreError(str(exc))
    return exc


def _is_out_of_memory(exc: BaseException | None) -> bool:
    for _ in range(10):  # a stranger's chain may be a circle
        if exc is None:
            return False
        if isinstance(exc, MemoryError) or "allocate memory" in words_of(exc):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _leaks(engine: Engine, at_start: int) -> bool:
    """Return whether so much is held that no cache of the engine has that work will soon fail."""
    most = at_start + SPARE_BYTES // 2
    if _allocated_bytes() <= most or _allocated_bytes() - engine.cached_bytes <= most:
        return False
    release_memory()
    return _allocated_bytes() - engine.cached_bytes > most


def _allocated_bytes() -> int:
    """Return the bytes of this process that its limit counts; 0 where there is no such count."""
    status = Path("/proc/self/status")
    if not status.is_file():  # macOS has a limit, but what it counts there is no measure
        return 0
    rows = status.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmData")) * 1024


def _limit_memory(extra: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    memory_bytes = _allocated_bytes()
    if not memory_bytes:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = (
        memory_bytes + extra if hard == resource.RLIM_INFINITY else min(hard, memory_bytes + extra)
    )
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
