"""One training at a time for all visitors of a process, in a thread of its own.

A thread of its own, since a page hands each step of a generator to another thread, and torch keeps
some of its state per thread.
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from whylens.core.datasets.dataset import Dataset
from whylens.core.datasets.folder import ProgressCallback
from whylens.core.errors import BadInput, Busy, shown
from whylens.core.models.black_box import ONNX
from whylens.core.models.checkpoints import (
    MANIFEST,
    checkpoint_folders,
    new_model_place,
    read_manifest,
)
from whylens.core.models.model_names import check_folder_name, timm_architectures, timm_names
from whylens.core.progress import TrainingProgress
from whylens.core.train.evaluate import write_report
from whylens.core.train.recipe import Recipe
from whylens.core.train.run import train

DatasetReader = Callable[[ProgressCallback], Dataset]
_EVERY = 0.1  # seconds between two reports of progress while pictures are read
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
        raise BadInput(f"There is a model called {shown(name)} already. Choose another name.")
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


class TrainingRunner:
    """Runs one training at a time; a second one is refused in words."""

    def __init__(self) -> None:
        """Make an idle runner."""
        self._lock = threading.Lock()
        self._running: _Training | None = None

    def run(
        self,
        visitor: str,
        read: DatasetReader,
        recipe: Recipe,
        out: Path,
        then: Callable[[Dataset], Iterator[TrainingProgress]],
    ) -> Iterator[TrainingProgress]:
        """Yield the steps of reading, training and what follows.

        Closing the iterator stops the work as `stop` does, but for what follows.

        Args:
            owner: Who may stop it.
            read: Makes the set; it tells a share done and a sentence now and then.
            out: The checkpoint's folder, not there yet.

        Raises:
            Busy: Another training is under way.
            BadInput: It was stopped before anything was learnt, or what was given does not do.
        """
        training = _Training(visitor, read, recipe, out, then)
        with self._lock:
            if self._running is not None and self._running.thread.is_alive():
                raise Busy(
                    "A training is under way already; there can be one at a time. Wait for its "
                    "end, or stop it where it was started."
                )
            if out.exists():
                raise BadInput(f"There is a model called {shown(out.name)} already.")
            self._running = training
            training.thread.start()
        try:
            yield from training.events()
        finally:
            training.left = True
            training.stop.set()

    def stop(self, visitor: str) -> bool:
        """Stop the stage that runs, keep what is there, and return whether there was any.

        Args:
            owner: As given to `run`.
        """
        training = self._running
        if training is None or training.visitor != visitor or not training.thread.is_alive():
            return False
        training.stop.set()
        return True


class _StoppedEarly(Exception):
    pass


class _Training:
    def __init__(
        self,
        visitor: str,
        read: DatasetReader,
        recipe: Recipe,
        out: Path,
        then: Callable[[Dataset], Iterator[TrainingProgress]],
    ) -> None:
        self.visitor, self.read, self.recipe, self.out, self.then = visitor, read, recipe, out, then
        self.stop, self.left = threading.Event(), False
        self.reported = 0.0  # when progress was last reported while pictures are read
        self.queue: queue.SimpleQueue[TrainingProgress | Exception | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="whylens-training", daemon=True)

    def events(self) -> Iterator[TrainingProgress]:
        last = ""
        while True:
            try:
                step = self.queue.get(timeout=_POLL)
            except queue.Empty:
                continue
            if step is None:
                return
            if isinstance(step, Exception):
                raise step
            # A screen that is slower than the work shall not lag behind it: of reports with one
            # message, only the newest counts.
            repeated = step.message == last and step.figures.keys() <= {"loss"}
            if repeated and not self.queue.empty():
                continue
            last = step.message
            yield step

    def _work(self) -> None:
        try:
            self._stages()
        except _StoppedEarly:
            self.queue.put(
                BadInput("Training was stopped before anything was learnt; nothing was kept.")
            )
        except Exception as exc:  # noqa: BLE001 - raised where the steps are read
            self.queue.put(exc)
        finally:
            if not (self.out / MANIFEST).exists():
                # Without a network it is no checkpoint; the name shall be free again.
                shutil.rmtree(self.out, ignore_errors=True)
            self.queue.put(None)

    def _stages(self) -> None:
        dataset = self.read(self._report_reading)
        self._run_until_stopped(train(dataset, self.recipe, self.out))
        if self.stop.is_set():
            if not (self.out / MANIFEST).exists():
                raise _StoppedEarly
            for share in write_report(dataset, self.out):
                self.queue.put(TrainingProgress(0.97 + 0.03 * share, "examining the best so far"))
        if not self.left:
            self.stop.clear()  # what follows is stopped by another press
            self._run_until_stopped(self.then(dataset))

    def _run_until_stopped(self, work: Iterator[TrainingProgress]) -> None:
        for step in work:
            self.queue.put(step)
            if self.stop.is_set() or self.left:
                break
        close = getattr(work, "close", None)
        if close is not None:
            close()

    def _report_reading(self, share: float, message: str) -> None:
        if time.monotonic() - self.reported >= _EVERY:
            self.reported = time.monotonic()
            self.queue.put(TrainingProgress(share, message))
        if self.stop.is_set():
            raise _StoppedEarly
