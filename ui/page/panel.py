"""One explainer's tab: its words, generated controls, answer and download. Knows no explainer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.explainer import Explainer, is_single_step
from whylens.core.results import Heatmap
from whylens.core.words import percent
from whylens.ui.page import html
from whylens.ui.page.controls import build_controls
from whylens.ui.page.download import build_download, stored_answer
from whylens.ui.page.form import QuestionForm, StyleControls, question_id
from whylens.ui.page.html import slug
from whylens.ui.page.judging import wire_judging
from whylens.ui.page.long_events import (
    FAILED,
    UNQUEUED,
    queue_of,
    report_failure,
    throttle,
    wire_stop,
)
from whylens.ui.page.own_images import build_edits, build_own_images, editable_items
from whylens.ui.page.panel_updates import answer_updates, panel_head
from whylens.ui.page.session import PREDICTED, PRIVATE, RUNNER_UP, Session, visitor_id


@dataclass(frozen=True)
class Cards:
    """The cards of all methods, drawn anew once there is something new to see on them.

    Attributes:
        draw: Returns their HTML for a request and the values of `inputs` by name.
    """

    component: Component
    inputs: Mapping[str, Component]
    draw: Callable[..., str]


@dataclass(frozen=True)
class Panel:
    """The components of one explainer's tab that other events write to."""

    name: str
    notice: Component
    run: Component
    picture: Component
    examples: Component
    legend: Component
    status: Component
    fields: Mapping[str, Component]

    @property
    def answer(self) -> list[Component]:
        """The components that `answer_updates` fills."""
        return [self.picture, self.examples, self.legend]


def build_panel(
    explainer: Explainer[Any],
    session: Session,
    form: QuestionForm,
    style: StyleControls,
    cards: Cards,
) -> Panel:
    """Return the panel of one explainer, built in the open tab and wired."""
    name, key = explainer.name, slug(explainer.name)
    notice = gr.HTML("", elem_id=f"{key}-notice", visible=False, js_on_load=html.CELL_JS)
    quick = ["wl-quick"] if is_single_step(explainer) else []
    with gr.Row(elem_classes="wl-actions wl-running"):
        run = gr.Button(
            f"Explain with {explainer.title}",
            variant="primary",
            elem_id=f"{key}-run",
            elem_classes=quick,
        )
        stop = gr.Button("Stop", variant="stop", elem_id=f"{key}-stop", min_width=90, scale=0)
    status = gr.Textbox(
        "No answer yet.", label="Status", elem_id=f"{key}-status", lines=1, max_lines=4
    )
    with gr.Column(elem_classes="wl-answer"):
        gr.HTML(html.stale_note(), padding=False)
        head = gr.HTML("", elem_id=f"{key}-head", padding=False)
        picture = gr.ImageSlider(
            label="Photo | map (drag the handle)",
            type="filepath",
            interactive=False,
            elem_id=f"{key}-picture",
            slider_position=0,
            max_height=620,
            buttons=["fullscreen"],
            visible=False,
        )
        examples = gr.HTML("", visible=False, elem_id=f"{key}-examples", js_on_load=html.TILES_JS)
        legend = gr.HTML("", elem_id=f"{key}-legend")
    gr.HTML(html.about(explainer))
    if explainer.Params.model_fields:
        with gr.Accordion("Options", open=False, elem_id=f"{key}-options"):
            fields = build_controls(explainer, prefix=key)
    else:
        fields = {}
    answers_of = stored_answer(session, name)
    download = build_download(
        "Download (ZIP: picture, raw values, manifest)",
        session,
        answers_of,
        {"photo": form.photo, **style.inputs},
        stem=f"whylens-{key}",
        interactive=False,
        elem_id=f"{key}-download",
    )
    panel = Panel(name, notice, run, picture, examples, legend, status, fields)
    event = run.click(
        _runner(explainer, session),
        None,
        [*panel.answer, status, head],
        inputs_kwargs={**form.inputs, **style.inputs, **fields},
        **queue_of(explainer, status),
    )
    if explainer.actions:
        items = build_edits(explainer, session, form.model)

        def list_items(model: str, request: gr.Request) -> Any:
            return editable_items(explainer, session, model, visitor_id(request))

        event.success(list_items, [form.model], [items], **PRIVATE)
    if explainer.artifact_kind:
        build_own_images(explainer, session, form.model, notice, run)

    def switch(request: gr.Request) -> Any:
        return gr.Button(interactive=bool(answers_of(request)))

    def after(request: gr.Request, **values: Any) -> tuple[Any, str]:
        return switch(request), cards.draw(request, **values)

    event.success(after, None, [download, cards.component], inputs_kwargs=cards.inputs, **UNQUEUED)
    if session.judges:
        wire_judging(session, event, name, legend, style)
    wire_stop(
        stop, event, status, _stop_message(name, session), session.engine, method=name,
        extra_output=download, update=switch,
    )  # fmt: skip
    return panel


def _runner(explainer: Explainer[Any], session: Session) -> Callable[..., Iterator[Any]]:
    @report_failure(FAILED, at=3, of=5)
    def run(request: gr.Request | None = None, **values: Any) -> Iterator[Any]:
        question = QuestionForm.read(values, session, visitor_id(request))
        style = StyleControls.read(values)
        params = {name: values[name] for name in explainer.Params.model_fields}
        stamp = question_id(values)
        waiting_message = html.waiting(session.engine.ahead(explainer.name))
        yield *3 * (gr.skip(),), waiting_message, gr.skip()
        for answer in throttle(session.engine.explain(question, explainer.name, params)):
            session.store.put_answer(visitor_id(request), explainer.name, answer, stamp)
            updates = answer_updates(answer, style, session, stamp)
            head, sentence = panel_head(answer, session)
            yield *updates, html.status(answer, said=sentence), head

    return run


def wire_examples_of(panels: Collection[Panel], session: Session, form: QuestionForm) -> None:
    """Let a click on an example in any panel's answer load it as the photo."""
    names = {panel.examples.elem_id: panel.name for panel in panels}

    def load(request: gr.Request, event: gr.EventData) -> Any:
        answer = session.store.answer(visitor_id(request), names[event.target.elem_id])
        cell = getattr(event, "cell", "")
        items = () if answer is None or isinstance(answer.result, Heatmap) else answer.result.items
        if not str(cell).isdecimal() or int(cell) >= len(items):
            return (gr.skip(),) * 3
        path = session.store.save_png(items[int(cell)].image, stem="example")
        return path, PREDICTED, RUNNER_UP

    clicks = [panel.examples.click for panel in panels]
    gr.on(clicks, load, None, [form.photo, form.target, form.versus], **UNQUEUED)


def _stop_message(name: str, session: Session) -> Callable[[str], str]:
    def message(visitor: str) -> str:
        answer = session.store.answer(visitor, name)
        if answer is None or answer.finished:
            return "Stopped before there was anything new to show."
        return f"Stopped at {percent(answer.fraction)}; what you see is the partial result."

    return message
