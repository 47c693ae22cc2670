"""What a visitor may give a fitted method: pictures of their own, and edits of what was made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.datasets.zip import pictures_in_zip
from whylens.core.errors import BadInput
from whylens.core.explainer import Explainer
from whylens.core.progress import map_progress
from whylens.ui.page import html
from whylens.ui.page.long_events import saying, stopped_by
from whylens.ui.page.session import QUIET, Session, errors_as_messages, visitor

_FAILED = "That did not work; nothing was changed."


def build_own_pictures(
    explainer: Explainer[Any], session: Session, model: Component, notice: Component, run: Component
) -> None:
    """Draw and wire the part of a panel where a visitor gives labelled pictures.

    Args:
        explainer: One that is fitted.
        session: Engine and shelf.
        model: The model's drop-down.
        notice: Says why the method cannot be used; emptied once it can.
        run: The panel's button; switched on once the method can be used.
    """
    key = html.slug(explainer.name)
    with gr.Accordion("Use pictures of your own", open=False, elem_id=f"{key}-own"):
        gr.HTML(html.render("pieces", "own_images", explainer=explainer))
        upload = gr.File(
            label="ZIP of pictures by class",
            file_types=[".zip"],
            type="filepath",
            elem_id=f"{key}-zip",
            height=110,
        )
        with gr.Row(elem_classes="wl-actions"):
            start = gr.Button("Use these pictures", elem_id=f"{key}-fit")
            stop = gr.Button("Stop", variant="stop", min_width=90, scale=0)
        said = gr.Textbox(label="Pictures", elem_id=f"{key}-fit-status", max_lines=4)
    event = start.click(
        _fitter(explainer, session),
        [upload, model],
        [said, notice, run],
        concurrency_id="work",
        trigger_mode="once",
        show_progress="hidden",
        api_visibility="private",
    )
    stopped_by(stop, event, said, lambda _: "Stopped; nothing was changed.", failed=_FAILED)


def _fitter(explainer: Explainer[Any], session: Session) -> Callable[..., Iterator[Any]]:
    @saying(_FAILED, at=0, of=3)
    def fit(path: str | None, model: str, request: gr.Request) -> Iterator[Any]:
        if not path:
            raise BadInput("Choose a ZIP first.")
        name = session.model_name(model)
        pictures = yield from map_progress(
            pictures_in_zip(Path(path)),
            lambda share: (f"Reading pictures: {share:.0%}", gr.skip(), gr.skip()),
        )
        work = session.engine.fit(name, explainer.name, pictures, visitor=visitor(request))
        for done in work:
            yield f"{done.message}: {done.fraction:.0%}", gr.skip(), gr.skip()
        said = f"Ready: {done.message} from {len(pictures.items):,} pictures of yours."
        yield said, gr.HTML(visible=False), gr.Button(interactive=True)

    return fit


def build_edits(explainer: Explainer[Any], session: Session, model: Component) -> Component:
    """Draw and wire the part of a panel where a visitor edits what was fitted, and return the list.

    Args:
        explainer: One that offers actions.
        session: Engine and shelf.
        model: The model's drop-down.
    """
    key = html.slug(explainer.name)
    with gr.Accordion(f"Edit ({', '.join(explainer.actions)})", open=False, elem_id=f"{key}-edit"):
        ticks = gr.CheckboxGroup([], label="Tick what to change", elem_id=f"{key}-items")
        with gr.Row(elem_classes="wl-actions"):
            action = gr.Radio(
                [(a.capitalize(), a) for a in explainer.actions],
                value=explainer.actions[0],
                label="What to do",
                elem_id=f"{key}-action",
            )
            text = gr.Textbox(label="New name, if any", elem_id=f"{key}-text", max_lines=1)
        apply = gr.Button("Apply for me", elem_id=f"{key}-apply")
        said = gr.Textbox(label="What changed", elem_id=f"{key}-edited", max_lines=4)

    def edit(
        name: str, chosen: list[str], what: str, typed: str, request: gr.Request
    ) -> tuple[Any, Any]:
        with errors_as_messages():
            after = session.engine.edit(
                session.model_name(name),
                explainer.name,
                what,
                tuple(chosen),
                typed,
                visitor=visitor(request),
            )
        listed = list(after.facts["names"])
        return gr.CheckboxGroup(listed, value=[]), f"{after.facts['edited']} Explain again to see."

    apply.click(edit, [model, ticks, action, text], [ticks, said], **QUIET)
    return ticks


def editable_items(explainer: Explainer[Any], session: Session, model: str, mine: str) -> Any:
    """Return the update of the list of what can be edited.

    Args:
        explainer: One that offers actions.
        session: Engine and shelf.
        model: The model's name.
        mine: The visitor.
    """
    backbone = session.engine.backbone(model)
    artifact = session.engine.artifact_store.get(explainer, backbone, mine)
    return gr.CheckboxGroup(list(artifact.facts["names"]))
