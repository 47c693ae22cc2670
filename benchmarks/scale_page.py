"""The page docs/scale.md, made from figures: what was measured, and what is computed from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.table import markdown

MILLION, NODES = 1_000_000, 64
START = 300  # seconds that starting a cluster and loading weights may take; an assumption


@dataclass(frozen=True)
class Run:
    """One run over a folder, as a user starts it.

    Attributes:
        engine: "local" or "ray".
        images: Files.
        workers: Processes or actors.
        seconds: From the command to its end, loading included.
        steady: Images a second, after the first part was finished.
        worker_bytes: Largest memory of one worker.
        main_bytes: Largest memory of the process that shares out.
        tree_bytes: Largest sum over all processes of the run, shared pages counted in each.
        bytes_in: Of the files read.
        manifest_bytes: Of the manifest written.
    """

    engine: str
    images: int
    workers: int
    seconds: float
    steady: float
    worker_bytes: int
    main_bytes: int
    tree_bytes: int
    bytes_in: int
    manifest_bytes: int


@dataclass(frozen=True)
class Cost:
    """What one method takes.

    Attributes:
        title: The method's.
        images: On how many files it was measured.
        seconds: Of one worker for one image, reading and writing included.
        workers: Workers that ran side by side.
        map_bytes: Of maps, written for one image.
    """

    title: str
    images: int
    seconds: float
    workers: int
    map_bytes: float

    @property
    def hours(self) -> float:
        """Hours for a million images on the machine it was measured on."""
        return MILLION * self.seconds / self.workers / 3600


@dataclass(frozen=True)
class Measurements:
    """All figures of the page.

    Attributes:
        method: Title of the method of the runs.
        model: Name of the network.
        machine: The machine in words.
        load: Load average before and after.
        runs: Local and ray, on the same files.
        same: Whether they wrote the same bytes; None where only one ran.
        fewer: A local run on fewer files.
        costs: Per method, on the processor.
        refusals: Methods that this network has no use for, with the reason.
        gpu: Per method on a GPU; empty where there was none.
        gpu_name: Its name.
        galleries: Figures of `benchmarks.twin_scale`.
    """

    method: str
    model: str
    machine: str
    load: tuple[float, float]
    runs: Sequence[Run]
    same: bool | None
    fewer: Run | None
    costs: Sequence[Cost]
    refusals: Mapping[str, str]
    gpu: Sequence[Cost]
    gpu_name: str
    galleries: Sequence[Mapping[str, Any]]


def page(data: Measurements) -> str:
    """Return docs/scale.md."""
    parts = [
        _opening(data),
        _engines(data),
        _memory(data),
        _costs(data),
        _nodes(data),
        _galleries(data.galleries),
        "---\n\nThis page is written by `python -m benchmarks.scale --write docs/scale.md`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(data: Measurements) -> str:
    return (
        "# Scale\n\n"
        "What it costs to explain a folder of a million pictures. What is measured was measured in "
        "one run, and what is computed says so.\n\n"
        f"Machine: {data.machine}. The load average was {data.load[0]:.1f} at the start and "
        f"{data.load[1]:.1f} at the end. Network: `{data.model}`. Files: crops of the photos in "
        "`examples/photos`, no two alike, saved as JPEG."
    )


def _engines(data: Measurements) -> str:
    if not data.runs:
        return ""
    rows = [
        [
            run.engine,
            str(run.workers),
            f"{run.seconds:.0f} s",
            f"{run.images / run.seconds:.1f}",
            f"{run.steady:.1f}",
            _size(run.worker_bytes),
            _size(run.tree_bytes),
        ]
        for run in data.runs
    ]
    headings = (
        "Engine", "Workers", "Whole command", "Images a second", "... once it runs",
        "Peak of a worker", "Peak of all processes",
    )  # fmt: skip
    text = (
        f"## One machine: local or Ray\n\n{data.method} on {data.runs[0].images:,} files, the "
        "same for both. The whole command includes starting Python and Ray, loading the network "
        "and listing the files; the figure after it counts from the first finished part on. The "
        "peak of all processes is sampled twice a second and counts pages that processes share "
        f"in each of them.\n\n{markdown(headings, rows)}"
    )
    if data.same is not None:
        text += (
            "\n\nBoth wrote the same files, byte for byte."
            if data.same
            else "\n\n**The two did not write the same bytes.**"
        )
    if len(data.runs) == 2:
        local, ray = data.runs
        text += (
            f" For the whole command Ray took {ray.seconds / local.seconds:.2f} times as long; "
            f"once running it did {ray.steady:.1f} images a second, local {local.steady:.1f}."
        )
        if ray.seconds > local.seconds:
            text += " On one machine use local; Ray is for several."
    return text


def _memory(data: Measurements) -> str:
    if not data.runs or data.fewer is None:
        return ""
    few, many = data.fewer, data.runs[0]
    rows = [
        [f"{run.images:,}", _size(run.worker_bytes), _size(run.main_bytes)] for run in (few, many)
    ]
    return (
        "## Memory\n\nThe list of files lies on disk, a worker holds two files ahead, and a part's "
        "rows go to disk with it: memory does not grow with the number of files. While files are "
        "listed, the names of one folder are sorted in memory. Engine local:\n\n"
        + markdown(("Files", "Peak of a worker", "Peak of the command itself"), rows)
    )


def _costs(data: Measurements) -> str:
    if not data.costs:
        return ""
    gpu = {cost.title: cost for cost in data.gpu}
    headings = ["Method", "Files", "One image, one worker", "A million images here", "Maps"]
    if gpu:
        headings.append(f"A million images on {data.gpu_name}")
    rows = []
    for cost in sorted(data.costs, key=lambda c: c.seconds):
        row = [
            cost.title,
            str(cost.images),
            _time(cost.seconds),
            _hours(cost.hours),
            _size(MILLION * cost.map_bytes),
        ]
        if gpu:
            row.append(_hours(gpu[cost.title].hours) if cost.title in gpu else "-")
        rows.append(row)
    workers = data.costs[0].workers
    text = (
        f"## Cost of a million images\n\nEach method alone, with its defaults, by {workers} "
        f"workers of one thread on {workers} cores: reading, explaining and writing, after one "
        "part to warm up. A million is computed: 1,000,000 x seconds of one image / workers. "
        "Several methods in one run share the reading and the forward pass. Another network costs "
        "in proportion to its forward pass; what each method takes in forward passes is in "
        f"[methods.md](methods.md).\n\n{markdown(headings, rows)}"
    )
    if not gpu:
        text += (
            "\n\nNo GPU was measured: there was none. `--device cuda` runs the same code on one, "
            "and the same command then adds a column."
        )
    if data.refusals:
        reasons = "\n".join(f"- {title}: {reason}" for title, reason in data.refusals.items())
        text += f"\n\nNot on this network:\n\n{reasons}"
    return text


def seconds_on(nodes: int, images: int, cost: Cost) -> float:
    """Return how long so many nodes of the measured kind would take."""
    return START + images * cost.seconds / (nodes * cost.workers)


def _nodes(data: Measurements) -> str:
    if not data.runs or not data.costs:
        return ""
    run, size = data.runs[-1], 100 * MILLION
    per_file_in = run.bytes_in / run.images
    cheap = sorted(data.costs, key=lambda c: c.seconds)
    examples = dict.fromkeys((cheap[0], cheap[len(cheap) // 2], cheap[-1]))
    rows = []
    for cost in examples:
        seconds = seconds_on(NODES, size, cost)
        rate = size / (seconds - START)
        bytes_per_image = cost.map_bytes + run.manifest_bytes / run.images
        rows.append(
            [
                cost.title,
                _hours(seconds / 3600),
                f"{_size(rate * per_file_in)}/s",
                f"{_size(rate * bytes_per_image)}/s",
                _size(size * bytes_per_image),
            ]
        )
    parts = math.ceil(size / 256)
    headings = ("Method", "Time", "Read by all", "Written by all", "Output")
    return (
        f"## What {NODES} nodes need\n\nComputed, not measured: {NODES} machines like this one, "
        f"100 million files of {_size(per_file_in)}. Parts are independent, so time = "
        f"{START} s to start + files x seconds of one image / ({NODES} x workers of a node); "
        "rates are files a second x bytes of a file. The cheapest, the middle and the dearest "
        f"method:\n\n{markdown(headings, rows)}\n\n"
        "- the same installation on every node, and the folder, the output and the checkpoints "
        "under the same paths: a shared file system that sustains the rates above. Every node "
        "checks versions, weights and methods against the plan before it works;\n"
        f"- a Ray cluster, its address in RAY_ADDRESS: `RAY_ADDRESS=... whylens explain FOLDER "
        "--engine ray --out DIR`. Actors are as many as there are cores, or GPUs with `--device "
        "cuda`;\n"
        f"- on each node {_size(run.worker_bytes)} per worker, here {run.workers}, and Ray's own "
        f"share: {_size(max(0, run.tree_bytes - run.workers * run.worker_bytes))} here, the "
        "command itself included;\n"
        f"- {parts:,} parts of 256 files, each written once: one Parquet file and one folder of "
        "maps, so that no folder grows large but `manifest/` and `maps/` themselves;\n"
        "- processors of one kind: another kind may round differently in the last place. What is "
        "resumed on the same kind is the same to the byte."
    )


def _galleries(galleries: Sequence[Mapping[str, Any]]) -> str:
    if not galleries:
        return ""
    from benchmarks.twin_scale import KINDS

    text = [
        "## Twin: a large gallery\n\nSynthetic unit vectors of "
        f"{galleries[0]['width']} channels in float16, written as a gallery with labels, thumbnails"
        " and index, and asked from the disk. Recall is the share of the true ten nearest that the "
        "index finds, among all and among those with another label. Up to a million pictures Twin "
        "searches exactly; beyond, its plain weighting asks the index. A whole answer is one of "
        "Twin's on a new photo with ResNet-18, forward pass included; the last line lowers that "
        "limit to see the index at work. Each table is a run of its own: "
        "`python -m benchmarks.twin_scale --kind KIND`."
    ]
    for entry in galleries:
        indexing = _size(entry["index_peak_bytes"])
        rows = [
            ["Making the index", f"{entry['index_seconds']:.0f} s", indexing],
            ["Writing the gallery", f"{entry['write_seconds']:.0f} s",
             _size(entry["write_peak_bytes"])],
            ["Opening it, its sha256 checked", f"{entry['open_seconds']:.1f} s",
             _size(entry["query_peak_bytes"])],
            ["Exact search, memory-mapped", f"{entry['exact_seconds']:.2f} s", "the same process"],
            ["Search by the index", f"{entry['index_query_seconds']:.3f} s", "the same process"],
            ["A whole answer, class-weighted", f"{entry['weighted_explain_seconds']:.2f} s",
             "the same process"],
            ["A whole answer, plain", f"{entry['plain_explain_seconds']:.2f} s",
             "the same process"],
            ["A whole answer, plain, by the index", f"{entry['index_explain_seconds']:.2f} s",
             "the same process"],
        ]  # fmt: skip
        text.append(
            f"{entry['count']:,} vectors; {KINDS[entry['kind']]}. Recall at 10: "
            f"**{entry['recall']:.3f}** of all, {entry['others_recall']:.3f} of those with another "
            f"label, over {entry['queries']} questions. The index has "
            f"{_size(entry['index_bytes'])}.\n\n"
            + markdown(("Step", "Time", "Peak memory of its process"), rows)
        )
    return "\n\n".join(text)


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB" if count < 1000 else f"{count:,.0f} TB"


def _time(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:,.1f} days"
