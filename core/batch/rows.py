"""What a run writes of an answer: a row with no time and no place in it, and the files of maps."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from whylens.core.batch.listing import LoadedFile
from whylens.core.engine import Engine
from whylens.core.errors import CoreError
from whylens.core.evaluation.verdict import Verdict
from whylens.core.explanation import Explanation, Question
from whylens.core.inputs.view import View
from whylens.core.outputs.export import npy_bytes
from whylens.core.progress import last_of
from whylens.core.results import Array, Heatmap, Prototypes
from whylens.core.targets import ClassScore

DONE, FAILED = "done", "failed"
SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("photo_notes", pa.list_(pa.string())),
        ("method", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("predicted", pa.int32()),
        ("predicted_label", pa.string()),
        ("predicted_probability", pa.float64()),
        ("predicted_value", pa.float64()),
        ("predicted_unit", pa.string()),
        ("target", pa.int32()),
        ("target_label", pa.string()),
        ("versus", pa.int32()),
        ("versus_label", pa.string()),
        ("quantity", pa.string()),
        ("score", pa.float64()),
        ("probability", pa.float64()),
        ("seed", pa.int64()),
        ("kind", pa.string()),
        ("unit", pa.string()),
        ("note", pa.string()),
        ("map", pa.string()),
        ("shape", pa.list_(pa.int32())),
        ("signed", pa.bool_()),
        ("minimum", pa.float64()),
        ("maximum", pa.float64()),
        ("peak_x", pa.float64()),
        ("peak_y", pa.float64()),
        ("blank_because", pa.string()),
        ("error_map", pa.string()),
        ("error_minimum", pa.float64()),
        ("error_maximum", pa.float64()),
        ("diagnostics", pa.map_(pa.string(), pa.float64())),
        ("verdict", pa.string()),
        ("verdict_reason", pa.string()),
        ("scores", pa.map_(pa.string(), pa.float64())),
        ("scores_chance", pa.map_(pa.string(), pa.float64())),
        ("items", pa.string()),
        ("view", pa.string()),
    ]
)


@dataclass(frozen=True)
class FileRow:
    """One file of the list.

    Attributes:
        index: Its number in the list, from 0.
        path: Its relative path.
        seed: Its own seed.
        sha256: Of its content; None where it could not be read.
        size: Width and height of a photo that could be read.
        notes: What was done to the photo on reading.
    """

    index: int
    path: str
    seed: int
    sha256: str | None = None
    size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """The file's name without its ending, fit to be part of another file's name anywhere."""
        return re.sub(r"[^\w.-]+", "_", PurePath(self.path).stem)[:40]

    def row(self, method: str) -> dict[str, Any]:
        """Return what a row of this file holds whatever comes of it; all else is None."""
        width, height = self.size or (None, None)
        return dict.fromkeys(SCHEMA.names) | {
            "index": self.index,
            "path": self.path,
            "sha256": self.sha256,
            "width": width,
            "height": height,
            "photo_notes": list(self.notes),
            "method": method,
            "seed": self.seed,
        }


def explain_file(
    engine: Engine,
    question: Question,
    methods: Mapping[str, Mapping[str, object]],
    source: FileRow,
    file: LoadedFile,
    *,
    scores: bool = False,
) -> Iterator[tuple[dict[str, Any], Explanation | None]]:
    """Yield a file's row for each method, and the answer where there is one.

    What cannot be read or explained is a row as well. Without methods, one row has the prediction.

    Args:
        question: All but the input.
        methods: Parameters by name.
        scores: Judge every map as well.
    """
    names = list(methods) or [""]
    if file.error:
        yield from ((failed_row(source, name, file.error), None) for name in names)
        return
    question = replace(question, photo=file.photo, signal=file.signal)
    try:
        (best,) = engine.predict(question, top=1).classes
    except CoreError as exc:
        yield from ((failed_row(source, name, str(exc)), None) for name in names)
        return
    if not methods:
        yield {**source.row(""), "status": DONE, **_prediction(best)}, None
    for name, params in methods.items():
        try:
            answer = last_of(engine.explain(question, name, params))
            if scores and isinstance(answer.result, Heatmap):
                answer = last_of(engine.judge(answer))
        except CoreError as exc:
            yield failed_row(source, name, str(exc), best), None
            continue
        yield explained_row(source, best, answer), answer


def predicted_score(row: Mapping[str, Any]) -> ClassScore | None:
    """Return what a row says that the network predicts, or None."""
    if row["predicted_label"] is None:
        return None
    value = row["predicted_value"]
    return ClassScore(
        row["predicted"],
        row["predicted_label"],
        row["predicted_probability"],
        float("nan") if value is None else value,
        row["predicted_unit"] or "",
    )


def failed_row(
    file: FileRow, method: str, error: str, best: ClassScore | None = None
) -> dict[str, Any]:
    """Return the row of a file that could not be explained."""
    return {**file.row(method), "status": FAILED, "error": error, **_prediction(best)}


def _prediction(best: ClassScore | None) -> dict[str, Any]:
    if best is None:
        return {}
    return {
        "predicted": best.index,
        "predicted_label": best.label,
        "predicted_probability": best.probability,
        "predicted_value": best.logit if best.probability is None else None,
        "predicted_unit": best.unit or None,
    }


def explained_row(file: FileRow, best: ClassScore, answer: Explanation) -> dict[str, Any]:
    """Return the row of an answer; the names of its map's files are not in it yet."""
    result, target = answer.result, answer.target
    row = {
        **file.row(answer.method),
        "status": DONE,
        **_prediction(best),
        "target": target.index,
        "target_label": answer.labels[0],
        "versus": target.versus,
        "versus_label": answer.labels[1] if len(answer.labels) > 1 else None,
        "quantity": target.quantity,
        "score": answer.score,
        "probability": answer.probability,
        "kind": type(result).__name__.lower(),
        "unit": result.unit,
        "note": result.note or None,
        "view": json.dumps(answer.view.as_dict(), sort_keys=True) if answer.view else None,
    }
    if isinstance(result, Heatmap):
        return row | _of_map(result, answer)
    items: dict[str, Any] = {
        "items": [
            {"key": i.key, "value": i.value, "group": i.group, "caption": i.caption}
            for i in result.items
        ]
    }
    if isinstance(result, Prototypes):
        items |= {"predicted": result.predicted, "score": result.score, "rest": result.rest}
    return row | {"items": json.dumps(items, ensure_ascii=False, sort_keys=True)}


