"""Whether the answer is to be believed: what stands beside it, filled as each test of it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.outputs.ranking import agreeing
from whylens.core.results import Heatmap
from whylens.ui.page import html
from whylens.ui.page.html import CELL_JS
from whylens.ui.page.session import Session, visitor_id


@dataclass(frozen=True)
class Truth:
    """The components of the tests; not yet on the page.

    Attributes:
        cover: What the class loses when the marked places are covered; a click shows them covered.
        covered: The photo with the marked places covered.
        verdict: What the scores say of the map.
        agreement: How many methods mark the same places.
    """

    cover: Component
    covered: Component
    verdict: Component
    agreement: Component

    @property
    def words(self) -> list[Component]:
        """What says something of the map, in the order of the page."""
        return [self.cover, self.verdict, self.agreement]

    def render(self) -> None:
        """Put all of it into the open column."""
        with gr.Column(elem_id="truth", elem_classes="wl-answer"):
            self.cover.render()
            self.covered.render()
            self.verdict.render()
            self.agreement.render()


def truth_parts() -> Truth:
    """Return the components, on no page yet."""
    text: dict[str, Any] = {"value": "", "padding": False, "render": False}
    return Truth(
        gr.HTML(elem_id="answer-truth", js_on_load=CELL_JS, **text),
        gr.Image(
            label="With the marked places covered",
            visible=False,
            interactive=False,
            elem_id="answer-covered",
            height=230,
            buttons=[],
            render=False,
        ),
        gr.HTML(elem_id="answer-verdict", **text),
        gr.HTML(elem_id="answer-agreement", **text),
    )


def agreement_teller(session: Session, slot: str) -> Callable[[gr.Request], str]:
    """Return what says how many methods mark the places that the map in a visitor's slot marks."""

    def tell(request: gr.Request) -> str:
        visitor = visitor_id(request)
        answer, stamp = session.store.answer(visitor, slot), session.store.stamp(visitor, slot)
        if answer is None or not isinstance(answer.result, Heatmap):
            return ""
        answers = session.store.by_method(visitor, stamp, answer.model.name)
        answers.pop(answer.method, None)
        other_maps = [item for item in answers.values() if isinstance(item.result, Heatmap)]
        return html.agreeing_methods(agreeing(answer, other_maps), stamp)

    return tell
