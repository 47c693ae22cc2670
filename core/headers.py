"""What a safetensors file says of itself: read without its values, which may be large."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LIMIT = 10_000_000  # bytes; more is no header, whatever the first 8 bytes say


def header_of(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a file and the byte at which its values begin.

    Args:
        path: The file.

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
