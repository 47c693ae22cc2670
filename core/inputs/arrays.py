"""Photos and signals from whatever a script holds: paths, bytes, Pillow images, arrays, tensors."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from whylens.core.errors import BadInput, quote, words_of
from whylens.core.inputs.npy import read_npy
from whylens.core.inputs.photo import (
    Photo,
    bands_of,
    dark_notes,
    photo_from_image,
    photo_of,
    range_notes,
    read_bands,
    read_photo,
)
from whylens.core.inputs.signal import TABLES, in_single, is_signal_file, read_signal
from whylens.core.inputs.spec import InputSpec
from whylens.core.results import Array

if TYPE_CHECKING:
    import torch

_FORMS = "a path, bytes, an open file, a Pillow image, a NumPy array or a tensor"
_CHANNELS = (1, 3, 4)  # of a photo: grey, RGB, RGBA
_ROUNDING = 1e-5  # beyond 0..1, as float32 sums leave it
_NPY = b"\x93NUMPY"
_ADDRESS = re.compile(r"[a-z]+://", re.IGNORECASE)


def to_photo(image: Any) -> Photo:
    """Return the photo that `image` is or names.

    Floats become 256 steps, as a photo has them; where that changes values, a note says so.

    Args:
        image: A path, the bytes of a file, a file opened for them, a Pillow image of any mode, or
            an array or tensor of (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels: bytes, or
            floats in 0 to 1.

    Raises:
        BadInput: It is none of these, or its values are no picture's; says which.
    """
    if isinstance(image, Photo):
        return image
    image = contents_of(image)
    if isinstance(image, Image.Image):
        photo = photo_from_image(image)
        return replace(photo, notes=(*photo.notes, *dark_notes(image.mode, photo.pixels)))
    if isinstance(image, str | os.PathLike):
        path = _existing(image)
        if path.suffix.lower() != ".npy":
            try:
                return read_photo(_content(path))
            except BadInput as exc:  # of several it is to be known which
                raise BadInput(f"{path.name}: {exc}") from exc
        return _photo_from_array(_load(path), channels_first=False)
    if isinstance(image, bytes):
        return read_photo(image)
    return _photo_from_array(_array(image), channels_first=_is_tensor(image))


def contents_of(image: Any) -> Any:
    """Return the bytes of a file that is open, so that they can be read twice; an array of .npy.

    A file that was written to and not wound back is read from its beginning. Anything else comes
    back as it is.

    Raises:
        BadInput: It was opened as text, or cannot be read.
    """
    read = getattr(image, "read", None)
    if callable(read):
        try:
            data = read()
            if not data and hasattr(image, "seek"):
                image.seek(0)
                data = read()
        except (OSError, ValueError) as exc:  # it was opened to be written, or closed
            raise BadInput(f"The open file cannot be read: {exc}.") from exc
        if isinstance(data, str):
            raise BadInput("The file is open as text. Open it as bytes: open(path, 'rb').")
        image = data
    if isinstance(image, bytes | bytearray | memoryview):
        image = bytes(image)
        return _array_of(image, "This file") if image.startswith(_NPY) else image
    return image


def images_of(image: Any) -> tuple[list[Any], bool]:
    """Return the images of a list, or one alone, and whether it is a list; files are read.

    Raises:
        BadInput: It is a list of numbers, which is no image and holds none.
    """
    if not isinstance(image, list | tuple):
        return [contents_of(image)], False
    if len(image) == 2 and not isinstance(image[0], int | float) and isinstance(image[1], int):
        raise BadInput("This is a pair of an image and its class. Give the image alone: pair[0].")
    if any(isinstance(item, list | tuple | int | float) for item in image):
        raise BadInput(
            "A list holds several images. Of the numbers of one make an array: np.array(...)."
        )
    return [contents_of(item) for item in image], True


def reads_photos(input_spec: InputSpec) -> bool:
    """Return whether a network is fed photos, in colour or grey, and not arrays as they are."""
    return len(input_spec.size) == 2 and input_spec.channels in (1, 3)


def read_channels(image: Any, input_spec: InputSpec) -> tuple[Array, tuple[str, ...]]:
    """Return (C, *S) float32 of a signal, a volume or a picture with other channels than RGB.

    With it comes what was done to the values.

    Values are taken as they are, but bytes of a picture, which become shares of 255.

    Args:
        image: A path to a CSV or .npy file, an array or tensor with the channels first or last,
            or a Pillow image whose bands are the channels, as those of RGBA are four.

    Raises:
        BadInput: It is none of these.
    """
    if isinstance(image, str | os.PathLike):
        path = _existing(image)
        if path.suffix.lower() == ".npy":
            array = _load(path)
        elif is_signal_file(path.name):
            array = read_signal(_content(path), path.name)
        elif path.suffix.lower() in (".tif", ".tiff") and len(input_spec.size) == 2:
            try:
                array = read_bands(_content(path))
            except BadInput as exc:
                raise BadInput(f"{path.name}: {exc}") from exc
        else:
            raise BadInput(
                f"{path.name} is a photo by its name; this network takes arrays of "
                f"{(input_spec.channels, *input_spec.size)}. Give one, or a .csv or .npy file "
                "of it."
            )
    elif isinstance(image := contents_of(image), bytes):
        tiff = image[:4] in (b"II*\0", b"MM\0*") and len(input_spec.size) == 2
        array = read_bands(image) if tiff else read_signal(image, "signal.csv")
    elif isinstance(image, Image.Image):
        array = bands_of(image, input_spec.channels)
    else:
        array = _array(image)
    notes: tuple[str, ...] = ()
    if array.dtype == np.uint8 and len(input_spec.size) == 2:
        array = array / np.float32(255)
        notes = ("Its bytes were taken as shares of 255.",)
    elif array.dtype.kind in "iu" and len(input_spec.size) > 1:
        notes = (
            f"Its values of {8 * array.dtype.itemsize} bits were taken as they are, "
            f"{array.min():,} to {array.max():,}: scale them where the network was fed others.",
        )
    expected = (input_spec.channels, *input_spec.size)
    if array.ndim == len(expected) + 1 and len(array) == 1:
        array = array[0]
    if array.shape != expected and array.shape == (*input_spec.size, input_spec.channels):
        array = np.moveaxis(array, -1, 0)
    if array.ndim == len(input_spec.size):
        array = array[None]
    return in_single(array), notes


def shape_of(images: Sequence[Any], size: int | Sequence[int] | None = None) -> tuple[int, ...]:
    """Return (channels, *S) of the largest image; channels are 0 for a photo, which fits any.

    Args:
        images: As for `to_photo` and `read_channels`; one at least.

    Raises:
        BadInput: One of them is no image.
    """
    shapes = [_shape(image, size) for image in images]
    axes = len(shapes[0])
    if any(len(shape) != axes for shape in shapes):
        raise BadInput("Give photos, or arrays of one shape, not both.")
    return tuple(max(shape[axis] for shape in shapes) for axis in range(axes))


def _shape(image: Any, size: int | Sequence[int] | None) -> tuple[int, ...]:
    expected = None if size is None or isinstance(size, int) else tuple(size)
    is_file = isinstance(image, str | os.PathLike)
    if is_file and Path(image).suffix.lower() in TABLES:
        path = _existing(image)
        return read_signal(_content(path), path.name).shape
    is_array = is_file and Path(image).suffix.lower() == ".npy"
    if isinstance(image, bytes) and expected is not None and len(expected) == 1:
        return read_signal(image, "signal.csv").shape
    if not is_array and (is_file or isinstance(image, Photo | Image.Image | bytes | bytearray)):
        width, height = to_photo(image).size
        return 0, height, width
    array = _load(_existing(image)) if is_array else _array(image)
    shape = tuple(array.shape)
    if len(shape) == 4 and shape[0] == 1 and (expected is None or len(expected) == 2):
        shape = shape[1:]
    if expected is not None and shape[1:] != expected and shape[:-1] == expected:
        shape = (shape[-1], *shape[:-1])
    if expected is not None and len(expected) != 2:
        return shape
    if len(shape) == 2:
        return 0, *shape
    if len(shape) == 3 and not {shape[0], shape[2]} & {1, 3}:
        first = shape[0] < shape[2] or shape[1:] == expected
        return shape if first else (shape[2], *shape[:2])
    if len(shape) == 3:
        width, height = to_photo(image).size
        return 0, height, width
    return shape


def check_is_no_address(name: str) -> None:
    """Raise BadInput where a file's name is an address on the web."""
    if _ADDRESS.match(name):
        raise BadInput(
            f"{quote(name)} is an address; nothing is fetched. Save it, and give the file."
        )


def _existing(name: str | os.PathLike[str]) -> Path:
    text = os.fspath(name)
    check_is_no_address(text)
    try:
        path = Path(text).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError) as exc:  # too long for a name; of a user whom nobody knows
        raise BadInput(
            f"{quote(text, limit=24)} is no path of a file. An image is {_FORMS}; of text that "
            "holds one, as base64 does, give the bytes: base64.b64decode(text)."
        ) from exc
    if is_folder:
        raise BadInput(
            f"{quote(text)} is a folder: give its photos in a list, or explain it on the command "
            "line, which takes folders."
        )
    if not is_file:
        raise BadInput(f"There is no file {quote(text)}.")
    return path


