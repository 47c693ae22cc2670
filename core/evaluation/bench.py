"""A benchmark of methods on pictures in which the place of the evidence is known.

Every picture and method gives a row, which is in a file as soon as it is known: a run that was
stopped goes on after its last row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from whylens.core.datasets.dataset import Dataset, Mask
from whylens.core.errors import BadInput, CoreError, NeedsNotMet, shown
from whylens.core.evaluation.curves import RANDOM_MAPS, beats_random_maps
from whylens.core.evaluation.in_mask import MASS, POINTING_GAME, RANK
from whylens.core.evaluation.metric import Case, Metric
from whylens.core.evaluation.randomised_weights import SIGNED, randomised_subjects
from whylens.core.evaluation.removals import Removals, distractibility, single_deletion
from whylens.core.explainer import is_single_step
from whylens.core.explanation import Question
from whylens.core.inputs.photo import photo_of
from whylens.core.inputs.preprocess import photo_tensor
from whylens.core.inputs.view import View, view_of
from whylens.core.models.backbone import Backbone
from whylens.core.results import Heatmap
from whylens.core.storage.cache import ByteLRU
from whylens.core.storage.files import write_atomically
from whylens.core.subject import Subject

if TYPE_CHECKING:
    from whylens.core.engine import Engine
    from whylens.core.registry import Registry

ROWS = "rows.jsonl"
FORMAT = 1
RESAMPLES = 1000
NETWORK_BYTES = 2_000_000_000  # of networks with random weights that stay in memory
TRUE_MASK, RANDOM_MAP, EDGES = (
    "(true mask)",
    "(random map)",
    "(edges)",
)  # no method may be called so

# One fill and the random maps' own steps: with three, a picture costs three times as much.
BEATS = replace(
    RANDOM_MAPS,
    measure=lambda case: beats_random_maps(case.subject, case.heat, steps=8, fill="blur"),
)
METRICS: tuple[Metric, ...] = (MASS, RANK, POINTING_GAME, BEATS, SIGNED)
COSTLY = frozenset({BEATS.name, SIGNED.name})


@dataclass(frozen=True)
class Column:
    """A figure of the table.

    Attributes:
        name: As in a row's figures.
    """

    name: str
    title: str
    direction: str


SINGLE_DELETION = Column("single-deletion", "Single deletion (painted)", "higher")
DISTRACTIBILITY = Column("distractibility", "Not distracted (painted)", "higher")
COLUMNS = (
    *(Column(metric.name, metric.title, metric.direction) for metric in METRICS),
    SINGLE_DELETION,
    DISTRACTIBILITY,
)


@dataclass(frozen=True)
class Bench:
    """What is measured.

    Attributes:
        engine: Whose methods and networks.
        model: The network's name.
        dataset: Pictures of its classes, with known evidence.
        methods: Names; each is asked with its default parameters.
        pictures: How many of the test split at most.
        few: The costly metrics see so many of them.
    """

    engine: Engine
    model: str
    dataset: Dataset
    methods: tuple[str, ...]
    pictures: int = 100
    few: int = 20


@dataclass(frozen=True)
class Figure:
    """A metric's mean over pictures.

    Attributes:
        low: Lower end of its 95 % interval; None of a single picture.
        high: Upper end.
        chance: Mean of what a random map is expected to get; None where chance has no meaning.
        pictures: How many it is the mean of.
    """

    mean: float
    low: float | None
    high: float | None
    chance: float | None
    pictures: int


@dataclass(frozen=True)
class BenchRow:
    """A method's figures.

    Attributes:
        method: Its name, or a reference's in parentheses.
        owner: Distribution and version; "" of a reference.
        figures: By the metric's name, as far as it says anything.
        pictures: How many were answered.
        failed: How many were not.
        reason: The first reason for that, or "".
    """

    method: str
    owner: str
    figures: dict[str, Figure]
    pictures: int
    failed: int
    reason: str


@dataclass(frozen=True)
class BenchSummary:
    """What a benchmark came to.

    Attributes:
        pictures: How many were shown.
        few: How many of them the costly metrics saw.
        recognised: Share of them that the network recognises.
        rows: References first, then methods in the order in which they were asked for.
    """

    model: str
    model_sha256: str
    data: str
    pictures: int
    few: int
    recognised: float
    rows: tuple[BenchRow, ...]


def knows_evidence(dataset: Dataset) -> bool:
    """Return whether a set says where the evidence for a picture's label lies."""
    return type(dataset).evidence is not Dataset.evidence


