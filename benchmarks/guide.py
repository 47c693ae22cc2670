"""What each method costs, finds and looks at: measured with its defaults, for the Guide.

`python -m benchmarks.guide --data FOLDER --write` needs real weights and photos with boxes (see
`tests/conftest.py`), takes about half an hour on two cores, and writes plugins/measured.json and
docs/methods.md; `--only NAME` measures some anew and keeps the others; `--docs` writes the
document from what is there. `--bench FILE` takes up what `whylens bench` found out.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.scenes import Box, Scene, painted_scene, photos
from whylens.core.bench.columns import BEATS
from whylens.core.errors import CoreError
from whylens.core.explanation import Explanation, Question
from whylens.core.inputs.view import on_original
from whylens.core.outputs.guide import (
    QUESTIONS,
    GuideEntry,
    Measured,
    Measurements,
    entries,
    measurements,
)
from whylens.core.registry import load_registry
from whylens.core.results import Heatmap
from whylens.core.storage.files import write_atomically
from whylens.ui.page.guide import measured_words
from whylens.ui.page.session import MEASURED

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "methods.md"
MAIN = "squeezenet"
# Networks for methods that the first one refuses or was not fitted for, in this order.
OTHERS = ("painted-cats-breed", "painted-cats-vit")
# Networks whose benchmark counts, the first that a method runs on.
BENCHMARKED = ("painted-cats-breed", "painted-cats-vit", "mnist1d")
SLOW = 12.0  # seconds for one photo: such a method is asked about fewer objects
FEW = 4


class Bench:
    """A scene, and the price of a forward pass in it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def forward(self) -> float:
        """Return seconds of one forward pass, now."""
        x, seconds = self.scene.trained.probe_inputs()[:1], []
        for _ in range(9):
            began = time.perf_counter()
            with torch.no_grad():
                self.scene.trained.fast_logits(x)
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds)

    def answer(self, net: str, method: str, question: Question) -> Explanation:
        """Return the finished answer about one object."""
        *_, last = self.scene.pages[net].explain(question, method)
        return last

    def measured(self, method: str) -> Measured | None:
        """Return the figures of one method; None where it does not run on this network."""
        ratios, hits, inside, unmoved, cells = [], [], [], [], None
        objects = list(self.scene.objects)
        while objects:
            question, box = objects.pop(0)
            self.scene.pages["trained"].predict(question)
            before, began = self.forward(), time.perf_counter()
            try:
                answer = self.answer("trained", method, question)
            except CoreError as exc:
                print(f"  {method}: {exc}", flush=True)
                return None
            seconds = time.perf_counter() - began
            ratios.append((seconds + before) / before)
            if seconds > SLOW:
                objects = objects[: max(0, FEW - len(ratios))]
            if not isinstance(answer.result, Heatmap):
                continue
            cells = answer.result.values.size
            whole, in_view = on_original(answer.result.values, answer.view)
            hits.append(peaks_in(np.where(in_view, whole, -math.inf), box))
            inside.append(_share_in(np.where(in_view, whole, 0).clip(0), box))
            try:
                random_heat = self.answer("random", method, question).result
            except CoreError as exc:  # a method may refuse what random weights make of a photo
                print(f"  {method}, random weights: {exc}", flush=True)
                continue
            unmoved.append(_rank_agreement(answer.result.values, random_heat.values))
        means = [x for x in inside if x is not None]
        return Measured(
            forwards=round(statistics.median(ratios), 2),
            hits=sum(hits) if hits else None,
            objects=len(hits) if hits else None,
            inside=round(statistics.mean(means), 3) if means else None,
            unmoved=round(statistics.mean(unmoved), 3) if unmoved else None,
            cells=cells,
            network="" if self.scene.name == MAIN else self.scene.name,
        )


def _box(shape: tuple[int, ...], box: Box) -> np.ndarray:
    rows, columns = ((np.arange(n) + 0.5) / n for n in shape)
    down = (rows >= box[1]) & (rows <= box[3])
    across = (columns >= box[0]) & (columns <= box[2])
    return down[:, None] & across[None]


def peaks_in(whole: np.ndarray, box: Box) -> bool:
    """Return whether the largest value lies in a box, given in shares of the sides."""
    return bool(_box(whole.shape, box)[np.unravel_index(whole.argmax(), whole.shape)])


def _share_in(positive: np.ndarray, box: Box) -> float | None:
    total = float(positive.sum())
    return float(positive[_box(positive.shape, box)].sum()) / total if total > 0 else None


def _rank_agreement(first: np.ndarray, second: np.ndarray) -> float:
    if first.min() == first.max() or second.min() == second.max():
        return 0.0  # a blank map agrees with nothing
    return abs(float(spearmanr(first.ravel(), second.ravel()).statistic))


