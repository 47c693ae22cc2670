"""The Compare tab: several methods on one question, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from whylens.core.errors import CoreError
from whylens.core.explainer import is_single_step
from whylens.core.explanation import Explanation, Question
from whylens.core.outputs.ranking import ORDERS, ranked_answers
from whylens.core.outputs.render import Scale, Style, scales_together
from whylens.core.results import Heatmap
from whylens.core.words import number_of, percent
from whylens.ui.page import html
from whylens.ui.page.download import build_download
from whylens.ui.page.figure import build_figure
from whylens.ui.page.form import QuestionForm, StyleControls, question_id
from whylens.ui.page.judging import judged_steps
from whylens.ui.page.long_events import (
    FAILED,
    UNQUEUED,
    report_failure,
    throttle,
    tracked_on,
    wire_stop,
)
from whylens.ui.page.map_grid import GridRow, build_grid, grid_html
from whylens.ui.page.session import (
    PREDICTED,
    PRIVATE,
    RUNNER_UP,
    Session,
    model_choices,
    visitor_id,
)

SLOT = "compare "
RELATIVE = "Each map its own"
SHARED = "Shared by maps of one unit"
AS_CHOSEN = "As chosen"
NO_PHOTO = "Give a photo, then press Compare."

Answers = list[tuple[int, Explanation]]  # each with the number of its network's row
Drawer = Callable[[Answers, Style, Mapping[str, Any], str], tuple[str, str]]


@dataclass(frozen=True)
class Compare:
    """What other events need of the Compare tab.

    Attributes:
        inputs: The form, the style and the tab's own choices by name, as `on_photo` takes them.
        shown: The methods and other networks that were chosen, as `switch` takes them.
        redraw_inputs: As `redraw` takes them.
        on_photo: Explains with what is ticked; fills grid, legend and status.
        on_failure: Empties all that `on_photo` fills, and the download, of another question.
        switch: Switches the download button on where there are maps.
        redraw: Draws stored answers anew without computing them; fills grid and legend.
    """

    methods: Component
    grid: Component
    legend: Component
    status: Component
    download: Component
    notice: Component
    inputs: Mapping[str, Component]
    shown: Mapping[str, Component]
    redraw_inputs: Mapping[str, Component]
    on_photo: Callable[..., Iterator[Any]]
    on_failure: Callable[..., Any]
    switch: Callable[..., Any]
    redraw: Callable[..., Any]


def build_compare(session: Session, form: QuestionForm, style: StyleControls) -> Compare:
    """Return the Compare tab, built in the open tab and wired."""
    explainers = session.engine.registry.explainers
    with gr.Row():
        methods = gr.Dropdown(
            [(explainer.title, name) for name, explainer in explainers.items()],
            value=[],
            multiselect=True,
            label="Methods",
            elem_id="compare-methods",
            min_width=300,
            scale=3,
        )
        networks = gr.Dropdown(
            model_choices(),
            value=[],
            multiselect=True,
            allow_custom_value=True,
            label="Other networks, one row each",
            elem_id="compare-networks",
            min_width=240,
            scale=2,
        )
    notice = gr.HTML("", elem_id="compare-notice", visible=False)
    with gr.Row(elem_classes="wl-actions wl-running"):
        run = gr.Button("Compare", variant="primary", elem_id="compare-run")
        stop = gr.Button("Stop", variant="stop", elem_id="compare-stop", min_width=90, scale=0)
    status = gr.Textbox(NO_PHOTO, label="Status", elem_id="compare-status", max_lines=6)
    with gr.Column(elem_classes="wl-answer"):
        gr.HTML(html.stale_note(), padding=False)
        grid = build_grid()
        with gr.Row():
            scaling = gr.Radio(
                [RELATIVE, SHARED], value=RELATIVE, label="Scale", elem_id="compare-scaling"
            )
            order = gr.Dropdown(
                [AS_CHOSEN, *ORDERS],
                value=next(iter(ORDERS)),
                label="Order",
                elem_id="compare-order",
            )
        legend = gr.HTML("", elem_id="compare-legend")
    by_kind = {"methods": methods, "networks": networks}
    redraw_inputs = {**style.inputs, **by_kind, "scaling": scaling, "order": order}
    inputs = {**form.inputs, **redraw_inputs}
    draw = _drawer(session, grid)
    answers_of = _answers_of(session)

    def maps_of(request: gr.Request, **values: Any) -> list[Explanation]:
        shown_answers = _as_shown(answers_of(request, **values), values["order"])
        return [answer for _, answer in shown_answers]

    download = build_download(
        "Download all (ZIP)",
        session,
        maps_of,
        {"photo": form.photo, **redraw_inputs},
        stem="whylens-compare",
        same_values=SHARED,
        interactive=False,
        elem_id="compare-download",
    )

    def switch(request: gr.Request, **values: Any) -> Any:
        return gr.Button(interactive=bool(answers_of(request, **values)))

    compare = _runner(session, draw)
    redraw = _redrawer(session, draw, answers_of)
    queue = tracked_on(status)
    event = run.click(compare, None, [grid, legend, status], inputs_kwargs=inputs, **queue)
    event.success(switch, None, [download], inputs_kwargs=by_kind, **UNQUEUED)
    events = [event]
    if session.judges:
        judge = _judge(session, draw, answers_of)
        components, outputs = {**inputs, "words": status}, [grid, legend, status]
        events.append(event.success(judge, None, outputs, inputs_kwargs=components, **queue))
    for stopped in events:
        wire_stop(
            stop,
            stopped,
            status,
            lambda _: "Stopped; the maps that were ready stay.",
            session.engine,
            extra_output=download,
            update=switch,
            inputs=by_kind,
        )
    gr.on(
        [scaling.change, order.input], redraw, None, [grid, legend],
        inputs_kwargs=redraw_inputs, **PRIVATE,
    )  # fmt: skip
    with gr.Accordion("Save a figure for a paper", open=False, elem_id="figure-fold"):
        build_figure(session, redraw_inputs, maps_of, same_values=SHARED)
    return Compare(
        methods=methods,
        grid=grid,
        legend=legend,
        status=status,
        download=download,
        notice=notice,
        inputs=inputs,
        shown=by_kind,
        redraw_inputs=redraw_inputs,
        on_photo=_on_photo(compare, session),
        on_failure=_clearer(session),
        switch=switch,
        redraw=redraw,
    )


def _slot(row: int, method: str) -> str:
    return f"{SLOT}{row} {method}"


def _questions(
    session: Session, values: Mapping[str, Any], question: Question
) -> tuple[list[Question], list[str]]:
    """Return the question to each network, the loaded one's first, and what to know of them."""
    questions, remarks = [question], []
    index = question.target
    label = "" if index is None else session.engine.card(question.model).labels[index]
    for name in values["networks"]:
        target = PREDICTED
        try:
            labels = session.engine.card(session.model_name(name)).labels
            if label:
                same = [i for i, own in enumerate(labels) if own.lower() == label.lower()]
                target = str(same[0]) if same else PREDICTED
                if not same:
                    remarks.append(f"{name} knows no {label}: what it predicts is explained.")
            form = {**values, "model": name, "target": target, "versus": RUNNER_UP}
            questions.append(QuestionForm.read(form, session, question.visitor))
        except CoreError as exc:
            remarks.append(f"{name}: {exc}")
    return questions, remarks