def quick_methods(registry: Registry) -> tuple[str, ...]:
    """Return the names of the methods that give a map in a single step."""
    return tuple(
        name
        for name, explainer in registry.explainers.items()
        if is_single_step(explainer) and explainer.question_kind == "where"
    )


def run_bench(bench: Bench, out: Path) -> Generator[float, None, BenchSummary]:
    """Yield the share done, first that of an earlier run, and return the summary.

    Rows hold no time, so that a run that was stopped ends with the same file as one that was not.

    Args:
        out: An existing folder; the rows lie in `ROWS`.

    Raises:
        CoreError: Of the kind that says what is wrong. What is wrong with one method is in its row.
    """
    engine = bench.engine
    for name in bench.methods:
        engine.registry.explainer(name)
    backbone = engine.backbone(bench.model)
    if tuple(backbone.labels) != tuple(bench.dataset.labels):
        raise BadInput(
            f"{bench.model} has other classes than {bench.dataset.name}. Choose the data set that "
            "it was trained on."
        )
    unavailable = engine.unavailable(bench.model)
    for name in bench.methods:
        kind = engine.registry.explainer(name).question_kind
        if kind != "where":
            unavailable.setdefault(name, f"It has no map: it answers {kind!r}, not where.")
    asked = [name for name in bench.methods if name not in unavailable]
    indices = _pictures(bench.dataset, bench.pictures)
    path = out / ROWS
    rows = _read_rows(path, _head(bench, backbone, indices))
    owners = {name: _owner(engine.registry, name) for name in bench.methods}
    done = {(row["picture"], row["method"], row["owner"]) for row in rows}
    references = (TRUE_MASK, RANDOM_MAP, EDGES)
    every = [(name, owners.get(name, "")) for name in (*references, *asked)]
    networks: ByteLRU[tuple[str, int], Backbone] = ByteLRU(NETWORK_BYTES, lambda b: b.bytes)
    count = sum((bench.dataset.items[i].key, *pair) in done for i in indices for pair in every)
    total = len(indices) * len(every)
    yield count / total
    with path.open("ab") as stream:
        for position, index in enumerate(indices):
            item = bench.dataset.items[index]
            missing = [pair for pair in every if (item.key, *pair) not in done]
            if not missing:
                continue
            scene = _scene(bench, backbone, index)
            metrics = [m for m in METRICS if position < bench.few or m.name not in COSTLY]
            for name, owner in missing:
                row = {
                    "picture": item.key,
                    "method": name,
                    "owner": owner,
                    "recognised": scene.recognised,
                    **_measured(bench, scene, name, metrics, networks),
                }
                rows.append(row)
                stream.write(_line(row))
                stream.flush()
                count += 1
                yield count / total
            os.fsync(stream.fileno())
    reasons = {name: unavailable[name] for name in bench.methods if name in unavailable}
    current = [row for row in rows if owners.get(row["method"], "") == row["owner"]]
    shown_rows = {row["picture"]: row["recognised"] for row in current}
    return BenchSummary(
        bench.model,
        backbone.identity.digest,
        bench.dataset.name,
        len(indices),
        min(bench.few, len(indices)),
        float(np.mean(list(shown_rows.values()))),
        tuple(
            _summary_row(name, owners.get(name, ""), current, reasons.get(name, ""))
            for name in (*references, *bench.methods)
        ),
    )


