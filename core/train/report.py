"""What a trained network was trained on, how, and how good it is: files beside its checkpoint.

report.json holds the figures, predictions.parquet a row per picture, mistakes.safetensors pictures.
Nothing here builds a network, so that a page can show a report at no cost.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from whylens.core.datasets.dataset import Pixels, SplitName
from whylens.core.errors import BadArtifact
from whylens.core.models.checkpoints import read_manifest
from whylens.core.storage.files import read_json_model, write_atomically
from whylens.core.train import metrics

REPORT, PREDICTIONS = "report.json", "predictions.parquet"
MISTAKES, CARD = "mistakes.safetensors", "README.md"
MOST_MISTAKES, LONGEST_SIDE = 400, 320
_AGAIN = "Train it again with --resume, which writes it anew."
_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("label", pa.int32()),
        ("predicted", pa.int32()),
        ("probability", pa.float64()),
    ]
)


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataFacts(_Plain):
    """What was learnt.

    Attributes:
        name: Of the set.
        digest: Hex sha256 over its keys, labels, splits and contents.
        licence: Terms of the pictures.
        sizes: Pictures in each split.
        counts: Pictures of each class in each split.
    """

    name: str
    digest: str
    licence: str
    sizes: dict[SplitName, int]
    counts: dict[SplitName, tuple[int, ...]]


class ClassFigures(_Plain):
    """Figures of one class, as in `metrics.PerClass`."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


class Figures(_Plain):
    """How good a network is on one split.

    Attributes:
        count: Pictures.
        accuracy: Share recognised.
        balanced_accuracy: Mean of the recall over the classes that have pictures.
        nll: Mean negative log likelihood, in nats.
        ece: Expected calibration error over 15 bins.
        ece_scaled: Likewise, after division by the report's temperature.
        classes: Of each class.
        confusion: Row the true class, column the predicted one.
    """

    count: int
    accuracy: float
    balanced_accuracy: float
    nll: float
    ece: float
    ece_scaled: float
    classes: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class ItemPrediction:
    """What the network says of one picture of its data set: a row of predictions.parquet.

    Attributes:
        key: Of the picture in its set.
        split: Where it lies.
        label: Its true class.
        predicted: The class it is taken for.
        probability: Of the predicted class.
    """

    key: str
    split: SplitName
    label: int
    predicted: int
    probability: float


class ModelReport(_Plain):
    """The contents of report.json, and the predictions beside it.

    Attributes:
        name: Of the model.
        model_sha256: Of the weights that all figures are of.
        labels: One per class.
        data: What was learnt.
        versions: Of Python and the libraries.
        recipe: How it was trained.
        start: From what, in words.
        epochs: The training's log, a line per epoch.
        best: The epoch whose weights are kept; 0 is the last layer fitted alone.
        complete: Whether all epochs of the recipe were run.
        seconds: That training took.
        val: Figures on validation, which also chose the best epoch.
        test: Figures on the test split, looked at once; None where there is none.
        temperature: By which logits are divided for the best likelihood on validation.
        notes: What to know before believing the figures.
        predictions_sha256: Of predictions.parquet.
        mistakes_sha256: Of mistakes.safetensors; None where it holds none, or none may travel.
        items: Predictions for all pictures of test and val; in no JSON.
    """

    name: str
    model_sha256: str
    labels: tuple[str, ...]
    data: DataFacts
    versions: dict[str, str]
    recipe: dict[str, Any]
    start: str
    epochs: tuple[dict[str, float | None], ...]
    best: int
    complete: bool
    seconds: float
    val: Figures
    test: Figures | None
    temperature: float
    notes: tuple[str, ...]
    predictions_sha256: str
    mistakes_sha256: str | None
    items: tuple[ItemPrediction, ...] = Field((), exclude=True, repr=False)

    def wrong(self, split: SplitName) -> tuple[ItemPrediction, ...]:
        """Return the pictures of a split that are taken for another class, surest first."""
        items = [i for i in self.items if i.split == split and i.label != i.predicted]
        return tuple(sorted(items, key=lambda item: -item.probability))


