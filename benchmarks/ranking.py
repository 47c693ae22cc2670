"""Does the order of maps on a photo agree with where its object is?

`python -m benchmarks.ranking --data FOLDER` asks quick methods of two real networks about photos
with boxes: the maps of a photo are judged and ranked as Compare does it, which knows no box. It is
counted how often, of two maps of a photo, the one that is ranked higher has more of its evidence in
the box, or its peak where the other's misses. Chance is 1/2. `--write` puts the table into
docs/which-map-to-believe.md. A network takes a process, and about three minutes a photo. Needs real
weights and photos with boxes (see `tests/conftest.py`).
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.scenes import photos
from benchmarks.table import markdown
from whylens.core.bench.measure import mask_in_view
from whylens.core.bench.plan import quick_methods
from whylens.core.bench.summary import interval
from whylens.core.datasets.boxes import BoxedPhotos
from whylens.core.engine import Engine
from whylens.core.evaluation.in_mask import mass_in_mask, pointing_game
from whylens.core.explanation import Question
from whylens.core.outputs.ranking import ORDERS
from whylens.core.progress import last_of

BEST_FIRST = next(iter(ORDERS))
SHIPPED, REAL = "imagenet-lite0", "squeezenet"
PAGE = Path(__file__).parents[1] / "docs" / "which-map-to-believe.md"
BEGIN, END = "<!-- ranking -->", "<!-- end of ranking -->"
HEAD = ("Network", "What is compared", "Pairs in which it agrees, %", "Objects")


def agreements(engine: Engine, model: str, folder: Path) -> Iterator[tuple[str, float, float]]:
    """Yield per object: its key, how often order and box agree, and the same of hits and misses.

    The latter is NaN where all maps hit, or none does.
    """
    backbone = engine.backbone(model)
    dataset = BoxedPhotos(folder, tuple(backbone.labels))
    unavailable = engine.unavailable(model)
    methods = [name for name in quick_methods(engine.registry) if name not in unavailable]
    for index, item in enumerate(dataset.items):
        question = Question(model, dataset.pixels(index), target=item.label)
        mask = mask_in_view(dataset.evidence(index), backbone.input_spec)
        answers = [last_of(engine.explain(question, name)) for name in methods]
        ranks = ORDERS[BEST_FIRST]([last_of(engine.judge(answer)) for answer in answers])
        rows = []
        for rank, answer in zip(ranks, answers, strict=True):
            mass, hit = mass_in_mask(answer.result, mask), pointing_game(answer.result, mask)
            rows.append((rank, mass.value or 0.0, hit.value))
        yield item.key, agreement(rows, 1), agreement(rows, 2)


def agreement(rows: list[tuple[tuple[float, ...], float, float]], truth: int) -> float:
    """Return how often the better ranked of two maps is also the one with the larger truth.

    Pairs of equal truth are left out; equal ranks count half. NaN without a pair.

    Args:
        rows: What each map is ranked by, the smallest first, and its truths.
    """
    wins = []
    for first, second in itertools.combinations(rows, 2):
        if first[truth] != second[truth]:
            better, worse = (first, second) if first[truth] > second[truth] else (second, first)
            wins.append(0.5 * (better[0] < worse[0]) + 0.5 * (better[0] <= worse[0]))
    return float(np.mean(wins)) if wins else float("nan")


def measure(data: Path, model: str) -> list[tuple[str, float, float]]:
    """Return what `agreements` yields of one of the two networks, and print it as it comes."""
    torch.set_num_threads(1)
    engine = Engine() if model == SHIPPED else photos(data, 1).pages["trained"]
    pairs = []
    for key, mass, hit in agreements(engine, model, data / "photos"):
        pairs.append((key, mass, hit))
        print(f"{model}, {key}: {mass:.2f}", flush=True)
    return pairs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with weights and photos")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    lines = []
    models = (SHIPPED, REAL)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        every = list(processes.map(partial(measure, args.data), models))
    for model, pairs in zip(models, every, strict=True):
        for title, column in (("mass in the box", 1), ("peak in the box", 2)):
            values = [row[column] for row in pairs if not np.isnan(row[column])]
            ends = interval(values)  # of one object there is none
            around = "" if ends is None else f" ({100 * ends[0]:.0f} to {100 * ends[1]:.0f})"
            share = f"{100 * np.mean(values):.0f}{around}"
            lines.append((model, title, share, f"{len(values)} of {len(pairs)}"))
            print(*lines[-1], sep=", ", flush=True)
    if args.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        text = f"{before}{BEGIN}\n{markdown(HEAD, lines)}\n{END}{after}"
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
