"""Where a model looks on the whole: the mean map of every class, in the Model report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.datasets.by_name import load_registered
from whylens.core.errors import BadInput
from whylens.core.explainer import is_single_step
from whylens.core.models.checkpoints import checkpoint_folders
from whylens.core.outputs.class_means import mean_maps, mean_picture
from whylens.core.outputs.render import Style
from whylens.core.progress import map_progress
from whylens.core.train.report import read_report
from whylens.ui.page.long_events import saying, stopped_by
from whylens.ui.page.panel import Look
from whylens.ui.page.session import QUIET, Session

_FAILED = "That did not work; nothing was averaged."
_WAIT = "Press the button; every picture is asked about its own class."


def build_means(session: Session, model: Component, look: Look) -> None:
    """Draw and wire the part of the Model report that averages maps over pictures.

    Args:
        session: Engine and shelf.
        model: The model's drop-down.
        look: Colours and opacity.
    """
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
        with gr.Row(elem_classes="wl-actions"):
            run = gr.Button("Average the maps", elem_id="means-run")
            stop = gr.Button("Stop", variant="stop", min_width=90, scale=0)
        said = gr.Textbox(_WAIT, label="Status", elem_id="means-status", max_lines=4)
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
    event = run.click(
        _runner(session),
        [model, method, count, *look.inputs],
        [said, grid],
        concurrency_id="work",
        trigger_mode="once",
        show_progress="hidden",
        api_visibility="private",
    )
    stopped_by(stop, event, said, lambda _: "Stopped; nothing was averaged.", failed=_FAILED)
    model.change(lambda: (_WAIT, gr.Gallery([], visible=False)), None, [said, grid], **QUIET)


def _runner(session: Session) -> Callable[..., Iterator[Any]]:
    @saying(_FAILED, at=0, of=2)
    def average(
        model: str, method: str, count: float, colours: str, opacity: float, sure: bool
    ) -> Iterator[Any]:
        name = session.model_name(model)
        folder = checkpoint_folders().get(name)
        report = read_report(folder) if folder else None
        dataset = (
            load_registered(report.data.name, session.engine.registry.datasets) if report else None
        )
        if report is None or dataset is None or dataset.labels != report.labels:
            raise BadInput(
                "The pictures of this model are not at hand here. On the machine that holds "
                f"them: `whylens means {name} FOLDER --method {method}`."
            )
        work = mean_maps(session.engine, name, method, dataset, per_class=int(count))
        found = yield from map_progress(work, lambda share: (f"Averaging: {share:.0%}", gr.skip()))
        spec = session.engine.backbone(name).spec
        style = Style(colours, opacity, sure)
        files = [
            (session.shelf.picture(mean_picture(mean, spec, style)), label)
            for label, mean in found.items()
        ]
        told = (
            f"{session.engine.registry.explainer(method).title}: the mean over {int(count)} "
            "pictures of each class, over the mean picture. What is the same in all of them "
            "shows; what moves about blurs."
        )
        yield told, gr.Gallery(files, visible=True)

    return average
