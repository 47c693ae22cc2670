"""Does the order of maps on a photo agree with where its object is?

`python -m benchmarks.ranking --data FOLDER` asks quick methods of two real networks about photos
with boxes: the maps of a photo are ranked by random maps beaten and then by insertion minus
deletion, as Compare ranks maps of one word, here with one fill and few steps. None of it knows a
box. It is counted how often, of two maps of a photo, the one that is ranked higher has more of its
evidence in the box, or its peak where the other's misses. Chance is 1/2. `--write` puts the table
into docs/which-map-to-believe.md. Needs real weights and photos with boxes (see
`tests/conftest.py`).
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
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
from whylens.core.evaluation.curves import beats_random_maps, deletion, insertion
from whylens.core.evaluation.in_mask import mass_in_mask, pointing_game
from whylens.core.evaluation.metric import Score
from whylens.core.explanation import Question

STEPS, FILL = 8, "blur"
PAGE = Path(__file__).parents[1] / "docs" / "which-map-to-believe.md"
BEGIN, END = "<!-- ranking -->", "<!-- end of ranking -->"
HEAD = ("Network", "What is compared", "Pairs in which it agrees, %", "Objects")


def value(scores: Iterator[Score]) -> float:
    """Return the last of a metric's scores."""
    *_, last = scores
    return float("nan") if last.value is None else last.value


def agreements(engine: Engine, model: str, folder: Path) -> Iterator[tuple[str, float, float]]:
    """Yield per object: its key, how often order and box agree, and the same of hits and misses.

    The latter is NaN where all maps hit, or none does.
    """
    backbone = engine.backbone(model)
    dataset = BoxedPhotos(folder, tuple(backbone.labels))
    refused = engine.unavailable(model)
    methods = [name for name in quick_methods(engine.registry) if name not in refused]
    for index, item in enumerate(dataset.items):
        question = Question(model, dataset.pixels(index), target=item.label)
        subject = engine.subject(question)
        mask = mask_in_view(dataset.evidence(index), backbone.input_spec)
        rows = []
        for name in methods:
            *_, answer = engine.explain(question, name)
            heat = answer.result
            same = {"steps": STEPS, "fill": FILL}
            beaten = value(beats_random_maps(subject, heat, **same))
            gain = value(insertion(subject, heat, **same, chance=False)) - value(
                deletion(subject, heat, **same, chance=False)
            )
            mass, hit = mass_in_mask(heat, mask).value, pointing_game(heat, mask).value
            rows.append(((beaten, gain), 0.0 if mass is None else mass, hit))
        yield item.key, agreement(rows, 1), agreement(rows, 2)


def agreement(rows: list[tuple[tuple[float, float], float, float]], truth: int) -> float:
    """Return how often the better ranked of two maps is also the one with the larger truth.

    Pairs of equal truth are left out; equal ranks count half. NaN without a pair.
    """
    wins = []
    for first, second in itertools.combinations(rows, 2):
        if first[truth] != second[truth]:
            better, worse = (first, second) if first[truth] > second[truth] else (second, first)
            wins.append(0.5 * (better[0] > worse[0]) + 0.5 * (better[0] >= worse[0]))
    return float(np.mean(wins)) if wins else float("nan")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with weights and photos")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    scene = photos(args.data, 1)
    engines = {"imagenet-lite0": Engine(), scene.name: scene.pages["trained"]}
    for model, engine in engines.items():
        pairs = list(agreements(engine, model, args.data / "photos"))
        for title, column in (("mass in the box", 1), ("peak in the box", 2)):
            values = [row[column] for row in pairs if not np.isnan(row[column])]
            ends = interval(values)  # of one object there is none
            around = "" if ends is None else f" ({ends[0]:.0%} to {ends[1]:.0%})"
            share = f"{np.mean(values):.0%}{around}".replace("%", "")
            lines.append((model, title, share, f"{len(values)} of {len(pairs)}"))
            print(*lines[-1], sep=", ", flush=True)
    if args.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        text = f"{before}{BEGIN}\n{markdown(HEAD, lines)}\n{END}{after}"
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
