"""What is in the pictures that a visitor names for a training: classes, counts and some of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from whylens.core.datasets.dataset import Pixels
from whylens.core.datasets.preview import MOST_CLASSES, SetPreview, picture_of, preview_set
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, CoreError
from whylens.core.models.checkpoints import checkpoint_folders
from whylens.core.progress import last_of
from whylens.core.train.report import read_report
from whylens.ui.page import html
from whylens.ui.page.long_events import SLOW, report_failure
from whylens.ui.page.session import Session, visitor_id

MOST_NAMED = 100  # classes without pictures whose names are listed
MOST_NOTES = 6
BOTH = "Give a ZIP or a folder, not both. Empty one of the two."


def build_set_preview(
    session: Session, upload: Component, folder: Component, *, local: bool
) -> Dependency:
    """Return the event that shows the pictures as soon as there are any, built and wired.

    Args:
        local: Whether visitors may name folders of this machine.
    """
    preview = gr.HTML("", elem_id="train-set", padding=False)
    looked_at = gr.State(())

    @report_failure("", at=0, of=2, show=lambda reason, _: html.banner(reason))
    def look(
        path: str | None, folder: str | None, before: tuple[str, str], request: gr.Request
    ) -> Iterator[Any]:
        # What is not shown can still be sent.
        place = (folder or "").strip() if local else ""
        now = (path or "", place)
        if now == before:  # a keyboard passed through the field
            yield gr.skip(), gr.skip()
        elif path and place:
            raise BadInput(BOTH)
        elif not any(now):
            yield "", now
        else:
            yield html.source("Looking at the pictures ..."), now
            arguments = (path or place, bool(path))
            for preview in session.engine.run(_look, *arguments, visitor=visitor_id(request)):
                yield preview_html(preview), now

    event = gr.on(
        [upload.change, folder.submit, folder.blur],
        look,
        [upload, folder, looked_at],
        [preview, looked_at],
        trigger_mode="always_last",
        **SLOW,
    )
    return cast("Dependency", event)


def held_out_picture(
    session: Session, path: str | None, folder: str, model: str, visitor: str
) -> str | None:
    """Return the path of a picture that a network did not learn from, or None where none is found.

    Args:
        path: Of the upload that it was trained on, or None.
        folder: Or what the visitor named.
        model: Name of a network that was trained here.
    """
    place = checkpoint_folders().get(model)
    report = read_report(place) if place else None
    if report is None or not report.items:
        return None
    keys = {item.split: item.key for item in reversed(report.items)}
    arguments = (path or folder, bool(path), keys.get("test", report.items[0].key))
    try:
        pixels = last_of(session.engine.run(_picture, *arguments, visitor=visitor))
    except CoreError:  # moved meanwhile: then the photo stays as it is
        return None
    return session.store.save_png(pixels, stem="tested")


def _picture(engine: Engine, place: str, is_upload: bool, key: str) -> Iterator[Pixels]:
    yield picture_of(place, engine.registry.datasets, key, visitor=is_upload)


def _look(engine: Engine, place: str, is_upload: bool) -> Iterator[SetPreview]:
    # Read where the networks are: decoding takes time and memory if it is made to.
    return preview_set(place, engine.registry.datasets, visitor=is_upload)


def preview_html(preview: SetPreview) -> str:
    """Return HTML of classes with their counts, of pictures of the first, and of what to know."""
    first, unpictured_classes = preview.classes[:MOST_CLASSES], preview.classes[MOST_CLASSES:]
    return html.render(
        "training",
        "preview",
        count=sum(class_.count for class_ in preview.classes),
        classes=len(preview.classes),
        pictured=first,
        named=unpictured_classes[:MOST_NAMED],
        more=len(unpictured_classes[MOST_NAMED:]),
        notes=preview.notes[:MOST_NOTES],
    )
