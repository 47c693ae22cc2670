"""A gallery of a million synthetic vectors: made, indexed, written and searched, and its memory.

`python -m benchmarks.twin_scale [--count N] [--kind classes|sphere]` prints the figures as JSON.
Every stage is a process of its own, so that its peak memory is its own; stages hand one another
files, as a fit and a page do, and load only what they need: torch alone is half a gigabyte.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from whylens.core.inputs.spec import InputSpec
from whylens.core.storage.artifacts import Artifact, write_artifact

MODEL, WIDTH, CLASSES, SEED = "untrained:resnet18", 512, 1000, 11
COUNT, QUERIES, NEAREST = 1_000_000, 50, 10
_CHUNK = 20_000
KINDS = {
    "classes": "1,000 classes, each vector half its class's centre and half noise",
    "sphere": "no structure: directions drawn evenly, the worst case for any index",
}
_STAGES = ("make", "index", "write", "query")


def figures(count: int, kind: str, queries: int = QUERIES) -> dict[str, Any]:
    """Return what making and asking a gallery takes: seconds, bytes and recall, by name.

    Args:
        kind: One of `KINDS`.
    """
    from whylens.core.models.checkpoints import FOLDERS_VARIABLE

    results: dict[str, Any] = {"count": count, "kind": kind, "width": WIDTH, "queries": queries}
    with tempfile.TemporaryDirectory(prefix="whylens-gallery-") as place:
        for stage in _STAGES:
            words = [stage, place, "--count", str(count), "--kind", kind, "--queries", str(queries)]
            process = subprocess.run(
                [sys.executable, "-m", "benchmarks.twin_scale", "--stage", *words],
                cwd=Path(__file__).resolve().parents[1],
                env={**os.environ, FOLDERS_VARIABLE: place},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            results |= json.loads(process.stdout.splitlines()[-1])
    return results


def random_gallery(
    count: int, kind: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors, (count, WIDTH) float32, with labels.

    Args:
        kind: One of `KINDS`.
    """
    centres = np.random.default_rng(SEED).normal(size=(CLASSES, WIDTH)).astype(np.float32)
    labels = rng.integers(0, CLASSES, count).astype(np.int32)
    rows = rng.standard_normal((count, WIDTH), dtype=np.float32)
    if kind == "classes":
        rows += centres[labels]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows, labels


def make(place: Path, count: int, kind: str) -> dict[str, Any]:
    """Write vectors, labels and pictures to files, piece by piece."""
    from whylens.core.datasets.tensors import encode_images
    from whylens.plugins._near_duplicates import thumbnail

    rng = np.random.default_rng(SEED + 1)
    # A board of black and white, which no question looks like: the smallest JPEG will do.
    board = np.indices((8, 8)).sum(0) % 2 * 255
    picture = np.repeat(board[..., None], 3, 2).astype(np.uint8)
    jpeg, small = encode_images([picture])["jpeg"], thumbnail(picture)
    names = ("vectors", "labels", "jpeg", "tinies")
    streams = [(place / name).open("wb") for name in names]
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        rows, labels = random_gallery(size, kind, rng)
        pieces = (
            rows.astype(np.float16),
            labels,
            np.tile(jpeg, size),
            np.tile(small, (size, 1, 1, 1)),
        )
        for stream, piece in zip(streams, pieces, strict=True):
            piece.tofile(stream)
    for stream in streams:
        stream.close()
    (place / "jpeg_bytes").write_text(str(len(jpeg)))
    return {}


def open_gallery(place: Path, count: int) -> dict[str, np.ndarray]:
    """Return the arrays of a gallery, memory-mapped."""
    labels = np.memmap(place / "labels", np.int32, "r", 0, (count,))
    step = int((place / "jpeg_bytes").read_text())
    return {
        "vectors": np.memmap(place / "vectors", np.float16, "r", 0, (count, WIDTH)),
        "labels": labels,
        "predicted": labels,
        "jpeg": np.memmap(place / "jpeg", np.uint8, "r"),
        "jpeg_ends": step * np.arange(1, count + 1, dtype=np.int64),
        "tinies": np.memmap(place / "tinies", np.uint8, "r", 0, (count, 16, 16, 3)),
    }


def index(place: Path, count: int) -> dict[str, Any]:
    """Make the index from the mapped vectors."""
    from whylens.plugins.twin.index import build_index

    arrays = open_gallery(place, count)
    began = time.perf_counter()
    data = build_index(arrays["vectors"], arrays["labels"])
    seconds = time.perf_counter() - began
    data.tofile(place / "index")
    return {"index_seconds": seconds, "index_bytes": data.nbytes}


