"""A training's last step: the checkpoint, as the page loads it, on val and test; its card."""

from __future__ import annotations

import hashlib
import io
import platform
from collections.abc import Generator
from importlib import metadata
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from whylens.core.datasets.dataset import SPLITS, Dataset
from whylens.core.errors import BadArtifact
from whylens.core.inputs.preprocess import normalize
from whylens.core.models.backbone import Backbone
from whylens.core.models.checkpoints import MANIFEST, read_manifest
from whylens.core.models.load import from_folder
from whylens.core.storage.files import write_atomically
from whylens.core.train import metrics
from whylens.core.train.checkpointing import Log, read_log
from whylens.core.train.pictures import load_batch
from whylens.core.train.report import (
    CARD,
    LONGEST_SIDE,
    MISTAKES,
    MOST_MISTAKES,
    REPORT,
    DataFacts,
    Figures,
    ItemPrediction,
    ModelReport,
    compute_figures,
    write_predictions,
)
from whylens.core.words import percent

_AT_ONCE = 32


def write_report(
    dataset: Dataset, folder: Path, *, more: tuple[str, ...] = ()
) -> Generator[float, None, ModelReport]:
    """Yield the share done, write the report and its card, and return the report.

    Raises:
        BadArtifact: There is no trained checkpoint, or it is damaged.
    """
    log = read_log(folder)
    if log is None or not (folder / MANIFEST).exists():
        raise BadArtifact(f"{folder.name} holds no training. Train first.")
    log = log.model_copy(update={"notes": (*log.notes, *more)})
    with torch.random.fork_rng(devices=[]):  # libraries draw weights before they are filled
        backbone = from_folder(folder, device=str(log.recipe.get("device", "cpu")))
    val, test = dataset.of("val"), dataset.of("test")
    indices = (*test, *val)
    rows: list[npt.NDArray[np.float64]] = []
    for start in range(0, len(indices), _AT_ONCE):
        batch = indices[start : start + _AT_ONCE]
        rows.append(_logits(dataset, batch, backbone))
        yield (start + len(batch)) / len(indices)
    logits = np.concatenate(rows)
    truth = np.array([dataset.items[i].label for i in indices], dtype=np.int64)
    report = _report(dataset, folder, log, logits, truth)
    # The test split comes first among the items, hence among the mistakes; the surest before all.
    places = {item.key: place for place, item in enumerate(report.items)}
    wrong = [places[item.key] for item in (*report.wrong("test"), *report.wrong("val"))]
    limit = MOST_MISTAKES if log.recipe.get("mistakes", True) else 0
    digest = _write_mistakes(dataset, folder, indices, wrong[:limit])
    predictions = write_predictions(folder, report.items)
    report = report.model_copy(
        update={"predictions_sha256": predictions, "mistakes_sha256": digest}
    )
    write_atomically(folder / REPORT, (report.model_dump_json(indent=1) + "\n").encode())
    write_atomically(folder / CARD, model_card(report).encode())
    return report


def _logits(
    dataset: Dataset, indices: tuple[int, ...], backbone: Backbone
) -> npt.NDArray[np.float64]:
    pixels = torch.from_numpy(load_batch(dataset, indices, backbone.input_spec))
    unit = pixels.permute(0, 3, 1, 2).to(backbone.device).float() / 255.0
    with torch.no_grad():
        scores = backbone.logits(normalize(unit, backbone.input_spec))
    array: npt.NDArray[np.float64] = scores.double().cpu().numpy()
    return array


def _report(
    dataset: Dataset,
    folder: Path,
    log: Log,
    logits: npt.NDArray[np.float64],
    truth: npt.NDArray[np.int64],
) -> ModelReport:
    val, test = dataset.of("val"), dataset.of("test")
    test_count = len(test)
    temperature = metrics.best_temperature(logits[test_count:], truth[test_count:])
    shares = metrics.probabilities(logits)
    items = [
        ItemPrediction(
            key=dataset.items[index].key,
            split=dataset.items[index].split,
            label=int(truth[place]),
            predicted=int(logits[place].argmax()),
            probability=float(shares[place].max()),
        )
        for place, index in enumerate((*test, *val))
    ]
    epochs_run = max((epoch.epoch for epoch in log.epochs), default=0)
    epochs = 0 if log.recipe.get("mode") == "head" else int(log.recipe["epochs"])
    labels = dataset.labels
    return ModelReport(
        name=folder.resolve().name,
        model_sha256=read_manifest(folder).sha256,
        labels=labels,
        data=DataFacts(
            name=dataset.name,
            digest=log.digest,
            licence=dataset.licence,
            sizes={split: len(dataset.of(split)) for split in SPLITS},
            counts={
                split: tuple(
                    np.bincount(
                        [dataset.items[i].label for i in dataset.of(split)],
                        minlength=len(labels),
                    ).tolist()
                )
                for split in SPLITS
            },
        ),
        versions=_versions(),
        recipe={**log.recipe, "weights": _file_name(log.recipe.get("weights"))},
        start=log.start,
        epochs=tuple(epoch.model_dump() for epoch in log.epochs),
        best=log.best,
        complete=epochs_run >= epochs,
        seconds=log.seconds,
        val=compute_figures(logits[test_count:], truth[test_count:], labels, temperature),
        test=compute_figures(logits[:test_count], truth[:test_count], labels, temperature)
        if test_count
        else None,
        temperature=temperature,
        notes=_notes(log, epochs_run, epochs),
        items=tuple(items),
        predictions_sha256="",
        mistakes_sha256=None,
    )


