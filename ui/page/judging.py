"""Whether a map is to be believed: tested after it is shown, into the legend below it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from whylens.core.evaluation.verdict import Verdict
from whylens.core.explanation import Explanation
from whylens.core.outputs.render import Style
from whylens.core.results import Heatmap
from whylens.ui.page.form import StyleControls
from whylens.ui.page.long_events import JUDGING, throttle
from whylens.ui.page.panel_updates import legend_html
from whylens.ui.page.session import Session, errors_as_messages, visitor_id


def wire_judging(
    session: Session,
    event: Dependency,
    slot: str,
    place: Component,
    style: StyleControls,
    draw: Callable[[Explanation, Style, str], str] = legend_html,
) -> Dependency:
    """Return the event that follows one that leaves a map in a slot: the map is judged.

    Args:
        place: Filled with what `draw` makes of the map, the style and the question's id.
    """

    def judge(request: gr.Request, **values: Any) -> Iterator[Any]:
        visitor, is_there = visitor_id(request), False
        for judged in shown_steps(session, visitor, slot):
            is_there = True
            yield draw(judged, StyleControls.read(values), session.store.stamp(visitor, slot))
        if not is_there:
            yield gr.skip()

    judging = {**JUDGING, "show_progress": "hidden", "trigger_mode": "always_last"}
    return event.success(judge, None, [place], inputs_kwargs=style.inputs, **judging)


def shown_steps(session: Session, visitor: str, slot: str) -> Iterator[Explanation]:
    """Yield of `judged_steps` what is worth drawing, and nothing once another answer is there."""
    for judged in throttle(judged_steps(session, visitor, slot)):
        # The last of them waited for others, and may have been overtaken.
        if session.store.answer(visitor, slot) is judged:
            yield judged


def judged_steps(session: Session, visitor: str, slot: str) -> Iterator[Explanation]:
    """Yield the map in a visitor's slot with ever more known of it, and store it so.

    Ends where another answer took its place, and yields nothing for what is no finished map.
    """
    store = session.store
    answer, stamp = store.answer(visitor, slot), store.stamp(visitor, slot)
    if answer is None or not answer.finished or not isinstance(answer.result, Heatmap):
        return

    def put(judged: Explanation) -> bool:
        current = store.answer(visitor, slot)
        same = current is not None and current.result is answer.result
        if same:
            store.put_answer(visitor, slot, judged, stamp)
        return same

    try:
        with errors_as_messages():
            for judged in session.engine.judge(answer):
                if not put(judged):
                    return
                yield judged
    except gr.Error as exc:
        verdict = Verdict("cannot be judged here", exc.message, fraction=1.0)
        judged = replace(answer, verdict=verdict)
        if put(judged):
            yield judged
