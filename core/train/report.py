"""What a trained network was trained on, how, and how good it is: report.json beside it.

May touch pydantic, the disk, safetensors' arrays and the photo reader; builds no network, so
that a page can show a report at no cost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from whylens.core.datasets.dataset import Pixels, SplitName
from whylens.core.errors import BadArtifact, BadInput, shown
from whylens.core.models.checkpoints import read_manifest
from whylens.core.train import metrics

REPORT, MISTAKES, CARD = "report.json", "mistakes.safetensors", "README.md"
MOST_MISTAKES, LONGEST_SIDE = 400, 320
_AGAIN = "Train it again with --resume, which writes it anew."


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


class Prediction(_Plain):
    """What the network says of one picture.

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
    """The contents of report.json.

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
        items: Predictions for all pictures of val and test.
        mistakes_sha256: Of mistakes.safetensors; None where there are none, or none were kept.
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
    items: tuple[Prediction, ...]
    mistakes_sha256: str | None

    def wrong(self, split: SplitName) -> tuple[Prediction, ...]:
        """Return the pictures of a split that are taken for another class, surest first.

        Args:
            split: Which.
        """
        items = [i for i in self.items if i.split == split and i.label != i.predicted]
        return tuple(sorted(items, key=lambda item: -item.probability))


def figures_of(
    logits: npt.NDArray[np.float64],
    truth: npt.NDArray[np.int64],
    labels: tuple[str, ...],
    temperature: float,
) -> Figures:
    """Return the figures of one split.

    Args:
        logits: (N, C).
        truth: (N,).
        labels: One per class.
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

    Args:
        folder: A checkpoint's folder.

    Raises:
        BadArtifact: It is damaged.
    """
    path = folder / REPORT
    if not path.is_file():
        return None
    try:
        report = ModelReport.model_validate_json(path.read_bytes())
    except OSError as exc:
        raise BadArtifact(f"{folder.name}/{REPORT} cannot be read: {exc.strerror}.") from exc
    except ValidationError as exc:
        where = ".".join(str(part) for part in exc.errors()[0]["loc"]) or "the file"
        raise BadArtifact(f"{folder.name}/{REPORT} is damaged at {where!r}. {_AGAIN}") from exc
    # Training went on after it was written.
    return report if read_manifest(folder).sha256 == report.model_sha256 else None


def mistake_keys(folder: Path) -> tuple[str, ...]:
    """Return the keys of the mistakes whose pictures are kept: test before val, surest first.

    Args:
        folder: A checkpoint's folder.

    Raises:
        BadArtifact: Its report or its pictures are damaged.
    """
    report = read_report(folder)
    if report is None or report.mistakes_sha256 is None:
        return ()
    return tuple(report.items[i].key for i in _mistakes(folder, report)["item"].tolist())


def mistake_picture(folder: Path, key: str) -> Pixels:
    """Return (H, W, 3) uint8: a picture that the network takes for another class.

    Args:
        folder: A checkpoint's folder.
        key: Of the picture, as in the report's items.

    Raises:
        BadInput: No picture of this key is kept.
        BadArtifact: The report or the pictures are damaged.
    """
    found = mistake_pictures(folder, (key,))
    if key not in found:
        raise BadInput(f"No picture {shown(key)} is kept beside {folder.name}.")
    return found[key]


def mistake_pictures(folder: Path, keys: Collection[str]) -> dict[str, Pixels]:
    """Return (H, W, 3) uint8 pictures by key, of those that are kept; files are read once.

    Args:
        folder: A checkpoint's folder.
        keys: Of the pictures, as in the report's items.

    Raises:
        BadArtifact: The report or the pictures are damaged.
    """
    from whylens.core.inputs.photo import read_photo

    report = read_report(folder)
    if report is None or report.mistakes_sha256 is None:
        return {}
    kept, found = _mistakes(folder, report), {}
    for place, item in enumerate(kept["item"].tolist()):
        key = report.items[item].key
        if key in keys:
            start, end = kept["offset"][place : place + 2].tolist()
            found[key] = read_photo(kept["jpeg"][start:end].tobytes()).pixels
    return found


def _mistakes(folder: Path, report: ModelReport) -> dict[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    damaged = f"{folder.name}/{MISTAKES} is damaged or was replaced. {_AGAIN}"
    try:
        data = (folder / MISTAKES).read_bytes()
        if hashlib.sha256(data).hexdigest() != report.mistakes_sha256:
            raise BadArtifact(damaged)
        return dict(load(data))
    except OSError as exc:
        raise BadArtifact(f"{folder.name}/{MISTAKES} cannot be read: {exc.strerror}.") from exc
    except SafetensorError as exc:
        raise BadArtifact(damaged) from exc
