"""Of how many pieces a picture's file is made, told from its bytes before any parser sees it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import numpy as np
from PIL import Image, JpegImagePlugin

# Pillow steps through these in Python, and joins some in quadratic time: 11 MB of them kept it
# busy for minutes. Cameras and image programs stay below a tenth of each.
MOST_PNG_CHUNKS, MOST_JPEG_SEGMENTS, MOST_JPEG_SCANS, MOST_GIF_BLOCKS = 10_000, 256, 24, 4_000
MOST_BMP_RUN_BYTES = 1_000_000  # of a run-length coded BMP, likewise stepped through in Python
MOST_JPEG_LOOSE_BYTES = 10_000  # between segments, which Pillow steps through one by one
_JPEG_SEGMENT = re.compile(rb"\xff[\xc0-\xc7\xc9-\xcf\xda-\xef\xfe]")
# In entropy-coded data a marker is 0xFF and anything but 0, a restart or a fill byte.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_NOISE = b"\x5a\xa5"
_ARITHMETIC = re.compile(rb"\xff[\xc9\xca]\x00[\x08-\x20]")  # a frame of that coding
MOST_GIF_STEPS = 100_000  # in search of further frames
MOST_TIFF_TAGS, MOST_TIFF_VALUES, MOST_TIFF_FRAMES = 1_000, 200_000, 1_000
_TIFF_VALUE_SIZES = {1: 1, 2: 1, 6: 1, 7: 1, 3: 2, 8: 2, 4: 4, 9: 4, 11: 4, 13: 4}  # others: 8


def is_crowded(data: bytes) -> bool:
    """Return whether a file has more pieces than any camera or image program makes."""
    if data.startswith(b"\x89PNG"):
        return _png_crowded(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_crowded(data)
    if data.startswith(b"GIF8"):
        return _gif_crowded(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff_crowded(data)
    runs = data.startswith(b"BM") and data[30:34] in (b"\1\0\0\0", b"\2\0\0\0")
    return runs and len(data) > MOST_BMP_RUN_BYTES


def has_crowded_frames(data: bytes) -> bool:
    """Return whether a TIFF has more pictures, or more in them, than a file of bands has.

    Of a photo only the first is looked at; of bands Pillow reads the tags of each.
    """
    frames = list(_tiff_directories(data))
    size = sum(_tiff_bytes(tags) for tags in frames)
    many = len(frames) >= MOST_TIFF_FRAMES or size > 2 * len(data)
    return many or any(_are_too_many(tags, data) for tags in frames)


def frame_count(image: Image.Image, data: bytes) -> int:
    """Return how many pictures lie one after the other in a file, as far as that is cheap."""
    if image.format == "GIF":
        return _gif_frames(data)
    if image.format == "TIFF":
        return _tiff_frames(data)
    # A JPEG may carry a small copy of itself for its own use.
    return 1 if image.format in ("JPEG", "MPO") else int(getattr(image, "n_frames", 1))


def holds_fewer_pixels(image: Image.Image, data: bytes) -> bool:
    """Return whether a JPEG is too short for the size that its header states.

    What is missing comes out grey, without an error. Each block of 8 x 8 takes a code for its mean
    and one for its end, of a bit at least; in a progressive one the first of them.
    """
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or _ARITHMETIC.search(data):
        return False
    blocks = 0
    finest = [max(layer[axis] for layer in image.layer) for axis in (1, 2)]
    for layer in image.layer:
        columns, rows = (
            -(-side * share // (8 * most))
            for side, share, most in zip(image.size, layer[1:3], finest, strict=True)
        )
        blocks += columns * rows
    return 8 * len(data) < blocks * (1 if image.info.get("progressive") else 2)


def ends_in_nothing(image: Image.Image, data: bytes) -> bool:
    """Return whether a JPEG ends in that grey which stands for rows that are not there.

    Told by decoding it small, once as it is and once with noise behind the end of its first scan:
    where all is there, nothing reads the noise.

    Args:
        image: As Pillow has decoded it, and done nothing more.
    """
    if image.format not in ("JPEG", "MPO"):
        return False
    # The first block that is missing may be made of what fills up the last byte.
    last = image.crop((image.width // 2, image.height - 1, *image.size)).getextrema()
    values = np.ravel(last)
    if values.min() < 127 or values.max() > 128:  # of four inks 127 is the same
        return False
    small = []
    for part in (data, _with_noise(data)):
        with Image.open(io.BytesIO(part), formats=("JPEG", "MPO")) as thumbnail:
            # An eighth of a side: means of blocks, a sixty-fourth of the memory.
            thumbnail.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
            small.append(np.asarray(thumbnail))
    as_it_is, noisy = small
    return not np.array_equal(as_it_is, noisy)


def _with_noise(data: bytes) -> bytes:
    """Return a JPEG with noise where the entropy-coded data of its first scan ends.

    It is read as blocks by what lacks some, at once or from the restart on that is due.
    """
    position = 2
    while marker := _JPEG_SEGMENT.search(data, position):
        position = marker.end() + max(
            2, int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        )
        if marker.group() == b"\xff\xda":
            break
    after = _JPEG_MARKER.search(data, position)
    end = after.start() if after else len(data)
    number = 0
    for restart in _JPEG_RESTART.finditer(data, position, end):
        number = restart.group()[1] - 0xD0 + 1
    restarts = (bytes((0xFF, 0xD0 + (number + i) % 8)) + _NOISE * 64 for i in range(16))
    return data[:end] + _NOISE * 4096 + b"".join(restarts) + data[end:]


def _png_crowded(data: bytes) -> bool:
    position, chunks = 8, 0
    while position + 12 <= len(data) and chunks <= MOST_PNG_CHUNKS:
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        chunks += 1
    return chunks > MOST_PNG_CHUNKS


def _jpeg_crowded(data: bytes) -> bool:
    # As Pillow steps to the first scan, and from there as libjpeg does to the end of the first
    # picture; phones append a second one, or a film.
    position, segments, scans, loose = 2, 0, 0, 0
    while (
        segments <= MOST_JPEG_SEGMENTS
        and scans <= MOST_JPEG_SCANS
        and loose <= MOST_JPEG_LOOSE_BYTES
    ):
        marker = (_JPEG_MARKER if scans else _JPEG_SEGMENT).search(data, position)
        if not scans:
            loose += (marker.start() if marker else len(data)) - position
        if marker is None or marker.group() == b"\xff\xd9":
            return loose > MOST_JPEG_LOOSE_BYTES
        scans += marker.group() == b"\xff\xda"
        segments += 1
        position = marker.end()
        if marker.group() != b"\xff\x01":  # stands alone
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return True


def _gif_crowded(data: bytes) -> bool:
    palette = 3 * (2 << (data[10] & 7)) if len(data) > 10 and data[10] & 0x80 else 0
    position, blocks = 13 + palette, 0
    while position < len(data) and blocks <= MOST_GIF_BLOCKS:
        kind, label = data[position], data[position + 1 : position + 2]
        if kind in b",;":  # the first frame; the next ones are never looked at
            return False
        blocks += 1
        position += 1
        if kind != ord("!"):
            continue
        position += 1
        # Pillow reads these blocks of an extension whether or not they are its end.
        netscape = label == b"\xff" and data[position + 1 : position + 12] == b"NETSCAPE2.0"
        forced = 0 if label == b"\xfe" else 1 + netscape
        while position < len(data) and blocks <= MOST_GIF_BLOCKS:
            size = data[position]
            blocks += 1
            position += 1 + size
            if not size and forced <= 0:
                break
            forced -= 1
    return blocks > MOST_GIF_BLOCKS


def _gif_frames(data: bytes) -> int:
    """Return the number of frames, or that of the first few hundred where there are more."""
    frames, position = 0, 13 + (3 * (2 << (data[10] & 7)) if data[10] & 0x80 else 0)
    steps = 0
    while frames < MOST_GIF_BLOCKS and steps < MOST_GIF_STEPS:
        kind = data[position : position + 1]
        if kind == b",":
            frames += 1
            local = data[position + 9] if position + 9 < len(data) else 0
            position += 11 + (3 * (2 << (local & 7)) if local & 0x80 else 0)
        elif kind == b"!":
            position += 2
        else:
            break
        while position < len(data) and data[position] and steps < MOST_GIF_STEPS:
            position += 1 + data[position]
            steps += 1
        position += 1
        steps += 1
    return frames


def _tiff_directories(data: bytes) -> Iterator[list[tuple[int, int]]]:
    """Yield the directories of a TIFF, one per picture, as type and count of each tag."""
    big = data[2:4] in (b"+\0", b"\0+")

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little" if data[:1] == b"I" else "big")

    word, counter, entry = (8, 8, 20) if big else (4, 2, 12)
    at, visited = number(8 if big else 4, word), set[int]()
    while at and at not in visited and at < len(data) and len(visited) < MOST_TIFF_FRAMES:
        visited.add(at)
        count = number(at, counter)
        first = at + counter
        entries = range(first, first + entry * min(count, MOST_TIFF_TAGS + 1), entry)
        yield [(number(e + 2, 2), number(e + 4, word)) for e in entries]
        at = number(first + entry * count, word)


def _tiff_frames(data: bytes) -> int:
    return sum(1 for _ in _tiff_directories(data))


def _tiff_crowded(data: bytes) -> bool:
    return _are_too_many(next(_tiff_directories(data), []), data)


def _are_too_many(tags: list[tuple[int, int]], data: bytes) -> bool:
    # Pillow reads every tag of a directory, and one by one where strips begin.
    values = sum(count for kind, count in tags if _TIFF_VALUE_SIZES.get(kind, 8) > 1)
    size = _tiff_bytes(tags)
    return len(tags) > MOST_TIFF_TAGS or size > 2 * len(data) or values > MOST_TIFF_VALUES


def _tiff_bytes(tags: list[tuple[int, int]]) -> int:
    return sum(_TIFF_VALUE_SIZES.get(kind, 8) * count for kind, count in tags)