def _panel_params(session: Session, visitor: str, method: str) -> dict[str, Any]:
    """Return a method's parameters as its panel asked last, or none where it did not."""
    answer = session.store.answer(visitor, method)
    return {} if answer is None else dict(answer.params)


def _options(session: Session, answer: Explanation) -> str:
    """Return the parameters of an answer that are not the method's own, in words."""
    fields = session.engine.registry.explainers[answer.method].Params.model_fields
    changed_inputs = {
        name: value for name, value in answer.params.items()
        if name in fields and value != fields[name].default
    }  # fmt: skip
    return ", ".join(f"{name} {value}" for name, value in changed_inputs.items())


def _runner(session: Session, draw: Drawer) -> Callable[..., Iterator[Any]]:
    explainers = session.engine.registry.explainers

    @report_failure(FAILED, at=2, of=3)
    def compare(request: gr.Request | None = None, **values: Any) -> Iterator[Any]:
        visitor = visitor_id(request)
        yield gr.skip(), gr.skip(), "Working ..."
        question = QuestionForm.read(values, session, visitor)
        style, stamp = StyleControls.read(values), question_id(values)
        questions, problems = _questions(session, values, question)
        work = []
        for row, row_question in enumerate(questions):
            unavailable = session.engine.unavailable(row_question.model, visitor=visitor)
            work += [(row, row_question, m) for m in values["methods"] if m not in unavailable]
            omitted = [explainers[m].title for m in values["methods"] if m in unavailable]
            if row and omitted:  # of the loaded one a list of its own says why
                problems.append(f"Not on {row_question.model}: {', '.join(omitted)}.")
        if not work:
            words = ["Choose at least one method that can be used on this network.", *problems]
            yield "", "", " ".join(words)
            return
        session.store.forget(visitor, slots=SLOT)
        answers: list[tuple[int, Explanation]] = []
        maps: tuple[Any, Any] = ("", "")
        for number, (row, row_question, method) in enumerate(work, 1):
            finished = list(answers)
            if ahead := session.engine.ahead(method):
                yield *maps, html.waiting(ahead)
            try:
                params = _panel_params(session, visitor, method)
                for answer in throttle(session.engine.explain(row_question, method, params)):
                    answers = [*finished, (row, answer)]
                    session.store.put_answer(visitor, _slot(row, method), answer, stamp)
                    maps = draw(answers, style, values, stamp)
                    progress = f"{number} of {len(work)}, {answer.title}: {html.status(answer)}"
                    yield *maps, progress
            except CoreError as exc:
                problems.append(str(exc))
        total = html.duration(sum(answer.seconds for _, answer in answers))
        sentence = f"Done: {number_of(len(answers), 'map')} in {total}."
        # The maps again: of two updates that come at once a browser sees the second alone.
        yield *maps, " ".join([sentence, *problems])

    return compare


