"""The What if tab: places of the input are covered, and the network is asked again at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import gradio as gr
import numpy as np
from PIL import Image

from whylens.core.errors import BadInput
from whylens.core.explanation import Explanation
from whylens.core.inputs.photo import Photo, Pixels
from whylens.core.outputs.what_if import (
    Change,
    ChangeOutcome,
    FillName,
    Marks,
    change_outcomes,
    network_views,
)
from whylens.core.results import Heatmap
from whylens.core.words import percent
from whylens.ui.page import html
from whylens.ui.page.form import QuestionForm, question_id
from whylens.ui.page.long_events import FAILED, QUICK, UNQUEUED, report_failure
from whylens.ui.page.paint_input import paint_input
from whylens.ui.page.photo_input import photo_input
from whylens.ui.page.session import PRIVATE, Session, visitor_id

SIDE = 420  # pixels of the longer side of what is painted on
BY_MAP, BY_BRUSH = "map", "brush"
COVER, KEEP = "cover", "keep"
WAYS = [("Cover what is marked", COVER), ("Show only what is marked", KEEP)]
OTHER = "other"
FILLS = [("Blur", "blur"), ("Grey", "grey"), ("Its mean colour", "mean"), ("Another photo", OTHER)]
# Gradio's editor keeps the first change of each visit to itself, so that its own events come one
# stroke late: whatever ends on it presses the button.
STROKE_JS = """document.addEventListener('pointerup', ({target}) => {
  if (!target.closest?.('#whatif-editor')) return;
  clearTimeout(element.strokeEnd);
  element.strokeEnd = setTimeout(() => document.querySelector('#whatif-ask')?.click(), 150);
});"""
PAINT = "Paint over places, or let a map mark its strongest ones."
OTHER_MISSING = "Give the other photo, whose places are to be put there."


def build_what_if(session: Session, form: QuestionForm, tab: gr.Tab) -> None:
    """Build the tab in the open tab and wire it."""
    gr.HTML(html.render("what_if", "about"), js_on_load=STROKE_JS)
    with gr.Row():
        with gr.Column(min_width=300, elem_classes="wl-answer"):
            stamp = gr.HTML("", padding=False)
            editor = paint_input(
                label="What the network is shown",
                elem_id="whatif-editor",
                sources=(),
                transforms=(),
                brush=gr.Brush(colors=["rgba(213, 94, 0, 0.75)"], color_mode="fixed"),
                canvas_size=(SIDE, SIDE),
                height=SIDE + 90,
                buttons=[],
            )
        with gr.Column(min_width=300):
            way = gr.Radio(WAYS, value=COVER, label="Do", elem_id="whatif-way")
            fill = gr.Radio(FILLS, value="blur", label="Put there", elem_id="whatif-fill")
            replacement_photo = photo_input(
                label="Another photo, or background",
                sources=["upload", "clipboard"],
                elem_id="whatif-other",
                height=140,
                visible=False,
                buttons=[],
            )
            with gr.Row():
                maps = gr.Dropdown([], label="Marked by a map", elem_id="whatif-map", min_width=160)
                share = gr.Slider(
                    1, 50, value=10, step=1, label="Its strongest, in %", elem_id="whatif-share",
                    buttons=[], min_width=140,
                )  # fmt: skip
            with gr.Row(elem_classes="wl-actions"):
                mark = gr.Button("Mark by the map", elem_id="whatif-mark", min_width=140)
                paint = gr.Button("By what I painted", elem_id="whatif-ask", min_width=140)
            status = gr.Textbox(PAINT, label="Status", elem_id="whatif-status", max_lines=3)
    with gr.Row(elem_classes="wl-answer"):
        with gr.Column(min_width=300):
            gr.HTML(html.stale_note(), padding=False)
            picture = gr.Image(
                label="What it is shown now",
                interactive=False,
                elem_id="whatif-shown",
                height=320,
                visible=False,
                buttons=[],
            )
        with gr.Column(min_width=300):
            bars = gr.HTML("", elem_id="whatif-bars")
    marked = gr.State("")
    controls = {
        "marked": marked,
        "way": way,
        "fill": fill,
        "other": replacement_photo,
        "map": maps,
        "share": share,
    }
    inputs = {**form.inputs, **controls, "painted": editor}
    outputs = [picture, bars, status]
    refill = gr.Button("Refill", elem_id="whatif-refill", visible="hidden")
    opening_outputs = [editor, maps, status, stamp]
    gr.on(
        [tab.select, refill.click], _opener(session), None, opening_outputs,
        inputs_kwargs=form.inputs, **PRIVATE,
    )  # fmt: skip
    fill.change(
        lambda value: gr.Image(visible=value == OTHER), [fill], [replacement_photo], **PRIVATE
    )
    asking = {**QUICK, "inputs_kwargs": inputs}
    # Buttons say what marks the places; another way or fill asks anew of the same places.
    for button, source in ((mark, BY_MAP), (paint, BY_BRUSH)):
        click = button.click(lambda source=source: source, None, [marked], **UNQUEUED)
        click.then(_asker(session), None, outputs, trigger_mode="always_last", **asking)
    triggers = [way.input, fill.input, replacement_photo.upload, share.release]
    gr.on(triggers, _asker(session), None, outputs, trigger_mode="always_last", **asking)


def _opener(session: Session) -> Callable[..., Any]:
    def empty() -> tuple[Any, ...]:
        # Of no question, so that it is filled by the next.
        return None, gr.Dropdown([], value=None), "Give a photo first.", html.stamp("none")

    @report_failure(FAILED, at=2, of=4, blank=empty)
    def on_open(request: gr.Request, **values: Any) -> Iterator[Any]:
        visitor = visitor_id(request)
        if not values["photo"] or not values["model"]:
            yield empty()
            return
        question = QuestionForm.read(values, session, visitor)
        (pixels,) = session.engine.run(network_views, question, visitor=visitor, quick=True)
        titles = {slot: a.title for slot, a in _maps(session, visitor, values).items()}
        choices = [(title, slot) for slot, title in titles.items()]
        first = choices[0][1] if choices else None
        words = PAINT if pixels is not None else "A signal cannot be painted on: mark it by a map."
        value = None
        if pixels is not None:
            picture = _picture(pixels)
            value = {"background": picture, "layers": [], "composite": picture}
        mark = html.stamp(question_id(values)) + html.stale_note("This was for another question.")
        yield value, gr.Dropdown(choices, value=first), words, mark

    return on_open


def _maps(session: Session, visitor: str, values: Mapping[str, Any]) -> dict[str, Explanation]:
    """Return the finished maps that answer the form's question, by slot, each method once."""
    answers: dict[str, Explanation] = {}
    methods: set[str] = set()
    for slot, answer in session.store.answers(visitor, question_id(values)).items():
        is_map = isinstance(answer.result, Heatmap)
        if is_map and answer.finished and answer.method not in methods:
            methods.add(answer.method)
            answers[slot] = answer
    return answers


