"""Where a signal comes from: samples and files; both become the picture that carries it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.errors import BadInput
from whylens.core.explanation import ModelCard
from whylens.core.inputs.signal import SUFFIXES, read_signal
from whylens.ui.page.page_store import PageStore
from whylens.ui.page.session import (
    PREDICTED,
    PRIVATE,
    RUNNER_UP,
    errors_as_messages,
    takes_signals,
)

SAMPLES = Path(__file__).resolve().parents[2] / "examples" / "signals"
NOTHING = "choose a sample"
PHOTO, SIGNAL = "Photo", "Signal"
SOURCES = ["upload", "clipboard", "webcam"]  # of photos


@dataclass(frozen=True)
class SignalInput:
    """The components that a model for signals shows beside the photo's place."""

    box: gr.Group
    sample: Component
    file: Component


def build_signal_input() -> SignalInput:
    """Return the components, built in the open column, hidden until a model wants them."""
    names = sorted(path.name for path in SAMPLES.glob("*.csv"))
    with gr.Group(visible=False, elem_id="signal") as box:
        gr.HTML(
            "<p class='wl-source'>This network reads signals. Choose a sample, or upload a CSV "
            "file with one row of numbers per channel, or an .npy array of that shape.</p>"
        )
        sample = gr.Dropdown(
            [NOTHING, *names], value=NOTHING, label="Sample", elem_id="signal-sample"
        )
        file = gr.File(
            label="Signal (CSV or NPY)",
            file_types=list(SUFFIXES),
            elem_id="signal-file",
            height=140,
        )
    return SignalInput(box, sample, file)


def wire_signal_input(
    parts: SignalInput, question_inputs: Sequence[Component], store: PageStore
) -> None:
    """Connect samples and files to the photo's place, and ask about the predicted class.

    Args:
        question_inputs: Photo, class and the class rather than which.
    """
    parts.sample.input(_load_sample(store), [parts.sample], question_inputs, **PRIVATE)
    parts.file.upload(_load_upload(store), [parts.file], question_inputs, **PRIVATE)


def input_updates(card: ModelCard, path: str | None) -> tuple[Any, Any, Any]:
    """Return the updates of the box, of the photo's place and of the choice of a crop for a model.

    Args:
        path: Of the photo, or of the picture that carries a signal.
    """
    signals = takes_signals(card)
    words = {"label": SIGNAL if signals else PHOTO, "sources": ["upload"] if signals else SOURCES}
    box, fold = gr.Group(visible=signals), gr.Accordion(visible=not signals)
    return box, gr.update(value=path, **words), fold


def _load_sample(store: PageStore) -> Callable[[str], tuple[Any, ...]]:
    def load(name: str) -> tuple[Any, ...]:
        with errors_as_messages():
            if name == NOTHING:
                return (gr.skip(),) * 3
            samples = {path.name: path for path in SAMPLES.glob("*.csv")}
            if name not in samples:
                raise BadInput("There is no sample of this name. Choose one from the list.")
            path = store.save_signal(read_signal(samples[name].read_bytes(), name))
            return path, PREDICTED, RUNNER_UP

    return load


def _load_upload(store: PageStore) -> Callable[[str | None], tuple[Any, ...]]:
    def load(path: str | None) -> tuple[Any, ...]:
        with errors_as_messages():
            if path is None:
                return (gr.skip(),) * 3
            signal = read_signal(Path(path).read_bytes(), Path(path).name)
            return store.save_signal(signal), PREDICTED, RUNNER_UP

    return load
