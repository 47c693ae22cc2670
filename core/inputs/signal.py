"""Signals from files, and as pictures that carry them: one row of numbers per channel.

A picture drawn here holds its signal in a text chunk, so that it can go wherever a photo goes and
be read again.
"""

from __future__ import annotations

import base64
import io
from binascii import Error as NotBase64
from pathlib import PurePath

import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin, UnidentifiedImageError

from whylens.core.errors import BadInput
from whylens.core.results import Array

SUFFIXES = (".csv", ".npy")
MOST_BYTES, MOST_CHANNELS, MOST_VALUES = 4_000_000, 64, 65_536
_CHUNK = "whylens-signal"
WIDTH, HEIGHT, MARGIN = 960, 360, 24
_LINES = ("#111111", "#1f5fa8", "#b3541e", "#2f7d4f", "#7a4fa3", "#8a6d1d")


def is_signal_file(name: str) -> bool:
    """Return whether a file's name says that it holds a signal."""
    return PurePath(name).suffix.lower() in SUFFIXES


def read_signal(data: bytes, name: str) -> Array:
    """Return (C, L) float32: the signal of a CSV file (a row per channel) or an .npy array.

    Raises:
        BadInput: It is too large, no table of numbers, or of another kind.
    """
    if len(data) > MOST_BYTES:
        raise BadInput(f"The signal is larger than {MOST_BYTES // 1_000_000} MB. Cut it.")
    suffix = PurePath(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise BadInput("A signal is a .csv file with one row per channel, or an .npy array.")
    try:
        if suffix == ".npy":
            array = np.load(io.BytesIO(data), allow_pickle=False)
        else:
            text = data.decode("utf-8-sig")
            array = np.loadtxt(io.StringIO(text), delimiter=",", ndmin=2, comments=None)
        array = np.atleast_2d(np.asarray(array, dtype=np.float32))
    except (ValueError, TypeError, EOFError, OSError) as exc:
        raise BadInput(
            "The signal is not a table of numbers with rows of one length, separated by commas. "
            "Check the file."
        ) from exc
    return _checked(array)


def _checked(array: Array) -> Array:
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
) -> Image.Image:
    """Return a line plot of a signal, one line per channel on one scale.

    Args:
        signal: (C, L).
    """
    width, height = size
    plot = Image.new("RGB", size, "white")
    if background is not None:
        plot = background.resize(size, Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(plot)
    rows = np.atleast_2d(signal)
    low, high = float(rows.min()), float(rows.max())
    span = (high - low) or 1.0
    for number, row in enumerate(rows):
        xs = (np.arange(row.size) + 0.5) * width / row.size
        ys = height - MARGIN - (row - low) / span * (height - 2 * MARGIN)
        points = list(zip(xs.tolist(), ys.tolist(), strict=True))
        draw.line(points * (2 if len(points) == 1 else 1), fill=_LINES[number % 6], width=3)
    return plot


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
    plot_signal(signal).save(buffer, "PNG", pnginfo=chunk)
    return buffer.getvalue()


def signal_in(picture: bytes) -> Array | None:
    """Return the signal that a picture carries, or None.

    Raises:
        BadInput: It carries one that is damaged.
    """
    if not picture.startswith(b"\x89PNG") or len(picture) > 3 * MOST_BYTES:
        return None
    try:
        with Image.open(io.BytesIO(picture), formats=["PNG"]) as image:
            text = getattr(image, "text", {}).get(_CHUNK)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return None  # the gate for photos says what is wrong with it
    if text is None:
        return None
    try:
        return read_signal(base64.b64decode(text, validate=True), "signal.npy")
    except NotBase64 as exc:
        raise BadInput("The signal in this picture is damaged. Choose or upload it again.") from exc
