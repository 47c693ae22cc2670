"""From bytes to an RGB photo, upright and in sRGB, or a typed refusal with a reason.

Only seven formats, and HEIC where its reader is installed, are ever offered to a parser; sizes are
checked before anything is decoded, and so is how many pieces the file makes a parser step through.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, ImageOps, ImageSequence, UnidentifiedImageError

from whylens.core.errors import BadInput
from whylens.core.inputs.file_parts import (
    ends_in_nothing,
    frame_count,
    has_crowded_frames,
    holds_fewer_pixels,
    is_crowded,
)
from whylens.core.inputs.framing import NETWORK, Framing
from whylens.core.words import number_of, percent

Pixels = npt.NDArray[np.uint8]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
FORMAT_WORDS = "PNG, JPEG, WEBP, BMP, GIF, TIFF or AVIF"
# Those of HEIC are among them, so that a run over a folder says of each why it cannot be read.
READ_ENDINGS = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif",
     ".heic", ".heif")
)  # fmt: skip
# Of pictures by their names; those that cannot be read are named with the reason.
PICTURE_ENDINGS = READ_ENDINGS | frozenset(
    (".jif", ".dib", ".jxl", ".jp2", ".ppm", ".pgm", ".pnm", ".tga", ".psd", ".svg", ".ico",
     ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw", ".dcm", ".nii", ".svs", ".ndpi")
)  # fmt: skip
# All that Pillow raises on damaged files of these formats, as its own fuzzers list it; warnings
# are raised only where the interpreter is told to treat them as errors.
_DAMAGE = (
    OSError, ValueError, SyntaxError, EOFError, ArithmeticError, LookupError, TypeError,
    AttributeError, RuntimeError, MemoryError, struct.error, zlib.error,
    Image.DecompressionBombError, Warning,
)  # fmt: skip

_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_ZIP, _POINTER = "a ZIP", "a pointer of Git LFS"
_OTHER_KINDS = {
    b"PK\x03\x04": _ZIP,
    b"version https://git-lfs": _POINTER,
    b"%PDF": "a PDF",
    b"8BPS": "a Photoshop file",
    b"\xff\n": "a JPEG XL",
    b"\0\0\0\x0cJXL ": "a JPEG XL",
    b"\0\0\0\x0cjP": "a JPEG 2000",
    b"\x93NUMPY": "a NumPy array",
    b"<": "a web page or an SVG",
}
_REMEDIES = {
    _ZIP: "Choose a photo in it, or unpack it and give the folder.",
    _POINTER: "Fetch the photo itself: git lfs pull.",
}
# By the largest value that can be: below a quarter of white no camera writes 16 bits; of 8, dark
# photos do, and only what counts classes or cells stays so low.
_DARK = {65_535: 16_383, 255: 16}
_SCALED = "16-bit values were scaled to 8 bits."
_CUT_OFF = "The file is cut off; what is there is shown."
_LEAST_ROWS = 0.8  # of a JPEG that is cut off; fewer make another picture of it
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
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC:
        return _read_heic(data, limits)
    try:
        photo = _decode(data, limits)
        # Pillow is content once all rows are there.
        is_truncated = data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(
            b"\xff\xda"
        )
        return replace(photo, notes=(*photo.notes, _CUT_OFF)) if is_truncated else photo
    except BadInput as exc:
        end = data.rstrip(b"\0").endswith(b"\xff\xd9")
        if not data.startswith(b"\xff\xd8") or end or exc.__cause__ is None:
            raise
        rest = _rest_of_jpeg(data, limits)
        if rest is None:
            raise
        return rest


def read_bands(data: bytes, *, limits: ImageLimits | None = None) -> npt.NDArray[Any]:
    """Return (C, H, W) of the pictures that lie one after the other in a TIFF, as they are stored.

    Raises:
        BadInput: As `read_photo`; or they are no bands of one size, or too large together.
    """
    limits = limits or ImageLimits()
    read_photo(data, limits=limits)  # refuses what is too large or damaged, of the first
    if has_crowded_frames(data):
        raise _in_too_many_pieces()
    bands: list[npt.NDArray[Any]] = []
    try:
        with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
            size = image.size
            # Each says only as it is come to how large it is, and is decoded after that.
            for frame in ImageSequence.Iterator(image):
                if frame.size != size or len(frame.getbands()) != 1:
                    raise BadInput("It holds no bands of one size. Give them as a .npy file.")
                if (len(bands) + 1) * frame.width * frame.height > limits.pixels:
                    raise BadInput(
                        f"Its bands have more than {limits.pixels / 1e6:.0f} million pixels "
                        "together. Save them smaller."
                    )
                bands.append(np.asarray(frame))
    except UnidentifiedImageError as exc:
        raise BadInput("It is no TIFF. Give bands as one, or as a .npy file.") from exc
    except _DAMAGE as exc:
        raise BadInput("It is damaged or cut off. Save it again.") from exc
    return np.stack(bands)


def bands_of(image: Image.Image, channels: int) -> npt.NDArray[Any]:
    """Return (H, W, C) of a Pillow image as it holds them, upright: transparency is a band too.

    Raises:
        BadInput: It has another number of bands, or is damaged.
    """
    bands = image.getbands()
    if len(bands) != channels:
        raise BadInput(
            f"The Pillow image has {number_of(len(bands), 'band')} ({', '.join(bands)}), and this "
            f"network takes {number_of(channels, 'channel')}. Give an array of those."
        )
    _check_size(image.size, ImageLimits())
    try:
        return np.asarray(ImageOps.exif_transpose(image))
    except _DAMAGE as exc:
        raise BadInput("The Pillow image is damaged or cut off. Save it again.") from exc


def _decode(
    data: bytes, limits: ImageLimits, formats: tuple[str, ...] = FORMATS, *, cut: bool = False
) -> Photo:
    # Of one that is cut off, whoever asks looks himself how much is missing.
    # The process's warning filters are left alone: they are shared by all threads.
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
        _check_size(image.size, limits)
        _check_memory(image, limits)
        _check_content(image, data)
        frames = frame_count(image, data)
        image.load()
        _check_size(image.size, limits)
        if not cut and ends_in_nothing(image, data):
            raise _holds_fewer(image)
        # Pillow itself takes the upper 8 bits of colours.
        deep = data[:4] == b"\x89PNG" and data[24] == 16 and not image.mode.startswith("I")
        converted, mode_notes = _in_known_mode(image) if image.format == "TIFF" else (image, [])
        photo = _photo(converted)
    except BadInput:
        raise
    except UnidentifiedImageError as exc:
        raise BadInput(f"This is not a readable {_what_it_is(data)}") from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise BadInput(
            f"The picture has too many pixels; up to {limits.pixels / 1e6:.0f} million are "
            "read. Save it smaller."
        ) from exc
    except _DAMAGE as exc:
        raise BadInput(
            "The picture is damaged or cut off. Open it in an image program and save it again."
        ) from exc

    notes = (*mode_notes, *photo.notes)
    if deep:
        brightest = int(photo.pixels.max())
        notes = (_SCALED, *range_notes(brightest and brightest << 8 | 255), *notes)
    else:
        notes = (*notes, *dark_notes(image.mode, photo.pixels))
    if frames > 1:
        notes = (*notes, f"Only the first of its {frames:,} pictures is shown.")
    return replace(photo, notes=notes)


def _what_it_is(data: bytes) -> str:
    if data[:2] in (b"II", b"MM"):
        return "TIFF but may be a camera's raw file. Save the picture as a plain PNG or JPEG."
    kinds = (kind for start, kind in _OTHER_KINDS.items() if data.lstrip().startswith(start))
    kind = "a DICOM file" if data[128:132] == b"DICM" else next(kinds, "")
    remedy = _REMEDIES.get(kind, "Save the picture as a plain PNG or JPEG.")
    return f"{FORMAT_WORDS}{f' but {kind}' if kind else ''}. {remedy}"


def _read_heic(data: bytes, limits: ImageLimits) -> Photo:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as exc:
        raise BadInput(
            "This is a HEIC photo, which takes pillow-heif to read: install Whylens with its extra "
            "[heic], or save the photo as a JPEG."
        ) from exc
    if "HEIF" not in Image.OPEN:
        Image.register_open("HEIF", HeifImageFile)
    return _decode(data, limits, ("HEIF",))


def _rest_of_jpeg(data: bytes, limits: ImageLimits) -> Photo | None:
    """Return what is there of a JPEG that is cut off, or None if that is too little.

    Decoded once with nothing and once with noise in place of what is missing: the rows in which
    both agree were read from the file.
    """
    data = data.removesuffix(b"\xff")  # half of a marker
    progressive = len(re.findall(rb"\xff[\xc2\xca]\x00[\x0b\x11]\x08", data)) > 0
    try:
        photo = _decode(data + b"\xff\xd9", limits, cut=True)
        if progressive:
            # Every scan covers the whole picture; the last of libjpeg's ten only refines it.
            whole = data.count(b"\xff\xda\x00") >= 10
            return replace(photo, notes=(*photo.notes, _CUT_OFF)) if whole else None
        noisy = _decode(data + b"\x5a\xa5" * 4096 + b"\xff\xd9", limits, cut=True)
    except BadInput:
        return None
    # A picture that EXIF turns misses columns.
    differs = (photo.pixels != noisy.pixels).any(2)
    lines = [differs.any(axis) for axis in (0, 1)]
    share = 1 - min(float(line.mean()) for line in lines)
    if share < _LEAST_ROWS:
        return None
    missing = f" The last {percent(1 - share)} of it are grey." if share < 0.995 else ""
    return replace(photo, notes=(*photo.notes, f"{_CUT_OFF}{missing}"))


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
        converted, mode_notes = _in_known_mode(image)
        photo = _photo(converted)
        return replace(photo, notes=(*mode_notes, *photo.notes))
    except _DAMAGE as exc:
        raise BadInput(
            f"The Pillow image of mode {image.mode!r} cannot be read as a photo "
            f"({type(exc).__name__}: {exc}). Convert it to RGB first."
        ) from exc


def _in_known_mode(image: Image.Image) -> tuple[Image.Image, list[str]]:
    # Modes that most of `FORMATS` never have; the others are what `_photo` takes apart itself.
    match image.mode:
        case "RGBa" | "La":
            return image.convert("RGBA" if image.mode == "RGBa" else "LA"), []
        case "LAB":
            lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
            srgb_image = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
            return image if srgb_image is None else srgb_image, [
                "Its colours were converted from Lab."
            ]
        case "I" | "F":
            values = np.asarray(image, np.float64)
            if not np.isfinite(values).all():
                raise BadInput("The picture holds NaN or infinite values; remove them.")
            low, high = float(values.min()), float(values.max())
            # Pillow's own conversions to these modes keep 0 to 255; 16-bit files are read as "I".
            top = 65535 if image.mode == "I" and high > 255 else 255
            top = 1 if image.mode == "F" and high <= 1 else top
            if low < 0 or high > top:
                raise BadInput(
                    f"A picture of mode {image.mode!r} runs from 0 to {top}; this one runs from "
                    f"{low:g} to {high:g}. Scale it first."
                )
            notes = [] if top == 255 else [f"Values of 0 to {top:,} were scaled to 8 bits."]
            notes += range_notes(int(high), top)
            return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8)), notes
        case _:
            return image, []


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
    if image.format in ("WEBP", "AVIF", "HEIF"):
        cost = 20
    elif image.format == "TIFF":
        cost = 28 if image.mode in ("I", "F") else 12
    elif image.info.get("progressive"):
        cost = 4 + 2 * len(image.getbands())
    limit = limits.memory // cost
    if image.width * image.height > limit:
        kind = "a progressive JPEG" if image.format in ("JPEG", "MPO") else image.format
        raise BadInput(
            f"The picture has {image.width} x {image.height} pixels; as {kind} up to "
            f"{limit / 1e6:.0f} million are read. Save it smaller, or as an ordinary JPEG."
        )


def _check_content(image: Image.Image, data: bytes) -> None:
    if holds_fewer_pixels(image, data):
        raise _holds_fewer(image)


def _holds_fewer(image: Image.Image) -> BadInput:
    return BadInput(
        f"The picture says that it has {image.width} x {image.height} pixels, and holds fewer. "
        "Open it in an image program and save it again."
    )


def _check_parts(data: bytes) -> None:
    if is_crowded(data):
        raise _in_too_many_pieces()


def _in_too_many_pieces() -> BadInput:
    return BadInput(
        "The picture's file is cut into more pieces than any camera or image program makes. "
        "Open it in an image program and save it again."
    )


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
    notes = [_SCALED] if image.mode.startswith("I") else []
    brightest = 0
    profile = image.info.get("icc_profile")
    transform: ImageCms.ImageCmsTransform | None = None
    see_through = False
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(height, top + rows)))
        if image.mode.startswith("I"):
            brightest = max(brightest, int(np.asarray(band).max()))
        colours, alpha = _separate(band)
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
    notes += range_notes(brightest)
    if image.mode == "CMYK" and transform is None:
        notes.append("Its printing inks have no usable profile: its colours are approximate.")
    if transform is not None:
        notes.append("Its colours were converted to sRGB from its own profile.")
    if see_through:
        notes.append("Transparent parts were laid on white.")
    pixels.setflags(write=False)
    return Photo(pixels, tuple(notes))


def range_notes(brightest: int, top: int = 65_535) -> list[str]:
    """Return what a visitor should know of a picture that uses little of its range.

    Args:
        brightest: Its largest value; 0 of a black picture, of which there is nothing to say.
        top: The largest that it could have: of 8 or 16 bits; of others nothing is said.
    """
    if not 0 < brightest <= _DARK.get(top, 0):
        return []
    bits, depth = brightest.bit_length(), top.bit_length()
    return [
        f"Only {bits} of its {depth} bits are used (its largest value is {brightest:,} of "
        f"{top:,}), so it is dark. Multiply its values by {1 << (depth - bits):,} to use the whole "
        "range."
    ]


def dark_notes(mode: str, pixels: Pixels) -> list[str]:
    """Return `range_notes` of a picture whose 8 bits are light; indices and inks are none.

    Args:
        mode: Of the Pillow image that it was.
    """
    return range_notes(int(pixels.max()), 255) if mode in ("L", "LA", "RGB", "RGBA") else []


def _separate(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
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