def _judge(
    session: Session, draw: Drawer, answers_of: Callable[..., Answers]
) -> Callable[..., Iterator[Any]]:
    @report_failure(FAILED, at=2, of=3)
    def judge(request: gr.Request, **values: Any) -> Iterator[Any]:
        visitor, style = visitor_id(request), StyleControls.read(values)
        work = [a for a in answers_of(request, **values) if isinstance(a[1].result, Heatmap)]
        began, last = time.perf_counter(), None
        for number, (row, answer) in enumerate(work, 1):
            slot = _slot(row, answer.method)
            stamp = session.store.stamp(visitor, slot)
            for last in throttle(judged_steps(session, visitor, slot)):
                fraction = last.verdict.fraction if last.verdict else 0.0
                words = f"{values['words']} Judging {number} of {len(work)}: {percent(fraction)}"
                yield gr.skip(), gr.skip(), words
            updates = draw(answers_of(request, **values), style, values, stamp)
            yield *updates, gr.skip()
        if last is None:
            yield gr.skip(), gr.skip(), gr.skip()
            return
        took = html.duration(time.perf_counter() - began)
        yield *updates, f"{values['words']} Judged in {took}."

    return judge


def _on_photo(compare: Callable[..., Iterator[Any]], session: Session) -> Callable[..., Any]:
    explainers = session.engine.registry.explainers

    # A photo that is taken away also counts as a change; that is no reason to complain.
    def on_photo(request: gr.Request, **values: Any) -> Iterator[Any]:
        photo, model = values["photo"], values["model"]
        if not photo or not model:
            yield "", "", NO_PHOTO
        elif not session.fits(photo, model):
            yield "", "", "This network reads signals: choose a sample or upload one."
        else:
            quick = [
                n for n in values["methods"] if n in explainers and is_single_step(explainers[n])
            ]
            slow = [explainers[n].title for n in values["methods"] if n not in quick]
            if not quick:
                yield "", "", f"Press Compare: {', '.join(slow)} take their time."
                return
            wait = f" Press Compare for {', '.join(slow)} as well." if slow else ""
            for grid, legend, status in compare(request, **{**values, "methods": quick}):
                yield grid, legend, f"{status}{wait}"

    return on_photo