def mask_in_view(mask: Mask, view: View) -> Tensor:
    """Return (h, w) bool: a photo's mask where the network sees it, False beside the photo.

    Args:
        mask: (H, W) of the photo.
    """
    wide, tall = view.model
    x, y = view.to_original(np.arange(wide) + 0.5, np.arange(tall) + 0.5)  # type: ignore[arg-type]
    columns, rows = np.floor(x).astype(int), np.floor(y).astype(int)
    height, width = mask.shape
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    seen = mask[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)] & inside
    return torch.from_numpy(seen)


def interval(values: Iterable[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean by a seeded percentile bootstrap; None of one value."""
    array = np.array(list(values), np.float64)
    if len(array) < 2:
        return None
    chosen = np.random.default_rng(0).integers(len(array), size=(RESAMPLES, len(array)))
    low, high = np.quantile(array[chosen].mean(1), [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class _Scene:
    question: Question
    subject: Subject
    mask: Tensor
    recognised: bool
    removals: Removals | None


def _scene(bench: Bench, backbone: Backbone, index: int) -> _Scene:
    label = bench.dataset.items[index].label
    pixels, evidence = bench.dataset.pixels(index), bench.dataset.evidence(index)
    # A seed of its own: the random maps of one picture are not those of the next.
    question = Question(bench.model, pixels, target=label, seed=index)  # type: ignore[arg-type]
    subject = bench.engine.subject(question)
    height, width = pixels.shape[:2]
    if evidence is None or evidence.shape != (height, width):
        raise BadInput(
            f"{bench.dataset.name} gave no evidence of its picture's size for "
            f"{bench.dataset.items[index].key}."
        )
    mask = mask_in_view(evidence, view_of((width, height), backbone.spec))
    best = int(subject.forward_pass.logits[0].argmax())
    return _Scene(
        question, subject, mask, best == label, _removals(bench, backbone, index, subject)
    )


def _removals(bench: Bench, backbone: Backbone, index: int, subject: Subject) -> Removals | None:
    pictures, parts = bench.dataset.removals(index), bench.dataset.parts(index)
    if not pictures:
        return None
    score, drops, masks = float(subject.scores(subject.x)[0]), {}, {}
    for name, pixels in pictures.items():
        x, view = photo_tensor(photo_of(pixels), backbone.spec)
        drops[name] = score - float(subject.scores(x.to(backbone.device))[0])
        masks[name] = mask_in_view(parts[name], view)
    return Removals(score, drops, masks)


def _measured(
    bench: Bench,
    scene: _Scene,
    name: str,
    metrics: list[Metric],
    networks: ByteLRU[tuple[str, int], Backbone],
) -> dict[str, Any]:
    """Return the part of a row that a method's map decides, or the reason why there is none."""
    subject = scene.subject
    randomised = randomised_subjects(subject, networks)
    try:
        if name in (TRUE_MASK, RANDOM_MAP, EDGES):
            heat = _reference(scene, name)
            # What knows no network stays what it is; of the others that goes without saying.
            explain = (lambda _: heat) if name == EDGES else None
            case = Case(subject, heat, explain, randomised, scene.mask)
        else:
            *_, last = bench.engine.explain(scene.question, name)
            heat = _map_of(last.result, scene.mask.ndim)
            case = bench.engine.case(last, mask=scene.mask)
            # Every picture is asked by itself: an interval rests on it.
            case = replace(case, randomised=randomised, cache=None)
        scores = {metric.name: metric.score(case) for metric in metrics}
        if scene.removals is not None:
            scores[SINGLE_DELETION.name] = single_deletion(heat, scene.removals)
            scores[DISTRACTIBILITY.name] = distractibility(heat, scene.removals)
    except CoreError as exc:
        return {"values": {}, "chance": {}, "reason": str(exc)}
    # Six digits: another batch may round the last ones in another way.
    return {
        "values": {k: round(s.value, 6) for k, s in scores.items() if s.value is not None},
        "chance": {k: round(s.chance, 6) for k, s in scores.items() if s.chance is not None},
        "reason": "",
    }


def _reference(scene: _Scene, name: str) -> Heatmap:
    from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

    if name == TRUE_MASK:
        return Heatmap(scene.mask.float().numpy(), "evidence")
    if name == RANDOM_MAP:
        noise = np.random.default_rng(scene.question.seed).standard_normal(tuple(scene.mask.shape))
        smooth = gaussian_filter(noise, max(scene.mask.shape) / 16, mode="wrap")
        return Heatmap(smooth, "nothing", signed=True)
    grey = scene.subject.x[0].mean(0).detach().cpu().numpy()
    return Heatmap(gaussian_gradient_magnitude(grey, 1.0), "contrast")


def _map_of(result: object, axes: int) -> Heatmap:
    if not isinstance(result, Heatmap) or result.values.ndim != axes:
        raise NeedsNotMet(f"It gave no map of {axes} axes.")
    return result


def _owner(registry: Registry, name: str) -> str:
    entry = registry.entries[name]
    return f"{entry.distribution} {entry.version}"


def _pictures(dataset: Dataset, count: int) -> tuple[int, ...]:
    """Return pictures of the test split with known evidence, of all classes in turn."""
    if not knows_evidence(dataset):
        raise BadInput(
            f"{dataset.name} does not say where the evidence lies. Choose a data set that has "
            "evidence(), with --data, or another model."
        )
    by_label: dict[int, list[int]] = {}
    for index in dataset.of("test"):
        by_label.setdefault(dataset.items[index].label, []).append(index)
    chosen: list[int] = []
    for turn in zip_longest(*(by_label[label] for label in sorted(by_label))):
        for index in turn:
            if len(chosen) == count:
                return tuple(chosen)
            evidence = None if index is None else dataset.evidence(index)
            if evidence is not None and evidence.any():
                chosen.append(index)
    if not chosen:
        raise BadInput(f"No test picture of {dataset.name} has known evidence.")
    return tuple(chosen)


def _head(bench: Bench, backbone: Backbone, indices: tuple[int, ...]) -> dict[str, Any]:
    """Return what all rows of a file rest on."""
    dataset = bench.dataset
    return {
        "format": FORMAT,
        "model_sha256": backbone.identity.digest,
        "data": dataset.name,
        "contents": [dataset.content_digest(index)[:16] for index in indices],
        "metrics": [column.name for column in COLUMNS],
        "few": bench.few,
    }


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def _read_rows(path: Path, head: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the whole rows of an earlier run, and leave a file to which rows can be added."""
    if not path.exists():
        write_atomically(path, _line(head))
        return []
    whole, _, torn = path.read_bytes().rpartition(b"\n")
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
    except ValueError as exc:
        raise BadInput(
            f"{shown(str(path))} is damaged. Delete it, or choose another --out."
        ) from exc
    if not lines or lines[0] != head:
        raise BadInput(
            f"{shown(str(path))} holds rows of other weights, pictures or metrics. Delete it, or "
            "choose another --out."
        )
    if torn:  # the run was stopped in the middle of a row
        write_atomically(path, whole + b"\n")
    return lines[1:]


def _summary_row(name: str, owner: str, rows: list[dict[str, Any]], unavailable: str) -> BenchRow:
    own = [row for row in rows if row["method"] == name]
    answered = [row for row in own if not row["reason"]]
    reasons = [row["reason"] for row in own if row["reason"]]
    figures = {}
    for metric in COLUMNS:
        values = [r["values"][metric.name] for r in answered if metric.name in r["values"]]
        chances = [r["chance"][metric.name] for r in answered if metric.name in r["chance"]]
        if values:
            low, high = interval(values) or (None, None)
            chance = float(np.mean(chances)) if chances else None
            figures[metric.name] = Figure(float(np.mean(values)), low, high, chance, len(values))
    reason = unavailable or next(iter(reasons), "")
    return BenchRow(name, owner, figures, len(answered), len(reasons), reason)
