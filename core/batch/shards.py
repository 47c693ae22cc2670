"""Finished shards on disk: each is there whole or not at all, however the run ended.

A shard is its maps and its manifest; the manifest is renamed into place last, and what has no
manifest counts for nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from whylens.core.storage.files import sync_folder

MANIFEST, MAPS, WORK, LOG = "manifest", "maps", ".work", "log.jsonl"
_NAME, _MAPS = re.compile(r"part-(\d{5,})\.parquet"), re.compile(r"part-(\d{5,})")


@dataclass(frozen=True)
class ShardDone:
    """What became of a shard.

    Attributes:
        shard: Its number.
        images: How many files.
        failed: Rows that hold an error.
        seconds: Time taken.
        peak_bytes: Largest memory of the worker's process so far; None where it is not known.
        file_seconds: Time of each file, in their order.
    """

    shard: int
    images: int
    failed: int
    seconds: float
    peak_bytes: int | None
    file_seconds: tuple[float, ...] = ()


def shard_name(shard: int) -> str:
    """Return the name that a shard's files share.

    Args:
        shard: From 0.
    """
    return f"part-{shard:05d}"


def manifest_path(out: Path, shard: int) -> Path:
    """Return where a shard's manifest lies once it is finished.

    Args:
        shard: From 0.
    """
    return out / MANIFEST / f"{shard_name(shard)}.parquet"


def finished_shards(out: Path) -> set[int]:
    """Return the numbers of the finished shards."""
    manifest = out / MANIFEST
    entries = manifest.iterdir() if manifest.is_dir() else ()
    return {int(match.group(1)) for path in entries if (match := _NAME.fullmatch(path.name))}


def new_workdir(out: Path, shard: int) -> Path:
    """Return a new folder in which a shard is worked on; nobody else writes there.

    Args:
        shard: From 0.
    """
    work = out / WORK
    work.mkdir(parents=True, exist_ok=True)
    workdir = Path(tempfile.mkdtemp(dir=work, prefix=f"{shard_name(shard)}-"))
    (workdir / MAPS).mkdir()
    return workdir


def commit(out: Path, shard: int, workdir: Path) -> None:
    """Put a shard's files where they belong, its manifest last, and remove its working folder.

    Where another worker has finished the same shard meanwhile, its files are the same and stay.

    Args:
        shard: From 0.
        workdir: From `new_workdir`, with maps and the manifest under its final name.
    """
    manifest, maps = manifest_path(out, shard), out / MAPS / shard_name(shard)
    for folder in (manifest.parent, maps.parent):
        folder.mkdir(exist_ok=True)
    _flush_all(workdir)
    if not manifest.exists():
        if maps.exists():  # of a run that was killed between the two renames
            maps.rename(workdir / "old")
        if any((workdir / MAPS).iterdir()):
            (workdir / MAPS).rename(maps)
            sync_folder(maps.parent)
        (workdir / manifest.name).rename(manifest)
        sync_folder(manifest.parent)
    shutil.rmtree(workdir)


def remove_unfinished(out: Path) -> None:
    """Remove what an ended run left unfinished."""
    work = out / WORK
    if work.exists():
        shutil.rmtree(work)
    finished_ids = finished_shards(out)
    maps = out / MAPS
    for folder in maps.iterdir() if maps.is_dir() else ():
        match = _MAPS.fullmatch(folder.name)
        if match and int(match.group(1)) not in finished_ids:
            shutil.rmtree(folder)


def flush(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _flush_all(workdir: Path) -> None:
    for folder, _, names in os.walk(workdir):
        for name in names:
            flush(Path(folder) / name)
        sync_folder(Path(folder))
