"""What scoring one map by its order costs: deletion, insertion, ROAD, and the random maps.

`python -m benchmarks.order_metrics PHOTO` asks about Grad-CAM's map of one photo and prints forward
passes, seconds, and CPU seconds. Random maps are measured once for an input, a class, a fill and a
smoothness, and shared by all methods. Another program on the machine shows as seconds that are
nearer to CPU seconds than a run alone has them, and in the load.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from whylens.core.engine import Engine
from whylens.core.evaluation.curves import deletion, insertion
from whylens.core.evaluation.hiding import FILLS, Setting
from whylens.core.evaluation.metric import Score
from whylens.core.evaluation.ordering import cells
from whylens.core.evaluation.random_maps import RandomMaps, random_maps
from whylens.core.evaluation.road import road
from whylens.core.explanation import Question
from whylens.core.inputs.photo import read_photo
from whylens.core.results import Heatmap


def timed(what: str, work: Callable[[], Iterator[Score | RandomMaps]]) -> None:
    """Print what one piece of work costs."""
    start, cpu = time.perf_counter(), time.process_time()
    *_, last = work()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(f"{what:28} {last.passes:5.0f} passes {seconds:6.2f} s {cpu:6.2f} CPU s", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("--model", default="imagenet-lite0")
    parser.add_argument("--method", default="grad-cam")
    args = parser.parse_args()
    engine = Engine()
    question = Question(args.model, read_photo(args.photo.read_bytes()).pixels)
    *_, answer = engine.explain(question, args.method)
    heat, subject = answer.result, engine.subject(question)
    if not isinstance(heat, Heatmap):
        parser.error(f"{args.method} answers with no map; choose another.")
    subject.fast_logits(subject.x.expand(16, *subject.x.shape[1:]))  # the fast copy is built
    load = ", ".join(f"{figure:.1f}" for figure in os.getloadavg())
    print(f"{args.method}, {args.model}, {torch.get_num_threads()} threads, load {load}")
    for fill in FILLS:
        for measure in (deletion, insertion):
            timed(
                f"{measure.__name__}, {fill}",
                lambda m=measure, f=fill: m(subject, heat, fill=f, chance=False),
            )
    timed("ROAD, 7 shares, both orders", lambda: road(subject, heat))
    values = cells(heat, subject.size)
    for fill in FILLS:
        timed(f"20 random maps, {fill}", lambda f=fill: random_maps(subject, values, Setting(f)))


if __name__ == "__main__":
    main()