def document(guide: Iterable[GuideEntry], measurements: Measurements) -> str:
    """Return docs/methods.md."""
    guide = list(guide)
    lines = [
        "# Methods",
        "",
        "Every method here explains one picture or signal (local); the tab This network shows what "
        "a model does on a whole set, and `whylens means` where it looks there on average "
        "(global). Explainers of trees and other tables of numbers are out of scope: "
        "Whylens explains networks that see pictures or signals.",
        "",
        "Of the 17 methods that the benchmark LATEC compares (Klein et al. 2024), 14 are here, "
        "among them raw attention, vanilla gradient (Saliency), expected gradients (Gradient SHAP) "
        'and DeepLIFT SHAP (DeepLIFT, baseline "all four"). Left out are LRP and LRP attention, '
        "which a patent covers, and Guided Backpropagation, whose map hardly changes when all "
        "weights do: conformance test 11 refuses that.",
        "",
        f"{measurements.setting} Cost: time as a multiple of one forward pass of the same network. "
        "Random maps: share of random maps as smooth that do worse in the "
        f"[benchmark](benchmark.md), on the first of {', '.join(BENCHMARKED)} on which the method "
        "was asked; 50 % is chance. In the box: share of the positive evidence that lies on the "
        "object. Sanity: size of the rank correlation with the map of the same network with random "
        "weights; near 0 is right.",
        "",
        "| Method | Type | Cost | Random maps | Peaks on the object | In the box | Sanity |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for entry in guide:
        title = f"[{entry.title}](#{_anchor(entry)})"
        if entry.measured and entry.measured.network:
            title += f" on {entry.measured.network}"
        lines.append(f"| {title} | {entry.family} | {' | '.join(measured_words(entry))} |")
    for answers, words in QUESTIONS.items():
        lines += ["", f"## {words}"]
        for entry in guide:
            if entry.question_kind != answers:
                continue
            needs = [*entry.needs, *([entry.artifact_kind] if entry.artifact_kind else [])]
            lines += [
                "",
                f'### {entry.title} <a id="{_anchor(entry)}"></a>',
                "",
                f"`{entry.name}`, {entry.family.lower()}"
                + (", knows no class" if entry.class_blind else "")
                + f". {entry.shows}",
                "",
                f"- Limits: {entry.cannot}",
                *([f"- When: {entry.when}"] if entry.when else []),
                f"- Needs: {'; '.join(needs) or 'nothing but scores'}.",
                f"- Cost: {entry.cost}.",
                f"- Source: {entry.source}.",
            ]
    lines += [
        "",
        "---",
        "",
        "This page is written from the registry and `plugins/measured.json` by "
        "`python -m benchmarks.guide --docs`.",
    ]
    return "\n".join(lines) + "\n"


def with_benchmark(figures: dict[str, Measured], runs: list[Any]) -> dict[str, Measured]:
    """Return measurements with the share of random maps beaten, on the first network that has it.

    A mean over networks would compare methods that were asked about different ones.
    """
    order = {name: number for number, name in enumerate(BENCHMARKED)}
    shares: dict[str, float] = {}
    for run in sorted(runs, key=lambda run: order.get(run["model"], len(order))):
        for row in run["rows"]:
            figure = row["figures"].get(BEATS.name)
            if figure is not None:
                shares.setdefault(row["method"], figure["mean"])
    return {
        name: m.model_copy(update={"beaten": round(shares[name], 3)}) if name in shares else m
        for name, m in figures.items()
    }


def _anchor(entry: GuideEntry) -> str:
    # Of its own: GitHub and the documentation number equal headings in different ways.
    return "method-" + entry.name.replace("+", "-plus")


def main() -> None:
    """Measure what is asked for and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with weights and photos")
    parser.add_argument("--only", nargs="*", default=[], help="names of methods")
    parser.add_argument("--objects", type=int, default=12)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--bench", type=Path, help="benchmark.json of whylens bench")
    parser.add_argument("--docs", action="store_true", help="measure nothing, write the document")
    args = parser.parse_args()
    registry, record = load_registry(), measurements(MEASURED)
    figures = {n: m for n, m in record.methods.items() if n in registry.explainers}
    setting = record.setting
    if args.bench:
        figures = with_benchmark(figures, json.loads(args.bench.read_text()))
        record = Measurements(setting=setting, methods=figures)
        write_atomically(MEASURED, (record.model_dump_json(indent=1) + "\n").encode())
    elif not args.docs:
        if args.data is None:
            parser.error("--data is needed to measure")
        scenes = [
            photos(args.data, args.objects),
            *(painted_scene(name, args.objects) for name in OTHERS),
        ]
        setting = " ".join(scene.setting for scene in scenes)
        for name in registry.explainers:
            if args.only and name not in args.only:
                continue
            row = next(filter(None, (Bench(scene).measured(name) for scene in scenes)), None)
            print(name, row, flush=True)
            if row is not None:
                before = figures.get(name)
                figures[name] = row.model_copy(update={"beaten": before and before.beaten})
            record = Measurements(setting=setting, methods=figures)
            if args.write:
                write_atomically(MEASURED, (record.model_dump_json(indent=1) + "\n").encode())
    if args.write or args.docs or args.bench:
        text = document(entries(registry, record), record)
        write_atomically(DOCUMENT, text.encode())


if __name__ == "__main__":
    main()
