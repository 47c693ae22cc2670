"""The Compare tab: several methods on one question, side by side on one colour scale."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.errors import CoreError
from whylens.core.explainer import Explainer, is_single_step
from whylens.core.explanation import Explanation
from whylens.core.outputs.example_images import sheet
from whylens.core.outputs.render import Scale, Style, render_explanation, scale_of
from whylens.core.results import Heatmap
from whylens.ui.page import html
from whylens.ui.page.long_events import AT_ONCE, FAILED, saying, stopped_by
from whylens.ui.page.panel import Look, Question, offered
from whylens.ui.page.session import QUIET, Session, visitor

SLOT = "compare "
RELATIVE = "Each map's own largest value"
SHARED = "The same raw values"


@dataclass(frozen=True)
class Compare:
    """The components of the Compare tab that other events write to."""

    ticks: Component
    scaling: Component
    grid: Component
    legend: Component
    status: Component
    download: Component
    notice: Component
    on_photo: Callable[..., Iterator[Any]]
    pack: Callable[..., Any]


def build_compare(session: Session, question: Question, look: Look) -> Compare:
    """Return the Compare tab, drawn into the open tab and wired.

    Args:
        session: Engine and shelf.
        question: The left side.
        look: Colours and opacity.
    """
    titles = [(e.title, name) for name, e in session.engine.registry.explainers.items()]
    ticks = gr.CheckboxGroup(
        titles,
        value=ticked_first(session.engine.registry.explainers),
        label="Methods",
        info="Tick what to compare; the times are shown under each map.",
        elem_id="compare-methods",
    )
    notice = gr.HTML("", elem_id="compare-notice", visible=False)
    scaling = gr.Radio(
        [RELATIVE, SHARED],
        value=RELATIVE,
        label="One colour scale for all: full colour means",
        elem_id="compare-scaling",
    )
    with gr.Row(elem_classes="wl-actions"):
        run = gr.Button("Compare", variant="primary", elem_id="compare-run")
        stop = gr.Button("Stop", variant="stop", elem_id="compare-stop", min_width=90, scale=0)
    status = gr.Textbox(
        "Give a photo, then press Compare.", label="Status", elem_id="compare-status", max_lines=6
    )
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
    start = _runner(session)
    shown = [grid, legend, status]
    inputs = [*question.inputs, *look.inputs, ticks, scaling]
    event = run.click(
        start,
        inputs,
        shown,
        api_visibility="private",
        concurrency_id="work",
        trigger_mode="once",
        show_progress="hidden",
    )
    pack = _packer(session)
    taken = [question.photo, *look.inputs, ticks]
    event.success(pack, taken, [download], **QUIET)
    early = stopped_by(stop, event, status, lambda _: "Stopped; the maps that were ready stay.")
    early.then(pack, taken, [download], **AT_ONCE)
    scaling.change(redraw_of(session), [*look.inputs, ticks, scaling], [grid, legend], **QUIET)
    return Compare(
        ticks, scaling, grid, legend, status, download, notice, _quietly(start, session), pack
    )


def ticked_first(explainers: Mapping[str, Explainer[Any]]) -> list[str]:
    """Return up to three methods to tick before the visitor does: maps that come at once.

    Args:
        explainers: The available ones by name.
    """
    quick = [n for n, e in explainers.items() if is_single_step(e) and not e.artifact_kind]
    return (quick or list(explainers))[:3]


def _runner(session: Session) -> Callable[..., Iterator[Any]]:
    @saying(FAILED, at=2, of=3)
    def compare(
        photo: str,
        model: str,
        target: str,
        quantity: str,
        versus: str,
        colours: str,
        opacity: float,
        sure: bool,
        methods: list[str],
        scaling: str,
        request: gr.Request | None = None,
    ) -> Iterator[Any]:
        asked = session.question(photo, model, target, quantity, versus, mine=visitor(request))
        style = Style(colours, opacity, sure)
        answers: dict[str, Explanation] = {}
        problems: list[str] = []
        unavailable = session.engine.unavailable(asked.model, visitor=asked.visitor)
        chosen = [m for m in methods if m not in unavailable]
        if not chosen:
            yield [], "", "Tick at least one method that is available on this model."
            return
        for number, method in enumerate(chosen):
            place = f"{number + 1} of {len(chosen)}"
            try:
                for answer in session.engine.explain(asked, method):
                    answers[method] = answer
                    session.shelf.keep(visitor(request), SLOT + method, answer)
                    grid, legend = drawn(list(answers.values()), style, scaling, session)
                    yield grid, legend, f"{place}, {answer.title}: {html.status(answer)}"
            except CoreError as exc:
                problems.append(str(exc))
        total = sum(a.seconds for a in answers.values())
        done = f"Done: {len(answers)} methods in {html.duration(total)}."
        yield gr.skip(), gr.skip(), " ".join([done, *problems])

    compare.__doc__ = (
        "Return the maps of several methods for one photo.\n\n"
        "Args:\n    photo: The picture to explain.\n    methods: Names of the methods."
    )
    return compare


def _quietly(start: Callable[..., Iterator[Any]], session: Session) -> Callable[..., Iterator[Any]]:
    # A photo that is taken away also counts as a change; that is no reason to complain.
    def on_photo(
        photo: str | None,
        model: str | None,
        target: str,
        quantity: str,
        versus: str,
        colours: str,
        opacity: float,
        sure: bool,
        methods: list[str],
        scaling: str,
        request: gr.Request,
    ) -> Iterator[Any]:
        question = (photo, model, target, quantity, versus)
        if photo and model and not session.fits(photo, model):
            yield [], "", "This network reads signals: choose a sample or upload one."
        elif photo and model:
            yield from start(*question, colours, opacity, sure, methods, scaling, request)
        else:
            yield [], "", "Give a photo, then press Compare."

    return on_photo


def drawn(
    answers: list[Explanation], style: Style, scaling: str, session: Session
) -> tuple[list[tuple[str, str]], str]:
    """Return the grid's pictures with captions, and the legend of the scale they share.

    Args:
        answers: In the order to show them.
        style: Colours and opacity.
        scaling: RELATIVE or SHARED.
        session: Where pictures are put.
    """
    maps = [(a, a.result) for a in answers if isinstance(a.result, Heatmap)]
    own = [scale_of(heat) for _, heat in maps]
    diverges = any(scale.low < 0 for scale in own)
    top = max((scale.high for scale in own), default=0.0)
    scales = {answer.method: scale for (answer, _), scale in zip(maps, own, strict=True)}
    shown = []
    for answer in answers:
        heat = answer.result
        if isinstance(heat, Heatmap):
            high = top if scaling == SHARED else scales[answer.method].high
            # One scale for the whole grid: where any map has counter-evidence, zero is in the
            # middle for all of them.
            used = Scale(-high if diverges else 0.0, high, heat.unit)
            picture = render_explanation(session.shelf.on_screen(answer), style, scale=used)
        else:
            picture = sheet(heat)
        time = html.duration(answer.seconds)
        ready = "" if answer.finished else f" · {answer.fraction:.0%}"
        shown.append((session.shelf.picture(picture), f"{answer.title} · {time}{ready}"))
    if not maps:
        return shown, ""
    table = html.map_table([answer for answer, _ in maps], own)
    if scaling == SHARED:
        units = " / ".join(sorted({heat.unit for _, heat in maps}))
        return shown, html.legend(Scale(-top if diverges else 0.0, top, units), style) + table
    unit = "share of each map's own largest value"
    return shown, html.legend(Scale(-1.0 if diverges else 0.0, 1.0, unit), style) + table


def _kept(session: Session, request: gr.Request, methods: list[str]) -> list[Explanation]:
    found = (session.shelf.answer(visitor(request), SLOT + method) for method in methods)
    return [answer for answer in found if answer is not None]


def redraw_of(session: Session) -> Callable[..., Any]:
    """Return the handler that draws a visitor's kept answers anew, without computing them.

    Args:
        session: Engine and shelf.
    """

    def redraw(
        colours: str,
        opacity: float,
        sure: bool,
        methods: list[str],
        scaling: str,
        request: gr.Request,
    ) -> Any:
        answers = _kept(session, request, methods)
        if not answers:
            return gr.skip(), gr.skip()
        return drawn(answers, Style(colours, opacity, sure), scaling, session)

    return redraw


def _packer(session: Session) -> Callable[..., Any]:
    def pack(
        photo: str | None,
        colours: str,
        opacity: float,
        sure: bool,
        methods: list[str],
        request: gr.Request,
    ) -> Any:
        answers = _kept(session, request, methods)
        style = Style(colours, opacity, sure)
        return offered(answers, photo, style, session, stem="whylens-compare")

    return pack
