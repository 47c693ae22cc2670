"""A training that a page shows: its place, and the thread in which its stages run.

A thread of its own, since a page hands each step of a generator to another thread, and torch keeps
some of its state per thread.
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from whylens.core.datasets.dataset import Dataset
from whylens.core.datasets.folder import ProgressCallback
from whylens.core.errors import BadInput, quote
from whylens.core.models.black_box import ONNX
from whylens.core.models.checkpoints import (
    MANIFEST,
    checkpoint_folders,
    new_model_place,
    read_manifest,
)
from whylens.core.models.model_names import check_folder_name, timm_architectures, timm_names
from whylens.core.progress import TrainingProgress
from whylens.core.storage.files import folder_lock
from whylens.core.storage.memory import release_memory
from whylens.core.train.evaluate import write_report
from whylens.core.train.recipe import Recipe
from whylens.core.train.run import train

DatasetReader = Callable[[ProgressCallback], Dataset]
_EVERY = 0.1  # seconds between two reports of progress while pictures are read
# Shares done of all, once pictures are read and once there is a network.
_READ, _LEARNT = 0.05, 0.85
_POLL = 0.5  # seconds after which a training without news is looked at again


def new_model_folder(name: str) -> Path:
    """Return the folder for a new model in the user's place.

    Raises:
        BadInput: It is no name, or it is taken.
    """
    check_folder_name(name)
    place = new_model_place()
    in_use = name in checkpoint_folders() or (place / name).exists()
    if in_use or name in timm_names() or name in timm_architectures():
        raise BadInput(f"There is a model called {quote(name)} already. Choose another name.")
    return place / name


def start_fields(folder: Path) -> dict[str, object]:
    """Return the recipe's fields that make a training start from a local checkpoint.

    Raises:
        BadArtifact: Its manifest is damaged.
        BadInput: Only its answers are known.
    """
    manifest = read_manifest(folder)
    if manifest.architecture == ONNX:
        raise BadInput(
            f"{folder.name} is a file of ONNX, which cannot learn further. Start from another "
            "network."
        )
    return {
        "backbone": manifest.architecture,
        "arguments": dict(manifest.arguments),
        "weights": str(folder),
    }


class _StoppedEarly(Exception):
    pass


class TrainingThread:
    """A training under way; `stop` ends the stage that runs, and what is there is kept."""

    def __init__(
        self,
        read: DatasetReader,
        recipe: Recipe,
        out: Path,
        follow_up: Callable[[Dataset], Iterator[TrainingProgress]],
    ) -> None:
        """Start it.

        Args:
            read: Makes the set; it tells a share done and a sentence now and then.
            out: The checkpoint's folder, not there yet.
            follow_up: What follows once there is a network.
        """
        self._read, self._recipe, self._out, self._then = read, recipe, out, follow_up
        self._stop, self._left = threading.Event(), False
        self._reported = 0.0  # when progress was last reported while pictures are read
        self._fraction = 0.0  # of all stages together, which never falls
        self._queue: queue.SimpleQueue[TrainingProgress | Exception | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="whylens-training", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the stage that runs."""
        self._stop.set()

    def leave(self) -> None:
        """End it, but for what makes of the best so far a whole checkpoint: nobody looks on."""
        self._left = True
        self._stop.set()

    def join(self, seconds: float | None = None) -> None:
        """Wait for its end."""
        self._thread.join(seconds)

    def events(self) -> Iterator[TrainingProgress]:
        """Yield its steps as they come.

        Raises:
            BadInput: It was stopped before anything was learnt, or what was given does not do.
        """
        last = ""
        while True:
            try:
                step = self._queue.get(timeout=_POLL)
            except queue.Empty:
                continue
            if step is None:
                return
            if isinstance(step, Exception):
                raise step
            # A screen that is slower than the work shall not lag behind it: of reports with one
            # message, only the newest counts.
            repeated = step.message == last and step.figures.keys() <= {"loss"}
            if repeated and not self._queue.empty():
                continue
            last = step.message
            yield step

    def _work(self) -> None:
        try:
            self._stages()
        except _StoppedEarly:
            self._queue.put(
                BadInput("Training was stopped before anything was learnt; nothing was kept.")
            )
        except Exception as exc:  # noqa: BLE001 - raised where the steps are read
            self._queue.put(exc)
        finally:
            remove_without_network(self._out)
            release_memory()  # the C library would keep what it held for pictures and gradients
            self._queue.put(None)

    def _stages(self) -> None:
        dataset = self._read(self._report_reading)
        self._run_until_stopped(train(dataset, self._recipe, self._out), _READ, _LEARNT)
        if self._stop.is_set():
            if not (self._out / MANIFEST).exists():
                raise _StoppedEarly
            for share in write_report(dataset, self._out):
                step = TrainingProgress(0.97 + 0.03 * share, "examining the best so far")
                self._report(step, _READ, _LEARNT)
        if not self._left:
            self._stop.clear()  # what follows is stopped by another press
            self._run_until_stopped(self._then(dataset), _LEARNT, 1.0)
        self._report(TrainingProgress(1.0, "done", 0.0), 0.0, 1.0)

    def _report(self, step: TrainingProgress, begin: float, end: float) -> None:
        self._fraction = max(self._fraction, begin + (end - begin) * step.fraction)
        self._queue.put(replace(step, fraction=self._fraction))

    def _run_until_stopped(
        self, work: Iterator[TrainingProgress], begin: float, end: float
    ) -> None:
        for step in work:
            if step.fraction < 1:  # a stage that is done is not the end
                self._report(step, begin, end)
            if self._stop.is_set() or self._left:
                break
        close = getattr(work, "close", None)
        if close is not None:
            close()

    def _report_reading(self, share: float, message: str) -> None:
        if time.monotonic() - self._reported >= _EVERY:
            self._reported = time.monotonic()
            self._report(TrainingProgress(share, message), 0.0, _READ)
        if self._stop.is_set():
            raise _StoppedEarly


def remove_without_network(folder: Path) -> None:
    """Remove a training's folder that holds no network: its name shall be free again.

    One in which another training runs stays: that one has no network yet.
    """
    if not folder.is_dir():
        return
    with folder_lock(folder) as is_alone:
        if is_alone and not (folder / MANIFEST).exists():
            shutil.rmtree(folder, ignore_errors=True)
