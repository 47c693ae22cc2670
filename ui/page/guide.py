"""The Guide tab: three questions that lead to a ticked Compare, and all methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.errors import BadInput
from whylens.core.explainer import Answers
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
from whylens.ui.page.html import COMPARE
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
        card = session.engine.card(session.model_name(model), visitor=mine)
        answers: Answers = next((key for key in QUESTIONS if key == wanted), "where")
        available = {entry.name for entry in guide} - set(card.unavailable)
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
            return _said(choose(model, wanted, inside, time, visitor(request)), guide)

    return advice


def _ticked(choose: Callable[..., list[str]], guide: Sequence[Entry]) -> Callable[..., Any]:
    def ticked(model: str, wanted: str, inside: str, time: str, request: gr.Request) -> Any:
        with errors_as_messages():
            names = choose(model, wanted, inside, time, visitor(request))
            if not names:
                return gr.skip(), gr.skip(), _said(names, guide)
            return names, gr.Tabs(selected=COMPARE), _said(names, guide)

    return ticked


def _said(names: Sequence[str], guide: Sequence[Entry]) -> str:
    if not names:
        return (
            "<p class='wl-reason'>No method fits all three on this model. Allow more time, or a "
            "look inside; methods that show examples must be fitted to pictures first.</p>"
        )
    known = {entry.name: entry for entry in guide}
    items = "".join(
        f"<li><b>{escape(known[n].title)}</b>: {escape(known[n].when or known[n].shows)}</li>"
        for n in names
    )
    return f"<ul class='wl-notes'>{items}</ul>"


def table(guide: Sequence[Entry], known: Measurements) -> str:
    """Return HTML of what is known of each method, one row each.

    Args:
        guide: The methods.
        known: Where the figures were measured.
    """
    heads = ("Method", "What it tells", "Needs", "Cost", "Peaks on object", "In the box", "Sanity")
    cells = "".join(f"<th scope='col'>{head}</th>" for head in heads)
    rows = "".join(_row(entry) for entry in guide)
    setting = f"{escape(known.setting)} " if known.setting else ""
    return (
        "<h3 class='wl-guide'>All methods</h3><p class='wl-source'>Each explains one picture "
        f"(local). {setting}Cost: time as a multiple of one forward pass. In the box: share of "
        "the positive evidence on the object. Sanity: rank correlation with the map of the same "
        "network with random weights; near 0 is right, near 1 means that the method does not "
        "look at what was learnt. Methods for tables of numbers, as tree explainers, are not "
        "here: Whylens explains networks that see pictures or signals.</p>"
        "<div class='wl-scroll wl-high' tabindex='0'><table class='wl-table'><thead><tr>"
        f"{cells}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(entry: Entry) -> str:
    needs = [*entry.needs, *([entry.artifact_kind] if entry.artifact_kind else [])]
    blind = " Knows no class." if entry.class_blind else ""
    told = f"{escape(entry.shows + blind)}<br><b>Cannot show:</b> {escape(entry.cannot)}"
    if entry.when:
        told += f"<br><b>When:</b> {escape(entry.when)}"
    network = entry.measured.network if entry.measured else ""
    elsewhere = f"<br>figures: {escape(network)}" if network else ""
    figures = "".join(f"<td class='num'>{escape(text)}</td>" for text in measured_words(entry))
    return (
        f"<tr><th scope='row'>{escape(entry.title)}<br><span class='wl-source'>"
        f"{escape(entry.family)}{elsewhere}</span></th><td>{told}</td>"
        f"<td>{escape('; '.join(needs) or 'nothing but scores')}</td>{figures}</tr>"
    )


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
