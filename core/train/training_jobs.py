"""One training at a time for all visitors of a process, in a thread of its own.

May touch the trainer, the sets and the checkpoints' places. A thread of its own, since a page
hands each step of a generator to another thread, and torch keeps some of its state per thread.
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from whylens.core.datasets.dataset import Dataset
from whylens.core.errors import BadInput, Busy, shown
from whylens.core.models.checkpoints import (
    MANIFEST,
    checkpoint_folders,
    checkpoint_places,
    read_manifest,
)
from whylens.core.models.model_names import check_folder_name, timm_architectures, timm_names
from whylens.core.train.evaluate import examined
from whylens.core.train.progress import Step
from whylens.core.train.recipe import Recipe
from whylens.core.train.run import train

Tell = Callable[[float, str], None]
Reader = Callable[[Tell], Dataset]
_EVERY = 0.1  # seconds between two signs of life while pictures are read
_PATIENCE = 0.5  # seconds after which a silent training is looked at again


def place_for(name: str) -> Path:
    """Return the folder for a new model: in the first place of one's own, else the project's.

    Args:
        name: As the visitor would call the model.

    Raises:
        BadInput: It is no name, or it is taken.
    """
    check_folder_name(name)
    places = checkpoint_places()
    place = (places[1:] or places)[0]
    known = name in checkpoint_folders() or (place / name).exists()
    if known or name in timm_names() or name in timm_architectures():
        raise BadInput(f"There is a model called {shown(name)} already. Choose another name.")
    return place / name


def start_of(folder: Path) -> dict[str, object]:
    """Return the recipe's fields that make a training start from a local checkpoint.

    Args:
        folder: Of the checkpoint.

    Raises:
        BadArtifact: Its manifest is damaged.
    """
    manifest = read_manifest(folder)
    return {
        "backbone": manifest.architecture,
        "arguments": dict(manifest.arguments),
        "weights": str(folder),
    }


class Workshop:
    """Runs one training at a time; a second one is refused in words."""

    def __init__(self) -> None:
        """Make an idle workshop."""
        self._lock = threading.Lock()
        self._running: _Run | None = None

    def run(
        self,
        owner: str,
        read: Reader,
        recipe: Recipe,
        out: Path,
        then: Callable[[Dataset], Iterator[Step]],
    ) -> Iterator[Step]:
        """Yield the steps of reading, training and what follows.

        Closing the iterator stops the work as `stop` does, but for what follows.

        Args:
            owner: Who may stop it.
            read: Makes the set; it tells a share done and a sentence now and then.
            recipe: How to train.
            out: The checkpoint's folder, not there yet.
            then: What to do with the trained network, as fitting methods to it.

        Raises:
            Busy: Another training is under way.
            BadInput: It was stopped before anything was learnt, or what was given does not do.
        """
        run = _Run(owner, read, recipe, out, then)
        with self._lock:
            if self._running is not None and self._running.thread.is_alive():
                raise Busy(
                    "A training is under way already; there can be one at a time. Wait for its "
                    "end, or stop it where it was started."
                )
            if out.exists():
                raise BadInput(f"There is a model called {shown(out.name)} already.")
            self._running = run
            run.thread.start()
        try:
            yield from run.told()
        finally:
            run.left = True
            run.stop.set()

    def stop(self, owner: str) -> bool:
        """Stop the stage that runs, keep what is there, and return whether there was any.

        Args:
            owner: As given to `run`.
        """
        run = self._running
        if run is None or run.owner != owner or not run.thread.is_alive():
            return False
        run.stop.set()
        return True


class _Stopped(Exception):
    pass


class _Run:
    def __init__(
        self,
        owner: str,
        read: Reader,
        recipe: Recipe,
        out: Path,
        then: Callable[[Dataset], Iterator[Step]],
    ) -> None:
        self.owner, self.read, self.recipe, self.out, self.then = owner, read, recipe, out, then
        self.stop, self.left = threading.Event(), False
        self.when = 0.0  # of the last sign of life while pictures are read
        self.said: queue.SimpleQueue[Step | Exception | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="whylens-training", daemon=True)

    def told(self) -> Iterator[Step]:
        last = ""
        while True:
            try:
                step = self.said.get(timeout=_PATIENCE)
            except queue.Empty:
                continue
            if step is None:
                return
            if isinstance(step, Exception):
                raise step
            # A screen that is slower than the work shall not lag behind it: of signs of life that
            # say the same, only the newest counts.
            told = step.message == last and step.figures.keys() <= {"loss"}
            if told and not self.said.empty():
                continue
            last = step.message
            yield step

    def _work(self) -> None:
        try:
            self._stages()
        except _Stopped:
            self.said.put(
                BadInput("Training was stopped before anything was learnt; nothing was kept.")
            )
        except Exception as exc:  # noqa: BLE001 - raised where the steps are read
            self.said.put(exc)
        finally:
            if not (self.out / MANIFEST).exists():
                # Without a network it is no checkpoint; the name shall be free again.
                shutil.rmtree(self.out, ignore_errors=True)
            self.said.put(None)

    def _stages(self) -> None:
        dataset = self.read(self._tell)
        self._until_stopped(train(dataset, self.recipe, self.out))
        if self.stop.is_set():
            if not (self.out / MANIFEST).exists():
                raise _Stopped
            for share in examined(dataset, self.out):
                self.said.put(Step(0.97 + 0.03 * share, "examining the best so far"))
        if not self.left:
            self.stop.clear()  # what follows is stopped by another press
            self._until_stopped(self.then(dataset))

    def _until_stopped(self, work: Iterator[Step]) -> None:
        for step in work:
            self.said.put(step)
            if self.stop.is_set() or self.left:
                break
        close = getattr(work, "close", None)
        if close is not None:
            close()

    def _tell(self, share: float, said: str) -> None:
        if time.monotonic() - self.when >= _EVERY:
            self.when = time.monotonic()
            self.said.put(Step(share, said))
        if self.stop.is_set():
            raise _Stopped
