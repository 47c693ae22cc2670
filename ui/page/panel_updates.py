"""What is shown of an answer: its picture or examples, and the legend with the verdict."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from whylens.core.explanation import Explanation
from whylens.core.outputs.headline import headline
from whylens.core.outputs.render import Style, render_explanation, scale_of
from whylens.core.results import Heatmap
from whylens.ui.page import html
from whylens.ui.page.html import State
from whylens.ui.page.session import Session
from whylens.ui.page.signal_input import PHOTO, SIGNAL


def answer_updates(
    answer: Explanation, style: Style, session: Session, stamp: str, *, folded: bool = False
) -> tuple[Any, Any, Any]:
    """Return the updates of picture, examples and legend for an answer, partial or final.

    Args:
        stamp: Id of the question that it answers.
        folded: As `legend_html` takes it.
    """
    legend = legend_html(answer, style, stamp, folded=folded)
    match answer.result:
        case Heatmap():
            small = session.store.downscale(answer)
            overlay = session.store.save_image(render_explanation(small, style))
            original = session.store.input_image(small) or overlay
            kind = PHOTO if answer.question.signal is None else SIGNAL
            label = f"{kind} | map (drag the handle)"
            picture = gr.ImageSlider((original, overlay), visible=True, label=label)
            return picture, gr.HTML(visible=False), legend
        case examples:
            # What a signal resembles is drawn as a curve, which is no signal.
            are_photos = not folded and answer.question.photo is not None
            tiles = gr.HTML(
                html.tiles_html(examples, colormap=style.colormap, are_photos=are_photos),
                visible=True,
            )
            return gr.ImageSlider(visible=False), tiles, legend


def answer_sentence(answer: Explanation, session: Session) -> tuple[State, str]:
    """Return the state of an answer that is final, and one sentence that says what it shows."""
    explainer = session.engine.registry.explainers.get(answer.method)
    is_blind = explainer is not None and (explainer.class_blind or explainer.sign_blind)
    heat = answer.result
    if isinstance(heat, Heatmap) and not np.any(heat.values):
        return State.BLANK, f"Nothing found. {answer.reason}".strip()
    return State.DONE, headline(heat, answer.model.outputs, is_blind=is_blind)


def panel_head(answer: Explanation, session: Session) -> tuple[str, str]:
    """Return HTML of what stands above an answer in its method's panel, and the sentence in it."""
    state, sentence = answer_sentence(answer, session) if answer.finished else (State.WORKING, "")
    return html.answer_head(
        state, f"{answer.title}: why {answer.question_text}.", sentence
    ), sentence


def legend_html(answer: Explanation, style: Style, stamp: str, *, folded: bool = False) -> str:
    """Return HTML of what stands below an answer: the colours, and whether to believe them.

    Args:
        stamp: Id of the question that it answers.
        folded: Whether the unit and the figures are to be unfolded, and the verdict is elsewhere.
    """
    mark = html.stamp(stamp)
    if not isinstance(answer.result, Heatmap):
        return mark
    scale, note = scale_of(answer.result), answer.reason
    diagnostics = html.diagnostics_table(answer.result.diagnostics)
    if folded:
        return mark + html.legend(scale, style, note=note, folded=diagnostics)
    verdict_html = "" if answer.verdict is None else html.verdict(answer.verdict)
    return mark + html.legend(scale, style, note=note) + verdict_html + diagnostics


def verdict_html(answer: Explanation, style: Style, stamp: str) -> str:  # noqa: ARG001
    """Return HTML of the verdict alone, as `legend_html` is called."""
    return html.stamp(stamp) + ("" if answer.verdict is None else html.verdict(answer.verdict))
