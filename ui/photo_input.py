"""The image input, without Gradio's own decoding: the engine's gate decides what is a photo."""

from __future__ import annotations

import tempfile
from base64 import b64decode
from binascii import Error as NotBase64
from pathlib import Path
from typing import Any

import gradio as gr

from core.errors import BadInput
from core.images import ImageLimits, Photo, read_photo


class PhotoInput(gr.Image):
    """An image component that hands over the path of the untouched upload.

    Gradio's own would open the file first: it drops alpha, saturates 16 bits, ignores colour
    profiles, and its refusals reach the visitor without a reason.
    """

    is_template = True  # drawn by the front end of gr.Image

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(type="filepath", image_mode=None, format="png", **kwargs)

    def get_config(self, cls: type[Any] | None = None) -> dict[str, Any]:
        """Return the front end's properties, which Gradio reads off the constructor's signature."""
        return dict(super().get_config(cls or gr.Image))

    def preprocess(self, payload: Any) -> str | None:
        """Return the path of the uploaded file, or None."""
        if payload is None:
            return None
        if payload.url and payload.url.startswith("data:"):
            return _saved(payload.url, Path(self.GRADIO_CACHE))
        return None if payload.path is None else str(payload.path)


def _saved(url: str, folder: Path) -> str:
    limit = ImageLimits().bytes
    if len(url) > limit * 4 // 3 + 200:
        raise gr.Error(f"The picture is larger than {limit / 1e6:.0f} MB. Save it smaller.")
    try:
        data = b64decode(url.partition(",")[2], validate=True)
    except NotBase64 as exc:
        raise gr.Error("The picture arrived damaged. Send it again.") from exc
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".img", delete=False) as stream:
        stream.write(data)
    return stream.name


def photo_at(path: str | None) -> Photo:
    """Return the photo in an uploaded file.

    Args:
        path: As handed over by `PhotoInput`.

    Raises:
        BadInput: There is none, or it cannot be read; says why.
    """
    if not path:
        raise BadInput("There is no photo yet. Upload one, paste one, or click an example.")
    file = Path(path)
    limit = ImageLimits().bytes
    if file.stat().st_size > limit:
        raise BadInput(f"The file is larger than {limit / 1e6:.0f} MB. Save it smaller.")
    return read_photo(file.read_bytes())
