"""Files that are there whole or not at all; their headers and digests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from whylens.core.errors import BadArtifact, wrong_value

if TYPE_CHECKING:
    from torch import nn

_Model = TypeVar("_Model", bound=BaseModel)
MOST_HEADER_BYTES = 10_000_000  # more is no header, whatever the first 8 bytes say
_UNFINISHED, _WAITING = ".part", ".next"
SECONDS_OF_WRITING = 60.0  # after which a writer that is gone will not come back


def header_of(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a file and the byte at which its values begin.

    Raises:
        ValueError: It is no safetensors file.
        TypeError: Likewise.
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > MOST_HEADER_BYTES:
            raise ValueError(f"a header of {length:,} bytes")
        header = json.loads(stream.read(length))
    if not isinstance(header, dict):
        raise TypeError("a header that is no JSON object")
    return header, 8 + length


@contextmanager
def temporary_folder(prefix: str = "whylens-") -> Iterator[Path]:
    """Yield a new folder, which is removed at the end.

    Where the folder for all temporary files was removed, it is made anew.
    """
    Path(tempfile.gettempdir()).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        yield Path(folder)


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path` so that a reader sees the old file or the new one, never half.

    Args:
        path: Where to write; its folder must exist.
        content: The bytes.
    """
    with replacing(path) as stream:
        stream.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a stream whose content is at `path` once the block has ended without an error.

    Args:
        path: Where to write; its folder must exist.
    """
    handle, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.{os.getpid()}-", suffix=_UNFINISHED
    )
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException as exc:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(exc, OSError) and exc.errno is not None and exc.filename is None:
            exc.filename = str(path)
        raise


def write_described(
    path: Path,
    write: Callable[[BinaryIO], object],
    description: Path,
    describe: Callable[[str], bytes],
    recorded: Callable[[bytes], str] = lambda data: json.loads(data)["sha256"],
) -> None:
    """Write a file and the one beside it that holds its sha256: both are the old or both the new.

    However the process ends: as `FileSet` does, of which this is one with a single file.

    Args:
        write: Writes the file.
        description: By default of JSON, with the hash under "sha256".
        describe: Returns its content for a hash.
        recorded: Returns the hash that such a content holds.
    """
    files = FileSet(description, lambda data: {path.name: recorded(data)})
    files.commit(describe(files.add(path.name, write)))


class FileSet:
    """Files of a folder that are replaced together, by a description that holds their hashes.

    However the process ends, they are the old ones or the new ones, whole: the new ones wait under
    names of their own until the description names them, and `find_file` looks there too.
    """

    def __init__(
        self,
        description: Path,
        recorded: Callable[[bytes], Mapping[str, str]],
        *,
        alone: bool = False,
    ) -> None:
        """Begin to write; what another process had begun is ended first.

        Args:
            description: In the files' folder, which must exist.
            recorded: Returns the hashes by name that a description's content holds; it may raise
                what comes of a content that is none.
            alone: Whether the folder is for these files only: what waits there in vain is removed.
        """
        self._folder, self._description, self._recorded = description.parent, description, recorded
        remove_unfinished(self._folder)
        self._before = self._read()
        self._added: list[str] = []
        for name, sha256 in self._before.items():
            waiting_path = _waiting(self._folder / name)
            if waiting_path.is_file() and file_sha256(waiting_path) == sha256:
                waiting_path.replace(self._folder / name)
        for waiting_path in self._folder.glob(f".*{_WAITING}") if alone else ():
            if time.time() - waiting_path.stat().st_mtime > SECONDS_OF_WRITING:
                waiting_path.unlink()

    def _read(self) -> Mapping[str, str]:
        try:
            return self._recorded(self._description.read_bytes())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def add(self, name: str, write: Callable[[BinaryIO], object]) -> str:
        """Write one of the files, and return its sha256 for the description."""
        self._write(name, write)
        return file_sha256(_waiting(self._folder / name))

    def _write(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        with replacing(_waiting(self._folder / name)) as stream:
            write(stream)
        self._added.append(name)

    def add_bytes(self, name: str, content: bytes) -> str:
        """Write one of the files of which all is there, as `add` does."""
        self._write(name, lambda stream: stream.write(content))
        return hashlib.sha256(content).hexdigest()

    def discard(self) -> None:
        """Remove what was added: nothing comes of it."""
        for name in self._added:
            _waiting(self._folder / name).unlink(missing_ok=True)

    def commit(self, content: bytes) -> None:
        """Put the description in place, and with it the files; those of the old one alone go.

        Args:
            content: That of the description, with the hashes that `add` returned.
        """
        if not self._description.exists():  # without it nobody takes them for anything
            self._put_in_place()
        write_atomically(self._description, content)
        self._put_in_place()
        for name in self._before.keys() - set(self._added):
            (self._folder / name).unlink(missing_ok=True)
        sync_folder(self._folder)

    def _put_in_place(self) -> None:
        for name in self._added:
            with contextlib.suppress(FileNotFoundError):  # it is
                _waiting(self._folder / name).replace(self._folder / name)


def find_file(path: Path, sha256: str) -> Path | None:
    """Return where the file with this hash lies that a `FileSet` wrote; None without one.

    Raises:
        OSError: There is none at all, or it cannot be read.
    """
    # It waits where the process ended between two renames; or it was renamed meanwhile.
    for place in (path, _waiting(path), path):
        with contextlib.suppress(FileNotFoundError):
            if file_sha256(place) == sha256:
                return place
    path.stat()
    return None


def _waiting(path: Path) -> Path:
    return path.with_name(f".{path.name}{_WAITING}")


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that have ended left half-written in a folder."""
    for path in folder.glob(f".*-*{_UNFINISHED}"):
        writer = path.name.removesuffix(_UNFINISHED).rpartition("-")[0].rpartition(".")[2]
        try:
            # Of another machine the number says nothing; but whoever writes, wrote lately.
            if (
                not _is_alive(int(writer))
                and time.time() - path.stat().st_mtime > SECONDS_OF_WRITING
            ):
                path.unlink()
        except (OSError, ValueError):  # somebody else's, or gone
            continue


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def sync_folder(folder: Path) -> None:
    """Make sure that a folder's entries are on the disk."""
    if os.name == "nt":  # Windows has no such call; its file systems journal names themselves
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def folder_lock(folder: Path) -> Iterator[bool]:
    """Yield whether this is the only one that has locked a folder; it is until the block ends.

    A lock ends with its process, however that ends. On Windows nothing is locked.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """Return the hex sha256 of a file, read in pieces.

    Args:
        path: An existing file.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def parameters_sha256(module: nn.Module) -> str:
    """Return the hex sha256 of a network's parameters and buffers, names included."""
    import torch
    from torch.utils._pytree import tree_leaves

    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        for leaf in tree_leaves(value):  # a quantised layer packs its weights into a tuple
            if not isinstance(leaf, torch.Tensor):
                digest.update(f"{name} {leaf}".encode())
                continue
            tensor = leaf.dequantize() if leaf.is_quantized else leaf
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(flat.numpy().tobytes())
    return digest.hexdigest()


def read_json_model(path: Path, cls: type[_Model], remedy: str) -> _Model:
    """Return the pydantic model that a JSON file holds.

    Args:
        remedy: A sentence: what to do where the file cannot be used.

    Raises:
        BadArtifact: It cannot be read, or is no such model; the first wrong field is named.
    """
    try:
        return cls.model_validate_json(_text(path.read_bytes()))
    except OSError as exc:
        name = f"{path.parent.name}/{path.name}"
        raise BadArtifact(f"{name} cannot be read: {exc.strerror}. {remedy}") from exc
    except ValidationError as exc:
        raise wrong_field(path, exc, remedy) from exc


def _text(data: bytes) -> str:
    # Editors of Windows write marks of byte order, or a code page of Western Europe.
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def wrong_field(path: Path, exc: ValidationError, remedy: str) -> BadArtifact:
    """Return the error that names a file's first wrong field."""
    field, words = wrong_value(exc)
    name = f"{path.parent.name}/{path.name}"
    return BadArtifact(f"{name} is wrong at {field or 'the file'!r}: {words}. {remedy}")
