"""The figure for a paper: what is shown, by the millimetre."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.errors import BadInput
from whylens.core.explanation import Explanation
from whylens.core.outputs.figure import FigureLayout, save_figure
from whylens.core.storage.files import temporary_folder
from whylens.ui.page.form import StyleControls
from whylens.ui.page.long_events import FAILED, QUICK, UNQUEUED, report_failure
from whylens.ui.page.session import Session

WIDTHS = [("85 mm (one column)", 85), ("174 mm (two columns)", 174)]
KINDS = [("PDF", "pdf"), ("SVG", "svg"), ("PNG, 300 dots per inch", "png")]
READY = "Ready: the figure, and a .bib that cites its methods."


def build_figure(
    session: Session,
    screen_inputs: Mapping[str, Component],
    answers_of: Callable[..., Sequence[Explanation]],
    *,
    same_values: str = "",
    key: str = "figure",
    width: int = 174,
) -> None:
    """Build the dialog in the open column and wire it.

    Args:
        screen_inputs: The components that say what is on the screen, by name.
        answers_of: Returns the answers that are shown.
        same_values: What "scaling" of `shown` holds where one colour is one raw value.
        key: What ids of its elements begin with.
        width: In millimetres, to begin with.
    """
    with gr.Row():
        size = gr.Radio(WIDTHS, value=width, label="Width", elem_id=f"{key}-width")
        kind = gr.Radio(KINDS, value="pdf", label="As", elem_id=f"{key}-kind")
        columns = gr.Number(
            0, minimum=0, maximum=12, precision=0, label="Pictures in a row (0: as they fit)",
            elem_id=f"{key}-columns", min_width=160,
        )  # fmt: skip
    with gr.Row():
        captions = gr.Checkbox(value=True, label="Captions", min_width=120)
        original = gr.Checkbox(value=True, label="The input as well", min_width=120)
        letters = gr.Checkbox(value=False, label="Letters a), b), c)", min_width=120)
    with gr.Row(elem_classes="wl-actions"):
        make = gr.Button("Make the figure", elem_id=f"{key}-make")
        save = gr.DownloadButton("Download", visible=False, elem_id=f"{key}-save")
    status = gr.Textbox(label="Figure", elem_id=f"{key}-status", visible=False, max_lines=3)
    fields = {
        "width": size,
        "kind": kind,
        "columns": columns,
        "captions": captions,
        "original": original,
        "letters": letters,
    }

    @report_failure(FAILED, at=0, of=2)
    def draw(request: gr.Request, **values: Any) -> Iterator[Any]:
        answers = answers_of(request, **values)
        if not answers:
            raise BadInput("There are no maps yet. Ask first, then press again.")
        style = StyleControls.read(values)
        layout = FigureLayout(
            width=float(values["width"]),
            columns=int(values["columns"]) or None,
            captions=values["captions"],
            original=values["original"],
            letters=values["letters"],
        )
        with temporary_folder() as folder:
            paths = save_figure(
                [(answer, style) for answer in answers],
                folder / f"figure.{values['kind']}",
                layout,
                same_values=values.get("scaling") == same_values,
            )
            files = ((path.name, path.read_bytes()) for path in paths)
            path = session.store.save_zip(files, stem="whylens-figure")
        yield gr.Textbox(READY, visible=True), gr.DownloadButton(value=path, visible=True)

    # An element that is not there yet cannot show why it failed.
    make.click(lambda: gr.Textbox("Drawing ...", visible=True), None, [status], **UNQUEUED).then(
        draw, None, [status, save], inputs_kwargs={**screen_inputs, **fields}, **QUICK
    )
