"""The guide: three questions that lead to a ticked Compare, and all methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from whylens.core.errors import BadInput
from whylens.core.explainer import QuestionKind
from whylens.core.outputs.guide import (
    A_MOMENT,
    AT_ONCE,
    QUESTIONS,
    GuideEntry,
    Measurements,
    recommend,
)
from whylens.core.words import percent
from whylens.ui.page.form import QuestionForm
from whylens.ui.page.html import COMPARE, render
from whylens.ui.page.session import PRIVATE, Session, errors_as_messages, visitor_id

NONE = "-"
_INSIDE = {"It may look inside the network": True, "Only inputs and scores": False}
_TIME = {
    "At once": AT_ONCE,
    "Some seconds to a minute": A_MOMENT,
    "As long as it takes": float("inf"),
}


def default_methods(session: Session, model: str, visitor: str, *, most: int = 3) -> list[str]:
    """Return the methods to begin with on a model, the best first: quick maps, one per family.

    Left out is what knows no class or must be fitted. Where no map is quick, whatever is.
    """
    unavailable = session.engine.unavailable(model, visitor=visitor)
    quick = [
        e for e in session.guide if e.quick and not e.artifact_kind and e.name not in unavailable
    ]
    knowing = {e.name for e in quick if not e.class_blind}
    names = recommend(
        session.guide,
        question_kind="where",
        inside=True,
        forwards=A_MOMENT,
        available=knowing,
        most=len(knowing),
    )
    # Two of a family show much the same: the best of each is enough to begin with.
    family = {e.name: e.family for e in quick}
    best = {family[name]: name for name in reversed(names)}
    return [n for n in names if best[family[n]] == n][:most] or [e.name for e in quick][:most]


@dataclass(frozen=True)
class Guide:
    """What other events need of the guide.

    Attributes:
        ticked: The event that ticks methods.
        inputs: As `advise` takes them.
        advice: What `advise` fills.
        advise: Returns what fits the answers on the network that is loaded.
    """

    ticked: Dependency
    inputs: list[Component]
    advice: Component
    advise: Callable[..., str]


def build_guide(
    session: Session,
    form: QuestionForm,
    tabs: gr.Tabs,
    compare_methods: Component,
    fold: gr.Accordion,
) -> Guide:
    """Return the guide, built in the open fold and wired.

    Args:
        fold: What it lies in: once that is opened, it says what fits the answers that stand there.
    """
    guide = session.guide
    gr.HTML("<h2 class='wl-guide'>Which method should I use?</h2>")
    kind = gr.Radio(
        [(question, key) for key, question in QUESTIONS.items()],
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
    advice = gr.HTML("", elem_id="guide-said")
    go = gr.Button("Tick these in Compare", variant="primary", elem_id="guide-go")
    choose = _chooser(session, guide)
    inputs = [form.model, kind, inside, time]

    def advise(model: str, kind: str, inside: str, time: str, request: gr.Request) -> str:
        if not model:
            return ""
        with errors_as_messages():
            return advice_html(choose(model, kind, inside, time, visitor_id(request)), guide)

    def tick(model: str, kind: str, inside: str, time: str, request: gr.Request) -> Any:
        with errors_as_messages():
            names = choose(model, kind, inside, time, visitor_id(request))
            ticked = (names, gr.Tabs(selected=COMPARE)) if names else (gr.skip(), gr.skip())
            return *ticked, advice_html(names, guide)

    triggers = [fold.expand, kind.input, inside.input, time.input]
    gr.on(triggers, advise, inputs, [advice], **PRIVATE)
    ticked = go.click(tick, inputs, [compare_methods, tabs, advice], **PRIVATE)
    gr.HTML(table(guide, session.measurements), elem_id="guide-table")
    return Guide(cast(Dependency, ticked), inputs, advice, advise)


def _chooser(session: Session, guide: Sequence[GuideEntry]) -> Callable[..., list[str]]:
    def choose(model: str, kind: str, inside: str, time: str, visitor: str) -> list[str]:
        if inside not in _INSIDE or time not in _TIME:
            raise BadInput("Choose one of the answers that are shown.")
        unavailable = session.engine.unavailable(session.model_name(model), visitor=visitor)
        question_kind: QuestionKind = next((key for key in QUESTIONS if key == kind), "where")
        return recommend(
            guide,
            question_kind=question_kind,
            inside=_INSIDE[inside],
            forwards=_TIME[time],
            available={entry.name for entry in guide} - set(unavailable),
        )

    return choose


def advice_html(names: Sequence[str], guide: Sequence[GuideEntry]) -> str:
    """Return HTML of the methods that the answers lead to, or of why there are none."""
    by_name = {entry.name: entry for entry in guide}
    return render("guide", "advice", entries=[by_name[name] for name in names])


def table(guide: Sequence[GuideEntry], measured: Measurements) -> str:
    """Return HTML of what is known of each method, one row each."""
    rows = [
        (
            entry,
            [*entry.needs, *([entry.artifact_kind] if entry.artifact_kind else [])],
            measured_words(entry),
        )
        for entry in guide
    ]
    return render("guide", "method_table", rows=rows, setting=measured.setting)


def measured_words(entry: GuideEntry) -> tuple[str, str, str, str, str]:
    """Return cost, random maps beaten, hits, share in the box and sanity; a dash for no figure."""
    m = entry.measured
    if m is None:
        return NONE, NONE, NONE, NONE, NONE
    beaten = NONE if m.beaten is None else percent(m.beaten)
    hits = NONE if m.hits is None else f"{m.hits} of {m.objects}"
    inside = NONE if m.inside is None else percent(m.inside)
    unmoved = NONE if m.unmoved is None else f"{m.unmoved:.2f}"
    cost = f"{m.forwards:.3g} x" if m.forwards < 1000 else f"{m.forwards:,.0f} x"
    return cost, beaten, hits, inside, unmoved
