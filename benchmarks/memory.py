"""Peak memory that one method adds to a loaded network, measured in a process of its own.

`python -m benchmarks.memory METHOD [ARCHITECTURE]` prints gigabytes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

DEADLINE = 60.0  # a method's buffers are all in use long before; stopping early is stated


def growth(method: str, architecture: str) -> float:
    """Return the gigabytes by which a method grows the resident memory, in a fresh process."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", method, architecture],
        capture_output=True, text=True, check=True,
        cwd=Path(__file__).resolve().parents[1],
    )  # fmt: skip
    return float(run.stdout.split()[-1])


def _resident(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def _measure(method: str, architecture: str) -> float:
    from benchmarks.peers import bench_of

    bench = bench_of(architecture)
    bench.forward()
    subject = bench.subject()  # loaded, probed and run once: what the page holds before a click
    explainer = bench.registry.explainer(method)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    answer = explainer.explain(subject, explainer.Params())
    began = time.monotonic()
    if hasattr(answer, "__next__"):
        for _ in answer:
            if time.monotonic() - began > DEADLINE:
                break
    return (_resident("VmHWM") - before) / 1e9


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method")
    parser.add_argument("architecture", nargs="?", default="resnet50")
    args = parser.parse_args()
    print(f"{max(0.0, _measure(args.method, args.architecture)):.4f}")