def _clearer(session: Session) -> Callable[..., Any]:
    def clear(request: gr.Request, **values: Any) -> Any:
        visitor = visitor_id(request)
        answers = session.store.answers(visitor, question_id(values))
        if any(slot.startswith(SLOT) for slot in answers):
            return (gr.skip(),) * 4
        session.store.forget(visitor, slots=SLOT)
        return "", "", "Nothing to compare: see above why.", gr.Button(interactive=False)

    return clear


def _as_shown(answers: Answers, order: str) -> Answers:
    """Return answers in the order of the grid: row by row, and within a row as the visitor chose.

    What is judged together is of one network.
    """
    return [
        (row, answer)
        for row in sorted({row for row, _ in answers})
        for answer in ranked_answers([a for r, a in answers if r == row], order)
    ]


def _drawer(session: Session, grid: Component) -> Drawer:
    def draw(
        answers: Answers, style: Style, values: Mapping[str, Any], stamp: str
    ) -> tuple[str, str]:
        scaling = values["scaling"]
        answers = _as_shown(answers, values["order"])
        heats = [a.result for _, a in answers if isinstance(a.result, Heatmap)]
        together = scales_together(heats, same_values=scaling == SHARED)
        scales = iter(together)
        rows: dict[int, list[tuple[Explanation, Scale | None]]] = {}
        for row, answer in answers:
            scale = next(scales) if isinstance(answer.result, Heatmap) else None
            rows.setdefault(row, []).append((answer, scale))
        several = len(rows) > 1
        parts = [GridRow(_says(cells[0][0]) if several else "", cells) for cells in rows.values()]
        mark, pictures = html.stamp(stamp), grid_html(parts, style, session, grid)
        if not heats:
            return pictures, mark
        unit = "1 is the full colour of each map; the table says what that is"
        # Maps of evidence for and against have colours of their own.
        units = {-1.0 if scale.low < 0 else 0.0: unit for scale in together}
        if len(units) > 1:
            units = {-1.0: f"Maps of for and against: {unit}", 0.0: f"The others: {unit}"}
        legend = "".join(
            html.legend(Scale(low, 1.0, words), style, words="") for low, words in units.items()
        )
        maps = [a for _, a in answers if isinstance(a.result, Heatmap)]
        options = [_options(session, answer) for answer in maps]
        return pictures, mark + legend + html.map_table(maps, together, options)

    return draw


def _says(answer: Explanation) -> str:
    share = f" {html.share_in_words(answer.probability)}" if answer.probability is not None else ""
    if answer.target.quantity == "value":
        share = f" {answer.score:.4g} {answer.target.value_unit}".rstrip()
    return f"{answer.model.name}: {answer.question_text}{share}"


def _answers_of(session: Session) -> Callable[..., Answers]:
    def answers_of(request: gr.Request, **values: Any) -> Answers:
        visitor, answers = visitor_id(request), []
        for row in range(1 + len(values["networks"])):
            for method in values["methods"]:
                answer = session.store.answer(visitor, _slot(row, method))
                if answer is not None:
                    answers.append((row, answer))
        return answers

    return answers_of


def _redrawer(
    session: Session, draw: Drawer, answers_of: Callable[..., Answers]
) -> Callable[..., Any]:
    def redraw(request: gr.Request, **values: Any) -> Any:
        answers = answers_of(request, **values)
        if not answers:
            return gr.skip(), gr.skip()
        row, first = answers[0]
        stamp = session.store.stamp(visitor_id(request), _slot(row, first.method))
        return draw(answers, StyleControls.read(values), values, stamp)

    return redraw
