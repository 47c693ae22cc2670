"""Where a model looks on the whole: the mean map of every class, in the tab This network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.errors import BadInput
from whylens.core.explainer import is_single_step
from whylens.core.inputs.spec import InputSpec
from whylens.core.models.checkpoints import checkpoint_folders
from whylens.core.outputs.class_means import mean_maps, mean_picture
from whylens.core.outputs.offered_pictures import offered_pictures
from whylens.core.progress import map_progress
from whylens.core.train.report import read_report
from whylens.core.words import percent
from whylens.ui.page.form import StyleControls
from whylens.ui.page.long_events import report_failure, tracked_on, wire_stop
from whylens.ui.page.session import PRIVATE, Session

_FAILED = "Nothing was averaged. "
_WAIT = "Press the button; every picture is asked about its own class."


def build_means(session: Session, model: Component, style: StyleControls) -> None:
    """Build and wire the part of the tab This network that averages maps over images."""
    quick = [
        (explainer.title, name)
        for name, explainer in session.engine.registry.explainers.items()
        if is_single_step(explainer) and not explainer.artifact_kind
    ]
    if not quick:
        return
    with gr.Accordion("Where does it look on average?", open=False, elem_id="means"):
        with gr.Row():
            method = gr.Dropdown(
                quick, value=quick[0][1], label="Method", elem_id="means-method", min_width=200
            )
            count = gr.Slider(
                2, 20, value=6, step=1, label="Pictures of each class", elem_id="means-count",
                buttons=[],
            )  # fmt: skip
        with gr.Row(elem_classes="wl-actions wl-running"):
            run = gr.Button("Average the maps", elem_id="means-run")
            stop = gr.Button("Stop", variant="stop", min_width=90, scale=0)
        status = gr.Textbox(_WAIT, label="Status", elem_id="means-status", max_lines=4)
        grid = gr.Gallery(
            label="Mean maps",
            show_label=False,
            elem_id="means-grid",
            columns=4,
            height="auto",
            object_fit="contain",
            interactive=False,
            visible=False,
        )
    inputs = {"model": model, "method": method, "count": count, **style.inputs}
    event = run.click(
        _runner(session), None, [status, grid], inputs_kwargs=inputs, **tracked_on(status)
    )
    wire_stop(
        stop, event, status, lambda _: "Stopped; nothing was averaged.", session.engine,
        failed=_FAILED,
    )  # fmt: skip
    model.change(lambda: (_WAIT, gr.Gallery([], visible=False)), None, [status, grid], **PRIVATE)


def _runner(session: Session) -> Callable[..., Iterator[Any]]:
    @report_failure(_FAILED, at=0, of=2)
    def average(**values: Any) -> Iterator[Any]:
        method, count = values["method"], int(values["count"])
        name = session.model_name(values["model"])
        folder = checkpoint_folders().get(name)
        report = read_report(folder) if folder else None
        dataset = offered_pictures(session.engine, report.data.name) if report else None
        if report is None or dataset is None or dataset.labels != report.labels:
            raise BadInput(
                "The pictures of this model are not at hand here. On the machine that holds "
                f"them: `whylens means {name} FOLDER --method {method}`."
            )
        means = yield from map_progress(
            mean_maps(session.engine, name, method, dataset, per_class=count),
            lambda share: (f"Averaging: {percent(share)}", gr.skip()),
        )
        input_spec = InputSpec.model_validate(session.engine.card(name).input)
        style = StyleControls.read(values)
        files = [
            (session.store.save_image(mean_picture(mean, input_spec, style)), label)
            for label, mean in means.items()
        ]
        message = (
            f"{session.engine.registry.explainer(method).title}: the mean over {count} "
            "pictures of each class, over the mean picture. What is the same in all of them "
            "shows; what moves about blurs."
        )
        yield message, gr.Gallery(files, visible=True)

    return average
