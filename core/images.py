"""From bytes to an RGB photo, upright and in sRGB, or a typed refusal with a reason.

May touch Pillow and numpy. Only five formats are ever offered to a parser; sizes are checked
before anything is decoded.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps

from core.errors import BadInput

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
# All that Pillow raises on damaged files of these formats, as its own fuzzers list it.
_DAMAGE = (
    OSError, ValueError, SyntaxError, EOFError, ArithmeticError, LookupError, TypeError,
    AttributeError, NotImplementedError, MemoryError, struct.error, zlib.error,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is accepted.

    Attributes:
        bytes: Largest file.
        pixels: Most pixels.
        side: Longest side.
        shortest: Shortest side.
    """

    bytes: int = 12_000_000
    pixels: int = 30_000_000
    side: int = 12_000
    shortest: int = 8


@dataclass(frozen=True, slots=True)
class Photo:
    """An upright sRGB image.

    Attributes:
        pixels: (H, W, 3) uint8, read-only.
        notes: What was done to it that a visitor should know.
    """

    pixels: npt.NDArray[np.uint8]
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def image(self) -> Image.Image:
        """Return a Pillow image of it."""
        return Image.fromarray(self.pixels)


def read_photo(data: bytes, *, limits: ImageLimits | None = None) -> Photo:
    """Return the photo that these bytes hold: first frame, upright, sRGB, on white.

    Args:
        data: A PNG, JPEG, WEBP, BMP or GIF file.
        limits: What is accepted.

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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # odd EXIF; it is read again below
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_size(image.size, limits)
            image.load()
            notes: list[str] = []
            upright = ImageOps.exif_transpose(image)
            return Photo(_frozen(_to_rgb(upright, image.info.get("icc_profile"), notes)), tuple(notes))
    except BadInput:
        raise
    except _DAMAGE as exc:
        if isinstance(exc, Image.UnidentifiedImageError):
            raise BadInput(
                "This is not a readable PNG, JPEG, WEBP, BMP or GIF. Save the picture in one of "
                "these formats."
            ) from exc
        if isinstance(exc, Image.DecompressionBombError | Image.DecompressionBombWarning):
            raise BadInput(
                f"The picture has too many pixels; up to {limits.pixels / 1e6:.0f} million are "
                "read. Save it smaller."
            ) from exc
        raise BadInput(
            "The picture is damaged or cut off. Open it in an image program and save it again."
        ) from exc


def photo_of(pixels: npt.NDArray[np.uint8]) -> Photo:
    """Return a photo from an array.

    Args:
        pixels: (H, W, 3) uint8, sRGB, upright.

    Raises:
        BadInput: It has another shape or type, or is out of the limits.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise BadInput("An image array must be (height, width, 3) bytes.")
    _check_size((pixels.shape[1], pixels.shape[0]), ImageLimits())
    return Photo(_frozen(np.array(pixels)))


def _check_size(size: tuple[int, int], limits: ImageLimits) -> None:
    width, height = size
    if width * height > limits.pixels:
        raise BadInput(
            f"The picture has {width} x {height} pixels; up to {limits.pixels / 1e6:.0f} million "
            "are read. Save it smaller."
        )
    if max(size) > limits.side:
        raise BadInput(f"A side of {max(size)} pixels is too long; up to {limits.side} are read.")
    if min(size) < limits.shortest:
        raise BadInput(
            f"The picture has {width} x {height} pixels; at least {limits.shortest} x "
            f"{limits.shortest} are needed to show anything."
        )


def _to_rgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
        notes.append("16-bit values were scaled to 8 bits.")
    if image.mode in ("P", "PA", "1"):
        transparent = "transparency" in image.info or image.mode == "PA"
        image = image.convert("RGBA" if transparent else "RGB")
    alpha = None
    if image.mode in ("RGBA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA" if image.mode not in ("LA", "La") else "LA")
        alpha = image.getchannel("A")
        image = image.convert("RGB" if image.mode == "RGBA" else "L")
    if profile:
        image = _to_srgb(image, profile, notes)
    image = image.convert("RGB")
    if alpha is not None:
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=alpha)
        image = white
        if alpha.getextrema() != (255, 255):
            notes.append("Transparent parts were laid on white.")
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    top = 65535.0 if image.mode.startswith("I") else max(1.0, float(np.nanmax(values)))
    scaled = np.nan_to_num(values / top * 255.0, nan=0.0, posinf=255.0, neginf=0.0)
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        notes.append("Its colour profile is unusable; the colours were read as sRGB.")
        return image
    return image if converted is None else converted


def _frozen(pixels: Image.Image | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    array = np.array(pixels, dtype=np.uint8)
    array.setflags(write=False)
    return array
