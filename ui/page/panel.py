"""One explainer's tab: its words, generated controls, answer and download. Knows no explainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.explainer import Explainer
from whylens.core.explanation import Explanation
from whylens.core.outputs.export import bundle_files, zipped
from whylens.core.outputs.render import Style, render_explanation, scale_of
from whylens.core.results import Heatmap
from whylens.ui.page import html
from whylens.ui.page.controls import build_controls
from whylens.ui.page.example_tiles import tiles_html
from whylens.ui.page.html import slug
from whylens.ui.page.long_events import AT_ONCE, FAILED, saying, stopped_by
from whylens.ui.page.own_images import build_edits, build_own_pictures, editable_items
from whylens.ui.page.session import QUIET, Session, visitor


@dataclass(frozen=True)
class Question:
    """The components of the left side that make up a question."""

    photo: Component
    model: Component
    target: Component
    quantity: Component
    versus: Component

    @property
    def inputs(self) -> list[Component]:
        """The components in the order in which handlers take them."""
        return [self.photo, self.model, self.target, self.quantity, self.versus]


@dataclass(frozen=True)
class Look:
    """The components that decide how maps are laid over the photo."""

    colours: Component
    opacity: Component
    sure: Component

    @property
    def inputs(self) -> list[Component]:
        """The components in the order in which handlers take them."""
        return [self.colours, self.opacity, self.sure]


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
    def shown(self) -> list[Component]:
        """The components that a change of look redraws."""
        return [self.picture, self.examples, self.legend]


def build_panel(
    explainer: Explainer[Any], session: Session, question: Question, look: Look
) -> Panel:
    """Return the panel of one explainer, drawn into the open tab and wired.

    Args:
        explainer: A registered explainer.
        session: Engine and shelf.
        question: The left side.
        look: Colours and opacity.
    """
    name, key = explainer.name, slug(explainer.name)
    gr.HTML(html.about(explainer))
    notice = gr.HTML("", elem_id=f"{key}-notice", visible=False)
    fields = build_controls(explainer, prefix=key)
    with gr.Row(elem_classes="wl-actions"):
        run = gr.Button(f"Explain with {explainer.title}", variant="primary", elem_id=f"{key}-run")
        stop = gr.Button("Stop", variant="stop", elem_id=f"{key}-stop", min_width=90, scale=0)
    status = gr.Textbox(
        "Press Explain.", label="Status", elem_id=f"{key}-status", lines=1, max_lines=4
    )
    picture = gr.ImageSlider(
        label="Original | explained (drag the handle)",
        type="filepath",
        interactive=False,
        elem_id=f"{key}-picture",
        slider_position=0,
        max_height=620,
        buttons=["fullscreen"],
    )
    gallery = gr.HTML("", visible=False, elem_id=f"{key}-examples")
    legend = gr.HTML("", elem_id=f"{key}-legend")
    download = gr.DownloadButton(
        "Download (ZIP: picture, raw values, manifest)",
        interactive=False,
        elem_id=f"{key}-download",
        size="sm",
    )
    panel = Panel(name, notice, run, picture, gallery, legend, status, fields)
    shown = [picture, gallery, legend, status]
    event = run.click(
        _runner(explainer, session),
        [*question.inputs, *look.inputs],
        shown,
        inputs_kwargs=fields,
        api_visibility="private",
        concurrency_id="work",
        trigger_mode="once",
        show_progress="hidden",
    )
    if explainer.actions:
        items = build_edits(explainer, session, question.model)

        def listed(model: str, request: gr.Request) -> Any:
            return editable_items(explainer, session, model, visitor(request))

        event.success(listed, [question.model], [items], **QUIET)
    if explainer.artifact_kind:
        build_own_pictures(explainer, session, question.model, notice, run)
    pack = _packer(name, session)
    taken = [question.photo, *look.inputs]
    event.success(pack, taken, [download], **QUIET)
    early = stopped_by(stop, event, status, _stopped(name, session))
    early.then(pack, taken, [download], **AT_ONCE)
    return panel


def _runner(explainer: Explainer[Any], session: Session) -> Callable[..., Iterator[Any]]:
    @saying(FAILED, at=3, of=4)
    def run(
        photo: str,
        model: str,
        target: str,
        quantity: str,
        versus: str,
        colours: str,
        opacity: float,
        sure: bool,
        request: gr.Request | None = None,
        **params: Any,
    ) -> Iterator[Any]:
        asked = session.question(photo, model, target, quantity, versus, mine=visitor(request))
        style = Style(colours, opacity, sure)
        yield gr.skip(), gr.skip(), gr.skip(), "Working ..."
        for answer in session.engine.explain(asked, explainer.name, params):
            session.shelf.keep(visitor(request), explainer.name, answer)
            yield *drawn(answer, style, session), html.status(answer)

    return run


def drawn(answer: Explanation, style: Style, session: Session) -> tuple[Any, Any, Any]:
    """Return the updates of picture, gallery and legend for one answer.

    Args:
        answer: Partial or final.
        style: Colours and opacity.
        session: Where pictures are put.
    """
    match answer.result:
        case Heatmap() as heat:
            small = session.shelf.on_screen(answer)
            above = session.shelf.picture(render_explanation(small, style))
            below = session.shelf.beside(small) or above
            legend = html.legend(scale_of(heat), style, note=answer.reason)
            return gr.ImageSlider((below, above), visible=True), gr.HTML(visible=False), legend
        case pictures:
            tiles = gr.HTML(tiles_html(pictures, colours=style.colormap), visible=True)
            return gr.ImageSlider(visible=False), tiles, ""


def offered(
    answers: list[Explanation], photo: str | None, style: Style, session: Session, *, stem: str
) -> Any:
    """Return the update of a download button that offers these answers in one ZIP.

    Args:
        answers: What to pack; without any the button stays as it is.
        photo: Path of the upload, whose name goes into the manifests.
        style: Colours and opacity of the pictures.
        session: Where files are put.
        stem: Start of the ZIP's name.
    """
    if not answers:
        return gr.skip()
    source = Path(photo).name if photo else "photo"
    files: dict[str, bytes] = {}
    for answer in answers:
        files |= bundle_files(answer, source=source, style=style)
    path = session.shelf.file(zipped(files), suffix=".zip", stem=stem)
    return gr.DownloadButton(value=path, interactive=True)


def _packer(name: str, session: Session) -> Callable[..., Any]:
    def pack(
        photo: str | None, colours: str, opacity: float, sure: bool, request: gr.Request
    ) -> Any:
        answer = session.shelf.answer(visitor(request), name)
        answers = [] if answer is None else [answer]
        stem = f"whylens-{slug(name)}"
        return offered(answers, photo, Style(colours, opacity, sure), session, stem=stem)

    return pack


def _stopped(name: str, session: Session) -> Callable[[str], str]:
    def stopped(mine: str) -> str:
        answer = session.shelf.answer(mine, name)
        if answer is None or answer.finished:
            return "Stopped before there was anything new to show."
        return f"Stopped at {answer.fraction:.0%}; what you see is the partial result."

    return stopped
