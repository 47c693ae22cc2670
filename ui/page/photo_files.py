"""The photos that a visitor gives at once: uploads, what lies in a ZIP, or in a folder."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path, PurePosixPath

from whylens.core.batch.listing import (
    PICTURES,
    LoadedFile,
    iter_files,
    load_bytes,
    load_file,
    skipped_words,
)
from whylens.core.datasets.zip import names_in_zip, read_from_zip
from whylens.core.errors import BadInput
from whylens.core.words import was

MOST_PHOTOS = 50
ENDINGS = [*sorted(PICTURES), ".zip"]


@dataclass(frozen=True)
class PhotoFile:
    """One of many photos, not read yet.

    Attributes:
        name: As a visitor knows it: a file's name, or its path below a folder or in a ZIP.
        path: Of the file, or of the ZIP that it lies in.
        folder: Name of the folder that `name` lies below; "" for uploads.
        member: Its name in the ZIP, or "".
    """

    name: str
    path: Path
    folder: str = ""
    member: str = ""

    @property
    def stem(self) -> str:
        """Its name without folders and ending, fit for a file of the page."""
        return re.sub(r"[^\w.-]+", "_", PurePosixPath(self.name).stem)[:40] or "photo"

    @property
    def suffix(self) -> str:
        """The ending, as in ".jpg"."""
        return PurePosixPath(self.name).suffix.lower()

    def load(self) -> LoadedFile:
        """Return the photo, or why there is none."""
        if not self.member:
            return load_file(self.path)
        try:
            return load_bytes(self.content(), self.name)
        except BadInput as exc:
            return LoadedFile(error=str(exc))

    def content(self) -> bytes:
        """Return the bytes of the file.

        Raises:
            BadInput: It cannot be read, or is gone.
        """
        try:
            return read_from_zip(self.path, self.member) if self.member else self.path.read_bytes()
        except OSError as exc:
            raise BadInput(f"{self.name} cannot be read: {exc.strerror}. Give it again.") from exc


def find_photo_files(uploads: Sequence[str], folder: str) -> tuple[list[PhotoFile], str]:
    """Return the first photos, and a sentence about those that are left out, or "".

    Args:
        uploads: Paths of files; a ZIP among them stands for the photos in it.
        folder: Searched with its subfolders; "" for none.

    Raises:
        BadInput: There are none, or a ZIP or the folder cannot be read.
    """
    skipped: Counter[str] = Counter()
    every = chain(_uploaded_files(uploads, skipped), _below(folder.strip(), skipped))
    files = list(islice(every, MOST_PHOTOS + 1))
    skipped_sentence = (
        f"{skipped_words(skipped)} {was(skipped.total())} left out: no photos." if skipped else ""
    )
    if not files:
        raise BadInput(
            f"There are no photos yet. Give files that end in {', '.join(sorted(PICTURES))}, or a "
            f"ZIP of them. {skipped_sentence}".strip()
        )
    if len(files) <= MOST_PHOTOS:
        return files, skipped_sentence
    return files[:MOST_PHOTOS], (
        f"These are the first {MOST_PHOTOS}, the most that this page takes; "
        "whylens explain FOLDER --report takes any number."
    )


def _uploaded_files(uploads: Sequence[str], skipped: Counter[str]) -> Iterator[PhotoFile]:
    for path in map(Path, uploads):
        if path.suffix.lower() == ".zip":
            for name in names_in_zip(path, skipped=skipped):
                yield PhotoFile(name, path, member=name)
        else:
            yield PhotoFile(path.name, path)


def _below(folder: str, skipped: Counter[str]) -> Iterator[PhotoFile]:
    if not folder:
        return
    root = Path(folder).expanduser()
    for name, _ in iter_files(root, PICTURES, skipped=skipped):
        path = root / os.fsdecode(name)
        yield PhotoFile(name.decode("utf-8", "backslashreplace"), path, root.resolve().name)
