"""Folders at scale: local against Ray, memory, and the cost of a million images per method.

`python -m benchmarks.scale [--images N] [--gallery N] [--write docs/scale.md]` runs the command
line as a user does and reads its log. Give the machine to it alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.scale_page import Cost, Measurements, Run, page
from benchmarks.twin_scale import COUNT, KINDS, figures
from whylens.core.batch.listing import FILES
from whylens.core.batch.protocol import cores
from whylens.core.batch.run import LOCK, LOG
from whylens.core.batch.shards import MANIFEST, MAPS
from whylens.core.engine import Engine
from whylens.core.storage.files import write_atomically

MODEL, METHOD = "painted-cats-breed", "grad-cam"
PHOTOS = Path(__file__).resolve().parents[1] / "examples" / "photos"
_SHIFTS, _SIDE = 64, 256


def photos(place: Path, count: int, sources: Sequence[Path]) -> Path:
    """Return a folder of JPEGs, no two alike: crops of the photos, each shifted otherwise."""
    place.mkdir()
    read = [Image.open(source).convert("RGB").resize((448, 448)) for source in sources]
    for number in range(count):
        turn, which = divmod(number, len(read))
        left, top = turn % _SHIFTS, turn // _SHIFTS % _SHIFTS
        crop = read[which].crop((left, top, left + _SIDE, top + _SIDE))
        crop.save(place / f"{number:06d}.jpg", quality=90)
    return place


def measure(
    folder: Path, out: Path, method: str, *options: str
) -> tuple[Run, list[dict[str, Any]]]:
    """Return the figures of one command and the log of its parts."""
    words = ["explain", str(folder), "--model", MODEL, "--method", method, "--out", str(out)]
    child = subprocess.Popen(
        [sys.executable, "-m", "whylens.ui.cli.app", *words, *options],
        cwd=Path(__file__).resolve().parents[1],
        stdout=subprocess.DEVNULL,
    )
    peak, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.5):
            peak = max(peak, tree_bytes(child.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        child.wait()
    finally:
        ended.set()
        watcher.join()
    if child.returncode:
        raise SystemExit(f"whylens {' '.join(words)} failed")
    *parts, whole = [json.loads(line) for line in (out / LOG).read_text().splitlines()]
    engine = "ray" if "ray" in options else "local"
    run = Run(
        engine=engine,
        images=whole["images"],
        workers=whole["workers"],
        seconds=whole["seconds"],
        steady=steady(parts),
        worker_bytes=max(part["peak_bytes"] for part in parts),
        main_bytes=whole["peak_bytes"],
        tree_bytes=peak,
        bytes_in=sum(path.stat().st_size for path in folder.iterdir()),
        manifest_bytes=bytes_written(out, MANIFEST),
    )
    return run, parts


def bytes_written(out: Path, kind: str) -> int:
    """Return the bytes of a run's maps or of its manifest."""
    return sum(path.stat().st_size for path in (out / kind).rglob("*") if path.is_file())


def steady(parts: Sequence[dict[str, Any]]) -> float:
    """Return images a second from the first finished part on; 0 where there is one part.

    Args:
        parts: Lines of the log, in their order.
    """
    first, *worker_parts = parts
    if not worker_parts:
        return 0.0
    return sum(part["images"] for part in worker_parts) / (worker_parts[-1]["at"] - first["at"])


def tree(out: Path) -> dict[str, bytes]:
    """Return what a run wrote, by path; times and lists of its own left out."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in (LOG, LOCK, FILES)
    }


def tree_bytes(pid: int) -> int:
    """Return the resident memory of a process and all that it started."""
    parents: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            parents[int(entry.name)] = int(fields[1])
            sizes[int(entry.name)] = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    total = 0
    for process in parents:
        above = process
        while above not in (pid, 0, 1) and above in parents:
            above = parents[above]
        total += sizes[process] if above == pid else 0
    return total


def costs(
    place: Path, names: dict[str, str], per_method: int, device: str, workers: int
) -> list[Cost]:
    """Return what every method takes for one image, after one part per worker to warm up.

    Args:
        names: Titles by name.
        per_method: Files per part; four parts per worker.
    """
    folder = photos(place / f"few-{device}", 4 * workers * per_method, _sources())
    method_costs = []
    for name, title in names.items():
        out = place / f"{device}-{name}"
        run, parts = measure(
            folder, out, name,
            "--workers", str(workers), "--shard", str(per_method), "--device", device,
        )  # fmt: skip
        warm = parts[workers:]
        images = sum(part["images"] for part in warm)
        seconds = sum(part["seconds"] for part in warm) / images
        maps = bytes_written(out, MAPS) / run.images
        method_costs.append(Cost(title, images, seconds, workers, maps))
        print(f"{title}: {seconds:.3f} s an image on {device}", file=sys.stderr, flush=True)
    return method_costs


def _sources() -> list[Path]:
    return sorted(PHOTOS.glob("*.jpg"))


def measurements(args: argparse.Namespace) -> Measurements:
    """Return all figures of the page."""
    import torch

    from benchmarks.compare import facts

    before, workers = os.getloadavg()[0], cores()
    engine = Engine()
    unavailable = engine.unavailable(MODEL)
    titles = {name: e.title for name, e in engine.registry.explainers.items()}
    methods = args.methods.split(",") if args.methods else list(titles)
    names = {name: titles[name] for name in methods if name not in unavailable}
    runs, same, fewer, gpu = [], None, None, []
    with tempfile.TemporaryDirectory(prefix="whylens-scale-") as temporary:
        place = Path(temporary)
        folder = photos(place / "photos", args.images, _sources())
        for name in args.engines.split(","):
            run, _ = measure(
                folder, place / name, METHOD, "--engine", name, "--workers", str(workers)
            )
            runs.append(run)
            print(run, file=sys.stderr, flush=True)
        if len(runs) == 2:
            same = tree(place / "local") == tree(place / "ray")
        few = photos(place / "fewer", max(8, args.images // 8), _sources())
        fewer, _ = measure(few, place / "out-fewer", METHOD, "--workers", str(workers))
        method_costs = costs(place, names, args.per_method, "cpu", workers)
        if torch.cuda.is_available():
            gpu = costs(place, names, args.per_method, "cuda", 1)
    galleries = [figures(args.gallery, kind) for kind in KINDS] if args.gallery else []
    return Measurements(
        method=titles[METHOD],
        model=MODEL,
        machine=f"{workers} cores, of which each worker uses one; {facts()}",
        load=(before, os.getloadavg()[0]),
        runs=runs,
        same=same,
        fewer=fewer,
        costs=method_costs,
        refusals={titles[name]: reason for name, reason in unavailable.items()},
        gpu=gpu,
        gpu_name=torch.cuda.get_device_name() if gpu else "",
        galleries=galleries,
    )


def main() -> None:
    """Print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--engines", default="local,ray", help="local, or local,ray")
    parser.add_argument("--per-method", type=int, default=4, help="files per part")
    parser.add_argument("--methods", default="", help="names joined by commas; default: all")
    parser.add_argument("--gallery", type=int, default=COUNT, help="vectors; 0 leaves Twin out")
    args = parser.parse_args()
    text = page(measurements(args))
    if args.write:
        write_atomically(args.write, text.encode())
    else:
        print(text)


if __name__ == "__main__":
    main()
