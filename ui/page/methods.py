"""The tab of all methods: a card each, under the question it answers; a click opens its panel."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.explanation import Explanation
from whylens.core.outputs.export import explanation_picture
from whylens.core.outputs.guide import QUESTIONS
from whylens.core.outputs.photo_report import map_thumbnail, thumbnail
from whylens.core.outputs.render import Style
from whylens.core.results import Heatmap
from whylens.ui.page import html
from whylens.ui.page.form import QuestionForm, StyleControls, question_id
from whylens.ui.page.html import slug
from whylens.ui.page.long_events import UNQUEUED
from whylens.ui.page.panel import Cards, Panel, build_panel, wire_examples_of
from whylens.ui.page.session import PRIVATE, Session, visitor_id

NOTICEABLE = 1.0  # seconds from which a time is worth stating


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


def build_methods(
    session: Session, form: QuestionForm, style: StyleControls, compared: Component, tab: gr.Tab
) -> Methods:
    """Return the cards and the panels, built in the open tab and wired.

    Args:
        compared: The choice of methods in Compare.
        tab: The open tab.
    """
    explainers = session.engine.registry.explainers
    component = gr.HTML(cards_html(session, "", ""), elem_id="methods", js_on_load=CARDS_JS)
    open_name = gr.Textbox(visible="hidden", elem_id="open-method")
    inputs = {**form.inputs, **style.inputs, "chosen": open_name, "compared": compared}
    cards = Cards(component, inputs, _drawer(session))
    panels: dict[str, Panel] = {}
    columns: dict[str, gr.Column] = {}
    for name, explainer in explainers.items():
        key = slug(name)
        with gr.Column(visible=False, elem_id=f"panel-{key}") as columns[name]:
            gr.HTML(html.heading(explainer.title))
            panels[name] = build_panel(explainer, session, form, style, cards)
    wire_examples_of(panels.values(), session, form)
    methods = Methods(component, panels, columns, open_name)
    keys = {slug(name): name for name in explainers}

    def choose(request: gr.Request, event: gr.EventData, **values: Any) -> Any:
        name = keys.get(str(getattr(event, "cell", "")), "")
        if not name:
            return [gr.skip()] * (2 + len(columns))
        updates = methods.open_updates(name, values["chosen"])
        return cards.draw(request, **{**values, "chosen": name}), *updates

    component.click(
        choose,
        None,
        [component, *methods.open_outputs],
        inputs_kwargs=inputs,
        show_progress_on=[component],
        **UNQUEUED,
    ).then(None, [open_name, form.photo], None, js=OPEN_JS, **PRIVATE)

    def put(request: gr.Request, event: gr.EventData, **values: Any) -> Any:
        name = keys.get(str(getattr(event, "cell", "")).removeprefix("+"), "")
        ticked = list(values["compared"])
        if name in ticked:
            ticked.remove(name)
        elif name:
            ticked.append(name)
        return ticked, cards.draw(request, **{**values, "compared": ticked})

    component.select(put, None, [compared, component], inputs_kwargs=inputs, **UNQUEUED)
    tab.select(cards.draw, None, [component], inputs_kwargs=inputs, **UNQUEUED)
    return methods


# A click on a card opens its method; one on the button below it is of Compare.
CARDS_JS = """element.addEventListener('click', event => {
  const cell = event.target.closest('[data-cell]')?.dataset.cell;
  if (cell) trigger(cell.startsWith('+') ? 'select' : 'click', {cell});
})"""
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


def cards_html(
    session: Session,
    model: str,
    chosen: str,
    *,
    visitor: str = "",
    compared: Collection[str] = (),
    thumbnails: Mapping[str, bytes] = MappingProxyType({}),
    stamp: str = "",
) -> str:
    """Return HTML of the cards for a network.

    Args:
        model: A loaded model's name; "" while there is none.
        chosen: Name of the method that is open, or "".
        compared: Names of those that are in Compare.
        thumbnails: JPEG bytes of the maps that there are, by method.
        stamp: Id of the question that they answer.
    """
    engine = session.engine
    unavailable = engine.unavailable(model, visitor=visitor) if model else {}
    costs = seconds_of(session, model) if model else {}
    groups: dict[str, list[html.Card]] = {words: [] for words in QUESTIONS.values()}
    for name, explainer in engine.registry.explainers.items():
        seconds = costs.get(name)
        cost = "" if seconds is None else "at once"
        if seconds is not None and seconds > NOTICEABLE:
            cost = f"about {html.duration(seconds)}"
        groups[QUESTIONS[explainer.question_kind]].append(
            html.Card(
                explainer,
                cost,
                unavailable.get(name, ""),
                is_open=name == chosen,
                is_compared=name in compared,
                thumbnail=thumbnails.get(name),
            )
        )
    return html.method_cards({words: cards for words, cards in groups.items() if cards}, stamp)


def _drawer(session: Session) -> Callable[..., str]:
    def draw(request: gr.Request, **values: Any) -> str:
        visitor, stamp, style = visitor_id(request), question_id(values), StyleControls.read(values)
        model = values["model"] or ""
        answers = session.store.by_method(visitor, stamp, model)
        return cards_html(
            session,
            model,
            values["chosen"],
            visitor=visitor,
            compared=values["compared"],
            thumbnails={
                name: _thumbnail(session.store.downscale(answer), style)
                for name, answer in answers.items()
            },
            stamp=stamp,
        )

    return draw


def _thumbnail(answer: Explanation, style: Style) -> bytes:
    photo = answer.question.pixels
    if isinstance(answer.result, Heatmap) and photo is not None and answer.view is not None:
        return map_thumbnail(photo, answer.result, answer.view, style)
    return thumbnail(explanation_picture(answer, style))


def seconds_of(session: Session, model: str) -> dict[str, float]:
    """Return how long each method takes on a network by what was measured, in seconds.

    What was measured elsewhere, in forward passes, times a forward pass of this network here.
    """
    forward = session.engine.forward_seconds(model)
    return {e.name: e.measured.forwards * forward for e in session.guide if e.measured}
