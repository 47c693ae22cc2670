"""A folder of photos as a set: one subfolder per class, or train/ and val/ with such subfolders.

Every file is read once at the start: what cannot be read is listed with its reason, and copies of
one picture are kept on one side.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from whylens.core.datasets.dataset import SPLITS, Dataset, Item, Pixels, SplitName
from whylens.core.datasets.dataset_notes import check_counts, dataset_notes, pictures
from whylens.core.datasets.splits import Fingerprint, fingerprint, group_copies, split_stratified
from whylens.core.errors import BadInput, shown
from whylens.core.inputs.photo import ImageLimits, read_photo

# One's own photos, not a visitor's: cameras write larger files than a page should accept.
LIMITS = ImageLimits(bytes=40_000_000, pixels=60_000_000, memory=480_000_000)
ProgressCallback = Callable[[float, str], None]


class ImageFolder(Dataset):
    """Photos in one subfolder per class.

    Attributes:
        unreadable: Key and reason of every file that was left out.
    """

    unreadable: tuple[tuple[str, str], ...]

    def __init__(
        self,
        root: Path,
        *,
        val: float = 0.15,
        test: float = 0.15,
        seed: int = 0,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Read every file once.

        Args:
            root: The folder. Its own train/ and val/ (and test/) are honoured.
            val: Share for validation where the folder is not split yet.
            test: Share for the test where the folder is not split yet.
            progress: Called with a share done and a sentence.

        Raises:
            BadInput: There is no such folder, or too little in it to learn from.
        """
        self._root = root
        self.name = root.resolve().name
        files, has_splits = _list_files(root)
        fingerprints, unreadable = _read(root, files, progress)
        self.unreadable = tuple(unreadable)
        readable = [(file, fingerprints[file.key]) for file in files if file.key in fingerprints]
        if not readable:
            reason = f" The first: {unreadable[0][0]}: {unreadable[0][1]}" if unreadable else ""
            raise BadInput(f"No picture in {root} can be read.{reason}")
        counts = Counter(file.label for file, _ in readable)
        self.labels = tuple(sorted({file.label for file in files}))
        check_counts(str(root), self.labels, counts)
        index = {label: i for i, label in enumerate(self.labels)}
        labels = [index[file.label] for file, _ in readable]
        groups = group_copies([fingerprint_ for _, fingerprint_ in readable])
        if has_splits:
            splits: list[SplitName] = [file.split or "train" for file, _ in readable]
        else:
            splits = split_stratified(labels, groups, val=val, test=test, seed=seed)
        self.items = tuple(
            Item(file.key, label, split)
            for (file, _), label, split in zip(readable, labels, splits, strict=True)
        )
        self._contents = tuple(fingerprint_.content for _, fingerprint_ in readable)
        self.notes = (
            *_unreadable_notes(self.unreadable),
            *dataset_notes(self.items, self.labels, groups),
        )

    def pixels(self, index: int) -> Pixels:  # noqa: D102
        path = self._root / self.items[index].key
        try:
            return read_photo(path.read_bytes(), limits=LIMITS).pixels
        except OSError as exc:
            raise BadInput(f"{path} cannot be read any more: {exc.strerror}.") from exc

    def content_digest(self, index: int) -> str:  # noqa: D102
        return self._contents[index]


class _File:
    __slots__ = ("key", "label", "split")

    def __init__(self, key: str, label: str, split: SplitName | None) -> None:
        self.key, self.label, self.split = key, label, split


def _folders(place: Path) -> list[Path]:
    try:
        return sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as exc:
        raise BadInput(f"The folder {place} cannot be read: {exc.strerror}.") from exc


def _list_files(root: Path) -> tuple[list[_File], bool]:
    if not root.is_dir():
        raise BadInput(f"There is no folder {root}. Give a folder with one subfolder per class.")
    folders = _folders(root)
    names = {folder.name for folder in folders}
    has_splits = {"train", "val"} <= names and names <= set(SPLITS)
    files: list[_File] = []
    for split in SPLITS if has_splits else (None,):
        if split is None or split in names:
            for folder in _folders(root / split) if split else folders:
                files += [_File(key, folder.name, split) for key in _keys(root, folder)]
    if not files:
        raise BadInput(
            f"The folder {root} holds no pictures in subfolders. Put the pictures of each class "
            "into a subfolder of its own."
        )
    labels = {file.label for file in files}
    if len(labels) < 2:
        raise BadInput(
            f"There is one class only, {shown(min(labels))}. Put the pictures of at least two "
            "classes into a subfolder each."
        )
    return files, has_splits


def _keys(root: Path, folder: Path) -> list[str]:
    # Links to folders are not followed: they may lead round in a circle.
    keys: list[str] = []
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        paths = (Path(place) / name for name in sorted(names) if not name.startswith("."))
        keys += [path.relative_to(root).as_posix() for path in paths if path.is_file()]
    return keys


def _read(
    root: Path, files: list[_File], progress: ProgressCallback | None
) -> tuple[dict[str, Fingerprint], list[tuple[str, str]]]:
    def read_one(file: _File) -> Fingerprint | str:
        path = root / file.key
        try:
            if path.stat().st_size > LIMITS.bytes:
                return f"It has more than {LIMITS.bytes / 1e6:.0f} MB."
            data = path.read_bytes()
            pixels = read_photo(data, limits=LIMITS).pixels
        except OSError as exc:
            return f"It cannot be read: {exc.strerror}."
        except BadInput as exc:
            return str(exc)
        return fingerprint(pixels, hashlib.sha256(data).hexdigest())

    fingerprints: dict[str, Fingerprint] = {}
    unreadable: list[tuple[str, str]] = []
    # Pillow lets other threads run while it decodes.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for done, (file, answer) in enumerate(
            zip(files, pool.map(read_one, files), strict=True), 1
        ):
            if isinstance(answer, str):
                unreadable.append((file.key, answer))
            else:
                fingerprints[file.key] = answer
            if progress is not None and (done % 50 == 0 or done == len(files)):
                progress(done / len(files), f"reading {done} of {len(files)} pictures")
    return fingerprints, unreadable


def _unreadable_notes(unreadable: tuple[tuple[str, str], ...]) -> Iterable[str]:
    if unreadable:
        first = "; ".join(f"{key}: {reason}" for key, reason in unreadable[:3])
        yield f"{pictures(len(unreadable))} could not be read and were left out. {first}"