def compute_figures(
    logits: npt.NDArray[np.float64],
    truth: npt.NDArray[np.int64],
    labels: tuple[str, ...],
    temperature: float,
) -> Figures:
    """Return the figures of one split.

    Args:
        logits: (N, C).
        truth: (N,).
        temperature: For `ece_scaled`.
    """
    counts = metrics.confusion(truth, logits.argmax(1), len(labels))
    each = metrics.per_class(counts)
    present = each.support > 0
    return Figures(
        count=len(truth),
        accuracy=float(np.trace(counts) / len(truth)),
        balanced_accuracy=float(each.recall[present].mean()),
        nll=metrics.negative_log_likelihood(logits, truth),
        ece=metrics.calibration_error(metrics.probabilities(logits), truth),
        ece_scaled=metrics.calibration_error(metrics.probabilities(logits, temperature), truth),
        classes=tuple(
            ClassFigures(label=label, precision=p, recall=r, f1=f, support=n)
            for label, p, r, f, n in zip(
                labels,
                each.precision.tolist(),
                each.recall.tolist(),
                each.f1.tolist(),
                each.support.tolist(),
                strict=True,
            )
        ),
        confusion=tuple(tuple(row) for row in counts.tolist()),
    )


def read_report(folder: Path) -> ModelReport | None:
    """Return the report of a checkpoint; None where it has none, or one of other weights.

    Raises:
        BadArtifact: It is damaged.
    """
    path = folder / REPORT
    if not path.is_file():
        return None
    report = read_json_model(path, ModelReport, _AGAIN)
    if read_manifest(folder).sha256 != report.model_sha256:
        return None  # training went on after it was written
    return report.model_copy(update={"items": _read_predictions(folder, report)})


def write_predictions(folder: Path, items: Sequence[ItemPrediction]) -> str:
    """Write predictions.parquet and return its hex sha256."""
    columns = {name: [getattr(item, name) for item in items] for name in _SCHEMA.names}
    stream = io.BytesIO()
    pq.write_table(pa.table(columns, schema=_SCHEMA), stream, compression="zstd")
    write_atomically(folder / PREDICTIONS, stream.getvalue())
    return hashlib.sha256(stream.getvalue()).hexdigest()


def _read_predictions(folder: Path, report: ModelReport) -> tuple[ItemPrediction, ...]:
    data = _read_bound(folder, PREDICTIONS, report.predictions_sha256)
    try:
        table = pq.read_table(pa.BufferReader(data), schema=_SCHEMA)
    except pa.ArrowException as exc:
        wrong = f"{folder.name}/{PREDICTIONS} is no table of predictions"
        raise BadArtifact(f"{wrong}. {_AGAIN}") from exc
    columns = (table.column(name).to_pylist() for name in _SCHEMA.names)
    return tuple(ItemPrediction(*row) for row in zip(*columns, strict=True))


def mistake_keys(folder: Path) -> tuple[str, ...]:
    """Return the keys of the mistakes whose pictures are stored: test before val, surest first.

    Raises:
        BadArtifact: Its report or its pictures are damaged.
    """
    report = read_report(folder)
    if report is None or report.mistakes_sha256 is None:
        return ()
    return tuple(report.items[i].key for i in _read_mistakes(folder, report)["item"].tolist())


def mistake_pictures(folder: Path, keys: Collection[str]) -> dict[str, Pixels]:
    """Return (H, W, 3) uint8 pictures by key, of those that are stored; files are read once.

    Raises:
        BadArtifact: The report or the pictures are damaged.
    """
    from whylens.core.inputs.photo import read_photo

    report = read_report(folder)
    if report is None or report.mistakes_sha256 is None:
        return {}
    arrays, pictures = _read_mistakes(folder, report), {}
    for place, item in enumerate(arrays["item"].tolist()):
        key = report.items[item].key
        if key in keys:
            start, end = arrays["offset"][place : place + 2].tolist()
            pictures[key] = read_photo(arrays["jpeg"][start:end].tobytes()).pixels
    return pictures


def _read_mistakes(folder: Path, report: ModelReport) -> dict[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(_read_bound(folder, MISTAKES, report.mistakes_sha256)))
    except SafetensorError as exc:
        raise BadArtifact(f"{folder.name}/{MISTAKES} holds no pictures. {_AGAIN}") from exc


def _read_bound(folder: Path, name: str, sha256: str | None) -> bytes:
    # What the report states the digest of, or nothing.
    try:
        data = (folder / name).read_bytes()
    except OSError as exc:
        raise BadArtifact(f"{folder.name}/{name} cannot be read: {exc.strerror}.") from exc
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BadArtifact(f"{folder.name}/{name} is damaged or was replaced. {_AGAIN}")
    return data
