"""Tables of numbers as spreadsheets and instruments write them."""

from __future__ import annotations

import csv
import re

import numpy as np
import numpy.typing as npt

_DECIMAL = re.compile(r"[-+]?\d+,(\d+)(?:[eE][-+]?\d+)?")
# Two commas, or a comma before a point: both are of thousands. So is what no decimals have.
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:(?:,\d{3})+\.\d*|(?:,\d{3}){2,})")
_GROUPED = re.compile(r"(?<=\d)['\u2019\u00a0\u202f ](?=\d{3}(?:\D|$))")
_SEPARATOR = re.compile(r"sep=(.)", re.IGNORECASE)  # Excel's own first line


def read_table(data: bytes) -> npt.NDArray[np.float64]:
    """Return (rows, columns) of a CSV: what stands before the numbers and beside them is left out.

    Read are commas, semicolons, tabs or spaces between values; decimal commas; marks of thousands
    that can be nothing else; UTF-8, UTF-16 and Western European text; lines of names or of an
    instrument's settings before the numbers; a first column of names, of times or without a name;
    a last one of words; a separator at the end of every line.

    Raises:
        ValueError: It holds no numbers in rows of one length.
    """
    text = _text(data).replace("\N{MINUS SIGN}", "-")
    lines = [line.strip("\ufeff \r") for line in text.splitlines()]
    lines = [line for line in lines if line.strip() and not line.startswith(("#", "%"))]
    stated = _SEPARATOR.fullmatch(lines[0]) if lines else None
    if stated:
        lines = lines[1:]
    if not lines:
        raise ValueError("no lines")
    separator = stated.group(1) if stated else _separator(lines)
    rows = [[_plain(cell) for cell in _cells(line, separator)] for line in lines]
    if separator != ",":
        rows = [[_point(cell) for cell in row] for row in rows]
    width = len(rows[-1])
    if all(not row[-1] for row in rows if len(row) == width):
        rows = [row[:-1] if len(row) == width else row for row in rows]
    width = len(rows[-1])
    if width > 1 and all(row[-1] and not _is_number(row[-1]) for row in rows if len(row) == width):
        rows = [row[:-1] if len(row) == width else row for row in rows]
    # A column without a name is an index, as pandas writes it.
    unnamed = len(rows) > 1 and len(rows[0]) == len(rows[-1]) and not rows[0][0]
    names = len(rows[-1]) > 1 and (unnamed or not _is_number(rows[-1][0]))
    cells = [row[names:] for row in rows]
    first = next((i for i, row in enumerate(cells) if row and all(map(_is_number, row))), None)
    if first is None:
        raise ValueError("no row of numbers")
    if any(not cell for row in cells[first:] for cell in row):
        raise ValueError("some cells are empty: fill them, or leave their rows out")
    return np.array([[float(cell) for cell in row] for row in cells[first:]], np.float64)


def _text(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    for start, code in ((1, "utf-16-le"), (0, "utf-16-be")):  # without a mark every other byte is 0
        zeros = data[start::2].count(0)
        if data and 2 * zeros > len(data[start::2]):
            return data.decode(code, "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _cells(line: str, separator: str | None) -> list[str]:
    if separator is None or '"' not in line:
        return line.split(separator)
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    except csv.Error as exc:
        raise ValueError(f"a line is no line of a CSV: {exc}") from exc


def _plain(cell: str) -> str:
    """Return a number without the marks of its thousands, where they can be nothing else."""
    cell = cell.strip().strip('"').strip()
    if _THOUSANDS.fullmatch(cell):
        return cell.replace(",", "")
    return _GROUPED.sub("", cell)


def _separator(lines: list[str]) -> str | None:
    """Return what separates the values of the last lines; None for white space."""
    last = lines[-1]
    for separator in (";", "\t"):
        if separator in last:
            return separator
    if not any("," in line for line in lines):
        return None
    if all(_is_number(_point(cell)) for cell in last.split()) and len(last.split()) > 1:
        return None  # decimal commas, with spaces between the values
    # One column of numbers with decimal commas looks like two columns of whole numbers.
    matches = [match for line in lines if (match := _DECIMAL.fullmatch(line.strip()))]
    decimals = {len(match.group(1)) for match in matches}
    if len(matches) >= max(2, len(lines) - 1) and len(decimals) == 1 and min(decimals) >= 2:
        return None
    return ","


def _point(cell: str) -> str:
    """Return a number with a decimal point for one with a decimal comma."""
    return cell.replace(".", "").replace(",", ".") if "," in cell else cell


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
