"""The tab This network: how good the loaded model is, and its mistakes, a click away from a map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import gradio as gr
from gradio.layouts import Column

from whylens.core.datasets.dataset import SplitName
from whylens.core.errors import BadInput, CoreError
from whylens.core.models.checkpoints import checkpoint_folders
from whylens.core.train.report import (
    Figures,
    ItemPrediction,
    ModelReport,
    mistake_keys,
    mistake_pictures,
    read_report,
)
from whylens.core.words import are, number_of
from whylens.ui.page import html
from whylens.ui.page.class_means import build_means
from whylens.ui.page.form import QuestionForm, StyleControls
from whylens.ui.page.html import SPLIT_NAMES
from whylens.ui.page.session import PRIVATE, Session, errors_as_messages

MOST_SHOWN = 48
CHOOSE = "Choose a cell of the matrix, or two classes below it."
BY_TAB = "Your pictures trains one on pictures of your own."
BY_COMMAND = "Train one on pictures of your own with the command whylens train."
# The grid's cells are buttons, so that the keyboard reaches them as well.


@dataclass(frozen=True)
class Report:
    """What other events need of the tab.

    Attributes:
        outputs: The components that `on_model` fills.
        on_model: From a model's name to their updates.
    """

    outputs: list[Any]
    on_model: Callable[[str | None], Any]


def build_report(
    session: Session, form: QuestionForm, style: StyleControls, *, trainable: bool
) -> Report:
    """Return the tab This network, built in the open tab and wired.

    Args:
        trainable: Whether the page has a tab to train on.
    """
    notice = gr.HTML(html.banner("No model is loaded yet."), elem_id="report-notice")
    with gr.Column(visible=False, elem_id="report-body") as body:
        head = gr.HTML("", elem_id="report-headline")
        split = gr.Radio([], label="Figures on", elem_id="report-split")
        grid = gr.HTML("", elem_id="report-matrix", js_on_load=html.CELL_JS)
        with gr.Row():
            truth = gr.Dropdown(
                [], label="Pictures of", elem_id="report-is", interactive=True, min_width=240
            )
            prediction = gr.Dropdown(
                [], label="taken for", elem_id="report-taken", interactive=True, min_width=240
            )
        status = gr.Textbox(CHOOSE, label="Mistakes", elem_id="report-status", max_lines=4)
        gallery = gr.Gallery(
            label="Mistakes",
            show_label=False,
            elem_id="report-mistakes",
            columns=5,
            height="auto",
            object_fit="cover",
            allow_preview=False,
            interactive=False,
            visible=False,
        )
        with gr.Accordion("Precision and recall of each class", open=False):
            classes = gr.HTML("", elem_id="report-classes")
        build_means(session, form.model, style)
    facts = gr.HTML("", elem_id="report-facts")
    on_split = [grid, classes, truth, prediction, status, gallery]
    cell = [form.model, split, truth, prediction]
    split.input(_on_split, [form.model, split], on_split, **PRIVATE)
    on_cell = [truth, prediction, status, gallery]
    grid.click(_on_cell(session), [form.model, split], on_cell, **PRIVATE)
    gr.on([truth.input, prediction.input], _mistakes(session), cell, [status, gallery], **PRIVATE)
    mistake_outputs = [form.photo, form.target, form.versus, status]
    gallery.select(_load_mistake(session), cell, mistake_outputs, **PRIVATE)
    advice = BY_TAB if trainable else BY_COMMAND

    def on_model(model: str | None) -> Any:
        return _facts(session, model), *_model_updates(advice, model)

    return Report([facts, notice, body, head, split, *on_split], on_model)


def _facts(session: Session, model: str | None) -> str:
    try:
        card = session.engine.card(model) if model else None
    except CoreError:  # the banner on top says what is wrong with it
        card = None
    if card is None:
        return ""
    unavailable = session.engine.unavailable(card.name)
    return html.network_facts(card, len(session.engine.registry.explainers), len(unavailable))


def _model_updates(advice: str, model: str | None) -> Any:
    report, problem = None, ""
    try:
        folder = checkpoint_folders().get(model or "")
        report = read_report(folder) if folder else None
    except CoreError as exc:
        problem = str(exc)
    if report is None:
        missing = "Its accuracy and its mistakes are known of networks trained here alone."
        banner = html.banner(problem or f"{missing} {advice}")
        return gr.HTML(banner, visible=True), Column(visible=False), *[gr.skip()] * 8
    splits = ["test", "val"] if report.test is not None else ["val"]
    first = splits[0]
    return (
        gr.HTML("", visible=False),
        Column(visible=True),
        html.report_headline(report),
        gr.Radio([(SPLIT_NAMES[s], s) for s in splits], value=first, visible=len(splits) > 1),
        *_split_updates(report, first),
    )


def _split_updates(report: ModelReport, split: str) -> tuple[Any, ...]:
    figures = _figures(report, split)
    choices = [(label, str(i)) for i, label in enumerate(report.labels)]
    return (
        html.confusion_matrix(figures),
        html.class_table(figures),
        gr.Dropdown(choices, value=None),
        gr.Dropdown(choices, value=None),
        CHOOSE,
        gr.Gallery([], visible=False),
    )


def _figures(report: ModelReport, split: str) -> Figures:
    return report.test if split == "test" and report.test is not None else report.val


def _read(model: str | None) -> tuple[Path, ModelReport]:
    folder = checkpoint_folders().get(model or "")
    report = read_report(folder) if folder else None
    if folder is None or report is None:
        raise BadInput("The report of this model is gone. Choose the model again.")
    return folder, report


def _on_split(model: str, split: str) -> Any:
    with errors_as_messages():
        return _split_updates(_read(model)[1], split)


def _wrong(report: ModelReport, split: str, cell: tuple[int, int]) -> list[ItemPrediction]:
    mistakes = report.wrong(cast("SplitName", split))
    return [item for item in mistakes if (item.label, item.predicted) == cell]


def _on_cell(session: Session) -> Callable[..., Any]:
    mistakes = _mistakes(session)

    def on_cell(model: str, split: str, event: gr.EventData) -> Any:
        row, _, column = str(getattr(event, "cell", "")).partition("-")
        if not (row.isdecimal() and column.isdecimal()):
            return [gr.skip()] * 4  # a click beside the cells
        return gr.update(value=row), gr.update(value=column), *mistakes(model, split, row, column)

    return on_cell


def _mistakes(session: Session) -> Callable[..., Any]:
    def mistakes(model: str, split: str, truth: str | None, prediction: str | None) -> Any:
        empty = gr.Gallery([], visible=False, selected_index=None)
        if truth is None or prediction is None:
            return CHOOSE, empty
        with errors_as_messages():
            folder, report = _read(model)
            text, items = _stored_mistakes(folder, report, split, _cell(report, truth, prediction))
            if not items:
                return text, empty
            images = mistake_pictures(folder, [item.key for item in items])
            save = session.store.save_png
            files = [
                (
                    save(images[item.key], stem="mistake"),
                    f"{html.share_in_words(item.probability)} · {item.key}",
                )
                for item in items
            ]
            return text, gr.Gallery(files, visible=True, selected_index=None)

    return mistakes


def _cell(report: ModelReport, truth: str, prediction: str) -> tuple[int, int]:
    cell = int(truth), int(prediction)
    if max(cell) >= len(report.labels):
        raise BadInput("The model has no such class. Choose the model again.")
    return cell


def _stored_mistakes(
    folder: Path, report: ModelReport, split: str, cell: tuple[int, int]
) -> tuple[str, list[ItemPrediction]]:
    # What the status says of a cell, and its mistakes whose pictures are stored.
    true, predicted = (report.labels[i] for i in cell)
    count = _figures(report, split).confusion[cell[0]][cell[1]]
    if cell[0] == cell[1]:
        text = f"{_pictures(count, split, true)} recognised."
        return f"{text} Only the pictures of mistakes are kept.", []
    if not count:
        return f"No {SPLIT_NAMES[split]} picture of {true} is taken for {predicted}.", []
    keys = set(mistake_keys(folder))
    items = [i for i in _wrong(report, split, cell) if i.key in keys][:MOST_SHOWN]
    text = f"{_pictures(count, split, true)} taken for {predicted}"
    if report.mistakes_sha256 is None:
        return f"{text}. This model travels without pictures.", []
    if not items:
        return f"{text}; none of them is kept.", []
    part = "" if len(items) == count else f"; {len(items)} of them are kept"
    return f"{text}{part}, the surest first. Choose one to explain it.", items


def _pictures(count: int, split: str, label: str) -> str:
    kind = number_of(count, f"{SPLIT_NAMES[split]} picture")
    return f"{kind} of {label} {are(count)}"


def _load_mistake(session: Session) -> Callable[..., Any]:
    def load(
        model: str, split: str, truth: str | None, prediction: str | None, event: gr.SelectData
    ) -> Any:
        with errors_as_messages():
            folder, report = _read(model)
            if truth is None or prediction is None:
                raise BadInput(CHOOSE)
            cell = _cell(report, truth, prediction)
            _, items = _stored_mistakes(folder, report, split, cell)
            index = int(event.index)
            if not 0 <= index < len(items):
                raise BadInput("This picture is gone. Choose the cell again.")
            item = items[index]
            pixels = mistake_pictures(folder, [item.key])[item.key]
            path = session.store.save_png(pixels, stem="mistake")
            true, predicted = (report.labels[i] for i in cell)
            text = (
                f"{item.key} is the photo on top of the page now. It is {true}; the maps on the "
                f"other tabs say why it was taken for {predicted} "
                f"({html.share_in_words(item.probability)})."
            )
            # Why it was taken for that class; against its true one, should a contrast be asked.
            return path, gr.update(value=prediction), gr.update(value=truth), text

    return load