def write(place: Path, count: int) -> dict[str, Any]:
    """Write the artifact, as a fit does."""
    setting = json.loads(_setting())
    arrays = {**open_gallery(place, count), "index": np.memmap(place / "index", np.uint8, "r")}
    facts = {
        "data": "synthetic",
        "labels": [f"class {i}" for i in range(CLASSES)],
        "keys": [f"synthetic/{i}" for i in range(count)],
        "splits": ["train"] * count,
    }
    began = time.perf_counter()
    write_artifact(
        place / MODEL / "twin",
        Artifact(arrays, facts),
        method="twin",
        model=MODEL,
        weights=setting["digest"],
        input_spec=InputSpec.model_validate(setting["input_spec"]),
    )
    return {"write_seconds": time.perf_counter() - began}


def _setting() -> str:
    # The network is looked at in another process: torch is not part of what writing takes.
    code = (
        "import json; from whylens.core.models.load import load; b = load('%s');"
        "spec = b.input_spec.model_dump(mode='json');"
        "print(json.dumps({'digest': b.identity.digest, 'input_spec': spec}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code % MODEL], stdout=subprocess.PIPE, text=True, check=True
    )
    return run.stdout.splitlines()[-1]


def query(count: int, kind: str, queries: int) -> dict[str, Any]:
    """Ask the written gallery: the search alone, and the method as the page asks it."""
    from whylens.core.engine import Engine
    from whylens.core.explanation import Question
    from whylens.plugins.twin import search
    from whylens.plugins.twin.cosine_search import cosines, top_positions
    from whylens.plugins.twin.index import search_index

    engine = Engine()
    explainer, backbone = engine.registry.explainer("twin"), engine.backbone(MODEL)
    began = time.perf_counter()
    arrays = engine.artifact_store.get(explainer, backbone, "").arrays
    results: dict[str, Any] = {"open_seconds": time.perf_counter() - began}
    vectors, labels = random_gallery(queries, kind, np.random.default_rng(SEED + 2))
    own, everything = np.asarray(arrays["labels"]), np.ones(count, np.bool_)
    exact_times, index_times = [], []
    shares: dict[str, list[float]] = {"recall": [], "others_recall": []}
    for row, label in zip(vectors, labels, strict=True):
        similarity, seconds = time_of(lambda row=row: cosines(arrays["vectors"], row))
        exact_times.append(seconds)
        for name, allowed in (("recall", None), ("others_recall", own != label)):
            truth = top_positions(similarity, everything if allowed is None else allowed, NEAREST)
            neighbours, seconds = time_of(
                lambda row=row, allowed=allowed: search_index(
                    arrays["index"], row, NEAREST, allowed
                )
            )
            shares[name].append(len(set(truth) & set(neighbours.tolist())) / NEAREST)
            if allowed is None:
                index_times.append(seconds)
    results |= {name: statistics.mean(values) for name, values in shares.items()}
    results |= {
        "exact_seconds": statistics.median(exact_times),
        "index_query_seconds": statistics.median(index_times),
    }
    rng = np.random.default_rng(SEED + 3)

    def explained(**params: Any) -> None:
        pixels = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
        for _ in engine.explain(Question(MODEL, pixels), "twin", {"matches": False, **params}):
            pass

    explained()
    limit = search.EXACT_LIMIT
    for name, weighting, most in (
        ("weighted_explain_seconds", "class-weighted", limit),
        ("plain_explain_seconds", "plain", max(limit, count)),
        ("index_explain_seconds", "plain", 0),  # as for more than a million
    ):
        search.EXACT_LIMIT = most
        times = [time_of(lambda w=weighting: explained(weighting=w))[1] for _ in range(3)]
        results[name] = statistics.median(times)
    search.EXACT_LIMIT = limit
    return results


def time_of(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `work` returns, and the seconds it took."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def main() -> None:
    """Run one stage, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", nargs=2, metavar=("STAGE", "PLACE"), help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--kind", choices=list(KINDS), default="classes")
    parser.add_argument("--queries", type=int, default=QUERIES)
    args = parser.parse_args()
    if args.stage is None:
        print(json.dumps(figures(args.count, args.kind, args.queries), indent=1))
        return
    stage, place = args.stage[0], Path(args.stage[1])
    did = {
        "make": lambda: make(place, args.count, args.kind),
        "index": lambda: index(place, args.count),
        "write": lambda: write(place, args.count),
        "query": lambda: query(args.count, args.kind, args.queries),
    }[stage]()
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    print(json.dumps({**did, f"{stage}_peak_bytes": peak}))


if __name__ == "__main__":
    main()
