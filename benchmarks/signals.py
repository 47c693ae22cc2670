"""Methods on signals whose evidence is known: MNIST-1D, where the digit's shape lies.

`python -m benchmarks.signals --write docs/signals.md` asks every method about 100 generated test
signals, in some minutes: how much of the evidence lies on the shape, whether the map peaks there,
and how fast the network changes its mind as the named places are hidden or shown.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np

from whylens.core.engine import Engine
from whylens.core.evaluation.curves import deletion, insertion
from whylens.core.evaluation.ordering import on_input
from whylens.core.explanation import Question
from whylens.core.results import Heatmap
from whylens.core.storage.files import write_atomically
from whylens.plugins.mnist1d.signals import LENGTH, mnist1d

MODEL, SEED = "mnist1d", 4001
FILL = "mean"


def figures(
    engine: Engine, count: int, mapped: Callable[[Question, int], Heatmap]
) -> tuple[float, float, float, float]:
    """Return share of evidence on the shape, share of peaks there, deletion and insertion areas."""
    fresh = mnist1d(count, SEED)
    inside, hits, deleted, inserted = [], [], [], []
    for number, (signal, label, where) in enumerate(
        zip(fresh.values, fresh.labels, fresh.shape, strict=True)
    ):
        question = Question(MODEL, signal=signal, target=int(label))
        heat = mapped(question, number)
        values = on_input(heat, (LENGTH,)).numpy().clip(0)
        # Half a position to each side: the shape was resampled.
        near = np.convolve(where, [1, 1, 1], "same") > 0
        if values.any():
            inside.append(float(values[near].sum() / values.sum()))
        hits.append(bool(near[int(values.argmax())]) and bool(values.any()))
        subject = engine.subject(question)
        for measure, areas in ((deletion, deleted), (insertion, inserted)):
            *_, score = measure(subject, heat, fill=FILL, chance=False)
            areas.append(score.value)
    return (
        statistics.mean(inside),
        sum(hits) / len(hits),
        statistics.mean(deleted),
        statistics.mean(inserted),
    )


def table(count: int) -> str:
    """Return docs/signals.md."""
    engine = Engine()
    refused = engine.unavailable(MODEL)
    rng = np.random.default_rng(0)
    centre = np.exp(-((np.arange(LENGTH) - (LENGTH - 1) / 2) ** 2) / (2 * (LENGTH / 6) ** 2))
    rows: dict[str, tuple[float, float, float, float]] = {}
    for name, explainer in engine.registry.explainers.items():
        if name in refused or explainer.artifact_kind:
            continue

        def asked(question: Question, _: int, name: str = name) -> Heatmap:
            *_, answer = engine.explain(question, name)
            return answer.result

        rows[explainer.title] = figures(engine, count, asked)
        print(explainer.title, rows[explainer.title], flush=True)
    rows["*random map*"] = figures(engine, count, lambda *_: Heatmap(rng.random(LENGTH), ""))
    rows["*middle of the signal*"] = figures(engine, count, lambda *_: Heatmap(centre, ""))
    lines = [
        "# Methods on signals with known evidence",
        "",
        f"Written by `python -m benchmarks.signals --write docs/signals.md`: {count} test signals "
        f"of MNIST-1D (seed {SEED}), the network `checkpoints/{MODEL}`, every method with its "
        "defaults, the true class. The generator knows where the digit's shape lies; a fifth to a "
        "quarter of the signal with a position to each side.",
        "",
        "On the shape: share of the positive evidence that lies there. Peaks: share of signals in "
        "which the largest value does. Deletion and insertion: area under the class's probability "
        f"as the strongest places first are hidden by the signal's {FILL}, or shown on it.",
        "",
        "| Method | On the shape | Peaks | Deletion, low is good | Insertion, high is good |",
        "|---|---:|---:|---:|---:|",
    ]
    for title, (inside, hits, deleted, inserted) in rows.items():
        lines.append(f"| {title} | {inside:.0%} | {hits:.0%} | {deleted:.3f} | {inserted:.3f} |")
    grad, path = rows["Grad-CAM"], rows["Integrated Gradients"]
    lines += [
        "",
        "## Grad-CAM and Integrated Gradients",
        "",
        f"Of Grad-CAM's evidence {grad[0]:.0%} lies on the shape, of Integrated Gradients' "
        f"{path[0]:.0%}; Grad-CAM peaks there in {grad[1]:.0%} of the signals, Integrated "
        f"Gradients in {path[1]:.0%}. Deletion is {grad[2]:.3f} for Grad-CAM and {path[2]:.3f} for "
        f"Integrated Gradients, insertion {grad[3]:.3f} and {path[3]:.3f}. Grad-CAM's map has ten "
        "cells of four values: it can say where the shape is, and not which of its values matter. "
        "Integrated Gradients names single values, which is why hiding them in its order "
        + ("changes" if path[2] < grad[2] else "does not change")
        + " the network's mind sooner.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print or write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path)
    parser.add_argument("--signals", type=int, default=100)
    args = parser.parse_args()
    text = table(args.signals)
    if args.write:
        write_atomically(args.write, text.encode())
    else:
        print(text)


if __name__ == "__main__":
    main()