def _load(path: Path) -> npt.NDArray[Any]:
    return _array_of(_content(path), path.name)


def _array_of(data: bytes, name: str) -> npt.NDArray[Any]:
    try:
        return read_npy(data)
    except (ValueError, EOFError, OSError) as exc:
        raise BadInput(f"{name} holds no NumPy array of numbers: {exc}.") from exc


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise BadInput(f"{path} cannot be read: {exc.strerror}.") from exc


def _is_tensor(image: Any) -> bool:
    import torch

    return isinstance(image, torch.Tensor)


def _numbers_of(tensor: torch.Tensor) -> npt.NDArray[Any]:
    if tensor.is_meta:
        raise BadInput(
            "The tensor is on the device 'meta', where none holds values. Give one that does."
        )
    try:
        dense = tensor.detach().cpu().to_dense().resolve_conj().resolve_neg()
        numbers: npt.NDArray[Any] = (dense.float() if dense.is_floating_point() else dense).numpy()
    except (RuntimeError, TypeError) as exc:  # quantised or nested ones, and those of a transform
        raise BadInput(
            f"The tensor cannot be read as an array ({words_of(exc)}). Make an ordinary one of it."
        ) from exc
    return numbers


def _array(image: Any) -> npt.NDArray[Any]:
    if _is_tensor(image):
        image = _numbers_of(image)
    elif not hasattr(image, "__array__") and not isinstance(image, list | tuple):
        hint = " Of an iterator make a list: [*images]." if hasattr(image, "__next__") else ""
        if image is None:  # the commonest way to none
            hint = " cv2.imread gives None for a file that it cannot read: check the path."
        raise BadInput(f"An image is {_FORMS}, not a {type(image).__name__}.{hint}")
    try:
        array = np.asarray(image)
    except ValueError as exc:
        raise BadInput("The rows of this list have different lengths.") from exc
    if array.dtype.kind not in "biuf":
        raise BadInput(f"An image is {_FORMS}; this one holds {array.dtype}, not numbers.")
    return array


