"""The Model report tab: how good the loaded model is, and its mistakes, a click away from a map."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import gradio as gr
from gradio.layouts import Column
from PIL import Image

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
from whylens.ui.page import html
from whylens.ui.page.class_means import build_means
from whylens.ui.page.panel import Look, Question
from whylens.ui.page.report_html import SPLIT_NAMES, class_table, headline, matrix
from whylens.ui.page.session import QUIET, Session, errors_as_messages

MOST_SHOWN = 48
CHOOSE = "Choose a cell of the matrix, or two classes below it."
BY_TAB = "Train one on pictures of your own on the tab Your folder."
BY_COMMAND = "Train one on pictures of your own with the command whylens train."
# The grid's cells are buttons: a mouse, a finger and the keyboard all end in a click.
CELL_JS = """element.addEventListener('click', event => {
  const cell = event.target.closest('[data-cell]');
  if (!cell) return;
  element.querySelectorAll('[data-cell]').forEach(b => b.classList.toggle('wl-chosen', b === cell));
  trigger('click', {cell: cell.dataset.cell});
})"""


@dataclass(frozen=True)
class Report:
    """What other events need of the tab.

    Attributes:
        shown: The components that `on_model` fills.
        on_model: From a model's name to their updates.
    """

    shown: list[Any]
    on_model: Callable[[str | None], Any]


def build_report(session: Session, question: Question, look: Look, *, trainable: bool) -> Report:
    """Return the Model report tab, drawn into the open tab and wired.

    Args:
        session: Engine and shelf.
        question: The left side; a mistake that is chosen becomes its photo.
        look: Colours and opacity.
        trainable: Whether the page has a tab to train on.
    """
    way = BY_TAB if trainable else BY_COMMAND
    notice = gr.HTML(html.banner("No model is loaded yet."), elem_id="report-notice")
    with gr.Column(visible=False, elem_id="report-body") as body:
        head = gr.HTML("", elem_id="report-headline")
        split = gr.Radio([], label="Figures on", elem_id="report-split")
        grid = gr.HTML("", elem_id="report-matrix", js_on_load=CELL_JS)
        with gr.Row():
            truth = gr.Dropdown(
                [], label="Pictures of", elem_id="report-is", interactive=True, min_width=240
            )
            taken = gr.Dropdown(
                [], label="taken for", elem_id="report-taken", interactive=True, min_width=240
            )
        said = gr.Textbox(CHOOSE, label="Mistakes", elem_id="report-status", max_lines=4)
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
        build_means(session, question.model, look)
    on_split = [grid, classes, truth, taken, said, gallery]
    asked = [question.model, split, truth, taken]
    split.input(_of_split, [question.model, split], on_split, **QUIET)
    grid.click(_cell(session), [question.model, split], [truth, taken, said, gallery], **QUIET)
    gr.on([truth.input, taken.input], _mistakes(session), asked, [said, gallery], **QUIET)
    gallery.select(
        _loaded(session), asked, [question.photo, question.target, question.versus, said], **QUIET
    )
    return Report([notice, body, head, split, *on_split], partial(_of_model, way))


def _of_model(way: str, model: str | None) -> Any:
    report, why = None, ""
    try:
        folder = checkpoint_folders().get(model or "")
        report = read_report(folder) if folder else None
    except CoreError as exc:
        why = str(exc)
    if report is None:
        said = (
            why or f"There is no report of this model: only networks trained here have one. {way}"
        )
        skipped = [gr.skip()] * 8
        return gr.HTML(html.banner(said), visible=True), Column(visible=False), *skipped
    splits = ["test", "val"] if report.test is not None else ["val"]
    first = splits[0]
    return (
        gr.HTML("", visible=False),
        Column(visible=True),
        headline(report),
        gr.Radio([(SPLIT_NAMES[s], s) for s in splits], value=first, visible=len(splits) > 1),
        *_drawn(report, first),
    )


def _drawn(report: ModelReport, split: str) -> tuple[Any, ...]:
    figures = _figures(report, split)
    choices = [(label, str(i)) for i, label in enumerate(report.labels)]
    return (
        matrix(figures),
        class_table(figures),
        gr.Dropdown(choices, value=None),
        gr.Dropdown(choices, value=None),
        CHOOSE,
        gr.Gallery([], visible=False),
    )


def _figures(report: ModelReport, split: str) -> Figures:
    return report.test if split == "test" and report.test is not None else report.val


def _opened(model: str | None) -> tuple[Path, ModelReport]:
    folder = checkpoint_folders().get(model or "")
    report = read_report(folder) if folder else None
    if folder is None or report is None:
        raise BadInput("The report of this model is gone. Choose the model again.")
    return folder, report


def _of_split(model: str, split: str) -> Any:
    with errors_as_messages():
        return _drawn(_opened(model)[1], split)


def _wrong(report: ModelReport, split: str, cell: tuple[int, int]) -> list[ItemPrediction]:
    found = report.wrong(cast("SplitName", split))
    return [item for item in found if (item.label, item.predicted) == cell]


def _cell(session: Session) -> Callable[..., Any]:
    shown = _mistakes(session)

    def chosen(model: str, split: str, event: gr.EventData) -> Any:
        row, _, column = str(getattr(event, "cell", "")).partition("-")
        if not (row.isdecimal() and column.isdecimal()):
            return [gr.skip()] * 4  # a click beside the cells
        return gr.update(value=row), gr.update(value=column), *shown(model, split, row, column)

    return chosen


def _mistakes(session: Session) -> Callable[..., Any]:
    def mistakes(model: str, split: str, truth: str | None, taken: str | None) -> Any:
        empty = gr.Gallery([], visible=False, selected_index=None)
        if truth is None or taken is None:
            return CHOOSE, empty
        with errors_as_messages():
            folder, report = _opened(model)
            cell = _classes(report, truth, taken)
            told, kept = _told(folder, report, split, cell)
            if not kept:
                return told, empty
            pictures = mistake_pictures(folder, [item.key for item in kept])
            files = [
                (_file(session, pictures[item.key]), f"{item.probability:.0%} · {item.key}")
                for item in kept
            ]
            return told, gr.Gallery(files, visible=True, selected_index=None)

    return mistakes


def _classes(report: ModelReport, truth: str, taken: str) -> tuple[int, int]:
    cell = int(truth), int(taken)
    if max(cell) >= len(report.labels):
        raise BadInput("The model has no such class. Choose the model again.")
    return cell


def _told(
    folder: Path, report: ModelReport, split: str, cell: tuple[int, int]
) -> tuple[str, list[ItemPrediction]]:
    one, other = (report.labels[i] for i in cell)
    count = _figures(report, split).confusion[cell[0]][cell[1]]
    if cell[0] == cell[1]:
        said = f"{count} {SPLIT_NAMES[split]} pictures of {one} are recognised."
        return f"{said} Only the pictures of mistakes are kept.", []
    if not count:
        return f"No {SPLIT_NAMES[split]} picture of {one} is taken for {other}.", []
    kept_keys = set(mistake_keys(folder))
    kept = [i for i in _wrong(report, split, cell) if i.key in kept_keys][:MOST_SHOWN]
    said = f"{count} {SPLIT_NAMES[split]} pictures of {one} are taken for {other}"
    if report.mistakes_sha256 is None:
        return f"{said}. This model travels without pictures.", []
    if not kept:
        return f"{said}; none of them is kept.", []
    shown = "" if len(kept) == count else f"; {len(kept)} of them are kept"
    return f"{said}{shown}, the surest first. Choose one to explain it.", kept


def _file(session: Session, pixels: Any) -> str:
    # PNG: what is explained shall be what is kept, not a second compression of it.
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return session.shelf.file(stream.getvalue(), suffix=".png", stem="mistake")


def _loaded(session: Session) -> Callable[..., Any]:
    def loaded(
        model: str, split: str, truth: str | None, taken: str | None, event: gr.SelectData
    ) -> Any:
        with errors_as_messages():
            folder, report = _opened(model)
            if truth is None or taken is None:
                raise BadInput(CHOOSE)
            cell = _classes(report, truth, taken)
            kept = _told(folder, report, split, cell)[1]
            place = int(event.index)
            if not 0 <= place < len(kept):
                raise BadInput("This picture is gone. Choose the cell again.")
            item = kept[place]
            path = _file(session, mistake_pictures(folder, [item.key])[item.key])
            one, other = (report.labels[i] for i in cell)
            said = (
                f"{item.key} is the photo on the left now. It is {one}; the maps on the other "
                f"tabs say why it was taken for {other} ({item.probability:.0%})."
            )
            # Why it was taken for that class; against its true one, should a contrast be asked.
            return path, gr.update(value=taken), gr.update(value=truth), said

    return loaded