def _notes(log: Log, run: int, wanted: int) -> tuple[str, ...]:
    notes = list(log.notes)
    if run < wanted:
        notes.append(
            f"Training was stopped after {run} of {wanted} epochs; --resume goes on with it."
        )
    return tuple(notes)


def _file_name(weights: str | None) -> str | None:
    # A report travels with the model; where a file lay on this machine is nobody's business.
    return None if weights is None else Path(weights).name


def _versions() -> dict[str, str]:
    numbers = {"python": platform.python_version()}
    for name in ("torch", "torchvision", "timm", "whylens"):
        try:
            numbers[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            numbers[name] = "not installed"
    return numbers


def _write_mistakes(
    dataset: Dataset, folder: Path, indices: tuple[int, ...], wrong: list[int]
) -> str | None:
    from safetensors.numpy import save

    if not wrong:
        (folder / MISTAKES).unlink(missing_ok=True)
        return None
    pictures = [_jpeg(dataset.pixels(indices[place])) for place in wrong]
    ends = np.cumsum([0, *map(len, pictures)], dtype=np.int64)
    data = save(
        {
            "jpeg": np.frombuffer(b"".join(pictures), dtype=np.uint8).copy(),
            "offset": ends,
            "item": np.array(wrong, dtype=np.int64),
        }
    )
    write_atomically(folder / MISTAKES, data)
    return hashlib.sha256(data).hexdigest()


def _jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    return stream.getvalue()


_WIDEST = 12  # classes up to which a confusion matrix can be read


def model_card(report: ModelReport) -> str:
    """Return a report as Markdown, for people."""
    recipe = report.recipe
    lines = [
        f"# {report.name}",
        "",
        f"`{recipe['backbone']}` trained by Whylens on {_cell(report.data.name)} from "
        f"{_cell(report.start)}, in {report.seconds / 60:.1f} minutes.",
        "",
        *_table(
            ["", "pictures", "accuracy", "mean recall", "NLL", "ECE", "ECE at temperature"],
            [
                [name, *_row(figures)]
                for name, figures in (("validation", report.val), ("test", report.test))
                if figures is not None
            ],
        ),
        "",
        f"Temperature {report.temperature:.3f} minimises the validation NLL. Validation chose "
        f"epoch {report.best} of {len(report.epochs)}"
        + ("; the test split was looked at once." if report.test else "; there is no test split."),
        "",
    ]
    if report.notes:
        lines += ["## To know", "", *(f"- {note}" for note in report.notes), ""]
    for name, figures in (("Test", report.test), ("Validation", report.val)):
        if figures is not None:
            lines += _split(name, figures)
    sizes = report.data.sizes
    lines += [
        "## Made from",
        "",
        f"- Pictures: {_cell(report.data.name)}, {sizes['train']} train, {sizes['val']} val, "
        f"{sizes['test']} test; licence: {_cell(report.data.licence)}; digest "
        f"`{report.data.digest[:16]}`",
        f"- Weights: sha256 `{report.model_sha256[:16]}`",
        f"- Versions: {', '.join(f'{k} {v}' for k, v in report.versions.items())}",
        "",
        *_table(["recipe", ""], [[k, str(v)] for k, v in recipe.items() if v not in (None, {})]),
        "",
    ]
    return "\n".join(lines)


def _row(figures: Figures) -> list[str]:
    return [
        str(figures.count),
        percent(figures.accuracy, 1),
        percent(figures.balanced_accuracy, 1),
        f"{figures.nll:.3f}",
        f"{figures.ece:.3f}",
        f"{figures.ece_scaled:.3f}",
    ]


def _split(name: str, figures: Figures) -> list[str]:
    rows = [
        [c.label, f"{c.precision:.3f}", f"{c.recall:.3f}", f"{c.f1:.3f}", str(c.support)]
        for c in figures.classes
    ]
    lines = [f"## {name}", ""]
    lines += _table(["class", "precision", "recall", "F1", "pictures"], rows)
    lines.append("")
    if len(figures.classes) <= _WIDEST:
        labels = [c.label for c in figures.classes]
        confusion_rows = [
            [label, *map(str, row)] for label, row in zip(labels, figures.confusion, strict=True)
        ]
        lines += [*_table(["is \\ taken for", *labels], confusion_rows), ""]
    return lines


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(_cell(text) for text in line) + " |" for line in lines]


def _cell(text: str) -> str:
    # A class may be called anything; a table cell holds one line without bars.
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
