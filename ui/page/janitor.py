"""Visitors' files: how long they lie, how much they may take, and who removes them."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from whylens.core.storage.memory import parse_size

log = logging.getLogger(__name__)

DISK_VARIABLE = "WHYLENS_DISK"
DISK_BYTES = 4_000_000_000  # and never more than half of what is free at the start
KEEP_SECONDS = 3600
BROKEN_OFF_SECONDS = 120  # an upload that has no byte more; the gate ends its request after 60
SECONDS_BETWEEN_SWEEPS = 60.0
SECONDS_OF_A_COUNT = 2.0  # for which a count of what lies there is believed


class Janitor:
    """Removes files an hour after they were last written, sooner where the disk budget is spent.

    Gradio removes what it knows of; it does not know of uploads that were broken off, of pictures
    that came in an address, and of empty folders.
    """

    def __init__(self, folders: Iterable[Path], *, budget: int | None = None) -> None:
        """Take care of folders that hold nothing but visitors' files.

        Args:
            folders: Need not exist yet.
            budget: In bytes; by default WHYLENS_DISK, or 4 GB, or half of what is free.
        """
        self._folders = tuple(folders)
        self._budget = disk_budget(self._folders[0]) if budget is None else budget
        self._keep: frozenset[Path] = frozenset()
        self._counted, self._count = -SECONDS_OF_A_COUNT, 0
        self._stop = threading.Event()

    def start(self, keep: Collection[str] = ()) -> None:
        """Sweep every minute until `stop`.

        Args:
            keep: Paths of the page's own files among them.
        """
        self._keep = frozenset(map(Path, keep))
        threading.Thread(target=self._work, daemon=True, name="janitor").start()

    def stop(self) -> None:
        """Sweep no more."""
        self._stop.set()

    def _work(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN_SWEEPS):
            try:
                self.sweep()
            except OSError as exc:
                log.warning("Old files of visitors could not be removed: %s", exc)

    def has_room(self, count: int) -> bool:
        """Return whether so many more bytes may be written."""
        if time.monotonic() - self._counted > SECONDS_OF_A_COUNT:
            self._count = sum(size for _, size, _ in self._files())
            self._counted = time.monotonic()
        return self._count + count <= self._budget

    def claim(self, count: int) -> bool:
        """Return whether so many more bytes may be written, and count them as if they were.

        What several requests write at once is thus counted before it lies there.
        """
        if not self.has_room(count):
            return False
        self._count += count
        return True

    def sweep(self, now: float | None = None) -> None:
        """Remove what is old, what is beyond the budget, and folders that are empty."""
        now = time.time() if now is None else now
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        for mtime, size, path in files:
            # An upload that has come whole lies in a folder of its own.
            whole = path.parent not in self._folders or not path.name.startswith("tmp")
            keep = KEEP_SECONDS if whole else BROKEN_OFF_SECONDS
            if now - mtime > keep or total > self._budget:
                path.unlink(missing_ok=True)
                total -= size
        for top in self._folders:
            for folder, _, _ in os.walk(top, topdown=False):
                # One that is new is about to be filled.
                path = Path(folder)
                if path != top and now - _write_time(path) > SECONDS_BETWEEN_SWEEPS:
                    try:
                        path.rmdir()
                    except OSError:  # it holds something, or is gone
                        continue

    def _files(self) -> list[tuple[float, int, Path]]:
        files = []
        for top in self._folders:
            for folder, _, names in os.walk(top):
                for path in (Path(folder) / name for name in names):
                    try:
                        status = path.lstat()
                    except OSError:  # removed meanwhile
                        continue
                    if path not in self._keep:
                        files.append((status.st_mtime, status.st_size, path))
        return files


def disk_budget(folder: Path) -> int:
    """Return how many bytes visitors' files may take on the disk of a folder."""
    if text := os.environ.get(DISK_VARIABLE, "").strip():
        return parse_size(text, DISK_VARIABLE)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return min(DISK_BYTES, shutil.disk_usage(existing).free // 2)


def _write_time(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return float("inf")