def _of_map(heat: Heatmap, answer: Explanation) -> dict[str, Any]:
    x, y = (None, None) if answer.reason else peak(heat, answer)
    low, high = (None, None) if heat.error is None else (heat.error.min(), heat.error.max())
    return {
        "shape": list(heat.values.shape),
        "signed": heat.signed,
        "minimum": float(heat.values.min()),
        "maximum": float(heat.values.max()),
        "peak_x": x,
        "peak_y": y,
        "blank_because": answer.reason or None,
        "error_minimum": None if low is None else float(low),
        "error_maximum": None if high is None else float(high),
        "diagnostics": sorted(heat.diagnostics.items()),
        **_of_verdict(answer.verdict),
    }


def _of_verdict(verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return {}
    return {
        "verdict": verdict.word,
        "verdict_reason": verdict.reason,
        "scores": sorted(verdict.figures.items()),
        "scores_chance": sorted(
            (name, score.chance)
            for name, score in verdict.scores.items()
            if score.value is not None and score.chance is not None
        ),
    }


def peak(heat: Heatmap, answer: Explanation) -> tuple[float, float | None]:
    """Return where the largest value lies, at its cell's centre.

    Returns:
        x and y in pixels of the photo as it was given, upright; a signal has a position only.
    """
    where = np.unravel_index(int(heat.values.argmax()), heat.values.shape)
    shares = [(int(i) + 0.5) / n for i, n in zip(where, heat.values.shape, strict=True)]
    if isinstance(answer.view, View):
        wide, tall = answer.view.model
        return answer.view.to_original(shares[1] * wide, shares[0] * tall)
    return shares[0] * answer.question.array.shape[-1], None


def write_rows(path: Path, rows: list[dict[str, Any]], plan_digest: str) -> None:
    """Write rows as a Parquet file, the same bytes for the same rows.

    Args:
        rows: In their order.
    """
    schema = SCHEMA.with_metadata({"whylens.plan": plan_digest})
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, path, compression="zstd", compression_level=3)


STEPS = 65535


def map_bytes(values: Array, kind: str) -> bytes:
    """Return the file of a map's values.

    Args:
        values: (*S) float32, raw; a PNG takes one or two axes.
        kind: "npy", or "png": grey level p then stands for
            minimum + (maximum - minimum) * p / 65535, with the two figures of the map's row.
    """
    if kind == "npy":
        return npy_bytes(values)
    rows = np.atleast_2d(np.asarray(values, np.float64))
    low, high = rows.min(), rows.max()
    share = (rows - low) / (high - low) if high > low else np.zeros_like(rows)
    levels = np.rint(share * STEPS).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def map_values(data: bytes, minimum: float, maximum: float) -> Array:
    """Return (h, w) float32 values of a PNG made by `map_bytes`."""
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        levels = np.asarray(image, np.float64)
    values: Array = (minimum + (maximum - minimum) * levels / STEPS).astype(np.float32)
    return values
