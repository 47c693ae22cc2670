"""Labelled pictures from a visitor's ZIP: one folder per class, read under limits.

Nothing is written to disk, names inside the archive choose no path, and real bytes are counted:
declared sizes can lie.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from whylens.core.datasets.dataset import Dataset, Item, Pixels
from whylens.core.errors import BadInput, shown
from whylens.core.inputs.photo import read_photo
from whylens.core.inputs.view import shrunk

MOST_FILES = 5_000
MOST_BYTES = 400_000_000  # of all pictures, packed as they are inside
MOST_EACH = 12_000_000
MOST_CLASSES = 200
# Larger pictures are kept at this longer side: no network here looks closer.
KEPT_SIDE = 320
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


class ZippedPictures(Dataset):
    """Pictures of a ZIP, decoded; all of them belong to the training split."""

    licence = "the visitor's own"

    def __init__(
        self, name: str, labels: tuple[str, ...], items: tuple[Item, ...], pictures: list[Pixels]
    ) -> None:
        """Make a set of pictures that were read.

        Args:
            name: As the visitor called the file.
            pictures: (H, W, 3) uint8 each.
        """
        self.name, self.labels, self.items, self._pictures = name, labels, items, pictures

    def pixels(self, index: int) -> Pixels:
        """Return a picture."""
        return self._pictures[index]

    def content_digest(self, index: int) -> str:
        """Return the sha256 of a picture's pixels."""
        return hashlib.sha256(self._pictures[index].tobytes()).hexdigest()


def pictures_in_zip(path: Path) -> Generator[float, None, ZippedPictures]:
    """Yield the share read so far, and return the pictures.

    Raises:
        BadInput: It is no ZIP, holds too much, or too little.
    """
    with _opened(path) as archive:
        members = _members(archive)
        labels = tuple(sorted({name for name, _ in members}))
        if len(labels) < 2:
            raise BadInput(
                "The ZIP needs a folder per class, and two classes at least. It holds pictures "
                f"in {len(labels)} folder{'' if len(labels) == 1 else 's'}."
            )
        if len(labels) > MOST_CLASSES:
            raise BadInput(f"The ZIP holds {len(labels)} classes; {MOST_CLASSES} are allowed.")
        items, pictures, total = [], [], 0
        for done, (label, info) in enumerate(members):
            data = _content(archive, info)
            total += len(data)
            if total > MOST_BYTES:
                raise BadInput(f"The ZIP holds more than {MOST_BYTES / 1e6:.0f} MB of pictures.")
            pictures.append(_read_small(data, info.filename))
            items.append(Item(info.filename, labels.index(label), "train"))
            yield done / len(members)
    return ZippedPictures(path.name, labels, tuple(items), pictures)


def names_in_zip(path: Path) -> list[str]:
    """Return the names of a ZIP's pictures with their folders, in the archive's order.

    Raises:
        BadInput: It is no ZIP that can be read.
    """
    with _opened(path) as archive:
        return [info.filename for _, info in _pictures(archive)]


def read_from_zip(path: Path, name: str) -> bytes:
    """Return the content of one of a ZIP's files.

    Args:
        name: Of `names_in_zip`.

    Raises:
        BadInput: It cannot be read, or is too large.
    """
    with _opened(path) as archive:
        return _content(archive, archive.getinfo(name))


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as exc:
        raise BadInput(
            "This file is no ZIP that can be read (damaged, encrypted or of another kind). "
            "Pack the folders again."
        ) from exc


def _pictures(archive: zipfile.ZipFile) -> Iterator[tuple[PurePosixPath, zipfile.ZipInfo]]:
    for info in archive.infolist():
        place = PurePosixPath(info.filename.replace("\\", "/"))
        hidden = any(part.startswith((".", "__MACOSX")) for part in place.parts)
        if not info.is_dir() and not hidden and place.suffix.lower() in _ENDINGS:
            yield place, info


def _members(archive: zipfile.ZipFile) -> list[tuple[str, zipfile.ZipInfo]]:
    members = []
    for place, info in _pictures(archive):
        if len(place.parts) < 2:
            raise BadInput(
                f"{shown(place.name)} lies in no folder. Put every picture into a folder named "
                "after its class."
            )
        members.append((place.parts[-2], info))
        if len(members) > MOST_FILES:
            raise BadInput(f"The ZIP holds more than {MOST_FILES:,} pictures.")
    if not members:
        raise BadInput("The ZIP holds no PNG, JPEG, WEBP, BMP or GIF pictures.")
    return members


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as stream:
        data = stream.read(MOST_EACH + 1)
    if len(data) > MOST_EACH:
        raise BadInput(f"{shown(info.filename)} is larger than {MOST_EACH / 1e6:.0f} MB.")
    return data


def _read_small(data: bytes, name: str) -> Pixels:
    try:
        pixels = read_photo(data).pixels
    except BadInput as exc:
        raise BadInput(f"{shown(name)}: {exc}") from exc
    return shrunk(pixels, KEPT_SIDE)
