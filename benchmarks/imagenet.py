"""How good imagenet-lite0 is and what every method costs and finds on it.

`python -m benchmarks.imagenet --data FOLDER --write` needs photos with boxes and photos of cats and
dogs (see tests/conftest.py), takes about forty minutes on two cores and writes
docs/imagenet-lite0.md; `--only NAME` measures some methods, and keeps the other rows if it writes;
`--keep-times` counts peaks anew and keeps the times that are there, where the machine is not idle.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.guide import peaks_in
from benchmarks.scenes import Box
from benchmarks.table import markdown
from whylens.core.engine import Engine
from whylens.core.errors import CoreError
from whylens.core.explanation import Question
from whylens.core.inputs.photo import read_photo
from whylens.core.inputs.view import on_original
from whylens.core.models.labels import class_index
from whylens.core.results import Heatmap
from whylens.core.storage.files import write_atomically
from whylens.core.words import percent

MODEL = "imagenet-lite0"
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "imagenet-lite0.md"
# ImageNet's classes in WordNet's order: all below "dog", and those below "domestic cat".
GROUPS = {"dog": range(151, 269), "cat": range(281, 286)}
# Labels that mean the thing as well, as the data's own list says.
ALSO = {"tiger cat": ("tabby", "Egyptian cat"), "bull mastiff": ("boxer",)}


@dataclass(frozen=True)
class Row:
    """What one method costs and finds.

    Attributes:
        first: Seconds to the first map of the first photo, partial or not.
        seconds: To the last one.
        hits: Objects in whose box the map's peak lies; None for what is no map.
        objects: Objects that were asked about.
    """

    title: str
    first: float
    seconds: float
    hits: int | None
    objects: int


def objects(data: Path, labels: Sequence[str]) -> list[tuple[Question, str, Box]]:
    """Return a question, the label and the box of every object in the photos."""
    entries = json.loads((data / "photos" / "boxes.json").read_text())
    return [
        (
            Question(
                MODEL,
                read_photo((data / "photos" / entry["file"]).read_bytes()).pixels,
                target=class_index(item["label"], tuple(labels)),
            ),
            item["label"],
            tuple(item["box"]),
        )
        for entry in entries
        for item in entry["objects"]
    ]


def count_recognised(engine: Engine, questions: list[tuple[Question, str, Box]], top: int) -> int:
    """Return how many objects are among the best classes."""
    hits = 0
    for question, label, _ in questions:
        best = {score.label for score in engine.predict(question, top=top).classes}
        hits += bool(best & {label, *ALSO.get(label, ())})
    return hits


def cats_and_dogs(engine: Engine, data: Path) -> tuple[int, int]:
    """Return how many photos are told apart by the sums of the two groups, and how many there are.

    Photos of both parts are asked about: the network has learnt from neither.
    """
    right = count = 0
    for truth in GROUPS:
        for path in sorted((data / "cats_dogs").glob(f"*/{truth}/*")):
            question = Question(MODEL, read_photo(path.read_bytes()).pixels)
            scores = {s.index: s.probability for s in engine.predict(question, top=1000).classes}
            sums = {name: sum(scores[i] for i in group) for name, group in GROUPS.items()}
            right += max(sums, key=sums.__getitem__) == truth
            count += 1
    return right, count


def measure(engine: Engine, method: str, questions: list[tuple[Question, str, Box]]) -> Row:
    """Return the figures of one method at its defaults."""
    first = seconds = 0.0
    hits, heat = 0, False
    for question, _, box in questions:
        engine.predict(question)
        began, answer = time.perf_counter(), None
        for step in engine.explain(question, method):
            answer = step
            if not first:
                first = time.perf_counter() - began
        assert answer is not None
        seconds = seconds or time.perf_counter() - began
        if isinstance(answer.result, Heatmap):
            heat = True
            whole, in_view = on_original(answer.result.values, answer.view)
            hits += peaks_in(np.where(in_view, whole, -math.inf), box)
    title = engine.registry.explainers[method].title
    return Row(title, first, seconds, hits if heat else None, len(questions))


def cells_of(row: Row) -> list[str]:
    """Return a method's row of the table."""
    peaks = "" if row.hits is None else f"{row.hits} of {row.objects}"
    return [row.title, f"{row.first:.2f} s", f"{row.seconds:.1f} s", peaks]


def cells_written() -> dict[str, list[str]]:
    """Return the rows of the table that is there, by the method's title."""
    lines = (line.strip("| ").split(" | ") for line in DOCUMENT.read_text().splitlines())
    return {line[0]: line for line in lines if len(line) == 4}


def document(facts: str, cells: list[list[str]], refused: dict[str, str]) -> str:
    """Return docs/imagenet-lite0.md."""
    reasons = "\n".join(f"- {title}: {reason}" for title, reason in refused.items())
    return (
        "# imagenet-lite0\n\nMade by `python -m benchmarks.imagenet --write`; do not edit.\n\n"
        "EfficientNet-Lite0 with the weights of its authors (ImageNet-1k, Apache-2.0) in 16 bits, "
        f"9.4 MB: the network that page and command line begin with.\n\n{facts}\n\n"
        "Every method at its defaults: seconds to the first map and to the last one, and how often "
        "the map's peak lies in the object's box.\n\n"
        + markdown(("Method", "First map", "Last map", "Peak in the box"), cells)
        + f"\n\n## Not on this network\n\n{reasons}\n"
    )


def main() -> None:
    """Measure and print, or write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--keep-times", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    engine = Engine()
    labels = engine.card(MODEL).labels
    questions = objects(args.data, labels)
    explainers, reasons = engine.registry.explainers, engine.unavailable(MODEL)
    reasons_by_title = {explainers[name].title: why for name, why in reasons.items()}
    before = cells_written()
    cells = dict(before) if args.only else {}
    for name in explainers:
        if name in reasons or (args.only and name not in args.only):
            continue
        try:
            row = measure(engine, name, questions)
        except CoreError as exc:
            reasons_by_title[explainers[name].title] = str(exc)
        else:
            print(name, row, flush=True)
            cells[row.title] = cells_of(row)
            if args.keep_times and row.title in before:
                cells[row.title][1:3] = before[row.title][1:3]
    if args.only and not args.write:
        return
    right, count = cats_and_dogs(engine, args.data)
    facts = (
        f"Of {len(questions)} objects in real photos its best class is right for "
        f"{count_recognised(engine, questions, 1)}, and one of the best five for "
        f"{count_recognised(engine, questions, 5)}. Of {count} photos of a cat or a dog it tells "
        f"{percent(right / count, 1)} apart, by the sums over ImageNet's classes of each."
    )
    print(facts)
    if args.write:
        order = [cells[e.title] for e in explainers.values() if e.title in cells]
        write_atomically(DOCUMENT, document(facts, order, reasons_by_title).encode())


if __name__ == "__main__":
    main()
