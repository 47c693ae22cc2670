"""Hostile files: every one becomes a photo or a typed refusal, quickly and in little memory."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import random
import re
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageOps

from tests.core.test_photo import chunk, encoded, off, patches, picture, png, srgb
from whylens.core.errors import BadInput
from whylens.core.inputs.photo import read_photo

ROOT = Path(__file__).resolve().parents[2]
Case = tuple[str, bytes]


def seeds() -> dict[str, bytes]:
    """Return one small sound file of every kind that a parser treats differently."""
    exif = Image.Exif()
    exif[0x0112] = 6
    upside_down = picture().rotate(180)
    photo = picture()
    return {
        "png": encoded(photo, "PNG", icc_profile=srgb(), exif=exif),
        "png-palette": encoded(picture("P"), "PNG", transparency=3),
        "png-alpha": encoded(picture("RGBA"), "PNG"),
        "jpeg": encoded(photo, "JPEG", icc_profile=srgb(), exif=exif),
        "jpeg-progressive": encoded(photo, "JPEG", progressive=True),
        "jpeg-cmyk": encoded(picture("CMYK"), "JPEG"),
        "jpeg-two": encoded(photo, "MPO", save_all=True, append_images=[upside_down]),
        "webp": encoded(photo, "WEBP", icc_profile=srgb(), exif=exif),
        "webp-lossless": encoded(picture("RGBA"), "WEBP", lossless=True),
        "webp-moving": encoded(photo, "WEBP", save_all=True, append_images=[upside_down]),
        "bmp": encoded(photo, "BMP"),
        "bmp-palette": encoded(picture("P"), "BMP"),
        "bmp-runs": bmp(56, 40, 1, b"\x38\7\0\0" * 40 + b"\0\1"),
        "gif": encoded(picture("P"), "GIF", transparency=5, comment=b"x" * 300),
        "gif-moving": encoded(photo, "GIF", save_all=True, append_images=[upside_down]),
    }


def bmp(width: int, height: int, compression: int, body: bytes) -> bytes:
    palette = b"".join(bytes([i, i, i, 0]) for i in range(256))
    head = struct.pack("<IHHI", 1078 + len(body), 0, 0, 1078)
    head += struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, 0, 0, 0, 256, 0)
    return b"BM" + head + palette + body


def truncations() -> Iterator[Case]:
    """Yield files whose pixels are not all there; the comment of the GIF is not a pixel."""
    for kind, data in seeds().items():
        # The second picture of a JPEG or an animation may be missing; the first may not.
        end = {"jpeg-two": data.find(b"\xff\xd9"), "gif-moving": len(data) // 2}.get(
            kind, len(data)
        )
        end = data.find(b"ANMF", data.find(b"ANMF") + 1) if kind == "webp-moving" else end
        for share in (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            yield f"{kind} cut at {share}", data[: int(end * share)]


def mutations() -> Iterator[Case]:
    """Yield seeded damage to sound files; whether there is still a picture in them is open."""
    dice = random.Random(6)
    deep = Image.fromarray(np.arange(56 * 40, dtype=np.uint16).reshape(40, 56))
    more = {
        "tiff": encoded(picture(), "TIFF"),
        "tiff-packed": encoded(picture(), "TIFF", compression="tiff_lzw"),
        "tiff-deep": encoded(deep, "TIFF", compression="tiff_deflate"),
        "avif": encoded(picture(), "AVIF"),
    }
    for kind, whole in {**seeds(), **more}.items():
        for number in range(40):
            data = bytearray(whole)
            for _ in range(dice.choice([1, 2, 4, 16])):
                # Half of the damage goes to the headers, where the parsers take decisions.
                at = dice.randrange(len(data) if dice.random() < 0.5 else min(len(data), 200))
                match dice.randrange(4):
                    case 0:
                        data[at] = dice.randrange(256)
                    case 1:
                        data[at : at + 4] = dice.choice(
                            [bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff"]
                        )
                    case 2:
                        del data[at : at + dice.randrange(1, 20)]
                    case _:
                        data[at:at] = dice.randbytes(dice.randrange(1, 9))
            yield f"{kind} damaged {number}", mended(bytes(data)) if number % 2 else bytes(data)


def mended(data: bytes) -> bytes:
    """Return a PNG with right checksums, so that damage reaches what is behind them."""
    if not data.startswith(b"\x89PNG"):
        return data
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        parts.append(chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return b"".join(parts)


def zip_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("photo.png", encoded(picture(), "PNG"))
    return buffer.getvalue()


def strangers() -> Iterator[Case]:
    """Yield what is no picture, or of a format that no parser may see, under whatever name."""
    photo = picture()
    for kind in (
        "ICO",
        "PPM",
        "TGA",
        "PCX",
        "SGI",
        "JPEG2000",
        "DDS",
        "ICNS",
        "EPS",
        "PDF",
    ):
        with contextlib.suppress(OSError):  # a Pillow built without it cannot write it either
            yield kind, encoded(photo, kind)
    plain = encoded(photo, "EPS")
    yield (
        "EPS for DOS",
        struct.pack("<4sII", b"\xc5\xd0\xd3\xc6", 32, len(plain)) + bytes(20) + plain,
    )
    yield (
        "SVG",
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>1</script></svg>',
    )
    yield "HTML", b"<!doctype html><script>alert(1)</script>"
    yield "zip", zip_file()
    yield "empty", b""
    yield "zeros", bytes(5000)
    yield "noise", random.Random(2).randbytes(5000)
    yield "text", b"a photo of a cat\n" * 50
    yield "PSD", b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 40, 40, 8, 3) + bytes(5000)
    yield "FITS", b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800)
    for kind, data in seeds().items():
        yield f"{kind} behind HTML", b"<html>" + data
        yield f"{kind} signature alone", data[:12]


def bombs() -> Iterator[Case]:
    """Yield small files that ask for much memory or time."""
    tiny = encoded(picture("L"), "JPEG")
    gif = encoded(picture("P"), "GIF")
    palette_end = 13 + 3 * (2 << (gif[10] & 7))
    yield "png of 400 million pixels", png(20000, 20000, 1, 0)
    yield "png of 169 million pixels", png(13000, 13000, 1, 0)
    yield "png that claims all", png(2**31 - 1, 2**31 - 1, 8, 2, rows=[bytes(9)])
    yield "png that claims much", png(5400, 5400, 8, 6, rows=[bytes(9)])
    frame = bytearray(tiny)
    at = frame.find(b"\xff\xc0") + 5
    frame[at : at + 4] = struct.pack(">HH", 65500, 65500)
    yield "jpeg that claims all", bytes(frame)
    yield "bmp that claims all", bmp(2**31 - 1, 2**31 - 1, 0, b"")
    yield "bmp that claims much", bmp(5400, 5400, 0, b"")
    yield "bmp of negative width", bmp(-50, 50, 0, bytes(2500))
    yield "gif that claims all", gif[:6] + b"\xff\xff\xff\xff" + gif[10:]
    webp = bytearray(seeds()["webp"])
    webp[24:30] = b"\xff\x3f\0\xff\x3f\0"
    yield "webp that claims all", bytes(webp)
    yield (
        "webp beyond its memory",
        encoded(Image.new("RGB", (6000, 4000)), "WEBP", lossless=True, method=0),
    )
    progressive = encoded(Image.new("L", (6000, 5000)), "JPEG", progressive=True)
    yield (
        "progressive beyond its memory",
        encoded(Image.new("RGB", (6000, 5000)), "JPEG", progressive=True),
    )
    inflating = zlib.compress(bytes(60_000_000))
    for name in (b"zTXt", b"iTXt", b"iCCP"):
        lead = b"k\0\1\0\0\0" if name == b"iTXt" else b"k\0\0"
        yield (
            f"png with {name.decode()} of 60 MB",
            png(32, 32, 8, 2, extra=chunk(name, lead + inflating)),
        )
    million = zlib.compress(bytes(1_000_000))
    yield "png with 99 MB of text", png(32, 32, 8, 2, extra=chunk(b"zTXt", b"k\0\0" + million) * 99)
    # Files of many pieces: Pillow is busy for up to minutes with each of these.
    last = progressive[progressive.rfind(b"\xff\xda") : -2]
    yield "jpeg of endless scans", progressive[:-2] + last * (11_800_000 // len(last)) + b"\xff\xd9"
    scans = (last + b"\xff\xd0\xff\xff") * 500  # a restart has no length to be skipped
    yield "jpeg of scans behind restarts", progressive[:-2] + scans + b"\xff\xd9"
    yield "jpeg of comments", tiny[:2] + b"\xff\xfe\0\2" * 2_900_000 + tiny[2:]
    yield "jpeg of exif", tiny[:2] + b"\xff\xe1\0\x09Exif\0\0x" * 1_000_000 + tiny[2:]
    behind = b"\xff\xd9\xff\xd8\xff\xf0" + b"\xff\xfe\0\2" * 2_900_000
    yield "jpeg of comments behind its end", tiny[:2] + behind + tiny[2:]
    yield "jpeg of restarts", tiny[:2] + b"\xff\xd0" * 5_900_000 + tiny[2:]
    yield "jpeg of filling", tiny[:2] + b"\xff" * 11_000_000 + tiny[2:]
    entry = struct.pack("<HHII", 700, 7, 11_000_000, 8)  # 60,000 tags of 11 MB, all the same
    yield "tiff of tags", b"II*\0\x08\0\0\0" + struct.pack("<H", 60_000) + entry * 60_000
    strips = struct.pack("<HHII", 273, 4, 2_900_000, 8)
    yield "tiff of strips", b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + strips + bytes(11_600_000)
    small = png(64, 64, 8, 2)
    yield "png of empty chunks", small[:33] + chunk(b"abCd", b"") * 900_000 + small[33:]
    yield "png of empty data", small[:33] + chunk(b"IDAT", b"") * 900_000 + small[33:]
    for size, count in ((255, 43_000), (1, 5_000_000)):
        comment = b"!\xfe" + (bytes([size]) + b"a" * size) * count + b"\0"
        yield f"gif comment in {size}s", gif[:palette_end] + comment + gif[palette_end:]
    head, tail = gif[:palette_end], gif[palette_end:]
    for label, lead in ((b"\xf9", b"\0,"), (b"\xff", b"\x0bNETSCAPE2.0\0,")):
        hidden = b"!" + label + lead + b"\1" * 10_000_000 + b"\0"
        yield f"gif behind an empty extension {label!r}", head + hidden + tail
    yield "gif of filling", head + b"\0" * 11_000_000 + tail
    yield (
        "gif of controls",
        gif[:palette_end] + b"!\xf9\4\0\0\0\0\0" * 1_400_000 + gif[palette_end:],
    )
    yield "bmp runs that stand still", bmp(5000, 5000, 1, b"\0\2\0\0" * 2_900_000)
    yield "bmp runs of one", bmp(5000, 5000, 2, b"\1\0" * 5_900_000)


def giants() -> Iterator[Case]:
    """Yield sound pictures at the limits of what is read; the first takes most time and memory."""
    exif = Image.Exif()
    exif[0x0112] = 6
    yield (
        "jpeg of 30 million pixels, turned",
        encoded(Image.new("RGB", (6000, 5000)), "JPEG", exif=exif),
    )
    yield "png of 30 million pixels", png(12000, 2500, 8, 2)
    yield "png of 30 million pixels, 16 bits", png(12000, 2500, 16, 0)
    yield "png of 30 million pixels, clear", png(6000, 5000, 8, 6)
    yield (
        "progressive at its limit",
        encoded(Image.new("RGB", (6000, 3999)), "JPEG", progressive=True),
    )
    yield (
        "webp at its limit",
        encoded(Image.new("RGB", (4000, 2999)), "WEBP", lossless=True, method=0),
    )
    frame = bytearray(encoded(picture("P"), "GIF"))
    frame[6:10] = struct.pack("<HH", 6000, 5000)
    yield "gif of 30 million pixels", bytes(frame)


MUST_REJECT = {"truncations": truncations, "strangers": strangers, "bombs": bombs}
CORPUS = {**MUST_REJECT, "mutations": mutations, "giants": giants}


def memory(field: str) -> int:
    """Return a figure of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def judge(limit: int | None) -> None:
    """Read the corpus and print what became of each file; run in a process of its own.

    Args:
        limit: How many giants are read; by default all.
    """
    read_photo(encoded(picture(), "PNG", icc_profile=srgb()))  # parsers are loaded at first use
    verdicts, growth, start_memory = [], 0, memory("VmRSS")
    for group, cases in CORPUS.items():
        for name, data in itertools.islice(cases(), limit if cases is giants else None):
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
            start = time.process_time()
            try:
                outcome = f"photo {read_photo(data).size}"
            except BadInput as refusal:
                outcome = f"refused: {refusal}"
            except BaseException as stray:  # noqa: BLE001 - any is a finding
                outcome = f"stray {type(stray).__name__}: {stray}"
            seconds = time.process_time() - start
            growth = max(growth, memory("VmHWM") - start_memory)
            verdicts.append((group, name, outcome, seconds))
    yardstick = io.BytesIO(next(giants())[1])
    start = time.process_time()
    with Image.open(yardstick) as image:
        np.asarray(ImageOps.exif_transpose(image))
    longest = 2 * (time.process_time() - start)
    print(json.dumps({"verdicts": verdicts, "growth": growth, "most": longest}))  # noqa: T201


