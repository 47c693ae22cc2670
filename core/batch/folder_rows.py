"""The rows of a run, read back file by file, and the page that shows them."""

from __future__ import annotations

import heapq
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from whylens.core.batch.listing import FILES, LoadedFile, load_file, read_listing
from whylens.core.batch.plan import MapFormat, Plan
from whylens.core.batch.rows import map_values, predicted_score
from whylens.core.batch.shards import LOG, manifest_path
from whylens.core.explanation import ModelCard
from whylens.core.inputs.signal import plot_signal
from whylens.core.inputs.view import View
from whylens.core.outputs.photo_report import (
    MOST_ROWS,
    SECONDS,
    PhotoRow,
    Tally,
    map_thumbnail,
    most_pictured,
    order_key,
    report_html,
    thumbnail,
    true_labels,
)
from whylens.core.outputs.render import Style, signal_plot
from whylens.core.results import Heatmap
from whylens.core.storage.files import write_atomically

REPORT = "report.html"
_MOST_CAPTIONS = 3  # of examples, where there is no picture of them
_Raw = list[dict[str, Any]]  # rows of one file


def rows_by_file(out: Path, shard: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each file of a finished shard, one row per method.

    Args:
        shard: From 0.
    """
    rows = pq.read_table(manifest_path(out, shard)).to_pylist()
    yield from (list(group) for _, group in groupby(rows, key=lambda row: row["index"]))


def photo_row(
    rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str], true_label: str
) -> PhotoRow:
    """Return what a table of photos says of one file; its pictures are not in it yet.

    Args:
        rows: Of one file, one per method.
        titles: Of the methods, by name.
    """
    first, best = rows[0], predicted_score(rows[0])
    head = f"Value ({best.unit})" if best is not None and best.unit else "Value"
    notes = dict.fromkeys(first["photo_notes"] or ())
    for row in rows:
        own = [row[key] for key in ("blank_because", "note")]
        if row["items"] and not row["map"]:
            own.append("; ".join(_captions(row["items"])))
        title = titles.get(row["method"], "")
        notes |= dict.fromkeys(f"{title}: {text}" for text in own if text)
        if row["error"]:
            is_predicted = first["predicted"] is not None
            notes[f"{title}: {row['error']}" if is_predicted else row["error"]] = None
    return PhotoRow(
        name=first["path"],
        label=first["predicted_label"] or "",
        probability=first["predicted_probability"],
        figures={} if best is None or best.probability is not None else {head: best.logit},
        true_label=true_label,
        notes=tuple(notes),
    )


def _captions(items: str) -> list[str]:
    facts = json.loads(items)
    return [item["caption"] for item in facts["items"][:_MOST_CAPTIONS]]


def write_report(
    folder: Path, out: Path, plan: Plan, card: ModelCard, titles: Mapping[str, str]
) -> None:
    """Write a finished run's page, the wrong and the least sure first, with small pictures.

    Args:
        folder: With the files.
        titles: Of the methods, by name.
    """
    tally = Tally()
    first = order_key("wrong")
    page_rows = heapq.nsmallest(
        MOST_ROWS,
        _count(_photo_rows(folder, out, plan, card, titles), tally),
        key=lambda pair: first(pair[0]),
    )
    seconds = _file_seconds(out)
    pictured = most_pictured(len(titles))
    rows: list[PhotoRow] = []
    for row, raw in page_rows:
        shard, place = plan.shard_of(raw[0]["index"])
        time = seconds.get(shard, ())[place : place + 1]
        timed = replace(row, figures={**row.figures, SECONDS: time[0]}) if time else row
        if len(rows) < pictured:
            timed = _with_pictures(timed, raw, folder, out, plan, titles)
        rows.append(timed)
    page = report_html(
        rows,
        model=card.name,
        weights_sha256=card.digest,
        methods=list(titles.values()),
        tally=tally,
    )
    write_atomically(out / REPORT, page.encode())


def _photo_rows(
    folder: Path, out: Path, plan: Plan, card: ModelCard, titles: Mapping[str, str]
) -> Iterator[tuple[PhotoRow, _Raw]]:
    # Of labels that do not exclude each other, a photo may have several.
    find = true_labels(card.labels if card.outputs == "classes" else ())
    name = folder.resolve().name
    for shard in range(plan.shards):
        for raw in rows_by_file(out, shard):
            yield photo_row(raw, titles, find(raw[0]["path"], name)), raw


def _count(pairs: Iterator[tuple[PhotoRow, _Raw]], tally: Tally) -> Iterator[tuple[PhotoRow, _Raw]]:
    for pair in pairs:
        tally.add(pair[0])
        yield pair


def _file_seconds(out: Path) -> dict[int, Sequence[float]]:
    with (out / LOG).open(encoding="utf-8") as log:
        lines = [json.loads(line) for line in log]
    return {line["shard"]: line.get("file_seconds", ()) for line in lines if "shard" in line}


def _with_pictures(
    row: PhotoRow, raw: _Raw, folder: Path, out: Path, plan: Plan, titles: Mapping[str, str]
) -> PhotoRow:
    index = raw[0]["index"]
    (path,) = read_listing(out / FILES, index, index + 1)
    file = load_file(folder / os.fsdecode(path))
    if raw[0]["sha256"] != file.sha256:
        return replace(row, notes=(*row.notes, "The file has changed since."))
    maps = {
        titles[record["method"]]: _map_thumbnail(record, file, out, plan.maps)
        for record in raw
        if record["map"] is not None
    }
    if file.photo is not None:
        return replace(row, photo=thumbnail(file.photo.pixels), maps=maps)
    if file.signal is not None:
        return replace(row, photo=thumbnail(plot_signal(file.signal)), maps=maps)
    return row


def _map_thumbnail(row: Mapping[str, Any], file: LoadedFile, out: Path, kind: MapFormat) -> bytes:
    data = (out / row["map"]).read_bytes()
    if kind == "picture":
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            return thumbnail(picture)
    if kind == "npy":
        values = np.load(io.BytesIO(data), allow_pickle=False)
    else:
        values = map_values(data, row["minimum"], row["maximum"]).reshape(row["shape"])
    heat = Heatmap(values, row["unit"], row["signed"])
    if file.photo is None:
        assert file.signal is not None  # noqa: S101 - it was explained
        return thumbnail(signal_plot(file.signal, heat, Style()))
    view = View.from_dict(json.loads(row["view"]))
    return map_thumbnail(file.photo.pixels, heat, view, Style())
