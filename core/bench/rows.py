"""The file of a benchmark's rows: written as they are known, read when a run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whylens.core.errors import BadInput, quote
from whylens.core.storage.files import write_atomically

ROWS = "rows.jsonl"
Row = dict[str, Any]


def row_line(row: Mapping[str, Any]) -> bytes:
    """Return a row as it lies in the file."""
    return json.dumps(row, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def read_rows(path: Path, head: Row) -> list[Row]:
    """Return the whole rows of an earlier run, and leave a file to which rows can be added.

    Args:
        head: What all rows rest on; it is the file's first line.

    Raises:
        BadInput: The file is damaged, or rests on something else.
    """
    if not path.exists():
        write_atomically(path, row_line(head))
        return []
    whole, _, torn = path.read_bytes().rpartition(b"\n")
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
    except ValueError as exc:
        raise BadInput(
            f"{quote(str(path))} is damaged. Delete it, or choose another --out."
        ) from exc
    if not lines or lines[0] != head:
        raise BadInput(
            f"{quote(str(path))} holds rows of other weights, pictures or metrics. Delete it, or "
            "choose another --out."
        )
    if torn:  # the run was stopped in the middle of a row
        write_atomically(path, whole + b"\n")
    return lines[1:]
