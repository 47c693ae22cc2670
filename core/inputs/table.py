"""Tables of numbers as spreadsheets and instruments write them."""

from __future__ import annotations

import csv
import re
from collections import Counter
from itertools import pairwise, zip_longest

import numpy as np
import numpy.typing as npt

from whylens.core.words import number_of

_WHOLE = r"[-+]?(?:[1-9]\d{0,2}(?:\.\d{3})+|\d+)"  # with points of thousands or without marks
_DECIMAL = re.compile(rf"({_WHOLE})(?:,(\d+))?([eE][-+]?\d+)?")
# Two commas, or a comma before a point: both are of thousands. So is what no decimals have.
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:(?:,\d{3})+\.\d*|(?:,\d{3}){2,})")
_GROUPED = re.compile(r"(?<=\d)['\u2019\u00a0\u202f ](?=\d{3}(?:\D|$))")
# Spaces that break no line stand in numbers, but where they stand between others as well.
_UNBROKEN = re.compile(
    r"(?<![\d.])[1-9]\d{0,2}(?:[\u00a0\u202f]\d{3})+(?!\d)(?:,(?=\d+(?![\d\u00a0\u202f])))?"
)
_BETWEEN = re.compile(r"\d[\u00a0\u202f]+[-+]?\d")
_POINTED = re.compile(r"[-+]?[1-9]\d{0,2}(?:\.\d{3})+")
_COMMA_OR_MARK = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")
_PADDED = re.compile(r"0\d\d(?:\.\d*)?")  # what follows the comma of thousands, and few other cells
_LEADING, _FOLLOWING = re.compile(r"[-+]?[1-9]\d{0,2}|\d\d"), re.compile(r"\d{3}(?:\.\d*)?")
# What Excel writes where it could not compute, in its English and its German; or had no room.
_ERROR = re.compile(
    r"#(?:DIV/0!|REF!|VALUE!|NUM!|NAME\?|NULL!|N/A|NV|WERT!|BEZUG!|ZAHL!|#+)", re.IGNORECASE
)
_MISSING = ("na", "n/a", "#n/a", "#nv", "null", "none", "-", "--", "?")
_SEPARATOR = re.compile(r"sep=(.)", re.IGNORECASE)  # Excel's own first line


def read_table(data: bytes) -> npt.NDArray[np.float64]:
    """Return (rows, columns) of a CSV: what stands before the numbers and beside them is left out.

    Read are commas, semicolons, tabs, bars or spaces between values; decimal commas; marks of
    thousands that can be nothing else; UTF-8, UTF-16 and Western European text; lines of names or
    of an instrument's settings before the numbers; first columns of names, of dates and times or
    without a name; a last one of words; a separator at the end of every line; square brackets
    around a line.

    Raises:
        ValueError: It holds no numbers in rows of one length.
    """
    text = _text(data).replace("\N{MINUS SIGN}", "-").replace("\0", "")
    text = _with_marks(text)
    lines = [line.strip("\ufeff \r") for line in text.splitlines()]
    lines = [line for line in lines if line.strip() and not _is_comment(line)]
    separator_line = _SEPARATOR.fullmatch(lines[0]) if lines else None
    if separator_line:
        lines = lines[1:]
    if not lines:
        raise ValueError("no lines")
    separator = separator_line.group(1) if separator_line else _separator(lines)
    rows = [[_plain(cell) for cell in _cells(line, separator)] for line in lines]
    if separator == ",":
        _check_thousands(rows)
    rows = _with_points(rows, quoted=separator == ",")
    _check_last(rows, lines[-1])
    width = len(rows[-1])
    if all(not row[-1] for row in rows if len(row) == width):
        rows = [row[:-1] if len(row) == width else row for row in rows]
    width = len(rows[-1])
    if width > 1 and all(row[-1] and not _is_number(row[-1]) for row in rows if len(row) == width):
        _check_name(rows[-1][-1])
        rows = [row[:-1] if len(row) == width else row for row in rows]
    # A column without a name is an index, as pandas writes it; what is beside it are names then.
    unnamed = len(rows) > 1 and len(rows[0]) == len(rows[-1]) > 1 and not rows[0][0]
    if unnamed and rows[-1][0]:
        rows = rows[1:]
    names = next((i for i, cell in enumerate(rows[-1]) if _is_number(cell)), 0)
    for at, cell in enumerate(rows[-1][:names]):
        _check_name(cell)
        if any(_is_number(row[at]) for row in rows if len(row) == len(rows[-1])):
            raise ValueError(
                f"its last line, {lines[-1][:24]!r}, is not like the others: remove it"
            )
    cells = [row[max(names, unnamed) :] for row in rows]
    first = next((i for i, row in enumerate(cells) if row and all(map(_is_number, row))), None)
    if first is None:
        raise ValueError(_no_row(cells))
    for cell in (cell for row in cells for cell in row if _ERROR.fullmatch(cell)):
        raise ValueError(f"{cell!r} is a missing value: fill it, or leave its row out")
    if len({len(row) for row in cells[first:]}) > 1:
        at = next(i for i, row in enumerate(cells[first:]) if len(row) != len(cells[first]))
        raise ValueError(
            f"row {at + 1} of numbers has {number_of(len(cells[first + at]), 'value')} and the "
            f"first has {len(cells[first])}"
        )
    if any(not cell for row in cells[first:] for cell in row):
        raise ValueError("some cells are empty: fill them, or leave their rows out")
    return np.array([[float(cell) for cell in row] for row in cells[first:]], np.float64)


