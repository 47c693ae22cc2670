"""The files of a run: listed once, on disk, in one order for all; and read ahead of their use.

The order is that of the relative paths as text; only the names of one folder at a time are sorted
in memory. What cannot be read is not raised: it is one row.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from whylens.core.datasets.files import is_hidden
from whylens.core.errors import BadInput
from whylens.core.inputs.photo import READ_ENDINGS, ImageLimits, Photo, read_photo
from whylens.core.inputs.signal import SUFFIXES, is_signal_file, read_signal
from whylens.core.results import Array

FILES = "files.parquet"
PICTURES = READ_ENDINGS
SIGNALS = frozenset(SUFFIXES)
_GROUP = 1024  # names that are read at a time
# Names of files are bytes: not all of them are text.
_SCHEMA = pa.schema([pa.field("path", pa.binary()), pa.field("bytes", pa.int64())])


class Listing(BaseModel):
    """What tells one list of files from another.

    Attributes:
        count: How many files.
        digest: sha256 of their relative paths and sizes, in order.
        ends: How many files there were when earlier runs over the folder were begun, each time
            before more were added.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int
    digest: str
    ends: tuple[int, ...] = ()


def write_listing(
    folder: Path,
    out: Path,
    endings: frozenset[str],
    target: Path,
    *,
    skipped: Counter[str] | None = None,
) -> Listing:
    """Write the list of files below a folder, and return what tells it from another.

    Args:
        folder: Searched with all its subfolders; names with a leading dot are left out, and links
            to folders are not followed.
        skipped: Counts the files of other endings.

    Raises:
        BadInput: There is no such folder, it cannot be read, or holds no such files.
    """
    skipped = Counter() if skipped is None else skipped
    listing = _write(iter_files(folder, endings, left_out=out.resolve(), skipped=skipped), target)
    if not listing.count:
        skipped_sentence = f" It holds {skipped_words(skipped)}." if skipped else ""
        raise BadInput(
            f"The folder {folder} holds no files that end in {', '.join(sorted(endings))}."
            f"{skipped_sentence}"
        )
    return listing


def grow_listing(file: Path, before: Listing, now: Path, target: Path) -> Listing | None:
    """Write a list that goes on with the files that were added since, and return what tells it.

    Args:
        file: The list before.
        before: What tells that.
        now: The list of what the folder holds now.

    Returns:
        That of before where nothing was added; None where a file is gone or has another size.
    """
    before_now = list(islice(_entries(file), before.count))
    current = list(_entries(now))
    if not set(before_now) <= set(current):
        return None
    added_paths = sorted(set(current) - set(before_now))
    if not added_paths:
        return before
    listing = _write(iter([*before_now, *added_paths]), target)
    return listing.model_copy(update={"ends": (*before.ends, before.count)})


def _entries(listing: Path) -> Iterator[tuple[bytes, int]]:
    with pq.ParquetFile(listing) as file:
        for batch in file.iter_batches(_GROUP):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _write(files: Iterator[tuple[bytes, int]], target: Path) -> Listing:
    digest, count = hashlib.sha256(), 0
    with pq.ParquetWriter(target, _SCHEMA, compression="zstd") as writer:
        while group := list(islice(files, _GROUP)):
            for path, size in group:
                digest.update(b"%s\0%d\n" % (path, size))
            count += len(group)
            columns = [list(column) for column in zip(*group, strict=True)]
            writer.write_table(pa.table(columns, schema=_SCHEMA), row_group_size=_GROUP)
    return Listing(count=count, digest=digest.hexdigest())


def skipped_words(skipped: Counter[str]) -> str:
    """Return in words how many files of which endings there are, as in "2 .txt and 1 .psd"."""
    by_count = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    kinds = [f"{n:,} {ending or 'without an ending'}" for ending, n in by_count[:5]]
    if len(by_count) > 5:
        kinds.append(f"{sum(n for _, n in by_count[5:]):,} others")
    return " and ".join([", ".join(kinds[:-1]), kinds[-1]]) if len(kinds) > 1 else kinds[0]


def read_listing(listing: Path, start: int, stop: int) -> list[bytes]:
    """Return the relative paths of files number `start` to `stop`, the last not included.

    Args:
        listing: Written by `write_listing`.
        start: From 0.
    """
    with pq.ParquetFile(listing) as file:
        first = start // _GROUP
        groups = list(range(first, (stop - 1) // _GROUP + 1))
        names: list[bytes] = (
            file.read_row_groups(groups, columns=["path"]).column("path").to_pylist()
        )
    return names[start - first * _GROUP : stop - first * _GROUP]


def iter_files(
    folder: Path,
    endings: frozenset[str],
    *,
    left_out: Path | None = None,
    prefix: bytes = b"",
    skipped: Counter[str] | None = None,
) -> Iterator[tuple[bytes, int]]:
    """Yield the path of each file below a folder and its size in bytes, in the order of the paths.

    Args:
        left_out: A subfolder, resolved, that is not looked into.
        prefix: Put before each path.
        skipped: Counts the files of other endings.

    Raises:
        BadInput: A folder cannot be read.
    """
    entries = []
    try:
        with os.scandir(folder) as scan:
            for e in scan:
                if is_hidden(e.name):
                    continue
                is_dir, ending = e.is_dir(follow_symlinks=False), _ending(e.name)
                if is_dir or ending in endings:
                    entries.append((os.fsencode(e.name) + b"/" * is_dir, is_dir))
                elif skipped is not None:
                    skipped[ending] += 1
        entries.sort()  # a subfolder as its paths do: with the slash that follows its name
    except OSError as exc:
        raise BadInput(f"The folder {folder} cannot be read: {exc.strerror}.") from exc
    for name, is_dir in entries:
        path = folder / os.fsdecode(name)
        if is_dir:
            if path.resolve() != left_out:
                yield from iter_files(
                    path, endings, left_out=left_out, prefix=prefix + name, skipped=skipped
                )
        elif path.is_file():
            yield prefix + name, path.stat().st_size
        elif path.is_symlink() and not path.exists():
            yield prefix + name, -1  # a broken link: reading it says so in its row


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path of every name is slow


AHEAD = 2  # files read ahead: a photo may take 90 MB


@dataclass(frozen=True, eq=False)
class LoadedFile:
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


def load_file(path: Path) -> LoadedFile:
    """Return a file's photo or signal, or why it has none."""
    try:
        size, limit = path.stat().st_size, ImageLimits().bytes
        if size > limit:  # not read at all: there may be no memory for it
            return LoadedFile(
                error=f"The file has {size / 1e6:.1f} MB; up to {limit / 1e6:.0f} MB are read. "
                "Save it smaller."
            )
        return load_bytes(path.read_bytes(), path.name)
    except OSError as exc:
        return LoadedFile(error=f"The file cannot be read: {exc.strerror}.")


def load_bytes(data: bytes, name: str) -> LoadedFile:
    """Return the photo or signal that a file holds, or why it has none.

    Args:
        name: Its ending says which of them.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        if is_signal_file(name):
            return LoadedFile(sha256, signal=read_signal(data, name))
        return LoadedFile(sha256, photo=read_photo(data))
    except BadInput as exc:
        return LoadedFile(sha256, error=str(exc))


def read_ahead(folder: Path, paths: Sequence[bytes]) -> Iterator[LoadedFile]:
    """Yield files in order; while one is used, the next are read by a thread.

    Args:
        paths: Relative, as the disk spells them.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[LoadedFile]] = deque()
        try:
            for path in paths:
                waiting.append(pool.submit(load_file, folder / os.fsdecode(path)))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
