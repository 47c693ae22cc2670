"""Many photos: what the network says of each, a click away from its whole answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import gradio as gr

from whylens.core.batch.folder_rows import photo_row
from whylens.core.batch.rows import FileRow, explain_file
from whylens.core.errors import BadInput, CoreError
from whylens.core.explanation import Explanation, Question
from whylens.core.inputs.framing import NETWORK, WHOLE, Framing
from whylens.core.outputs.export import explanation_picture
from whylens.core.outputs.photo_report import (
    SECONDS,
    Order,
    Tally,
    map_thumbnail,
    order_key,
    report_html,
    thumbnail,
    true_labels,
)
from whylens.core.outputs.render import Style
from whylens.core.results import Heatmap
from whylens.core.words import are, number_of
from whylens.ui.page import html
from whylens.ui.page.folder_input import build_folder_input
from whylens.ui.page.form import QuestionForm, StyleControls, network_id
from whylens.ui.page.guide import default_methods
from whylens.ui.page.long_events import (
    FAILED,
    UNQUEUED,
    forget_failure,
    report_failure,
    throttle,
    tracked_on,
    wire_stop,
)
from whylens.ui.page.page_store import PhotoTable
from whylens.ui.page.photo_files import ENDINGS, MOST_PHOTOS, PhotoFile, find_photo_files
from whylens.ui.page.session import (
    PREDICTED,
    PRIVATE,
    RUNNER_UP,
    Session,
    takes_signals,
    visitor_id,
)

IDLE = "Give photos, then press Run."
STALE = "This is of another network or crop. Run again to see what is said now."
ORDERS: list[tuple[str, Order]] = [
    ("Least sure first", "least sure"),
    ("Wrong first", "wrong"),
    ("Name", "name"),
]
# What is asked about stands on top of the page.
TO_ANSWER_JS = "() => document.querySelector('#answer-head').scrollIntoView({block: 'center'})"


def build_many_photos(
    session: Session, form: QuestionForm, style: StyleControls, *, local: bool
) -> None:
    """Build Many photos in the open tab and wire it.

    Args:
        local: Whether visitors may name folders of this machine.
    """
    gr.HTML(html.render("many_photos", "about", most=MOST_PHOTOS))
    with gr.Row():
        with gr.Column(min_width=240):
            files = gr.File(
                label=f"Up to {MOST_PHOTOS} photos, a folder or a ZIP of them",
                file_count="multiple",
                file_types=ENDINGS,
                type="filepath",
                elem_id="photos-files",
                height=160,
            )
            build_folder_input("photos-files", most=MOST_PHOTOS, several=True)
        folder = gr.Textbox(
            label="Or the path of a folder of this computer",
            info="Subfolders named after classes tell what is right",
            elem_id="photos-folder",
            max_lines=1,
            visible=local,
            min_width=240,
        )
    with gr.Row(elem_classes="wl-actions wl-running"):
        run = gr.Button("Run", variant="primary", elem_id="photos-run")
        stop = gr.Button("Stop", variant="stop", elem_id="photos-stop", min_width=90, scale=0)
    status = gr.Textbox(IDLE, label="Status", elem_id="photos-status", max_lines=5)
    order = gr.Radio(ORDERS, value="least sure", label="Sort by", elem_id="photos-order")
    with gr.Column(elem_classes="wl-answer"):
        table = gr.HTML("", elem_id="photos-table", js_on_load=html.CELL_JS, padding=False)
    download = gr.DownloadButton(
        "Download report.html", interactive=False, elem_id="photos-download", size="sm"
    )
    fields = {"model": form.model, "framing": form.framing}
    inputs = {"files": files, "folder": folder, "order": order, **fields}
    event = run.click(
        _runner(session, local=local),
        None,
        [table, status],
        inputs_kwargs={**inputs, **style.inputs},
        **tracked_on(status),
    )
    forget_failure([files, folder], status, FAILED, IDLE)
    pack, redraw = _packer(session), _redrawer(session)
    event.success(pack, None, [download], **PRIVATE)
    stopped = wire_stop(stop, event, status, _stop_message(session), session.engine)
    stopped.then(pack, None, [download], **UNQUEUED)
    order.change(redraw, [order], [table], **PRIVATE)
    new_photo = [form.photo, form.target, form.versus]
    click = table.click(_chooser(session), None, [*new_photo, status], **PRIVATE)
    click.success(None, None, None, js=TO_ANSWER_JS, **PRIVATE)


def _runner(session: Session, *, local: bool) -> Callable[..., Iterator[Any]]:
    @report_failure(FAILED, at=1, of=2)
    def run(request: gr.Request, **values: Any) -> Iterator[Any]:
        model, visitor = session.model_name(values["model"]), visitor_id(request)
        if takes_signals(session.engine.card(model)):
            raise BadInput("This network reads signals. Choose one that reads photos.")
        # What is not shown can still be sent.
        folder = (values["folder"] or "") if local else ""
        files, left_out = find_photo_files(values["files"] or [], folder)
        yield gr.skip(), f"0 of {number_of(len(files), 'photo')} ..."
        order = values["order"]
        work = _tables(session, visitor, files, {**values, "model": model})
        for table in throttle(work):
            yield (
                table_html(table, order),
                f"{len(table.rows)} of {number_of(len(files), 'photo')} ...",
            )
        # All again: of two updates that come at once a browser sees the second alone.
        sentence = f"Done: {Tally(table.rows).sentence()} {left_out}".strip()
        yield table_html(table, order), sentence

    return run


def _tables(
    session: Session, visitor: str, files: list[PhotoFile], values: Mapping[str, Any]
) -> Iterator[PhotoTable]:
    # Each is stored as well, so that it can be sorted, chosen from and downloaded at any time.
    engine, model, style = session.engine, values["model"], StyleControls.read(values)
    framing: Framing = WHOLE if values["framing"] == WHOLE else NETWORK
    card = engine.card(model)
    methods = default_methods(session, model, visitor, most=1)
    titles = {name: engine.registry.explainer(name).title for name in methods}
    find = true_labels(card.labels if card.outputs == "classes" else ())
    network = network_id(values)
    table = PhotoTable(model, card.digest, network, tuple(titles.values()), tuple(files))
    question = Question(model, visitor=visitor)
    params: dict[str, dict[str, object]] = {name: {} for name in methods}
    for number, file in enumerate(files):
        began = time.perf_counter()
        photo_input = session.store.decode_alone(file.load)
        photo = photo_input.photo
        source = FileRow(number, file.name, 0, photo_input.sha256)
        if photo is not None:
            photo_input = replace(photo_input, photo=replace(photo, framing=framing))
            source = replace(source, size=photo.size, notes=photo.notes)
        rows, maps = [], {}
        for row, answer in explain_file(engine, question, params, source, photo_input):
            rows.append(row)
            if answer is not None:
                maps[answer.title] = _map_thumbnail(answer, style)
        table_row = photo_row(rows, titles, find(file.name, file.folder))
        table_row = replace(
            table_row,
            photo=thumbnail(photo.pixels) if photo is not None else b"",
            maps=maps,
            figures={**table_row.figures, SECONDS: round(time.perf_counter() - began, 3)},
        )
        table = replace(table, rows=(*table.rows, table_row))
        session.store.put_photos(visitor, table)
        yield table


def _map_thumbnail(answer: Explanation, style: Style) -> bytes:
    pixels = answer.question.pixels
    if isinstance(answer.result, Heatmap) and pixels is not None and answer.view is not None:
        return map_thumbnail(pixels, answer.result, answer.view, style)
    return thumbnail(explanation_picture(answer, style))


def table_html(table: PhotoTable, order: Order) -> str:
    """Return HTML of the photos that are there so far; each that was read is a button.

    A button carries its number among the files as data-cell.
    """
    rows = sorted(enumerate(table.rows), key=lambda pair: order_key(order)(pair[1]))
    truth = any(row.true_label for row in table.rows)
    body = html.render(
        "many_photos",
        "table",
        rows=rows,
        methods=table.methods,
        truth=truth,
        figures=list(dict.fromkeys(name for row in table.rows for name in row.figures)),
        model=table.model,
    )
    return html.stamp(network=table.network) + html.stale_note(STALE) + body


def _redrawer(session: Session) -> Callable[..., Any]:
    def redraw(order: Order, request: gr.Request) -> Any:
        table = session.store.photos(visitor_id(request))
        return gr.skip() if table is None else table_html(table, order)

    return redraw


def _chooser(session: Session) -> Callable[..., Any]:
    def choose(request: gr.Request, event: gr.EventData) -> Any:
        table, cell = session.store.photos(visitor_id(request)), str(getattr(event, "cell", ""))
        if table is None or not cell.isdecimal() or int(cell) >= len(table.rows):
            return *(gr.skip(),) * 3, "This photo is gone. Run again."
        file = table.files[int(cell)]
        try:
            path = session.store.save_file(file.content(), suffix=file.suffix, stem=file.stem)
        except CoreError as exc:
            return *(gr.skip(),) * 3, f"{FAILED}{exc}"
        message = f"{file.name} is the photo now: its answer is on top."
        return path, PREDICTED, RUNNER_UP, message

    return choose


def _packer(session: Session) -> Callable[..., Any]:
    def pack(request: gr.Request) -> Any:
        table = session.store.photos(visitor_id(request))
        if table is None:
            return gr.skip()
        page = report_html(
            sorted(table.rows, key=order_key("wrong")),
            model=table.model,
            weights_sha256=table.weights_sha256,
            methods=table.methods,
        )
        path = session.store.save_file(page.encode(), suffix=".html", stem="report")
        return gr.DownloadButton(value=path, interactive=True)

    return pack


def _stop_message(session: Session) -> Callable[[str], str]:
    def message(visitor: str) -> str:
        table = session.store.photos(visitor)
        count = 0 if table is None else len(table.rows)
        return f"Stopped: {number_of(count, 'photo')} {are(count)} in the table."

    return message
