"""The tab of all methods: a card each, under the question it answers; a click opens its panel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.explainer import Explainer
from whylens.core.outputs.guide import QUESTIONS
from whylens.ui.page import html
from whylens.ui.page.form import QuestionForm, StyleControls
from whylens.ui.page.html import slug
from whylens.ui.page.long_events import UNQUEUED
from whylens.ui.page.panel import Panel, build_panel
from whylens.ui.page.session import PRIVATE, Session, visitor_id

AT_ONCE = 1.0  # seconds up to which a time is not worth stating


@dataclass(frozen=True)
class Methods:
    """The cards, the panels by method, and the column that each panel lies in."""

    cards: Component
    panels: Mapping[str, Panel]
    columns: Mapping[str, gr.Column]

    def open_updates(self, name: str) -> list[Any]:
        """Return the updates of all columns that leave one method's open.

        Args:
            name: A method, or anything else for none.
        """
        return [gr.Column(visible=key == name) for key in self.columns]


def build_methods(session: Session, form: QuestionForm, style: StyleControls) -> Methods:
    """Return the cards and the panels, built in the open tab and wired."""
    explainers = session.engine.registry.explainers
    cards = gr.HTML(cards_html(session, "", ""), elem_id="methods", js_on_load=html.CELL_JS)
    open_name = gr.State("")
    panels: dict[str, Panel] = {}
    columns: dict[str, gr.Column] = {}
    for name, explainer in explainers.items():
        key = slug(name)
        with gr.Column(visible=False, elem_id=f"panel-{key}") as columns[name]:
            gr.HTML(html.heading(explainer.title))
            panels[name] = build_panel(explainer, session, form, style)
    methods = Methods(cards, panels, columns)
    keys = {slug(name): name for name in explainers}

    def choose(model: str, request: gr.Request, event: gr.EventData) -> Any:
        name = keys.get(str(getattr(event, "cell", "")), "")
        if not name:
            return [gr.skip()] * (2 + len(columns))
        updated = cards_html(session, model, name, visitor=visitor_id(request))
        return name, updated, *methods.open_updates(name)

    cards.click(choose, [form.model], [open_name, cards, *columns.values()], **UNQUEUED).then(
        None, [open_name], None, js=OPEN_JS, **PRIVATE
    )
    return methods


# The address names the open method, and its panel is scrolled to.
OPEN_JS = """(name) => {
  if (!name) return;
  const key = name.replaceAll('+', '-plus');
  window.whylensVisit({method: key});
  const panel = document.getElementById('panel-' + key);
  if (panel) panel.scrollIntoView({block: 'start'});
}"""


def cards_html(session: Session, model: str, chosen: str, *, visitor: str = "") -> str:
    """Return HTML of the cards for a network.

    Args:
        model: A loaded model's name; "" while there is none.
        chosen: Name of the method that is open, or "".
    """
    engine = session.engine
    explainers = engine.registry.explainers
    groups: dict[str, list[Explainer[Any]]] = {words: [] for words in QUESTIONS.values()}
    for explainer in explainers.values():
        groups[QUESTIONS[explainer.question_kind]].append(explainer)
    groups = {words: methods for words, methods in groups.items() if methods}
    unavailable = engine.unavailable(model, visitor=visitor) if model else {}
    costs = seconds_of(session, model) if model else {}
    words = {n: f"about {html.duration(s)}" if s > AT_ONCE else "at once" for n, s in costs.items()}
    return html.method_cards(groups, words, unavailable, chosen)


def seconds_of(session: Session, model: str) -> dict[str, float]:
    """Return how long each method takes on a network by what was measured, in seconds.

    What was measured elsewhere, in forward passes, times a forward pass of this network here.
    """
    forward = session.engine.forward_seconds(model)
    return {e.name: e.measured.forwards * forward for e in session.guide if e.measured}
