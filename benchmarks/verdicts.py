"""How often the verdict is right where the truth is known: true masks, random maps, edges.

`python -m benchmarks.verdicts --write` measures and writes the table of
docs/which-map-to-believe.md.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, sobel

from benchmarks.analytic import Blobs, network
from whylens.core.datasets.by_name import load_dataset
from whylens.core.datasets.dataset import Dataset
from whylens.core.engine import Engine
from whylens.core.evaluation.hiding import FILLS, Setting
from whylens.core.evaluation.metric import Case
from whylens.core.evaluation.ordering import cells
from whylens.core.evaluation.random_maps import random_maps
from whylens.core.evaluation.randomised_weights import randomised_subjects
from whylens.core.evaluation.verdict import LEAD, STEPS, Verdict, judge
from whylens.core.explanation import Question
from whylens.core.outputs.ranking import WORDS
from whylens.core.results import Heatmap
from whylens.core.subject import Subject
from whylens.core.words import percent

PAGE = Path(__file__).parents[1] / "docs" / "which-map-to-believe.md"
ANALYTIC = "analytic"
NETWORKS = {
    ANALYTIC: "blobs",
    "painted-cats-breed": "painted-cats:breed",
    "painted-cats-vit": "painted-cats:breed",
    "painted-cats-genuine": "painted-cats:genuine",
}
WIDTHS = (4.0, 8.0, 16.0)  # pixels of the random maps' Gaussians
BEGIN, END = "<!-- measured -->", "<!-- end -->"


def edges(subject: Subject) -> Heatmap:
    """Return the size of the input's edges: a map that knows no network."""
    grey = subject.x[0].mean(0).double().cpu().numpy()
    return Heatmap(np.hypot(sobel(grey, 0), sobel(grey, 1)), "brightness")


def random_map(subject: Subject, index: int) -> Heatmap:
    """Return smooth noise."""
    noise = np.random.default_rng(index).standard_normal(subject.size)
    return Heatmap(gaussian_filter(noise, WIDTHS[index % len(WIDTHS)], mode="wrap"), "nothing")


def engine_and_data(model: str) -> tuple[Engine, Dataset]:
    """Return who answers for a network, and its pictures."""
    if model == ANALYTIC:
        backbone = network()
        return Engine(loader=lambda *_: backbone), Blobs()
    engine = Engine()
    return engine, load_dataset(NETWORKS[model], engine.registry.datasets)


def pictures(
    engine: Engine, model: str, dataset: Dataset, count: int
) -> Iterator[tuple[int, Any, Any]]:
    """Yield index, subject and true mask of pictures that the network names right, of the test."""
    for index in dataset.of("test"):
        item = dataset.items[index]
        mask = dataset.evidence(index)
        if mask is None or not mask.any():
            continue
        question = Question(model, dataset.pixels(index))
        subject = engine.subject(question)
        if int(subject.forward_pass.logits.argmax()) != item.label:
            continue
        yield index, subject, mask
        count -= 1
        if not count:
            return


def random_leads(subject: Subject, heat: Heatmap) -> set[float]:
    """Return by how much each random map as smooth as a map leads on those of the other pairs."""
    values = cells(heat, subject.size)
    fills = [
        random
        for fill in FILLS
        for *_, random in [random_maps(subject, values, Setting(fill, steps=STEPS))]
    ]
    scores = np.mean([random.insertion - random.deletion for random in fills], axis=0)
    rest = ((scores**2).sum() - scores**2 * 2) / (len(scores) - 2)  # a pair's scores are opposite
    return set((scores / np.sqrt(rest)).tolist())


def verdicts(model: str, count: int, leads: set[float]) -> dict[str, list[Verdict]]:
    """Return the verdicts on every kind of map, by kind.

    Args:
        leads: Those of random maps among each other are added; maps as smooth share them.
    """
    engine, dataset = engine_and_data(model)
    by_kind: dict[str, list[Verdict]] = {"true mask": [], "random map": [], "edges": []}
    for index, subject, mask in pictures(engine, model, dataset, count):
        truth = Heatmap(mask.astype(np.float32), "evidence")
        cases = {
            "true mask": Case(subject, truth),
            "random map": Case(subject, random_map(subject, index)),
            "edges": Case(
                subject,
                edges(subject),
                edges,
                randomised_subjects(subject),
            ),
        }
        for kind, case in cases.items():
            *_, last = judge(case)
            by_kind[kind].append(last)
            if last.lead is not None:
                leads |= random_leads(subject, case.heat)
    return by_kind


def interval(hits: int, count: int) -> str:
    """Return a share in percent with its 95 % interval by Wilson's score."""
    z, share = 1.96, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count**2)) / (1 + z * z / count)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return f"{100 * share:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def rows(by_model: dict[str, dict[str, list[Verdict]]]) -> Iterable[str]:
    """Yield the lines of the table."""
    yield "| Network | Map | Pictures | " + " | ".join(f"{word}, %" for word in WORDS) + " |"
    yield "|---|---|---|" + "---|" * len(WORDS)
    for model, kinds in by_model.items():
        for kind, verdicts_ in kinds.items():
            counts = Counter(v.word for v in verdicts_)
            total = len(verdicts_)
            cells = " | ".join(interval(counts[word], total) for word in WORDS)
            yield f"| {model} | {kind} | {total} | {cells} |"


def main() -> None:
    """Measure, print and, where asked, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--only", nargs="*", default=list(NETWORKS))
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    by_model, leads = {}, set[float]()
    for model in args.only:
        by_model[model] = verdicts(model, args.pictures, leads)
        print("\n".join(rows({model: by_model[model]})), flush=True)
    share = np.mean(np.array([*leads]) >= LEAD)
    among = (
        f"Of {len(leads):,} random maps of the inputs of {', '.join(by_model)} "
        f"{percent(share, 1)} lead by {LEAD:g} times the spread of the others."
    )
    print(among)
    if args.write:
        text = PAGE.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        table_text, after = rest.split(END)
        heads, *lines = rows(by_model)
        # What other networks got stays.
        lines += [
            line for line in table_text.splitlines() if _network(line) in {*NETWORKS} - {*by_model}
        ]
        order = [ANALYTIC, *NETWORKS]
        lines[1:] = sorted(lines[1:], key=lambda line: order.index(_network(line)))
        stays = [line for line in table_text.splitlines() if line.startswith("Of ")]
        stays = [line for line in stays if not any(name in line for name in by_model)]
        table = "\n".join([heads, *lines, "", *stays, among])
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def _network(line: str) -> str:
    return line.split("|")[1].strip() if line.startswith("| ") else ""


if __name__ == "__main__":
    main()
