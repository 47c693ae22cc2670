"""The image input, without Gradio's own decoding: the engine's gate decides what is a photo."""

from __future__ import annotations

import hashlib
from abc import ABCMeta
from base64 import b64decode
from binascii import Error as NotBase64
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta

from whylens.core.errors import BadInput
from whylens.core.inputs.photo import ImageLimits, Photo, read_photo
from whylens.core.storage.files import write_atomically

GONE = "The photo is no longer kept. Upload it again."


class WithoutStub(ComponentMeta):  # type: ignore[misc]
    """Makes a component's class as Python does: Gradio would write a stub file beside it."""

    def __new__(cls, *parts: Any) -> Any:
        """Return the class."""
        return ABCMeta.__new__(cls, *parts)


class PhotoInput(gr.Image, metaclass=WithoutStub):  # type: ignore[misc]
    """An image component that hands over the path of the untouched upload.

    Gradio's own would open the file first: it drops alpha, saturates 16 bits, ignores colour
    profiles, and its refusals reach the visitor without a reason. A class, since Gradio makes the
    component anew where an event updates it.
    """

    is_template = True  # the browser shows it as the image that it is

    def preprocess(self, payload: Any) -> str | None:
        """Return the path of the upload, or None."""
        if payload is None:
            return None
        if payload.url and payload.url.startswith("data:"):
            try:
                return save_data_url(payload.url, Path(self.GRADIO_CACHE))
            except BadInput as exc:
                raise gr.Error(str(exc)) from exc
        return None if payload.path is None else str(payload.path)


def photo_input(**kwargs: Any) -> PhotoInput:
    """Return the component."""
    return PhotoInput(type="filepath", image_mode=None, format="png", **kwargs)


def save_data_url(url: str, folder: Path) -> str:
    """Return the path of a file with the picture that an address holds.

    Args:
        url: Begins with "data:".
        folder: Of visitors' files; it gets a folder of its own there, as all that came whole do.

    Raises:
        BadInput: It is too large, or damaged.
    """
    limit = ImageLimits().bytes
    if len(url) > limit * 4 // 3 + 200:
        raise BadInput(f"The picture is larger than {limit / 1e6:.0f} MB. Save it smaller.")
    try:
        data = b64decode(url.partition(",")[2], validate=True)
    except (NotBase64, ValueError) as exc:
        raise BadInput("The picture arrived damaged. Send it again.") from exc
    path = folder / hashlib.sha256(data).hexdigest()[:24] / "photo.img"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    return str(path)


def photo_at(path: str | None) -> Photo:
    """Return the photo in an uploaded file.

    Raises:
        BadInput: There is none, or it cannot be read; says why.
    """
    if not path:
        raise BadInput("There is no photo yet. Upload one, paste one, or click an example.")
    limit = ImageLimits().bytes
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as exc:
        raise BadInput(GONE) from exc
    if len(data) > limit:
        raise BadInput(f"The file is larger than {limit / 1e6:.0f} MB. Save it smaller.")
    return read_photo(data)
