"""Signals from files, and as pictures that carry them: one row of numbers per channel.

A picture drawn here holds its signal in a text chunk, so that it can go wherever a photo goes and
be read again.
"""

from __future__ import annotations

import base64
import io
import zlib
from binascii import Error as NotBase64
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from whylens.core.errors import FILE_ERRORS, BadInput
from whylens.core.inputs.file_parts import MOST_PNG_CHUNKS
from whylens.core.inputs.npy import read_npy
from whylens.core.inputs.table import read_table
from whylens.core.results import Array

_Numbers = npt.NDArray[np.float64]

TABLES = (".csv", ".tsv")
SUFFIXES = (*TABLES, ".npy")
MOST_BYTES, MOST_CHANNELS, MOST_VALUES = 4_000_000, 64, 65_536
_CHUNK = "whylens-signal"
MOST_TEXT_BYTES = MOST_BYTES * 4 // 3 + 1000
_DAMAGED = "The signal in this picture is damaged. Choose or upload it again."
WIDTH, HEIGHT, MARGIN = 960, 360, 24
_INSIDE, _AXIS = (76, 28, 12, 54), "#444444"  # room for axes: left, above, right, below
_LINES = ("#111111", "#1f5fa8", "#b3541e", "#2f7d4f", "#7a4fa3", "#8a6d1d")


def is_signal_file(name: str) -> bool:
    """Return whether a file's name says that it holds a signal."""
    return PurePath(name).suffix.lower() in SUFFIXES


def read_signal(data: bytes, name: str) -> Array:
    """Return (C, L) float32: the signal of a CSV file (a row per channel) or an .npy array.

    A CSV may come as a program for tables or an instrument writes it: see `read_table`.

    Raises:
        BadInput: It is too large, no table of numbers, or of another kind.
    """
    if len(data) > MOST_BYTES:
        raise BadInput(f"The signal is larger than {MOST_BYTES // 1_000_000} MB. Cut it.")
    suffix = PurePath(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise BadInput(
            "A signal is a .csv or .tsv file with one row per channel, or an .npy array."
        )
    if data.startswith(b"PK\x03\x04") and suffix in TABLES:
        raise BadInput("This is an Excel workbook or another ZIP. Save its sheet as CSV.")
    try:
        values = read_npy(data) if suffix == ".npy" else read_table(data)
        array = in_single(np.atleast_2d(values))
    except FILE_ERRORS as exc:
        raise BadInput(
            "The signal is not a table of numbers with rows of one length, separated by commas, "
            "semicolons or tabs "
            f"({' '.join(str(exc).split())[:80]}). Check the file."
        ) from exc
    return _check(array)


def in_single(values: npt.NDArray[Any]) -> Array:
    """Return a signal in float32; times that those cannot tell apart are counted from their start.

    Unix seconds are such: float32 has every 128th of them.

    Args:
        values: (C, L), or a table in whose first row or column the times may be. Of any other
            shape, only the kind of numbers changes.
    """
    single: Array = values.astype(np.float32)
    if values.ndim == 2 and values.size:
        for times, held in ((values[0], single[0]), (values[:, 0], single[:, 0])):
            if _rises_evenly(times) and not _rises_evenly(held):
                held[:] = times - times[0]
    return single


def fit_signal(signal: Array, channels: int, length: int) -> Array:
    """Return a signal as (channels, length) where columns, times or numbers of rows stand for that.

    Args:
        signal: (C, L), or a table in whose columns the channels are; a first row or column that
            rises evenly and is one too many is the time.
    """
    shape = (channels, length)
    if signal.ndim != 2 or signal.shape == shape:
        return signal
    for table in (signal, signal.T):
        rows, columns = table.shape
        for part, is_time in (
            (table, True),
            (table[1:], rows == channels + 1 and _rises_evenly(table[0])),
            (table[:, 1:], columns == length + 1 and _rises_evenly(table[:, 0])),
        ):
            if is_time and part.shape == shape:
                return part
    return signal


def _rises_evenly(values: npt.NDArray[Any]) -> bool:
    with np.errstate(invalid="ignore"):  # of infinite ones, which are refused elsewhere
        steps = np.diff(values.astype(np.float64))
    return bool(len(steps) and steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-2))


def _check(array: Array) -> Array:
    if array.ndim != 2 or not 1 <= array.shape[0] <= MOST_CHANNELS:
        raise BadInput(
            f"The signal has the shape {array.shape}; it needs one row for each of up to "
            f"{MOST_CHANNELS} channels."
        )
    if not 1 <= array.shape[1] <= MOST_VALUES:
        raise BadInput(f"A channel has {array.shape[1]:,} values; 1 to {MOST_VALUES:,} will do.")
    if not np.isfinite(array).all():
        raise BadInput("The signal holds NaN or infinite values; remove them.")
    return array


