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
    """The cards, the panels by method, the column of each panel, and which of them is open.

    The name of the open one is no gr.State: the browser, which scrolls to it, has no value of one.
    """

    cards: Component
    panels: Mapping[str, Panel]
    columns: Mapping[str, gr.Column]
    open_name: Component

    @property
    def open_outputs(self) -> list[Any]:
        """The components that `open_updates` updates."""
        return [self.open_name, *self.columns.values()]

    def open_updates(self, name: str, previous: str = "") -> list[Any]:
        """Return the updates that open one method's panel and close another's.

        A browser walks through the whole page for every update: those of no effect are left out.

        Args:
            name: A method, or "" for none.
            previous: The method that is open, or "".
        """
        changes = {previous: False, name: True}
        columns = [
            gr.Column(visible=changes[k]) if k in changes else gr.skip() for k in self.columns
        ]
        return [name, *columns]


def build_methods(session: Session, form: QuestionForm, style: StyleControls) -> Methods:
    """Return the cards and the panels, built in the open tab and wired."""
    explainers = session.engine.registry.explainers
    cards = gr.HTML(cards_html(session, "", ""), elem_id="methods", js_on_load=html.CELL_JS)
    open_name = gr.Textbox(visible="hidden", elem_id="open-method")
    panels: dict[str, Panel] = {}
    columns: dict[str, gr.Column] = {}
    for name, explainer in explainers.items():
        key = slug(name)
        with gr.Column(visible=False, elem_id=f"panel-{key}") as columns[name]:
            gr.HTML(html.heading(explainer.title))
            panels[name] = build_panel(explainer, session, form, style)
    methods = Methods(cards, panels, columns, open_name)
    keys = {slug(name): name for name in explainers}

    def choose(model: str, previous: str, request: gr.Request, event: gr.EventData) -> Any:
        name = keys.get(str(getattr(event, "cell", "")), "")
        if not name:
            return [gr.skip()] * (2 + len(columns))
        updated = cards_html(session, model, name, visitor=visitor_id(request))
        return updated, *methods.open_updates(name, previous)

    cards.click(
        choose,
        [form.model, open_name],
        [cards, *methods.open_outputs],
        show_progress_on=[cards],
        **UNQUEUED,
    ).then(None, [open_name, form.photo], None, js=OPEN_JS, **PRIVATE)
    return methods


# The address names the open method, its panel is scrolled to once it is drawn, and a quick method
# answers what it has not answered yet.
OPEN_JS = """(name, photo) => {
  if (!name) return;
  const key = name.replaceAll('+', '-plus');
  window.whylensVisit({method: key});
  const show = frames => {
    const panel = document.getElementById('panel-' + key);
    const run = panel?.offsetParent && document.getElementById(key + '-run');
    if (!run) return frames && requestAnimationFrame(() => show(frames - 1));
    panel.scrollIntoView({block: 'start'});
    const asked = document.querySelector('#question-id [data-question]')?.dataset.question;
    const answered = panel.querySelector('.wl-answer [data-question]')?.dataset.question;
    if (photo && run.matches('.wl-quick:enabled') && !(answered && answered === asked)) run.click();
  };
  show(600);
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