def _is_comment(line: str) -> bool:
    return line.startswith(("#", "%", "//")) and not _ERROR.match(line)


def _check_thousands(rows: list[list[str]]) -> None:
    """Raise where commas that seem to separate values may be marks of thousands."""
    pairs = [(a, b) for row in rows for a, b in pairwise(row)]
    padded = [(a, b) for a, b in pairs if _PADDED.fullmatch(b) and not _PADDED.fullmatch(a)]
    firsts = any(row and _PADDED.fullmatch(row[0]) for row in rows)
    doubtful = [pair for pair in padded if _LEADING.fullmatch(pair[0])]
    # Where others are written with three digits, too, all are.
    if len(doubtful) < len(padded) or firsts:
        doubtful = []
    numbers = [row for row in rows if any(map(_is_number, row))]
    names = next((row for row in reversed(rows) if not any(map(_is_number, row))), [])
    wider = max(map(len, numbers), default=0) - len(names)
    # Of a table with names of rows the first line may have one cell fewer, as R writes it.
    has_row_names = wider == 1 and not _is_number(numbers[0][0])
    longer = [row for row in numbers if len(row) > len(names)]
    if not doubtful and names and wider > 0 and not has_row_names:
        fit = all(len(_merge(row)) == len(names) for row in longer)
        doubtful = [
            (a, b)
            for row in longer
            for a, b in pairwise(row)
            if fit and _LEADING.fullmatch(a) and _FOLLOWING.fullmatch(b)
        ]
    if doubtful:
        raise ValueError(
            f"{','.join(doubtful[0])!r} may be one number with thousands or two: write it plainly"
        )


def _merge(row: list[str]) -> list[str]:
    merged: list[str] = []
    for cell in row:
        if merged and _FOLLOWING.fullmatch(cell) and _LEADING.fullmatch(merged[-1]):
            merged[-1] += cell
        else:
            merged.append(cell)
    return merged


def _check_last(rows: list[list[str]], line: str) -> None:
    """Raise where the last row holds no number, or most stand in rows of another length."""
    numbers: Counter[int] = Counter()
    for row in rows:
        numbers[len(row)] += sum(map(_is_number, row))
    most = max(numbers.values())
    if most and (numbers[len(rows[-1])] < most or not any(map(_is_number, rows[-1]))):
        raise ValueError(f"its last line, {line[:24]!r}, is not like the others: remove it")


def _check_name(cell: str) -> None:
    """Raise where what would be left out as a name may stand for a number."""
    if cell.lower() in _MISSING:
        raise ValueError(f"{cell!r} is a missing value: fill it, or leave its row out")
    if any(map(_is_number, re.split(r"[()%$€£¥₹]", cell))):
        raise ValueError(f"{cell[:24]!r} is no number")


def _no_row(cells: list[list[str]]) -> str:
    best = max(cells, key=lambda row: sum(map(_is_number, row)))
    if not any(map(_is_number, best)):
        for cell in cells[-1]:
            _check_name(cell)
        return "no row of numbers"
    at, cell = next((i, cell) for i, cell in enumerate(best) if not _is_number(cell))
    return f"{cell[:24]!r} is no number" if cell else f"value {at + 1} of a row is empty: fill it"


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


