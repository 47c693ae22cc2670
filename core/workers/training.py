"""One training at a time for all visitors of a page, where it cannot harm the others.

It has a process of its own where the engine has processes; else a thread of this one.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from whylens.core.datasets.dataset import Dataset
from whylens.core.datasets.folder import ProgressCallback
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, Busy, WorkerLost, quote
from whylens.core.models.checkpoints import MANIFEST
from whylens.core.progress import TrainingProgress
from whylens.core.storage.child_processes import start_process
from whylens.core.storage.memory import memory_limit
from whylens.core.train.recipe import Recipe
from whylens.core.train.training_jobs import TrainingThread, remove_without_network
from whylens.core.workers.engine import WorkerEngine
from whylens.core.workers.process import (
    EngineFactory,
    ending_of,
    process_context,
    sendable,
    settle_in,
)

# Both are called where the training runs, with the engine there.
EngineDatasetReader = Callable[[Engine, ProgressCallback], Dataset]
Follower = Callable[[Engine, Dataset], Iterator[TrainingProgress]]
SECONDS_TO_END = 5.0


class TrainingRunner:
    """Runs one training at a time; a second one is refused in words."""

    def __init__(self, engine: Engine) -> None:
        """Make an idle runner.

        Args:
            engine: Where it has processes, so has a training.
        """
        self._engine = engine
        self._lock = threading.Lock()
        self._visitor = ""
        self._training: TrainingThread | _TrainingProcess | None = None

    def run(
        self,
        visitor: str,
        read: EngineDatasetReader,
        recipe: Recipe,
        out: Path,
        follow_up: Follower,
    ) -> Iterator[TrainingProgress]:
        """Yield the steps of reading, training and what follows.

        Closing the iterator stops the work as `stop` does, but for what follows.

        Args:
            visitor: Who may stop it.
            read: Makes the set; it tells a share done and a sentence now and then.
            out: The checkpoint's folder, not there yet.

        Raises:
            Busy: Another training is under way.
            BadInput: It was stopped before anything was learnt, or what was given does not do.
            WorkerLost: Its process ended.
        """
        with self._lock:
            if self._training is not None and self._training.alive:
                raise Busy(
                    "A training is under way already; there can be one at a time. Wait for its "
                    "end, or stop it where it was started."
                )
            if out.exists():
                raise BadInput(f"There is a model called {quote(out.name)} already.")
            self._visitor, training = visitor, self._start(read, recipe, out, follow_up)
            self._training = training
        try:
            yield from training.events()
        finally:
            training.leave()

    def _start(
        self, read: EngineDatasetReader, recipe: Recipe, out: Path, follow_up: Follower
    ) -> TrainingThread | _TrainingProcess:
        engine = self._engine
        if isinstance(engine, WorkerEngine):
            return _TrainingProcess(engine.factory, read, recipe, out, follow_up)
        return TrainingThread(partial(read, engine), recipe, out, partial(follow_up, engine))

    def stop(self, visitor: str) -> bool:
        """Stop the stage that runs, keep what is there, and return whether there was any.

        Args:
            visitor: As given to `run`.
        """
        training = self._training
        if training is None or self._visitor != visitor or not training.alive:
            return False
        training.stop()
        return True

    def join(self, seconds: float) -> bool:
        """Wait for the end of what was left, and return whether it came."""
        if self._training is not None:
            self._training.join(seconds)
        return self._training is None or not self._training.alive


class _TrainingProcess:
    """A training in a process of its own, as seen by the one that started it."""

    def __init__(
        self,
        factory: EngineFactory,
        read: EngineDatasetReader,
        recipe: Recipe,
        out: Path,
        follow_up: Follower,
    ) -> None:
        self._out = out
        self._line, self._process = start_process(
            process_context(), _train, factory, read, recipe, out, follow_up, own_group=True
        )

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def stop(self) -> None:
        with contextlib.suppress(OSError):  # it has just ended, or was left
            self._line.send(None)

    def leave(self) -> None:
        self._line.close()

    def join(self, seconds: float | None = None) -> None:
        self._process.join(seconds)

    def events(self) -> Iterator[TrainingProgress]:
        while True:
            try:
                # What a plugin forked may hold the line open when the process is gone.
                ready = wait([self._line, self._process.sentinel])
                step = self._line.recv() if self._line in ready else self._worker_lost()
            except (EOFError, OSError):
                step = self._worker_lost()
            if isinstance(step, TrainingProgress):
                yield step
                continue
            self._process.join(SECONDS_TO_END)
            if step is None:
                return
            raise step

    def _worker_lost(self) -> WorkerLost:
        self._process.join(SECONDS_TO_END)
        remove_without_network(self._out)
        best = (self._out / MANIFEST).exists()
        remedy = f"The best network so far is kept as {self._out.name}." if best else "Try again."
        return WorkerLost(
            f"The training's process {ending_of(self._process.exitcode)}; if memory was short, "
            f"choose a smaller backbone. {remedy}"
        )


def _train(
    factory: EngineFactory,
    read: EngineDatasetReader,
    recipe: Recipe,
    out: Path,
    follow_up: Follower,
    line: Connection[Any, Any],
) -> None:
    engine = settle_in(factory, memory_limit(), gives_way=True)
    training = TrainingThread(partial(read, engine), recipe, out, partial(follow_up, engine))
    threading.Thread(target=_obey, args=(line, training), daemon=True).start()
    # Without a line nobody looks on; `_obey` knows.
    with contextlib.suppress(OSError):
        try:
            for step in training.events():
                line.send(step)
            line.send(None)
        except OSError:
            raise
        except Exception as exc:  # noqa: BLE001 - it is sent, and raised at the other end
            line.send(sendable(exc))
    training.join()
    os._exit(0)  # whatever a data set's plugin left running shall not hold the process


def _obey(line: Connection[Any, Any], training: TrainingThread) -> None:
    try:
        while True:
            line.recv()
            training.stop()
    except (EOFError, OSError):
        training.leave()
