"""The Guide tab: three questions that lead to a ticked Compare, and all methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.errors import BadInput
from whylens.core.explainer import QuestionKind
from whylens.core.outputs.guide import (
    A_MOMENT,
    AT_ONCE,
    QUESTIONS,
    Entry,
    Measurements,
    entries,
    measurements,
    recommended,
)
from whylens.ui.page.html import COMPARE, render
from whylens.ui.page.panel import Question
from whylens.ui.page.session import QUIET, Session, errors_as_messages, visitor

# Beside the methods that it is about, and so in a wheel as well.
MEASURED = Path(__file__).resolve().parents[2] / "plugins" / "measured.json"
NONE = "-"
_INSIDE = {"It may look inside the network": True, "Only inputs and scores": False}
_TIME = {
    "At once": AT_ONCE,
    "Some seconds to a minute": A_MOMENT,
    "As long as it takes": float("inf"),
}


def build_guide(session: Session, question: Question, tabs: gr.Tabs, ticks: Component) -> None:
    """Draw the Guide into the open tab and wire it.

    Args:
        session: Engine and shelf.
        question: The left side.
        tabs: The page's tabs.
        ticks: The methods ticked in Compare.
    """
    known = measurements(MEASURED)
    guide = entries(session.engine.registry, known)
    gr.HTML("<h3 class='wl-guide'>Which method should I use?</h3>")
    wanted = gr.Radio(
        [(words, key) for key, words in QUESTIONS.items()],
        value="where",
        label="1. What do you want to know?",
        elem_id="guide-question",
    )
    inside = gr.Radio(
        list(_INSIDE),
        value=next(iter(_INSIDE)),
        label="2. What may the method use?",
        elem_id="guide-inside",
    )
    time = gr.Radio(
        list(_TIME), value="At once", label="3. How long may it take?", elem_id="guide-time"
    )
    go = gr.Button("Tick these in Compare", variant="primary", elem_id="guide-go")
    said = gr.HTML("", elem_id="guide-said")
    choose = _chooser(session, guide)
    answers = [question.model, wanted, inside, time]
    gr.on(
        [wanted.input, inside.input, time.input],
        _advice(choose, guide),
        answers,
        [said],
        **QUIET,
    )
    go.click(
        _ticked(choose, guide),
        answers,
        [ticks, tabs, said],
        api_visibility="private",
        show_progress="hidden",
    )
    gr.HTML(table(guide, known), elem_id="guide-table")


def _chooser(session: Session, guide: Sequence[Entry]) -> Callable[..., list[str]]:
    def chosen(model: str, wanted: str, inside: str, time: str, mine: str) -> list[str]:
        if inside not in _INSIDE or time not in _TIME:
            raise BadInput("Choose one of the answers that are shown.")
        unavailable = session.engine.unavailable(session.model_name(model), visitor=mine)
        answers: QuestionKind = next((key for key in QUESTIONS if key == wanted), "where")
        available = {entry.name for entry in guide} - set(unavailable)
        return recommended(
            guide,
            question_kind=answers,
            inside=_INSIDE[inside],
            forwards=_TIME[time],
            available=available,
        )

    return chosen


def _advice(choose: Callable[..., list[str]], guide: Sequence[Entry]) -> Callable[..., str]:
    def advice(model: str, wanted: str, inside: str, time: str, request: gr.Request) -> str:
        with errors_as_messages():
            return _advice_html(choose(model, wanted, inside, time, visitor(request)), guide)

    return advice


def _ticked(choose: Callable[..., list[str]], guide: Sequence[Entry]) -> Callable[..., Any]:
    def ticked(model: str, wanted: str, inside: str, time: str, request: gr.Request) -> Any:
        with errors_as_messages():
            names = choose(model, wanted, inside, time, visitor(request))
            if not names:
                return gr.skip(), gr.skip(), _advice_html(names, guide)
            return names, gr.Tabs(selected=COMPARE), _advice_html(names, guide)

    return ticked


def _advice_html(names: Sequence[str], guide: Sequence[Entry]) -> str:
    by_name = {entry.name: entry for entry in guide}
    return render("guide", "advice", entries=[by_name[name] for name in names])


def table(guide: Sequence[Entry], known: Measurements) -> str:
    """Return HTML of what is known of each method, one row each."""
    rows = [
        (
            entry,
            [*entry.needs, *([entry.artifact_kind] if entry.artifact_kind else [])],
            measured_words(entry),
        )
        for entry in guide
    ]
    return render("guide", "method_table", rows=rows, setting=known.setting)


def measured_words(entry: Entry) -> tuple[str, str, str, str]:
    """Return cost, hits, share in the box and sanity as words; a dash where not measured."""
    m = entry.measured
    if m is None:
        return NONE, NONE, NONE, NONE
    hits = NONE if m.hits is None else f"{m.hits} of {m.objects}"
    inside = NONE if m.inside is None else f"{m.inside:.0%}"
    unmoved = NONE if m.unmoved is None else f"{m.unmoved:.2f}"
    cost = f"{m.forwards:.3g} x" if m.forwards < 1000 else f"{m.forwards:,.0f} x"
    return cost, hits, inside, unmoved