def plot_signal(
    signal: Array,
    background: Image.Image | None = None,
    *,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    axes: bool = False,
) -> Image.Image:
    """Return a line plot of a signal, one line per channel on one scale.

    Args:
        signal: (C, L).
        axes: Whether the places of the values, from 0, and the values stand beside it.
    """
    width, height = size
    left, top, right, bottom = _INSIDE if axes else (0, 0, 0, 0)
    inner = (width - left - right, height - top - bottom)
    area = Image.new("RGB", inner, "white")
    if background is not None:
        area = background.resize(inner, Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(area)
    rows = np.atleast_2d(signal).astype(np.float64)
    low, high = float(rows.min()), float(rows.max())
    span = (high - low) or 1.0

    def across(place: _Numbers) -> _Numbers:
        x: _Numbers = (place + 0.5) * (inner[0] / rows.shape[1])
        return x

    def down(value: _Numbers) -> _Numbers:
        y: _Numbers = inner[1] - MARGIN - (value - low) * ((inner[1] - 2 * MARGIN) / span)
        return y

    xs = across(np.arange(rows.shape[1], dtype=np.float64))
    for number, row in enumerate(rows):
        points = list(zip(xs.tolist(), down(row).tolist(), strict=True))
        draw.line(points * (2 if len(points) == 1 else 1), fill=_LINES[number % 6], width=3)
    if not axes:
        return area
    plot = Image.new("RGB", size, "white")
    plot.paste(area, (left, top))
    places = _ticks(0.0, rows.shape[1] - 1.0, most=10, least=1.0)
    values = _ticks(low, high, most=5)
    _draw_axes(
        plot,
        {left + x: f"{place:.0f}" for x, place in zip(across(places), places, strict=True)},
        {top + y: f"{value:.6g}" for y, value in zip(down(values), values, strict=True)},
        len(rows),
    )
    return plot


def _ticks(low: float, high: float, *, most: int, least: float = 0.0) -> _Numbers:
    """Return round numbers from `low` to `high`, as far apart as leaves `most` steps at most."""
    if not high > low:
        return np.array([low])
    power = 10.0 ** np.floor(np.log10((high - low) / most))
    step = max(least, next(n * power for n in (1, 2, 5, 10) if (high - low) / (n * power) <= most))
    ticks: _Numbers = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    return ticks + 0.0  # no -0


def _draw_axes(
    plot: Image.Image, across: dict[float, str], down: dict[float, str], channels: int
) -> None:
    # Around the area that `_INSIDE` leaves: ticks with their numbers, and whose line is whose.
    draw, font = ImageDraw.Draw(plot), ImageFont.load_default(size=18)
    left, top, right, bottom = _INSIDE
    end, floor = plot.width - right, plot.height - bottom
    draw.rectangle((left, top, end, floor), outline=_AXIS)
    for x, words in across.items():
        draw.line((x, floor, x, floor + 6), fill=_AXIS)
        draw.text((x, floor + 8), words, fill=_AXIS, font=font, anchor="mt")
    for y, words in down.items():
        draw.line((left - 6, y, left, y), fill=_AXIS)
        draw.text((left - 10, y), words, fill=_AXIS, font=font, anchor="rm")
    draw.text(((left + end) / 2, plot.height - 4), "index", fill=_AXIS, font=font, anchor="mb")
    if 1 < channels <= len(_LINES):
        edge: float = end
        for number in reversed(range(channels)):
            draw.text((edge, 4), str(number), fill=_LINES[number], font=font, anchor="rt")
            edge -= draw.textlength(f"{number}  ", font=font)
        draw.text((edge, 4), "channel", fill=_AXIS, font=font, anchor="rt")
    elif channels > 1:
        words = f"channels 0 to {channels - 1}"
        draw.text((end, 4), words, fill=_AXIS, font=font, anchor="rt")


def signal_picture(signal: Array) -> bytes:
    """Return a PNG of the signal's plot that carries the signal itself.

    Args:
        signal: (C, L).
    """
    raw = io.BytesIO()
    np.save(raw, np.ascontiguousarray(signal, dtype=np.float32), allow_pickle=False)
    chunk = PngImagePlugin.PngInfo()
    chunk.add_text(_CHUNK, base64.b64encode(raw.getvalue()).decode(), zip=True)
    buffer = io.BytesIO()
    plot_signal(signal, axes=True).save(buffer, "PNG", pnginfo=chunk)
    return buffer.getvalue()


def signal_in(picture: bytes) -> Array | None:
    """Return the signal that a picture carries, or None.

    Raises:
        BadInput: It carries one that is damaged.
    """
    if not picture.startswith(b"\x89PNG") or len(picture) > 3 * MOST_BYTES:
        return None
    text = _text_in(picture)
    if text is None:
        return None
    try:
        return read_signal(base64.b64decode(text, validate=True), "signal.npy")
    except NotBase64 as exc:
        raise BadInput(_DAMAGED) from exc


def _text_in(picture: bytes) -> bytes | None:
    # Pillow would decode the whole picture first, however large it says that it is.
    position, chunks = 8, 0
    while position + 12 <= len(picture) and chunks < MOST_PNG_CHUNKS:
        length = int.from_bytes(picture[position : position + 4], "big")
        kind = picture[position + 4 : position + 8]
        if kind == b"zTXt":
            name, _, payload = picture[position + 8 : position + 8 + length].partition(b"\0")
            if name == _CHUNK.encode():
                unpacker = zlib.decompressobj()
                try:
                    text = unpacker.decompress(payload[1:], MOST_TEXT_BYTES)
                except zlib.error as exc:
                    raise BadInput(_DAMAGED) from exc
                if unpacker.unconsumed_tail or not unpacker.eof:
                    raise BadInput(_DAMAGED)
                return text
        position += 12 + length
        chunks += 1
    return None
