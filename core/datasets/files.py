"""The files of a set by name, whether they lie in a folder or in a ZIP of one."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from whylens.core.datasets.code_pages import code_page, page_name
from whylens.core.errors import FILE_ERRORS, BadInput, quote
from whylens.core.words import number_of

# What systems put beside people's files: macOS in a ZIP, Synology's thumbnails, bins of Windows.
_SYSTEM = ("__macosx", "@eadir", "$recycle.bin", "#recycle", "system volume information")


class Files(Protocol):
    """The files of a set.

    Attributes:
        paths: Readable and relative, with "/" between folders; hidden ones are left out.
        notes: What had to be guessed of their names.
    """

    paths: Sequence[str]
    notes: tuple[str, ...]

    def read(self, index: int, limit: int) -> bytes:
        """Return the content of the file `paths[index]`.

        Args:
            index: Position in `paths`.
            limit: Largest size in bytes.

        Raises:
            BadInput: It is larger, or cannot be read.
        """


def open_files(place: Path) -> Files:
    """Return the files of a folder or of a ZIP.

    Raises:
        BadInput: There is neither, or it cannot be read.
    """
    return ZipFiles(place) if place.suffix.lower() == ".zip" else FolderFiles(place)


class FolderFiles:
    """The files below a folder; links to folders are followed where they lead into no circle."""

    def __init__(self, root: Path) -> None:
        """List the files.

        Raises:
            BadInput: There is no such folder, or it cannot be read.
        """
        if root.is_file():
            raise BadInput(
                f"{root} is a file. Give a folder with one subfolder per class, a .zip of one, or "
                "images and labels in an .npz."
            )
        if not root.is_dir():
            raise BadInput(
                f"There is no folder {root}. Give a folder with one subfolder per class."
            )
        self._files = list(_walk(root, (os.path.realpath(root),)))
        paths = [path.relative_to(root).as_posix() for path in self._files]
        self.paths: Sequence[str] = [_as_text(path) for path in paths]
        odd = [text for text, path in zip(self.paths, paths, strict=True) if text != path]
        self.notes = _name_notes(odd, "Latin-1")

    def read(self, index: int, limit: int) -> bytes:
        """Return the content of a file."""
        path = self._files[index]
        try:
            if path.stat().st_size > limit:  # not read at all: there may be no memory for it
                raise BadInput(_too_large(limit))
            return path.read_bytes()
        except OSError as exc:
            raise BadInput(f"It cannot be read: {exc.strerror}.") from exc


class ZipFiles:
    """The files in a ZIP; nothing is written to disk, and names inside choose no path."""

    def __init__(self, path: Path) -> None:
        """List the files.

        Raises:
            BadInput: It is no ZIP that can be read.
        """
        self._path = path
        with open_zip(path) as archive:
            infos = [info for info in archive.infolist() if info.filename and not info.is_dir()]
            names, self.notes = _names(infos)
        # Of two members of one name the last counts, as it does when the ZIP is unpacked.
        visible = {
            name: info
            for name, info in zip(names, infos, strict=True)
            if not any(map(is_hidden, name.split("/")))
        }
        self.paths: Sequence[str] = sorted(visible, key=lambda name: name.split("/"))
        self._infos = [visible[name] for name in self.paths]
        self._archive: zipfile.ZipFile | None = None

    def read(self, index: int, limit: int) -> bytes:
        """Return the content of a file; declared sizes can lie, so real bytes are counted."""
        if self._archive is None:
            with zip_errors(self._path):
                self._archive = zipfile.ZipFile(self._path)  # threads may read it at once
        info = self._infos[index]
        if info.flag_bits & 1:
            raise BadInput("It is encrypted: pack the folders without a password.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # The others are unpacked whole, whatever `most` says.
            raise BadInput(
                "It is packed in a way that is not read: pack the folders as a plain ZIP."
            )
        try:
            with self._archive.open(info) as stream:
                data = stream.read(limit + 1)
        except FILE_ERRORS as exc:
            raise BadInput("It is damaged inside the ZIP, or encrypted.") from exc
        if len(data) > limit:
            raise BadInput(_too_large(limit))
        return data


@contextmanager
def zip_errors(path: Path) -> Iterator[None]:
    """Turn what a ZIP that cannot be read raises into one sentence."""
    try:
        yield
    except FILE_ERRORS as exc:
        if isinstance(exc, OSError) and exc.strerror:
            raise BadInput(f"{path} cannot be read: {exc.strerror}.") from exc
        raise BadInput(
            "This file is no ZIP that can be read (damaged, encrypted or of another kind). "
            "Pack the folders again."
        ) from exc


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Return an open ZIP.

    Raises:
        BadInput: It is none, or cannot be read.
    """
    with zip_errors(path), zipfile.ZipFile(path) as archive:
        yield archive


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is a system's own and nobody's picture."""
    return name.startswith(".") or name.lower() in _SYSTEM


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    try:
        names = sorted(p for p in folder.iterdir() if not is_hidden(p.name))
        entries = [(path, path.is_file(), path.is_dir()) for path in names]
    except OSError as exc:
        raise BadInput(f"The folder {folder} cannot be read: {exc.strerror}.") from exc
    for path, is_file, is_dir in entries:
        if is_file:
            yield path
        elif is_dir and (real := os.path.realpath(path)) not in above:
            yield from _walk(path, (*above, real))


def _too_large(limit: int) -> str:
    return f"It is larger than {limit / 1e6:.0f} MB."


def _as_text(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:  # names on a disk are bytes, not always of UTF-8
        return os.fsencode(path).decode("latin-1")
    return path


def _names(infos: Sequence[zipfile.ZipInfo]) -> tuple[list[str], tuple[str, ...]]:
    """Return readable names with "/" between folders, and what had to be guessed of them."""
    raw = [
        info.filename.encode("cp437")
        for info in infos
        if not info.flag_bits & 0x800 and not info.filename.isascii()
    ]
    page, near = "utf-8", ""
    try:
        for encoded in raw:
            encoded.decode()
    except UnicodeDecodeError:
        page, near = code_page(raw)
    names = []
    for info in infos:
        name = info.filename
        if not info.flag_bits & 0x800 and not name.isascii():
            name = name.encode("cp437").decode(page)
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        names.append("/".join(part for part in parts if not part.endswith(":")))
    odd = [name for name in names if not name.isascii()] if page != "utf-8" else []
    doubt = ""
    if near:
        name = next(name for name in raw if not name.isascii()).decode(near)
        doubt = f", or {quote(name)} in {page_name(near)}"
    return names, _name_notes(odd, page_name(page), doubt)


def _name_notes(odd: Sequence[str], code: str, doubt: str = "") -> tuple[str, ...]:
    if not odd:
        return ()
    return (
        f"{number_of(len(odd), 'name')} not in UTF-8 read as {code}, such as "
        f"{quote(odd[0])}{doubt}. Rename them if that is wrong.",
    )