@pytest.fixture(
    scope="module", params=[1, pytest.param(None, marks=pytest.mark.slow)], ids=["quick", "all"]
)
def judgement(request) -> dict:
    code = f"import {__name__} as corpus; corpus.judge({request.param})"
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


def test_the_corpus_has_at_least_500_hostile_files(judgement):
    assert sum(group != "giants" for group, *_ in judgement["verdicts"]) >= 500
    assert {group for group, *_ in judgement["verdicts"]} == set(CORPUS)


def test_no_file_raises_anything_but_a_refusal(judgement):
    assert [v for v in judgement["verdicts"] if v[2].startswith("stray")] == []


def test_whatever_must_be_refused_is_refused(judgement):
    assert [v for v in judgement["verdicts"] if v[0] in MUST_REJECT and "refused" not in v[2]] == []


def test_sound_pictures_at_the_limits_are_read(judgement):
    assert [v for v in judgement["verdicts"] if v[0] == "giants" and "photo" not in v[2]] == []


def test_some_damaged_files_still_hold_a_picture(judgement):
    outcomes = [v[2].split()[0] for v in judgement["verdicts"] if v[0] == "mutations"]
    assert outcomes.count("photo") > 50
    assert outcomes.count("refused:") > 50


def test_every_refusal_names_a_reason_and_a_remedy(judgement):
    remedies = ("Save ", "save it", "Choose ", "Crop ")
    refusals = [v[2] for v in judgement["verdicts"] if v[2].startswith("refused")]
    assert [r for r in refusals if r.count(". ") < 1 or not any(w in r for w in remedies)] == []


