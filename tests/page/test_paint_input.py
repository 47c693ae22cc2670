"""What a browser may send of a drawing: a few small layers, and nothing else is decoded or kept."""

from __future__ import annotations

from io import BytesIO

import gradio as gr
import numpy as np
import pytest
from fastapi import HTTPException
from gradio.components.image_editor import AcceptBlobs, EditorData
from gradio.data_classes import FileData
from PIL import Image

from whylens.ui.page.paint_input import (
    MOST_DRAWING_BYTES,
    MOST_LAYER_BYTES,
    PaintInput,
    paint_input,
)


def layer(size=(420, 420), kind="PNG", mode="RGBA"):
    stream = BytesIO()
    image = Image.new(mode, size)
    image.paste(255 if mode == "L" else (255, 0, 0, 200)[: len(mode)], (10, 20, 30, 40))
    image.save(stream, kind)
    return stream.getvalue()


def blobs(content, *, index="0", drawing="mine", kind="layer"):
    data = {"type": kind, "index": index, "file": b"", "id": drawing}
    return AcceptBlobs.model_construct(data=data, files=[("file", content)])


@pytest.fixture
def editor() -> PaintInput:
    return paint_input(render=False)


def layers_of(editor, drawing="mine"):
    return editor.preprocess(EditorData(id=drawing))["layers"]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_layer_comes_with_its_strokes_and_once(editor, kind):
    editor.accept_blobs(blobs(layer(kind=kind)))
    editor.accept_blobs(blobs(layer(), kind="background", index="null"))
    (image,) = layers_of(editor)
    strokes = np.asarray(image.getchannel("A")) > 0
    assert strokes[20:40, 10:30].all()
    assert strokes.sum() == 400
    assert layers_of(editor) == []
    assert editor.preprocess(None) is None


@pytest.mark.parametrize("index", ["1000000000", "4", "-1", "null", "1e3", "0.5", ""])
def test_a_layer_at_no_place_of_a_drawing_is_refused(editor, index):
    with pytest.raises(HTTPException):
        editor.accept_blobs(blobs(layer(), index=index))
    assert layers_of(editor) == []


def test_what_waits_for_its_question_is_bounded(editor):
    with pytest.raises(HTTPException):
        editor.accept_blobs(blobs(b"x" * (MOST_LAYER_BYTES + 1)))
    for number in range(60):
        editor.accept_blobs(blobs(b"x" * MOST_LAYER_BYTES, drawing=f"{number}"))
    drawings = [editor.blob_storage.peek(f"{number}") for number in range(60)]
    assert (
        0 < sum(layers is not None for layers in drawings) <= MOST_DRAWING_BYTES / MOST_LAYER_BYTES
    )


@pytest.mark.parametrize(
    "content",
    [
        lambda: layer((9000, 9000), mode="L"),  # 79 kB, and 324 MB once it is decoded
        lambda: layer(kind="TIFF"),
        lambda: layer((60, 60), mode="RGB", kind="EPS"),
        lambda: b"no picture",
        lambda: layer()[:200],
        lambda: b"",
    ],
    ids=["large", "tiff", "eps", "text", "cut off", "empty"],
)
def test_what_is_no_drawing_is_refused_in_words(editor, content, tmp_path, monkeypatch):
    content = content()
    decodings, convert = [], Image.Image.convert

    def counting_convert(image, *args, **kwargs):
        decodings.append(image.size)
        return convert(image, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "convert", counting_convert)
    editor.accept_blobs(blobs(content))
    with pytest.raises(gr.Error, match="drawing"):
        layers_of(editor)
    path = tmp_path / "layer.png"
    path.write_bytes(content)
    with pytest.raises(gr.Error, match="drawing"):
        editor.preprocess(EditorData(layers=[FileData(path=str(path))] * 9))
    assert (9000, 9000) not in decodings
