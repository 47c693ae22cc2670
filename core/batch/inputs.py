"""Files turned into inputs ahead of their use, so that decoding overlaps with computing.

What cannot be read is told, not raised: it is one row.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from whylens.core.errors import BadInput
from whylens.core.inputs.photo import ImageLimits, Photo, read_photo
from whylens.core.inputs.signal import is_signal_file, read_signal
from whylens.core.results import Array

AHEAD = 2  # files read ahead: a photo may take 90 MB


@dataclass(frozen=True, eq=False)
class Loaded:
    """One file, read.

    Attributes:
        sha256: Of its content; None where it could not be read.
        photo: A photo.
        signal: (C, L) float32 of a signal.
        error: Why there is neither, in words; "" where there is one.
    """

    sha256: str | None = None
    photo: Photo | None = None
    signal: Array | None = None
    error: str = ""


def loaded(path: Path) -> Loaded:
    """Return a file's photo or signal, or why it has none.

    Args:
        path: The file; its ending says which of the two it is.
    """
    sha256 = None
    try:
        size, most = path.stat().st_size, ImageLimits().bytes
        if size > most:  # not read at all: there may be no memory for it
            return Loaded(
                error=f"The file has {size / 1e6:.1f} MB; up to {most / 1e6:.0f} MB are read. "
                "Save it smaller."
            )
        data = path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        if is_signal_file(path.name):
            return Loaded(sha256, signal=read_signal(data, path.name))
        return Loaded(sha256, photo=read_photo(data))
    except OSError as exc:
        return Loaded(sha256, error=f"The file cannot be read: {exc.strerror}.")
    except BadInput as exc:
        return Loaded(sha256, error=str(exc))


def read_ahead(folder: Path, paths: Sequence[bytes]) -> Iterator[Loaded]:
    """Yield files in order; while one is used, the next are read by a thread.

    Args:
        folder: Where they are.
        paths: Relative, as the disk spells them.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[Loaded]] = deque()
        try:
            for path in paths:
                waiting.append(pool.submit(loaded, folder / os.fsdecode(path)))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
