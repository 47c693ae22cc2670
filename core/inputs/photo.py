"""From bytes to an RGB photo, upright and in sRGB, or a typed refusal with a reason.

Only five formats are ever offered to a parser; sizes are checked before anything is decoded, and so
is how many pieces the file makes a parser step through.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from whylens.core.errors import BadInput
from whylens.core.inputs.framing import NETWORK, Framing

Pixels = npt.NDArray[np.uint8]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
READ_ENDINGS = frozenset((".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif"))
# Of pictures by their names; those that cannot be read are named with the reason.
PICTURE_ENDINGS = READ_ENDINGS | frozenset(
    (".jpe", ".jif", ".dib", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jxl", ".jp2", ".ppm",
     ".pgm", ".pnm", ".tga", ".psd", ".svg", ".ico", ".dng", ".cr2", ".cr3", ".nef", ".arw",
     ".raw", ".dcm", ".nii", ".svs", ".ndpi")
)  # fmt: skip
# All that Pillow raises on damaged files of these formats, as its own fuzzers list it; warnings
# are raised only where the interpreter is told to treat them as errors.
_DAMAGE = (
    OSError, ValueError, SyntaxError, EOFError, ArithmeticError, LookupError, TypeError,
    AttributeError, NotImplementedError, MemoryError, struct.error, zlib.error,
    Image.DecompressionBombError, Warning,
)  # fmt: skip

# Pillow steps through these in Python, and joins some in quadratic time: 11 MB of them kept it
# busy for minutes. Cameras and image programs stay below a tenth of each.
_PNG_CHUNKS, _JPEG_SEGMENTS, _JPEG_SCANS, _GIF_BLOCKS = 10_000, 256, 24, 4_000
_BMP_RUNS = 1_000_000  # bytes of a run-length coded BMP, likewise stepped through in Python
_JPEG_LOOSE = 10_000  # bytes between segments, which Pillow steps through one by one
_JPEG_SEGMENT = re.compile(rb"\xff[\xc0-\xc7\xc9-\xcf\xda-\xef\xfe]")
# In entropy-coded data a marker is 0xFF and anything but 0, a restart or a fill byte.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_BAND = 1 << 20  # pixels converted at a time, so that no second copy of a large photo is held


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is accepted.

    Attributes:
        bytes: Largest file.
        pixels: Most pixels.
        side: Longest side.
        shortest: Shortest side.
        memory: Most bytes that decoding may take; fewer pixels than `pixels` where a format's
            decoder holds several copies.
    """

    bytes: int = 12_000_000
    pixels: int = 30_000_000
    side: int = 12_000
    shortest: int = 8
    memory: int = 240_000_000


@dataclass(frozen=True, slots=True, eq=False)  # == of arrays has no single truth value
class Photo:
    """An upright sRGB image.

    Attributes:
        pixels: (H, W, 3) uint8, read-only.
        notes: What was done to it that a visitor should know.
        framing: What part of it a network is shown.
    """

    pixels: Pixels
    notes: tuple[str, ...] = ()
    framing: Framing = NETWORK

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def image(self) -> Image.Image:
        """Return a Pillow image of it."""
        return Image.fromarray(self.pixels)


def read_photo(data: bytes, *, limits: ImageLimits | None = None) -> Photo:
    """Return the photo that these bytes hold: first frame, upright, sRGB, on white.

    Raises:
        BadInput: It is too large, too small, damaged or of another format; says which.
    """
    limits = limits or ImageLimits()
    if not data:
        raise BadInput("The file is empty. Choose a photo.")
    if len(data) > limits.bytes:
        raise BadInput(
            f"The file has {len(data) / 1e6:.1f} MB; up to {limits.bytes / 1e6:.0f} MB are read. "
            "Save it smaller."
        )
    _check_parts(data)
    # The process's warning filters are left alone: they are shared by all threads.
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_size(image.size, limits)
        _check_memory(image, limits)
        image.load()
        _check_size(image.size, limits)
        return _photo(image)
    except BadInput:
        raise
    except UnidentifiedImageError as exc:
        raise BadInput(
            "This is not a readable PNG, JPEG, WEBP, BMP or GIF. Save the picture in one of "
            "these formats."
        ) from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise BadInput(
            f"The picture has too many pixels; up to {limits.pixels / 1e6:.0f} million are "
            "read. Save it smaller."
        ) from exc
    except _DAMAGE as exc:
        raise BadInput(
            "The picture is damaged or cut off. Open it in an image program and save it again."
        ) from exc