def _picture(pixels: Pixels) -> Image.Image:
    image = Image.fromarray(pixels)
    scale = SIDE / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)


def _brush_marks(values: Mapping[str, Any]) -> Marks | None:
    """Return (H, W), True where the brush was; None where nothing is painted."""
    layers = (values["painted"] or {}).get("layers") or []
    marks = [np.asarray(layer.getchannel("A")) > 0 for layer in layers]
    return np.any(marks, 0) if np.any(marks) else None


def _choose_map(values: Mapping[str, Any], maps: Mapping[str, Explanation]) -> Heatmap:
    answer = maps.get(values["map"] or "")
    if answer is None or not isinstance(answer.result, Heatmap):
        raise BadInput("Choose a map of this question. Compare makes more of them.")
    return answer.result


def _fill(session: Session, values: Mapping[str, Any]) -> FillName | Photo:
    if values["fill"] != OTHER:
        return cast("FillName", values["fill"])
    return session.store.photo(values["other"])


def _asker(session: Session) -> Callable[..., Any]:
    @report_failure(FAILED, at=2, of=3)
    def ask(request: gr.Request, **values: Any) -> Iterator[Any]:
        if not values["photo"] or not values["model"]:
            raise BadInput("Give a photo first.")
        visitor = visitor_id(request)
        question = QuestionForm.read(values, session, visitor)
        maps = _maps(session, visitor, values)
        marked = _choose_map(values, maps) if values["marked"] == BY_MAP else _brush_marks(values)
        if marked is None or (question.photo is None and not isinstance(marked, Heatmap)):
            yield gr.Image(visible=False), "", PAINT
            return
        if values["fill"] == OTHER and not values["other"]:
            yield gr.Image(visible=False), "", OTHER_MISSING
            return
        fill = _fill(session, values)
        change = Change(marked, float(values["share"]) / 100, values["way"] == KEEP, fill)
        heats = {a.title: a.result for a in maps.values() if isinstance(a.result, Heatmap)}
        arguments = (question, change, list(heats.values()))
        steps = session.engine.run(change_outcomes, *arguments, visitor=visitor, quick=True)
        for number, outcome in enumerate(steps):
            # Later steps show the same picture, and know more of it.
            picture = gr.skip() if number else gr.Image(_picture(outcome.picture), visible=True)
            foreseen = zip(heats, outcome.foreseen, strict=True) if outcome.foreseen else ()
            bars = html.render(
                "what_if",
                "bars",
                changed=outcome,
                label=outcome.label,
                foreseen=list(foreseen),
                amount=html.amount,
            )
            yield picture, html.stamp(question_id(values)) + bars, _words(outcome)

    return ask


def _words(outcome: ChangeOutcome) -> str:
    def figure(fall: float) -> str:
        unit = outcome.unit
        return f"{-fall:+.3g} {unit}".rstrip() if unit else f"{-100 * fall:+.0f} points"

    words = f"{percent(outcome.area)} of it changed: {outcome.label} {figure(outcome.fell)}."
    if outcome.elsewhere is None:
        return words
    return f"{words} The same shape elsewhere: {figure(outcome.elsewhere)} on average."