def _photo_from_array(array: npt.NDArray[Any], *, channels_first: bool) -> Photo:
    array = _height_width_channels(array, channels_first=channels_first)
    pixels, note = _bytes_of(array)
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        photo = photo_of(pixels)
    else:
        photo = photo_from_image(
            Image.fromarray(np.squeeze(pixels, 2) if pixels.shape[2:] == (1,) else pixels)
        )
    return replace(photo, notes=(*photo.notes, note)) if note else photo


def _height_width_channels(array: npt.NDArray[Any], *, channels_first: bool) -> npt.NDArray[Any]:
    shape = array.shape
    if array.ndim == 4:
        if len(array) != 1:
            raise BadInput(
                f"This is a batch of {len(array)} images; give them as a list: [*batch]."
            )
        array = array[0]
    if array.ndim == 2:
        return array
    if array.ndim == 3:
        first, last = array.shape[0] in _CHANNELS, array.shape[2] in _CHANNELS
        if first and (channels_first or not last):
            return np.moveaxis(array, 0, 2)
        if last:
            return array
    raise BadInput(
        f"An image array is (height, width), (height, width, channels) or (channels, height, "
        f"width) with 1, 3 or 4 channels; this one is {shape}."
    )


def _bytes_of(array: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], str]:
    if array.size == 0:
        raise BadInput(f"The image array is empty: {array.shape}.")
    if array.dtype == np.uint8:
        return array, " ".join(range_notes(int(array.max()), 255))
    if array.dtype == np.bool_:
        return array * np.uint8(255), ""
    if array.dtype == np.uint16:
        note = " ".join(["16-bit values were scaled to 8 bits.", *range_notes(int(array.max()))])
        return np.rint(array / np.float64(257)).astype(np.uint8), note
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise BadInput("The image array holds NaN or infinite values; remove them.")
    low, high = float(values.min()), float(values.max())
    if array.dtype.kind in "iu":
        if low < 0 or high > 255:
            raise BadInput(
                f"Whole numbers of an image lie in 0 to 255; these run from {low:g} to {high:g}. "
                "Scale them, or give floats in 0 to 1."
            )
        return values.astype(np.uint8), " ".join(range_notes(int(high), 255))
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise BadInput(_beyond(low, high))
    steps = np.clip(values, 0, 1) * 255
    pixels = np.rint(steps)
    changed = float(np.abs(steps - pixels).max()) > 0.01
    note = "Floats were rounded to the 256 steps of a photo." if changed else ""
    return pixels.astype(np.uint8), note


def _beyond(low: float, high: float) -> str:
    run = f"Floats of an image lie in 0 to 1; these run from {low:.3g} to {high:.3g}."
    if low >= 0 and 2 < high <= 255:
        return f"{run} They look like bytes: divide them by 255, or give them as uint8."
    return (
        f"{run} Most likely the image was normalised already. Give it as it was before, and the "
        "normalisation as mean= and std=: Whylens applies it."
    )
