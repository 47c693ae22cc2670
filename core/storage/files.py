"""Files that are there whole or not at all; their headers and digests."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from whylens.core.errors import BadArtifact

if TYPE_CHECKING:
    from torch import nn

_Model = TypeVar("_Model", bound=BaseModel)
LIMIT = 10_000_000  # bytes; more is no header, whatever the first 8 bytes say
_UNFINISHED = ".part"
_WRITING_SECONDS = 60.0


def header_of(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a file and the byte at which its values begin.

    Raises:
        ValueError: It is no safetensors file.
        TypeError: Likewise.
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > LIMIT:
            raise ValueError(f"a header of {length:,} bytes")
        header = json.loads(stream.read(length))
    if not isinstance(header, dict):
        raise TypeError("a header that is no JSON object")
    return header, 8 + length


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
) -> None:
    """Write a file and the one beside it that holds its sha256: both are the old or both the new.

    However the process ends: the new file waits under a name of its own until the description names
    it, and `find_file` looks there too.

    Args:
        write: Writes the file.
        description: Of JSON, with the hash under "sha256".
        describe: Returns its content for a hash.
    """
    remove_unfinished(path.parent)
    waiting = _waiting(path)
    _end_what_was_begun(path, description)
    with replacing(waiting) as stream:
        write(stream)
    content = describe(file_sha256(waiting))
    if not description.exists():
        waiting.replace(path)
    write_atomically(description, content)
    if waiting.exists():
        waiting.replace(path)
    sync_folder(path.parent)


def find_file(path: Path, sha256: str) -> Path | None:
    """Return where the file with this hash lies that `write_described` wrote; None without one.

    Raises:
        OSError: There is none at all, or it cannot be read.
    """
    if file_sha256(path) == sha256:
        return path
    # Where the process ended between two renames; or it was renamed while it was looked at.
    for place in (_waiting(path), path):
        if place.is_file() and file_sha256(place) == sha256:
            return place
    return None


def _waiting(path: Path) -> Path:
    return path.with_name(f".{path.name}.next")


def _end_what_was_begun(path: Path, description: Path) -> None:
    waiting = _waiting(path)
    if waiting.is_file():
        try:
            recorded = json.loads(description.read_bytes())["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return
        if file_sha256(waiting) == recorded:
            waiting.replace(path)


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that have ended left half-written in a folder."""
    for path in folder.glob(f".*-*{_UNFINISHED}"):
        writer = path.name.removesuffix(_UNFINISHED).rpartition("-")[0].rpartition(".")[2]
        try:
            # Of another machine the number says nothing; but whoever writes, wrote lately.
            if not _is_alive(int(writer)) and time.time() - path.stat().st_mtime > _WRITING_SECONDS:
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
    first = exc.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "the file"
    name = f"{path.parent.name}/{path.name}"
    return BadArtifact(f"{name} is wrong at {field!r}: {first['msg']}. {remedy}")
