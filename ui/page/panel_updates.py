"""What is shown of an answer: its picture or examples, and the legend with the verdict."""

from __future__ import annotations

from typing import Any

import gradio as gr

from whylens.core.explanation import Explanation
from whylens.core.outputs.render import Style, render_explanation, scale_of
from whylens.core.results import Heatmap
from whylens.ui.page import html
from whylens.ui.page.session import Session


def answer_updates(
    answer: Explanation, style: Style, session: Session, stamp: str
) -> tuple[Any, Any, Any]:
    """Return the updates of picture, examples and legend for an answer, partial or final.

    Args:
        stamp: Id of the question that it answers.
    """
    legend = legend_html(answer, style, stamp)
    match answer.result:
        case Heatmap():
            small = session.store.downscaled(answer)
            overlay = session.store.save_image(render_explanation(small, style))
            original = session.store.input_image(small) or overlay
            picture = gr.ImageSlider((original, overlay), visible=True)
            return picture, gr.HTML(visible=False), legend
        case examples:
            tiles = gr.HTML(html.tiles_html(examples, colours=style.colormap), visible=True)
            return gr.ImageSlider(visible=False), tiles, legend


def legend_html(answer: Explanation, style: Style, stamp: str) -> str:
    """Return HTML of what stands below an answer: the colours, and whether to believe them.

    Args:
        stamp: Id of the question that it answers.
    """
    mark = html.stamp(stamp)
    if not isinstance(answer.result, Heatmap):
        return mark
    judged = "" if answer.verdict is None else html.verdict(answer.verdict)
    legend = html.legend(scale_of(answer.result), style, note=answer.reason)
    return mark + legend + judged + html.checks(answer.result.diagnostics)