def test_no_file_takes_twice_as_long_as_the_largest_photo_takes_pillow(judgement):
    # A second or less, by the processor: how quick that is is no property of the file.
    assert [v for v in judgement["verdicts"] if v[3] >= judgement["most"]] == []


def test_the_whole_corpus_takes_less_than_250_mb(judgement):
    assert judgement["growth"] < 250e6


def said_to_be(data: bytes, width: int, height: int) -> bytes:
    """Return a JPEG whose header says that it has another size."""
    start = next(re.finditer(rb"\xff[\xc0-\xc2]\0[\x0b-\x14]\x08", data)).start()
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return data[: start + 5] + size + data[start + 9 :]


JPEGS = {
    "plain": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "fine": {"quality": 95, "subsampling": 0},
    "profile": {"icc_profile": srgb()},
}


# A profile is of three colours.
KINDS = [
    pytest.param(mode, options, id=f"{mode}-{kind}")
    for mode in ("RGB", "L", "CMYK")
    for kind, options in JPEGS.items()
    if mode == "RGB" or kind != "profile"
]


@pytest.mark.parametrize(("mode", "options"), KINDS)
def test_a_jpeg_that_says_it_is_larger_than_it_is_is_refused(mode, options):
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    photo = Image.fromarray(pixels).convert(mode)
    data = encoded(photo, "JPEG", **options)
    assert read_photo(data).size == (160, 120)
    for size in ((160, 130), (160, 240), (160, 480), (240, 120), (400, 400)):
        with pytest.raises(BadInput, match="holds fewer"):
            read_photo(said_to_be(data, *size))
    # What is grey at its end, and says so, is whole.
    grey = Image.new("RGB", (160, 120), (128, 128, 128)).convert(mode)
    grey.paste(photo.crop((0, 0, 160, 50)))
    for image in (grey, Image.new(mode, (160, 120), grey.getpixel((0, 119)))):
        assert read_photo(encoded(image, "JPEG", **options)).size == (160, 120)


def test_reading_leaves_the_filters_of_warnings_alone(monkeypatch):
    # They belong to the whole process: two threads that save and restore them mix them up.
    monkeypatch.setattr("warnings.catch_warnings", None)
    assert off(read_photo(encoded(picture(), "PNG")), patches()) == 0


def test_postscript_never_reaches_ghostscript(monkeypatch):
    starts = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: starts.append(a))
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: starts.append(a))
    plain = encoded(picture(), "EPS")
    dos = struct.pack("<4sII", b"\xc5\xd0\xd3\xc6", 32, len(plain)) + bytes(20) + plain
    for data in (plain, dos):
        with contextlib.suppress(AssertionError):  # Pillow on its own would: the patches see it
            Image.open(io.BytesIO(data)).load()
        assert starts
        starts.clear()
        with pytest.raises(BadInput, match="not a readable PNG, JPEG, WEBP, BMP, GIF, TIFF"):
            read_photo(data)
        assert not starts