def photo_of(pixels: Pixels) -> Photo:
    """Return a photo from an array.

    Args:
        pixels: (H, W, 3) uint8, sRGB, upright.

    Raises:
        BadInput: It has another shape or type, or is out of the limits.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise BadInput(
            "An image array must be (height, width, 3) of uint8, 0 to 255; this one is "
            f"{pixels.shape} of {pixels.dtype}. `to_photo` takes others."
        )
    _check_size((pixels.shape[1], pixels.shape[0]), ImageLimits())
    copied = np.array(pixels)
    copied.setflags(write=False)
    return Photo(copied)


def photo_from_image(image: Image.Image) -> Photo:
    """Return the photo that a Pillow image of any mode shows: upright, sRGB, on white.

    Args:
        image: As Pillow opened or made it; it is not changed.

    Raises:
        BadInput: It is damaged, out of the limits, or of a mode that shows no colours.
    """
    _check_size(image.size, ImageLimits())
    try:
        return _photo(_in_known_mode(image))
    except _DAMAGE as exc:
        raise BadInput(
            f"The Pillow image of mode {image.mode!r} cannot be read as a photo "
            f"({type(exc).__name__}: {exc}). Convert it to RGB first."
        ) from exc


def _in_known_mode(image: Image.Image) -> Image.Image:
    # Modes that files of `FORMATS` never have; the others are what `_photo` takes apart itself.
    match image.mode:
        case "RGBa" | "La":
            return image.convert("RGBA" if image.mode == "RGBa" else "LA")
        case "LAB":
            lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
            changed = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
            return image if changed is None else changed
        case "I" | "F":
            values = np.asarray(image, np.float64)
            low, high = float(values.min()), float(values.max())
            # Pillow's own conversions to these modes keep 0 to 255; 16-bit files are read as "I".
            top = 65535 if image.mode == "I" and high > 255 else 255
            top = 1 if image.mode == "F" and high <= 1 else top
            if low < 0 or high > top:
                raise BadInput(
                    f"A Pillow image of mode {image.mode!r} runs from 0 to {top}; this one runs "
                    f"from {low:g} to {high:g}. Scale it first."
                )
            return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))
        case _:
            return image


def _check_size(size: tuple[int, int], limits: ImageLimits) -> None:
    width, height = size
    if width * height > limits.pixels:
        raise BadInput(
            f"The picture has {width} x {height} pixels; up to {limits.pixels / 1e6:.0f} million "
            "are read. Save it smaller."
        )
    if max(size) > limits.side:
        raise BadInput(
            f"A side of {max(size)} pixels is too long; up to {limits.side} are read. Crop it or "
            "save it smaller."
        )
    if min(size) < limits.shortest:
        raise BadInput(
            f"The picture has {width} x {height} pixels; at least {limits.shortest} x "
            f"{limits.shortest} are needed to show anything. Choose a larger one."
        )


def _check_memory(image: Image.Image, limits: ImageLimits) -> None:
    # Bytes per pixel at the peak: Pillow's own 4 and ours 3. libwebp holds two canvases, its own
    # work space and a copy of the result; a progressive JPEG all its coefficients, 2 bytes each.
    cost = 7
    if image.format == "WEBP":
        cost = 20
    elif image.info.get("progressive"):
        cost = 4 + 2 * len(image.getbands())
    most = limits.memory // cost
    if image.width * image.height > most:
        kind = "WEBP" if image.format == "WEBP" else "a progressive JPEG"
        raise BadInput(
            f"The picture has {image.width} x {image.height} pixels; as {kind} up to "
            f"{most / 1e6:.0f} million are read. Save it smaller, or as an ordinary JPEG."
        )


def _check_parts(data: bytes) -> None:
    if data.startswith(b"\x89PNG"):
        crowded = _png_crowded(data)
    elif data.startswith(b"\xff\xd8"):
        crowded = _jpeg_crowded(data)
    elif data.startswith(b"GIF8"):
        crowded = _gif_crowded(data)
    else:
        runs = data.startswith(b"BM") and data[30:34] in (b"\1\0\0\0", b"\2\0\0\0")
        crowded = runs and len(data) > _BMP_RUNS
    if crowded:
        raise BadInput(
            "The picture's file is cut into more pieces than any camera or image program makes. "
            "Open it in an image program and save it again."
        )


def _png_crowded(data: bytes) -> bool:
    position, chunks = 8, 0
    while position + 12 <= len(data) and chunks <= _PNG_CHUNKS:
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        chunks += 1
    return chunks > _PNG_CHUNKS


def _jpeg_crowded(data: bytes) -> bool:
    # As Pillow steps to the first scan, and from there as libjpeg does to the end of the first
    # picture; phones append a second one, or a film.
    position, segments, scans, loose = 2, 0, 0, 0
    while segments <= _JPEG_SEGMENTS and scans <= _JPEG_SCANS and loose <= _JPEG_LOOSE:
        marker = (_JPEG_MARKER if scans else _JPEG_SEGMENT).search(data, position)
        if not scans:
            loose += (marker.start() if marker else len(data)) - position
        if marker is None or marker.group() == b"\xff\xd9":
            return loose > _JPEG_LOOSE
        scans += marker.group() == b"\xff\xda"
        segments += 1
        position = marker.end()
        if marker.group() != b"\xff\x01":  # stands alone
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return True


def _gif_crowded(data: bytes) -> bool:
    palette = 3 * (2 << (data[10] & 7)) if len(data) > 10 and data[10] & 0x80 else 0
    position, blocks = 13 + palette, 0
    while position < len(data) and blocks <= _GIF_BLOCKS:
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
        while position < len(data) and blocks <= _GIF_BLOCKS:
            size = data[position]
            blocks += 1
            position += 1 + size
            if not size and forced <= 0:
                break
            forced -= 1
    return blocks > _GIF_BLOCKS


# By EXIF orientation: the upright picture's array as the file stores it, as a view.
_STORED: dict[object, Callable[[Pixels], Pixels]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: np.rot90,
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:
        return 1  # broken EXIF takes nothing from the picture
    return value if isinstance(value, int) and value in _STORED else 1


def _photo(image: Image.Image) -> Photo:
    width, height = image.size
    orientation = _orientation(image)
    turned = orientation >= 5
    pixels = np.empty((width, height, 3) if turned else (height, width, 3), dtype=np.uint8)
    stored = _STORED[orientation](pixels) if orientation in _STORED else pixels
    notes = ["16-bit values were scaled to 8 bits."] if image.mode.startswith("I") else []
    profile = image.info.get("icc_profile")
    transform: ImageCms.ImageCmsTransform | None = None
    see_through = False
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        colours, alpha = _separated(image.crop((0, top, width, min(height, top + rows))))
        if profile and top == 0:
            transform = _to_srgb(profile, colours.mode)
            if transform is None:
                notes.append("Its colour profile is unusable; the colours were read as sRGB.")
            elif colours.mode == "RGB" and _changes_nothing(transform):
                transform = None
        if transform is not None:
            colours = ImageCms.applyTransform(colours, transform)  # type: ignore[assignment]
        rgb = colours if colours.mode == "RGB" else colours.convert("RGB")
        if alpha is not None and alpha.getextrema() != (255, 255):
            see_through = True
            white = Image.new("RGB", rgb.size, "white")
            white.paste(rgb, mask=alpha)
            rgb = white
        stored[top : top + rows] = np.asarray(rgb)
    if see_through:
        notes.append("Transparent parts were laid on white.")
    pixels.setflags(write=False)
    return Photo(pixels, tuple(notes))


def _separated(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    # Colours in L, RGB or CMYK, which is what a colour profile can be applied to, and alpha.
    clear = image.info.get("transparency")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        alpha = None if clear is None else Image.fromarray(np.uint8(255) * (values != clear))
        return Image.fromarray(
            ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
        ), alpha
    if image.mode in ("1", "L"):
        image = image.convert("L" if clear is None else "LA")
    elif image.mode == "P" or clear is not None:
        image = image.convert("RGB" if clear is None else "RGBA")
    if image.mode in ("LA", "RGBA", "PA"):
        return image.convert("L" if image.mode == "LA" else "RGB"), image.getchannel("A")
    return image, None


def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    # Most photos carry sRGB itself; converting 30 million pixels to what they are takes a second.
    steps = np.linspace(0, 255, 18).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 18, 3)
    converted = ImageCms.applyTransform(Image.fromarray(colours), transform)
    return int(np.abs(np.asarray(converted).astype(int) - colours).max()) <= 1
