"""Files that are there whole or not at all; their headers and digests."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from whylens.core.errors import BadArtifact

if TYPE_CHECKING:
    from torch import nn

_Model = TypeVar("_Model", bound=BaseModel)
LIMIT = 10_000_000  # bytes; more is no header, whatever the first 8 bytes say


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
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
