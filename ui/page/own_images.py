"""What a visitor may give a fitted method: images of their own, and edits of what was fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.datasets.zip import MOST_FILES, pictures_in_zip
from whylens.core.errors import BadInput
from whylens.core.explainer import Explainer
from whylens.core.words import number_of, percent
from whylens.ui.page import html
from whylens.ui.page.folder_input import build_folder_input
from whylens.ui.page.long_events import report_failure, throttle, tracked_on, wire_stop
from whylens.ui.page.session import PRIVATE, Session, errors_as_messages, visitor_id

_FAILED = "Nothing was changed. "


def build_own_images(
    explainer: Explainer[Any], session: Session, model: Component, notice: Component, run: Component
) -> None:
    """Build and wire the part of a panel where a visitor gives labelled images.

    Args:
        notice: Says why the method cannot be used; emptied once it can.
        run: The panel's button; switched on once the method can be used.
    """
    key = html.slug(explainer.name)
    with gr.Accordion("Use pictures of your own", open=False, elem_id=f"{key}-own"):
        gr.HTML(html.render("pieces", "own_images", explainer=explainer))
        upload = gr.File(
            label="A folder of pictures by class, or a ZIP of it",
            file_types=[".zip"],
            type="filepath",
            elem_id=f"{key}-zip",
            height=160,
        )
        build_folder_input(f"{key}-zip", most=MOST_FILES, several=False)
        with gr.Row(elem_classes="wl-actions wl-running"):
            start = gr.Button("Use these pictures", elem_id=f"{key}-fit")
            stop = gr.Button("Stop", variant="stop", min_width=90, scale=0)
        status = gr.Textbox(label="Pictures", elem_id=f"{key}-fit-status", max_lines=4)
    event = start.click(
        _fitter(explainer, session), [upload, model], [status, notice, run], **tracked_on(status)
    )
    wire_stop(
        stop, event, status, lambda _: "Stopped; nothing was changed.", session.engine,
        method=explainer.name, failed=_FAILED,
    )  # fmt: skip


def _fitter(explainer: Explainer[Any], session: Session) -> Callable[..., Iterator[Any]]:
    @report_failure(_FAILED, at=0, of=3)
    def fit(path: str | None, model: str, request: gr.Request) -> Iterator[Any]:
        if not path:
            raise BadInput("Choose a folder or a ZIP first.")
        name = session.model_name(model)
        # Read where the method is fitted: decoding takes minutes and gigabytes if it is made to.
        images = partial(pictures_in_zip, Path(path))
        steps = session.engine.fit(name, explainer.name, images, visitor=visitor_id(request))
        for step in throttle(steps):
            yield f"{step.message}: {percent(step.fraction)}", gr.skip(), gr.skip()
        message = f"Ready: {step.message} from {number_of(step.pictures, 'picture')} of yours."
        yield message, gr.HTML(visible=False), gr.Button(interactive=True)

    return fit


def build_edits(explainer: Explainer[Any], session: Session, model: Component) -> Component:
    """Return the list of what a visitor can edit, built and wired with its controls."""
    key = html.slug(explainer.name)
    with gr.Accordion(f"Edit ({', '.join(explainer.actions)})", open=False, elem_id=f"{key}-edit"):
        items = gr.CheckboxGroup([], label="Tick what to change", elem_id=f"{key}-items")
        with gr.Row(elem_classes="wl-actions"):
            action = gr.Radio(
                [(a.capitalize(), a) for a in explainer.actions],
                value=explainer.actions[0],
                label="What to do",
                elem_id=f"{key}-action",
            )
            text = gr.Textbox(label="New name, if any", elem_id=f"{key}-text", max_lines=1)
        apply = gr.Button("Apply for me", elem_id=f"{key}-apply")
        status = gr.Textbox(label="What changed", elem_id=f"{key}-edited", max_lines=4)

    def edit(
        name: str, keys: list[str], what: str, new_name: str, request: gr.Request
    ) -> tuple[Any, Any]:
        with errors_as_messages():
            model, visitor = session.model_name(name), visitor_id(request)
            artifact = session.engine.edit(
                model, explainer.name, what, tuple(keys), new_name, visitor=visitor
            )
        names, change = list(artifact.facts["names"]), artifact.facts["edited"]
        return gr.CheckboxGroup(names, value=[]), f"{change} Explain again to see."

    apply.click(edit, [model, items, action, text], [items, status], **PRIVATE)
    return items


def editable_items(explainer: Explainer[Any], session: Session, model: str, visitor: str) -> Any:
    """Return the update of the list of what can be edited."""
    artifact = session.engine.artifact(model, explainer.name, visitor=visitor)
    return gr.CheckboxGroup(list(artifact.facts["names"]))
