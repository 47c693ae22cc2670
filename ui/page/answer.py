"""The answer card: what the network says of the photo and where it looks, before any click."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component
from PIL import Image

from whylens.core.errors import BadInput, UnknownName
from whylens.core.explanation import Explanation, Prediction
from whylens.core.outputs.headline import (
    CoverTest,
    cover_tests,
    familiarity_words,
    is_unfamiliar,
)
from whylens.core.outputs.render import hatch
from whylens.core.progress import last_of
from whylens.core.targets import EACH_ITS_OWN
from whylens.ui.page import html
from whylens.ui.page.download import build_download, stored_answer
from whylens.ui.page.figure import build_figure
from whylens.ui.page.form import QuestionForm, StyleControls, question_id
from whylens.ui.page.guide import default_methods
from whylens.ui.page.html import CELL_JS, COMPARE, WHAT_IF, State
from whylens.ui.page.long_events import UNQUEUED, report_failure
from whylens.ui.page.panel_updates import answer_sentence, answer_updates
from whylens.ui.page.session import PREDICTED, PRIVATE, Session, visitor_id
from whylens.ui.page.truth import Truth

SLOT = "answer"
# A browser takes 0.4 s for what is said before the map: one that is nearly there comes at once.
SLOW_PREDICTION = 0.3  # seconds
COMPARE_METHODS = "Compare methods"
GO_JS = """() => {{
  document.querySelector('#tab-{tab}-button')?.click();
  document.querySelector('#tabs')?.scrollIntoView();
}}"""
STALE = "This is for the previous question; this one is being asked."
EMPTY = "Drop a photo, or choose one of the examples."


@dataclass(frozen=True)
class AnswerCard:
    """What other events need of the card.

    Attributes:
        question: Says, not to be seen, which question is being asked.
        outputs: What `ask` fills.
        ask: Answers the question of the form with the best quick method.
        byline: Says whose map it is, and offers to show the whole photo.
        truth: Says whether the map is to be believed; filled by the tests of the map.
        style_outputs: What `redraw` fills.
        redraw: Draws the stored answer anew in another style.
    """

    question: Component
    outputs: list[Component]
    inputs: Mapping[str, Component]
    ask: Callable[..., Iterator[Any]]
    byline: Component
    truth: Truth
    style_outputs: list[Component]
    redraw: Callable[..., Any]


def build_answer(
    session: Session, form: QuestionForm, style: StyleControls, truth: Truth
) -> AnswerCard:
    """Return the card, built in the open column and wired but for who asks.

    Args:
        truth: Stands elsewhere.
    """
    question = gr.HTML("", elem_id="question-id", padding=False)
    stamped: dict[str, Any] = {"js_on_load": CELL_JS, "elem_classes": "wl-answer", "padding": False}
    status = gr.HTML(html.answer_head(State.EMPTY, EMPTY), elem_id="answer-head", **stamped)
    chips = gr.HTML("", elem_id="predictions", **stamped)
    answers_of = stored_answer(session, SLOT)
    with gr.Column(elem_classes="wl-answer", elem_id="answer"):
        gr.HTML(html.stale_note(STALE), padding=False)
        gr.HTML(html.waiting_note(), elem_id="answer-waiting", padding=False)
        picture = gr.ImageSlider(
            label="Photo | map (drag the handle)",
            type="filepath",
            interactive=False,
            elem_id="answer-picture",
            slider_position=0,
            max_height=430,
            buttons=["fullscreen"],
            visible=False,
        )
        tiles = gr.HTML("", visible=False, elem_id="answer-examples", js_on_load=html.TILES_JS)
        legend = gr.HTML("", elem_id="answer-legend", padding=False)
        byline = gr.HTML("", elem_id="answer-by", js_on_load=CELL_JS, padding=False)
        with gr.Row(elem_classes="wl-actions wl-next", elem_id="answer-actions"):
            for title, tab in ((COMPARE_METHODS, COMPARE), ("What if", WHAT_IF)):
                gr.Button(title, size="sm", elem_id=f"go-{tab}", min_width=90).click(
                    None, None, None, js=GO_JS.format(tab=tab), **PRIVATE
                )
            fold = gr.Button(
                "Save figure", size="sm", elem_id="answer-figure", visible=False, min_width=90
            )
            save = build_download(
                "Save files",
                session,
                answers_of,
                {"photo": form.photo, **style.inputs},
                stem="whylens",
                elem_id="answer-save",
                visible=False,
                min_width=90,
            )
        with gr.Column(visible=False, elem_id="answer-figure-fold") as dialog:
            build_figure(session, style.inputs, answers_of, key="answer-figure", width=85)
    unfolded = gr.State(value=False)

    def turn(unfolded: bool) -> tuple[bool, Any]:
        return not unfolded, gr.Column(visible=not unfolded)

    fold.click(turn, [unfolded], [unfolded, dialog], **UNQUEUED)
    truth.cover.click(_show_covered(session), None, [truth.covered], **PRIVATE)
    outputs = [status, chips, picture, tiles, legend, byline, *truth.words, truth.covered]

    def show_actions(request: gr.Request) -> tuple[Any, Any]:
        has_answer = bool(answers_of(request))
        return gr.Button(visible=has_answer), gr.Button(visible=has_answer)

    for buttons in (status, chips):
        buttons.click(_on_chip, None, [form.target], **UNQUEUED)
    byline.change(show_actions, None, [fold, save], **UNQUEUED)
    return AnswerCard(
        question,
        outputs,
        {**form.inputs, **style.inputs},
        _asker(session),
        byline,
        truth,
        [picture, tiles, legend],
        _redrawer(session),
    )


def _on_chip(event: gr.EventData) -> Any:
    cell = str(getattr(event, "cell", ""))
    return cell if cell.isdecimal() or cell == PREDICTED else gr.skip()


def _asker(session: Session) -> Callable[..., Iterator[Any]]:
    @report_failure("", at=0, of=10, show=_failed_head, blank=_head_alone)
    def answer(request: gr.Request, **values: Any) -> Iterator[Any]:
        visitor = visitor_id(request)
        cover_image: Any = gr.Image(visible=False)
        style, stamp = StyleControls.read(values), question_id(values)
        if session.store.stamp(visitor, SLOT) == stamp:
            cover_image = gr.skip()  # asked again: what was covered is still of this question
        # What cannot be answered leaves nothing to be saved or drawn in other colours.
        session.store.forget(visitor, slots=SLOT)
        missing = _missing(session, values)
        if missing:
            # Stamped, so that it does not stand for the next photo until that is answered.
            head = html.answer_head(State.EMPTY, missing, question=stamp, way_out="example")
            yield _head_alone(head, mark=html.stamp(stamp))
            return
        question = QuestionForm.read(values, session, visitor)
        began = time.monotonic()
        prediction = session.engine.predict(question)
        is_slow = time.monotonic() - began > SLOW_PREDICTION
        labels = session.engine.card(question.model).labels
        chips = html.stamp(stamp) + html.chips(prediction, question.target, labels)
        verdict = _verdict(prediction)
        shares = f" {EACH_ITS_OWN}" if prediction.outputs == "labels" else ""
        share = session.engine.familiarity(question)
        if is_unfamiliar(share):
            verdict = f"{verdict} {familiarity_words(share)}"
        head = html.answer_head(State.WORKING, verdict, question=stamp)
        if is_slow:
            yield head, chips, *7 * (gr.skip(),), cover_image
        methods = default_methods(session, question.model, visitor, most=1)
        if not methods:
            text = "No quick method runs on this network: choose one under All methods."
            head = html.answer_head(State.REFUSED, verdict, text, question=stamp, way_out="methods")
            yield _head_alone(head, chips)
            return
        last = last_of(session.engine.explain(question, methods[0]))
        session.store.put_answer(visitor, SLOT, last, stamp)
        state, sentence = answer_sentence(last, session)
        if last.target.index != prediction.classes[0].index:
            sentence = f"For {last.question_text}: {sentence}"
        head = html.answer_head(state, verdict, sentence + shares, question=stamp)
        byline, source = html.by(last), html.source(familiarity_words(share))
        updates = (head, chips, *answer_updates(last, style, session, stamp, folded=True), byline)
        yield *updates, source, "", "", cover_image
        test = _cover_test(session, last)
        if test is not None:
            words = html.stamp(stamp) + html.cover_words(test, last.question_text) + source
            # All again: of two updates that come at once a browser sees the second alone.
            yield *updates, words, "", "", cover_image

    return answer


def _missing(session: Session, values: Mapping[str, Any]) -> str:
    # What to do before there can be an answer.
    photo, model = values["photo"], values["model"]
    if not model:
        return EMPTY
    if not session.fits(photo, model):
        return "This network reads signals: choose a sample or upload one."
    return "" if photo else EMPTY


def _cover_test(session: Session, answer: Explanation) -> CoverTest | None:
    visitor = answer.question.visitor
    (test,) = session.engine.run(cover_tests, [answer], visitor=visitor, quick=True)
    return test


def _head_alone(head: str = "", chips: str = "", mark: str = "") -> tuple[Any, ...]:
    """Return the updates of a card without an answer: all else is hidden.

    Args:
        mark: Says which question it is about, not to be seen.
    """
    picture, tiles = gr.ImageSlider(visible=False), gr.HTML(visible=False)
    return head, chips, picture, tiles, mark, *4 * ("",), gr.Image(visible=False)


def _failed_head(reason: str, cause: BaseException | None) -> str:
    ways = {BadInput: "example", UnknownName: "class"}
    way_out = next((way for kind, way in ways.items() if isinstance(cause, kind)), "methods")
    return html.answer_head(State.FAILED, reason, way_out=way_out)


def _verdict(prediction: Prediction) -> str:
    best = prediction.classes[0]
    if best.probability is None:
        return f"It says {best.amount}."
    if prediction.outputs == "labels":
        likely = [c for c in prediction.classes if (c.probability or 0) >= 0.5]
        words = ", ".join(f"{c.label} ({html.amount(c)})" for c in likely or [best])
        return f"It says {words}." if likely else f"It finds none; the likeliest is {words}."
    if best.probability >= 0.8:
        return f"It is sure: {best.label} ({html.share_in_words(best.probability)})."
    if best.probability >= 0.4:
        return f"It says {best.label} ({html.share_in_words(best.probability)})."
    return f"It is unsure: perhaps {best.label} ({html.share_in_words(best.probability)})."


def _redrawer(session: Session) -> Callable[..., Any]:
    def redraw(visitor: str, values: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        answer = session.store.answer(visitor, SLOT)
        if answer is None:
            return gr.skip(), gr.skip(), gr.skip()
        stamp = session.store.stamp(visitor, SLOT)
        return answer_updates(answer, StyleControls.read(values), session, stamp, folded=True)

    return redraw


def _show_covered(session: Session) -> Callable[..., Any]:
    def show(request: gr.Request) -> Any:
        answer = session.store.answer(visitor_id(request), SLOT)
        if answer is None or answer.question.pixels is None:
            return gr.skip()
        test = _cover_test(session, answer)
        if test is None or test.covered_pixels is None:
            return gr.skip()
        picture = hatch(Image.fromarray(answer.question.pixels), ~test.covered_pixels)
        return gr.Image(session.store.save_image(picture), visible=True)

    return show
