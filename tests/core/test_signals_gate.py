"""Signals from strangers: read within their size, never by decoding a picture, or refused."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from whylens.core.errors import BadInput
from whylens.core.inputs.photo import read_photo
from whylens.core.inputs.signal import read_signal, signal_in, signal_picture


def npy(shape, descr="<f4", body=bytes(64)) -> bytes:
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def npy_bytes(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz_bytes() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.ones((1, 5)))
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        npy("(1,\n("),
        npy("(017,)"),
        npy((4_000_000_000,)),
        npy((10**14,)),
        npy((17,)),
        npy((-1, 4)),
        npz_bytes(),
        npy_bytes(np.ones((1, 8)) * (1 + 2j)),
        npy_bytes(np.zeros(8, [("a", "f4"), ("b", "f4")])),
        npy_bytes(np.array(["1", "2"])),
        npy_bytes(np.array([1], "M8[s]")),
        b"\x93NUMPY\x09\x00",
        b"\x93NUM",
    ],
    ids=["open", "octal", "15 GB", "364 TB", "one more", "negative", "npz", "complex",
         "structured", "text", "times", "version", "cut"],
)  # fmt: skip
def test_what_is_no_array_of_real_numbers_is_refused_before_it_is_allocated(content):
    tracemalloc.start()
    with pytest.raises(BadInput, match="not a table of numbers"):
        read_signal(content, "a.npy")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("kind", ["f4", "f8", "i2", "u1", "?"])
def test_real_numbers_of_every_kind_are_read(kind):
    values = np.array([[0, 1, 1], [1, 0, 1]], kind)
    assert np.array_equal(read_signal(npy_bytes(np.asfortranarray(values)), "a.npy"), values)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def picture(side: int, *more: bytes) -> bytes:
    """Return a grey PNG that decodes to side x side pixels, from a few bytes of zeros."""
    rows = zlib.compress(bytes(1000))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    body = b"".join(more) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + body


def test_a_picture_is_asked_for_its_signal_without_being_decoded(monkeypatch):
    def refuse_to_open(*args, **kwargs):
        raise AssertionError("a decoder saw the picture")

    signal = np.array([[1.5, -2.0, 3.0]], np.float32)
    plot = signal_picture(signal)
    monkeypatch.setattr(Image, "open", refuse_to_open)
    assert np.array_equal(signal_in(plot), signal)
    assert signal_in(picture(20_000)) is None
    assert signal_in(picture(10, *[chunk(b"tEXt", b"a\0b")] * 20_000)) is None


@pytest.mark.parametrize(
    "body",
    [
        lambda: zlib.compress(bytes(50_000_000)),
        lambda: b"no zlib",
        lambda: zlib.compress(b"AAAA")[:-3],
        lambda: zlib.compress(b"not base 64!"),
    ],
    ids=["bomb", "no zlib", "cut", "no base64"],
)
def test_a_signal_that_is_damaged_or_a_bomb_is_refused(body):
    body = b"whylens-signal\0\0" + body()
    tracemalloc.start()
    with pytest.raises(BadInput, match="signal in this picture is damaged"):
        signal_in(picture(10, chunk(b"zTXt", body)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True, "quality": 1}])
def test_a_jpeg_is_refused_that_says_to_be_larger_than_its_bytes_can_hold(options):
    # A single colour is the shortest that there is.
    stream = io.BytesIO()
    Image.new("RGB", (640, 480), (90, 90, 90)).save(stream, "JPEG", **options)
    assert read_photo(stream.getvalue()).size == (640, 480)
    lie = bytearray(stream.getvalue())
    frame = next(i for i in range(len(lie)) if lie[i] == 0xFF and lie[i + 1] in (0xC0, 0xC2))
    lie[frame + 5 : frame + 9] = struct.pack(">HH", 4000, 5000)
    with pytest.raises(BadInput, match=r"5000 x 4000 pixels, and holds fewer"):
        read_photo(bytes(lie))


def test_ticks_stand_where_the_curve_and_the_map_have_their_values():
    from whylens.core.inputs import signal as signals
    from whylens.core.outputs.render import Style, signal_plot
    from whylens.core.results import Heatmap

    values = np.array([[0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 0.8, 0.6, 0.4, 0.2]], np.float32)
    heat = Heatmap([0.0] * 7 + [1.0] + [0.0] * 2, "units")
    plot = np.asarray(signal_plot(values, heat, Style(opacity=1.0))).astype(int)
    left, top, right, bottom = signals._INSIDE
    interior = plot[top + 1 : -bottom - 1, left + 1 : -right - 1]
    grey = (plot == 0x44).all(2)
    xs = np.flatnonzero(grey[-bottom + 3])
    ys = np.flatnonzero(grey[:, left - 4])
    assert len(xs) == 10
    assert len(ys) == 6  # 0, 0.2 and so on up to 1
    # The curve goes through each tick's value at that tick's place.
    dark = (plot == 0x11).all(2)
    for value, x in zip(values[0], xs, strict=True):
        rows = np.flatnonzero(dark[top:-bottom, x]) + top
        assert np.abs(rows - ys[::-1][round(5 * float(value))]).min() <= 2
    coloured_columns = np.flatnonzero((interior[3] < 250).any(1)) + left + 1
    assert coloured_columns.mean() == pytest.approx(xs[7], abs=1)
    assert np.ptp(coloured_columns) + 1 == pytest.approx(plot[:, left:-right].shape[1] / 10, abs=2)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 0.0, [0]),
        (-0.12, 0.45, [0, 0.2, 0.4]),
        (-3e4, 2.1e4, [-2e4, 0, 2e4]),
        (7, 8, [7, 7.5, 8]),
    ],
)
def test_ticks_are_round_numbers_between_the_least_and_the_largest_value(low, high, ticks):
    from whylens.core.inputs.signal import _ticks

    assert _ticks(low, high, most=3).tolist() == pytest.approx(ticks)