def _with_marks(text: str) -> str:
    """Return a table without the spaces within its numbers that break no line.

    Before a decimal comma points take their place: what has marks of thousands and a comma is one
    number, however many columns two of them would make.
    """
    plain = _UNBROKEN.sub(
        lambda match: re.sub("[\u00a0\u202f]", "." if match[0].endswith(",") else "", match[0]),
        text,
    )
    return text if _BETWEEN.search(plain) else plain


def _cells(line: str, separator: str | None) -> list[str]:
    if separator is None or '"' not in line:
        return line.split(separator)
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    except csv.Error as exc:
        raise ValueError(f"a line is no line of a CSV: {exc}") from exc


def _plain(cell: str) -> str:
    """Return a number without the marks of its thousands, where they can be nothing else."""
    cell = cell.strip().strip('"[]').strip()
    if _THOUSANDS.fullmatch(cell):
        return cell.replace(",", "")
    return _GROUPED.sub("", cell)


def _separator(lines: list[str]) -> str | None:
    """Return what separates the values of the last lines; None for white space."""
    last = lines[-1]
    for separator in (";", "\t", "|"):
        if separator in last:
            return separator
    if not any("," in line for line in lines):
        return None
    words = last.split()
    if len(words) > 1 and all(_is_number(_point(w)) and w[-1] != "," for w in words):
        return None  # decimal commas, with spaces between the values
    return None if _are_decimals(lines) else ","


def _are_decimals(lines: list[str]) -> bool:
    """Return whether one column of numbers with decimal commas looks like two of whole numbers."""
    at = next((i for i, line in enumerate(lines) if _DECIMAL.fullmatch(line)), len(lines))
    matches = [_DECIMAL.fullmatch(line) for line in lines[at:]]
    parts = [match.groups("") for match in matches if match]
    with_comma = [(whole, decimals, power) for whole, decimals, power in parts if decimals]
    if len(parts) < len(lines) - at or len(with_comma) < 2:
        return False
    if len(with_comma) == len(parts) and at > 0 and "," in lines[at - 1]:
        return False  # two names of columns
    if any(whole.lstrip("+-").startswith("0") and len(whole) > 2 for whole, _, _ in parts):
        return False  # whole numbers of three digits each
    lengths = {len(decimals) for _, decimals, _ in with_comma}
    return (
        len(with_comma) < len(parts)  # a row of two beside rows of one
        or (len(lengths) == 1 and min(lengths) >= 2)
        or (at > 0 and "," not in lines[at - 1])  # one name of a column
        or any(
            power or "." in whole or whole == "-0" or (decimals[0] == "0" and len(decimals) > 1)
            for whole, decimals, power in with_comma
        )
    )


def _with_points(rows: list[list[str]], *, quoted: bool) -> list[list[str]]:
    """Return a table with decimal points of one that may have decimal commas.

    Args:
        rows: A cell with a comma is a number with one where commas separate nothing.
        quoted: Whether commas separate the cells: in a cell one is a decimal comma or a mark of
            thousands.

    Raises:
        ValueError: Every comma may be either.
    """
    numbers = [
        cell for row in rows for cell in row if (match := _DECIMAL.fullmatch(cell)) and match[2]
    ]
    if not numbers:
        return rows
    one_column = len(rows[-1]) == 1
    if all(map(_COMMA_OR_MARK.fullmatch, numbers)) and (
        quoted or one_column or _are_beside_wholes(rows)
    ):
        raise ValueError(f"{numbers[0]!r} may be a decimal or have thousands: write it plainly")
    # Where decimals have commas, points are of thousands.
    return [[cell.replace(".", "") if _POINTED.fullmatch(cell) else _point(cell) for cell in row]
            for row in rows]  # fmt: skip


def _are_beside_wholes(rows: list[list[str]]) -> bool:
    """Return whether a number with a comma stands in one column with a whole one of two digits.

    A column of decimals would have others with one or two digits behind their commas.
    """
    return any(
        any(map(_COMMA_OR_MARK.fullmatch, column))
        and any(cell.lstrip("+-").isdecimal() and len(cell) > 1 for cell in column)
        for column in zip_longest(*rows, fillvalue="")
    )


def _point(cell: str) -> str:
    """Return a number with a decimal point for one with a decimal comma."""
    return cell.replace(".", "").replace(",", ".") if "," in cell else cell


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
