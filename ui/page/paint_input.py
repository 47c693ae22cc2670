"""The editor in which a visitor marks places, with bounds on what its browser may send."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import HTTPException
from gradio.components.base import server
from gradio.components.image_editor import AcceptBlobs, EditorData
from PIL import Image

from whylens.core.storage.cache import ByteLRU
from whylens.ui.page.photo_input import WithoutStub

# Of a drawing of some hundred pixels a side, which is all that a browser draws.
MOST_LAYERS, MOST_LAYER_BYTES, MOST_SIDE = 4, 1_000_000, 1024
MOST_DRAWING_BYTES = 32_000_000  # of all drawings that wait for their question
Layers = Mapping[int, bytes]


class PaintInput(gr.ImageEditor, metaclass=WithoutStub):  # type: ignore[misc]
    """An image editor that hands over the layers alone, each a picture with its strokes.

    Gradio's own takes any file for a layer, of any size and at any place in its list, opens it with
    every decoder that there is, and keeps what no question follows.
    """

    is_template = True  # the browser shows it as the editor that it is

    @property
    def blob_storage(self) -> ByteLRU[str, Layers]:
        """The drawings whose question has not come yet, by id."""
        return self._drawings

    @blob_storage.setter
    def blob_storage(self, _: object) -> None:  # Gradio's constructor sets a dict without bounds
        self._drawings: ByteLRU[str, Layers] = ByteLRU(
            MOST_DRAWING_BYTES, lambda layers: 200 + sum(map(len, layers.values()))
        )

    @server  # type: ignore[untyped-decorator]
    def accept_blobs(self, data: AcceptBlobs) -> None:
        """Keep a layer until its drawing's question comes.

        Raises:
            HTTPException: It is none that a browser sends, or too large.
        """
        facts = data.data
        drawing, kind, index = (str(facts.get(name, "")) for name in ("id", "type", "index"))
        if kind != "layer":  # the picture below the strokes is known here
            return
        has_layer = index in map(str, range(MOST_LAYERS))
        content = data.files[0][1] if data.files else b""
        if not has_layer or len(drawing) > 100 or len(content) > MOST_LAYER_BYTES:
            raise HTTPException(413, "This is no layer of a drawing, or it is too large.")
        layers = self.blob_storage.peek(drawing) or {}
        self.blob_storage.put(drawing, {**layers, int(index): content})

    def preprocess(self, payload: EditorData | None) -> dict[str, Any] | None:
        """Return the layers as pictures under "layers"; None where there is no drawing.

        Raises:
            Error: A layer is none.
        """
        if payload is None:
            return None
        if payload.id is not None:
            layers = self.blob_storage.peek(payload.id) or {}
            self.blob_storage.forget(payload.id)
            contents = [layers[index] for index in sorted(layers)]
        else:
            contents = [_content(layer.path) for layer in payload.layers[:MOST_LAYERS]]
        return {"background": None, "layers": [*map(_layer, contents)], "composite": None}


def paint_input(**kwargs: Any) -> PaintInput:
    """Return the component."""
    return PaintInput(type="pil", layers=False, **kwargs)


def _content(path: str | None) -> bytes:
    with Path(path or "").open("rb") as stream:  # Gradio has checked that it is an upload
        return stream.read(MOST_LAYER_BYTES + 1)


def _layer(content: bytes) -> Image.Image:
    """Return a layer with its alpha; what is no drawing is refused before it is decoded."""
    try:
        layer = Image.open(BytesIO(content), formats=("PNG", "WEBP"))
        if len(content) > MOST_LAYER_BYTES or max(layer.size) > MOST_SIDE:
            raise gr.Error("The drawing is too large. Draw on the picture that is shown.")
        return layer.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise gr.Error("The drawing arrived damaged. Draw it again.") from exc
