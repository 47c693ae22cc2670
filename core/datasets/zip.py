"""Labelled pictures from a visitor's ZIP: one folder per class, read under limits.

Nothing is written to disk, names inside the archive choose no path, and real bytes are counted:
declared sizes can lie.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator
from pathlib import Path, PurePosixPath

from whylens.core.datasets.class_folders import place_files
from whylens.core.datasets.dataset import Dataset, Item, Pixels
from whylens.core.datasets.dataset_notes import left_out_notes
from whylens.core.datasets.files import ZipFiles
from whylens.core.errors import BadInput
from whylens.core.inputs.photo import READ_ENDINGS, ImageLimits, read_photo
from whylens.core.inputs.view import shrunk

MOST_FILES = 5_000
MOST_BYTES = 400_000_000  # of all pictures, packed as they are inside
MOST_EACH = 12_000_000
MOST_CLASSES = 200
# Cameras of phones have 12 million pixels; decoding takes time and memory by their number.
LIMITS = ImageLimits(bytes=MOST_EACH, pixels=16_000_000)
MOST_PIXELS = 1_000_000_000  # of all pictures, which take some 40 s
MOST_KEPT_BYTES = 400_000_000  # of all pictures, as they are kept
# Larger pictures are kept at this longer side: no network here looks closer.
KEPT_SIDE = 320


class ZippedPictures(Dataset):
    """Pictures of a ZIP, decoded; without splits of its own, all belong to the training split."""

    licence = "the visitor's own"

    def __init__(
        self,
        name: str,
        labels: tuple[str, ...],
        items: tuple[Item, ...],
        pictures: list[Pixels],
        notes: tuple[str, ...] = (),
    ) -> None:
        """Make a set of pictures that were read.

        Args:
            name: As the visitor called the file.
            pictures: (H, W, 3) uint8 each.
        """
        self.name, self.labels, self.items, self._pictures = name, labels, items, pictures
        self.notes = notes

    def pixels(self, index: int) -> Pixels:
        """Return a picture."""
        return self._pictures[index]

    def content_digest(self, index: int) -> str:
        """Return the sha256 of a picture's pixels."""
        return hashlib.sha256(self._pictures[index].tobytes()).hexdigest()


def pictures_in_zip(path: Path) -> Generator[float, None, ZippedPictures]:
    """Yield the share read so far, and return the pictures.

    Classes and splits are those of the folder that was packed; what cannot be read is left out.

    Raises:
        BadInput: It is no ZIP, holds too much, or too little.
    """
    source = ZipFiles(path)
    folders = place_files(source.paths, "The ZIP")
    files, labels = folders.files, tuple(sorted({file.label for file in folders.files}))
    if len(files) > MOST_FILES:
        raise BadInput(f"The ZIP holds more than {MOST_FILES:,} pictures.")
    if len(labels) > MOST_CLASSES:
        raise BadInput(f"The ZIP holds {len(labels)} classes; {MOST_CLASSES} are allowed.")
    items, pictures, total, n_pixels, n_bytes = [], [], 0, 0, 0
    unreadable = []
    for number, file in enumerate(files):
        key = source.paths[file.path]
        try:
            data = source.read(file.path, MOST_EACH)
            total += len(data)
            pixels = read_photo(data, limits=LIMITS).pixels
        except BadInput as exc:
            total += MOST_EACH // 100  # what is refused took time, too
            unreadable.append((key, str(exc)))
        else:
            pictures.append(shrunk(pixels, KEPT_SIDE))
            n_pixels, n_bytes = n_pixels + pixels.size // 3, n_bytes + pictures[-1].nbytes
            items.append(Item(key, labels.index(file.label), file.split or "train"))
        if total > MOST_BYTES:
            raise BadInput(f"The ZIP holds more than {MOST_BYTES / 1e6:.0f} MB of pictures.")
        if n_pixels > MOST_PIXELS or n_bytes > MOST_KEPT_BYTES:
            raise BadInput(
                f"The pictures of the ZIP are too large together: {MOST_PIXELS / 1e6:,.0f} million "
                f"pixels are read, and {MOST_KEPT_BYTES / 1e6:.0f} MB kept at up to {KEPT_SIDE} "
                "pixels a side. Pack fewer, or smaller ones."
            )
        yield number / len(files)
    missing = set(range(len(labels))) - {item.label for item in items}
    if missing:
        key, reason = unreadable[0]
        raise BadInput(f"No picture of {labels[min(missing)]} can be read. {key}: {reason}")
    notes = (*left_out_notes(unreadable, len(files)), *source.notes, *folders.notes)
    return ZippedPictures(path.name, labels, tuple(items), pictures, notes)


def names_in_zip(path: Path, *, skipped: Counter[str] | None = None) -> list[str]:
    """Return the names of a ZIP's pictures with their folders.

    Args:
        skipped: Counts the files of other endings.

    Raises:
        BadInput: It is no ZIP that can be read.
    """
    names = []
    for name in ZipFiles(path).paths:
        ending = PurePosixPath(name).suffix.lower()
        if ending in READ_ENDINGS:
            names.append(name)
        elif skipped is not None:
            skipped[ending] += 1
    return names


def read_from_zip(path: Path, name: str) -> bytes:
    """Return the content of one of a ZIP's files.

    Args:
        name: Of `names_in_zip`.

    Raises:
        BadInput: It cannot be read, or is too large.
    """
    source = ZipFiles(path)
    return source.read(source.paths.index(name), MOST_EACH)
