"""The examples that suit a network: shipped photos or signals, as buttons."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from PIL import Image

from whylens.core.errors import CoreError
from whylens.core.inputs.signal import plot_signal, read_signal, signal_picture
from whylens.core.models.checkpoints import checkpoint_folders, read_manifest
from whylens.ui.page import html
from whylens.ui.page.long_events import UNQUEUED
from whylens.ui.page.page_store import PageStore
from whylens.ui.page.session import PREDICTED, RUNNER_UP, Session, errors_as_messages

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_SIDE = 72
_PHOTOS, _SIGNALS = "photos", "signals"
# Names of examples that a network names well and learnt the like of, by network; "" for all others.
_OPENINGS = EXAMPLES / "openings.json"


def build_examples() -> Component:
    """Return the buttons, in the open column."""
    return gr.HTML("", elem_id="examples", js_on_load=html.CELL_JS, padding=False)


def wire_examples(
    session: Session, buttons: Component, model: Component, question_inputs: Sequence[Component]
) -> None:
    """Let a click on a button give its example, and ask about the predicted class.

    Args:
        question_inputs: Photo, class and the class rather than which.
    """

    def choose(model: str, event: gr.EventData) -> Any:
        with errors_as_messages():
            path = example(session.store, model, str(getattr(event, "cell", "")))
            return (path, PREDICTED, RUNNER_UP) if path else (gr.skip(),) * 3

    buttons.click(choose, [model], question_inputs, **UNQUEUED)


def example_names(model: str) -> list[str]:
    """Return the names of the examples that suit a network."""
    return [path.stem for path in _files(_folder(model))]


def opening_names(model: str) -> list[str]:
    """Return those of the examples that a network names well, or all where that is not known."""
    names, openings = example_names(model), json.loads(_OPENINGS.read_text(encoding="utf-8"))
    return [name for name in names if name in openings.get(model, openings[""])] or names


def example(store: PageStore, model: str, name: str) -> str | None:
    """Return the path of an example as the photo's place takes it; None where it is unknown."""
    for path in _files(_folder(model)):
        if path.stem == name:
            content, suffix = path.read_bytes(), path.suffix
            if suffix == ".csv":
                content, suffix = signal_picture(read_signal(content, path.name)), ".png"
            return store.save_file(content, suffix=suffix, stem=path.stem)
    return None


def example_name(store: PageStore, model: str, photo: str | None) -> str:
    """Return which of a network's examples lies at a path, or ""."""
    path = Path(photo or "")
    example_path = example(store, model, path.stem)
    same = (
        example_path is not None
        and path.is_file()
        and path.read_bytes() == Path(example_path).read_bytes()
    )
    return path.stem if same else ""


@lru_cache(maxsize=64)
def buttons_html(model: str) -> str:
    """Return HTML of the buttons for a network."""
    thumbnails = {}
    for path in _files(_folder(model)):
        content = path.read_bytes()
        if path.suffix == ".csv":
            small = plot_signal(read_signal(content, path.name))
        else:
            with Image.open(io.BytesIO(content)) as image:
                small = image.convert("RGB")
        small.thumbnail((2 * _SIDE, 2 * _SIDE))
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=80)
        thumbnails[path.stem] = stream.getvalue()
    return html.example_buttons(thumbnails)


def _folder(model: str) -> str:
    """Return the name of the folder of examples that a network states or its input suggests."""
    folder = checkpoint_folders().get(model)
    if folder is None:
        return _PHOTOS
    try:
        manifest = read_manifest(folder)
    except CoreError:  # the model's own card says what is wrong with it
        return _PHOTOS
    return manifest.examples or (_SIGNALS if len(manifest.input_size) == 1 else _PHOTOS)


def _files(folder: str) -> list[Path]:
    # A manifest is somebody's file: only names of folders that lie here count.
    if folder not in {path.name for path in EXAMPLES.glob("*/")}:
        return []
    return sorted(p for p in (EXAMPLES / folder).iterdir() if p.suffix in (".jpg", ".csv"))
