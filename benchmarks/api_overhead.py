"""What `whylens.explain` adds to the engine's own time: `python -m benchmarks.api_overhead`.

Every figure is of a process of its own, in which nothing was asked before: one asks the engine and
one the public function, about the same network, photo and method. The network is loaded first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

PHOTO = Path(__file__).resolve().parents[1] / "examples" / "photos" / "cat.jpg"

_ENGINE = """
from whylens.core.engine import Engine
from whylens.core.explanation import Question
from whylens.core.inputs.photo import read_photo
engine = Engine()
engine.backbone(MODEL)
def first():
    photo = read_photo(open(PHOTO, "rb").read())
    for answer in engine.explain(Question(MODEL, photo), METHOD): pass
"""
_API = """
import whylens
model = whylens.load_model(MODEL)
def first():
    whylens.explain(model, PHOTO, METHOD)
"""
_TIMED = """
import json, time
began, used = time.perf_counter(), time.process_time()
first()
print(json.dumps([time.perf_counter() - began, time.process_time() - used]))
"""


def first_call(code: str, model: str, method: str) -> tuple[float, float]:
    """Return wall and processor seconds of the first call in a new process."""
    names = f"MODEL, METHOD, PHOTO = {model!r}, {method!r}, {str(PHOTO)!r}\n"
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", names + code + _TIMED],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    wall, used = json.loads(run.stdout)
    return wall, used


def main() -> None:
    """Print the median of both, and their difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photos-10")
    parser.add_argument("--method", default="grad-cam")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    walls: dict[str, list[tuple[float, float]]] = {"engine": [], "api": []}
    for _ in range(options.runs):  # in turn, so that a busy machine slows both
        for name, code in (("engine", _ENGINE), ("api", _API)):
            walls[name].append(first_call(code, options.model, options.method))
    middle = {
        n: [statistics.median(column) for column in zip(*w, strict=True)] for n, w in walls.items()
    }
    for kind, place in (("wall", 0), ("processor", 1)):
        engine, api = (1000 * middle[name][place] for name in ("engine", "api"))
        print(f"first call, {kind}: engine {engine:.1f} ms, whylens.explain {api:.1f} ms, "
              f"{api - engine:+.1f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
