"""The Compare tab: several methods on one question, side by side on one colour scale."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.errors import CoreError
from whylens.core.explainer import is_single_step
from whylens.core.explanation import Explanation
from whylens.core.outputs.example_images import sheet
from whylens.core.outputs.render import Scale, Style, render_explanation, scales_together
from whylens.core.results import Heatmap
from whylens.ui.page import html
from whylens.ui.page.form import QuestionForm, StyleControls, question_id
from whylens.ui.page.long_events import FAILED, LONG, UNQUEUED, report_failure, throttle, wire_stop
from whylens.ui.page.panel import download_update
from whylens.ui.page.session import PRIVATE, Session, visitor_id

SLOT = "compare "
RELATIVE = "Each map its own"
SHARED = "Shared by maps of one unit"
NO_PHOTO = "Give a photo, then press Compare."


@dataclass(frozen=True)
class Compare:
    """What other events need of the Compare tab.

    Attributes:
        inputs: The form, the style and the tab's own choices by name, as `on_photo` takes them.
        pack_inputs: As `pack` takes them.
        redraw_inputs: As `redraw` takes them.
        on_photo: Explains with what is ticked; fills grid, legend and status.
        pack: Fills the download button.
        redraw: Draws stored answers anew without computing them; fills grid and legend.
    """

    methods: Component
    grid: Component
    legend: Component
    status: Component
    download: Component
    notice: Component
    inputs: Mapping[str, Component]
    pack_inputs: Mapping[str, Component]
    redraw_inputs: Mapping[str, Component]
    on_photo: Callable[..., Iterator[Any]]
    pack: Callable[..., Any]
    redraw: Callable[..., Any]


def build_compare(session: Session, form: QuestionForm, style: StyleControls) -> Compare:
    """Return the Compare tab, built in the open tab and wired."""
    explainers = session.engine.registry.explainers
    methods = gr.CheckboxGroup(
        [(explainer.title, name) for name, explainer in explainers.items()],
        value=[],
        label="Methods",
        info="Tick what to compare; the times are shown under each map.",
        elem_id="compare-methods",
    )
    notice = gr.HTML("", elem_id="compare-notice", visible=False)
    scaling = gr.Radio(
        [RELATIVE, SHARED],
        value=RELATIVE,
        label="Scale",
        elem_id="compare-scaling",
    )
    with gr.Row(elem_classes="wl-actions"):
        run = gr.Button("Compare", variant="primary", elem_id="compare-run")
        stop = gr.Button("Stop", variant="stop", elem_id="compare-stop", min_width=90, scale=0)
    status = gr.Textbox(NO_PHOTO, label="Status", elem_id="compare-status", max_lines=6)
    with gr.Column(elem_classes="wl-answer"):
        gr.HTML(html.stale_note())
        grid = gr.Gallery(
            label="Maps",
            elem_id="compare-grid",
            columns=3,
            height="auto",
            object_fit="contain",
            buttons=["fullscreen"],
            interactive=False,
        )
        legend = gr.HTML("", elem_id="compare-legend")
    download = gr.DownloadButton(
        "Download all (ZIP)", interactive=False, elem_id="compare-download", size="sm"
    )
    compare, pack, redraw = _runner(session), _packer(session), _redrawer(session)
    pack_inputs = {"photo": form.photo, **style.inputs, "methods": methods}
    redraw_inputs = {**style.inputs, "methods": methods, "scaling": scaling}
    inputs = {**form.inputs, **redraw_inputs}
    queue = {**LONG, "show_progress": "minimal", "show_progress_on": [status]}
    event = run.click(compare, None, [grid, legend, status], inputs_kwargs=inputs, **queue)
    event.success(pack, None, [download], inputs_kwargs=pack_inputs, **PRIVATE)
    stop_event = wire_stop(stop, event, status, lambda _: "Stopped; the maps that were ready stay.")
    stop_event.then(pack, None, [download], inputs_kwargs=pack_inputs, **UNQUEUED)
    scaling.change(redraw, None, [grid, legend], inputs_kwargs=redraw_inputs, **PRIVATE)
    return Compare(
        methods=methods,
        grid=grid,
        legend=legend,
        status=status,
        download=download,
        notice=notice,
        inputs=inputs,
        pack_inputs=pack_inputs,
        redraw_inputs=redraw_inputs,
        on_photo=_on_photo(compare, session),
        pack=pack,
        redraw=redraw,
    )


def _runner(session: Session) -> Callable[..., Iterator[Any]]:
    @report_failure(FAILED, at=2, of=3)
    def compare(request: gr.Request | None = None, **values: Any) -> Iterator[Any]:
        question = QuestionForm.read(values, session, visitor_id(request))
        style, stamp = StyleControls.read(values), question_id(values)
        answers: list[Explanation] = []
        maps: tuple[Any, Any] = ([], "")
        problems: list[str] = []
        unavailable = session.engine.unavailable(question.model, visitor=question.visitor)
        methods = [m for m in values["methods"] if m not in unavailable]
        if not methods:
            yield [], "", "Tick at least one method that is available on this network."
            return
        for number, method in enumerate(methods, 1):
            finished = list(answers)
            try:
                for answer in throttle(session.engine.explain(question, method)):
                    answers = [*finished, answer]
                    session.store.put_answer(visitor_id(request), SLOT + method, answer, stamp)
                    maps = grid_updates(answers, style, values["scaling"], session, stamp)
                    progress = f"{number} of {len(methods)}, {answer.title}: {html.status(answer)}"
                    yield *maps, progress
            except CoreError as exc:
                problems.append(str(exc))
        total = html.duration(sum(answer.seconds for answer in answers))
        done = f"Done: {len(answers)} methods in {total}."
        # The maps again: of two updates that come at once a browser sees the second alone.
        yield *maps, " ".join([done, *problems])

    return compare


def _on_photo(compare: Callable[..., Iterator[Any]], session: Session) -> Callable[..., Any]:
    explainers = session.engine.registry.explainers

    # A photo that is taken away also counts as a change; that is no reason to complain.
    def on_photo(request: gr.Request, **values: Any) -> Iterator[Any]:
        photo, model = values["photo"], values["model"]
        if not photo or not model:
            yield [], "", NO_PHOTO
        elif not session.fits(photo, model):
            yield [], "", "This network reads signals: choose a sample or upload one."
        else:
            quick = [
                n for n in values["methods"] if n in explainers and is_single_step(explainers[n])
            ]
            slow = [explainers[n].title for n in values["methods"] if n not in quick]
            if not quick:
                yield [], "", f"Press Compare: {', '.join(slow)} take their time."
                return
            wait = f" Press Compare for {', '.join(slow)} as well." if slow else ""
            for grid, legend, status in compare(request, **{**values, "methods": quick}):
                yield grid, legend, f"{status}{wait}"

    return on_photo


def grid_updates(
    answers: list[Explanation], style: Style, scaling: str, session: Session, stamp: str
) -> tuple[list[tuple[str, str]], str]:
    """Return the grid's pictures with captions, and the legend of the scale they share.

    Args:
        stamp: Id of the question that they answer.
    """
    heats = {a.method: a.result for a in answers if isinstance(a.result, Heatmap)}
    together = scales_together(list(heats.values()), same_values=scaling == SHARED)
    scales = dict(zip(heats, together, strict=True))
    pictures = []
    for answer in answers:
        if isinstance(answer.result, Heatmap):
            small = session.store.downscaled(answer)
            picture = render_explanation(small, style, scale=scales[answer.method])
        else:
            picture = sheet(answer.result)
        progress = "" if answer.finished else f" · {answer.fraction:.0%}"
        caption = f"{answer.title} · {html.duration(answer.seconds)}{progress}"
        pictures.append((session.store.save_image(picture), caption))
    mark = html.stamp(stamp)
    if not heats:
        return pictures, mark
    low = -1.0 if together[0].low < 0 else 0.0
    unit = "share of what is full colour in each map; the table has the values"
    legend = html.legend(Scale(low, 1.0, unit), style, words="")
    return pictures, mark + legend + html.map_table(
        [a for a in answers if a.method in heats], together
    )


def _stored_answers(session: Session, request: gr.Request, methods: list[str]) -> list[Explanation]:
    answers = (session.store.answer(visitor_id(request), SLOT + method) for method in methods)
    return [answer for answer in answers if answer is not None]


def _redrawer(session: Session) -> Callable[..., Any]:
    def redraw(request: gr.Request, **values: Any) -> Any:
        visitor = visitor_id(request)
        answers = _stored_answers(session, request, values["methods"])
        if not answers:
            return gr.skip(), gr.skip()
        stamp = session.store.stamp(visitor, SLOT + answers[0].method)
        style = StyleControls.read(values)
        return grid_updates(answers, style, values["scaling"], session, stamp)

    return redraw


def _packer(session: Session) -> Callable[..., Any]:
    def pack(request: gr.Request, **values: Any) -> Any:
        answers = _stored_answers(session, request, values["methods"])
        return download_update(answers, values, session, stem="whylens-compare")

    return pack
