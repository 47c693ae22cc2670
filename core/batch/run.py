"""A run over a folder: planned, checked against what was begun, and carried to its end.

Times go into a log of their own.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from whylens.core.batch.folder_rows import write_report
from whylens.core.batch.listing import FILES, Listing, grow_listing, write_listing
from whylens.core.batch.plan import (
    PLAN,
    Plan,
    Request,
    endings_for,
    make_plan,
    plan_differences,
    read_plan,
    write_plan,
)
from whylens.core.batch.protocol import Job, Runner
from whylens.core.batch.rows import FAILED
from whylens.core.batch.shards import (
    LOG,
    WORK,
    ShardDone,
    finished_shards,
    flush,
    manifest_path,
    remove_unfinished,
)
from whylens.core.batch.worker import engine_for, peak_bytes
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, Busy
from whylens.core.progress import ProgressCallback

LOCK = ".lock"
_NEXT, _GROWN = f".{FILES}.next", f".{FILES}.grown"
_MOST_NAMED = 3  # differences that are named


@dataclass(frozen=True)
class FolderProgress:
    """How far a run is.

    Attributes:
        done: Files explained, those of earlier runs included.
        count: Files in all.
        resumed: Files that earlier runs had finished.
        shard: The shard that has just been finished, or None.
    """

    done: int
    count: int
    resumed: int
    shard: int | None = None


@dataclass(frozen=True)
class Summary:
    """What a finished run holds.

    Attributes:
        images: Files.
        rows: One per file and method.
        failed: Rows that hold an error.
        resumed: Files that earlier runs had finished.
        seconds: Time of this run, planning included.
        skipped: Files of other endings, by ending.
    """

    images: int
    rows: int
    failed: int
    resumed: int
    seconds: float
    skipped: Counter[str] = field(default_factory=Counter)


def explain_folder(
    request: Request, runner: Runner, *, progress: ProgressCallback | None = None
) -> Generator[FolderProgress, None, Summary]:
    """Yield how far the run is, and return what it holds; what was finished before is kept.

    Closing the iterator stops the work; the same request goes on from there.

    Args:
        progress: Called with a share done and a sentence while weights are fetched.

    Raises:
        CoreError: Of the kind that says what is wrong: an option, the folder, or another run's
            plan in the same place.
    """
    began = time.perf_counter()
    request.out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(request.out / LOCK, timeout=0):
            engine = engine_for(request.device, request.batch_size)
            card = engine.card(request.model, progress=progress)
            skipped: Counter[str] = Counter()
            plan = _make_or_resume_plan(request, engine, skipped)
            resumed = yield from _run_shards(request, plan, runner, began)
            rows, failed = _count_rows(request.out, plan)
            if request.report:
                explainers = engine.registry.explainers
                titles = {method.name: explainers[method.name].title for method in plan.methods}
                write_report(request.folder, request.out, plan, card, titles)
    except Timeout as exc:
        raise Busy(
            f"Another run is writing into {request.out}. Wait for it, or choose another --out."
        ) from exc
    seconds = time.perf_counter() - began
    return Summary(plan.files.count, rows, failed, resumed, seconds, skipped)


def _make_or_resume_plan(request: Request, engine: Engine, skipped: Counter[str]) -> Plan:
    out, listing = request.out, request.out / _NEXT
    endings = endings_for(engine, request.model)

    def files() -> Listing:
        return write_listing(request.folder, out, endings, listing, skipped=skipped)

    try:
        plan = make_plan(request, engine, files)
        if (out / PLAN).exists():
            before = read_plan(out)
            grown_listing: Listing | None = before.files
            if plan.files != before.files:
                grown_listing = grow_listing(out / FILES, before.files, listing, out / _GROWN)
            unchanged_fields = {} if request.shard_size else {"shard_size": before.shard_size}
            plan = plan.model_copy(
                update={**unchanged_fields, "files": grown_listing or plan.files}
            )
            unchanged = (
                before.model_copy(update={"files": grown_listing}) if grown_listing else before
            )
            changes = plan_differences(unchanged, plan)
            if changes:
                more = f"; {len(changes) - _MOST_NAMED} more" if len(changes) > _MOST_NAMED else ""
                first = "; ".join(changes[:_MOST_NAMED])
                raise BadInput(
                    f"{out} holds a run that was begun otherwise: {first}{more}. "
                    "Go on as it was begun, or choose another --out."
                )
            if grown_listing != before.files:
                flush(out / _GROWN)
                (out / _GROWN).replace(out / FILES)
                write_plan(out, plan)
            return plan
        foreign_names = sorted(
            {path.name for path in out.iterdir()} - {LOCK, FILES, _NEXT, _GROWN, WORK}
        )
        if foreign_names:
            raise BadInput(
                f"{out} holds other things, such as {foreign_names[0]}. Choose another --out."
            )
        flush(listing)
        listing.replace(out / FILES)
        write_plan(out, plan)
        return plan
    finally:
        listing.unlink(missing_ok=True)
        (out / _GROWN).unlink(missing_ok=True)


def _run_shards(
    request: Request, plan: Plan, runner: Runner, began: float
) -> Generator[FolderProgress, None, int]:
    out, count = request.out, plan.files.count
    remove_unfinished(out)
    ready = finished_shards(out)
    images_done = resumed = sum(stop - start for start, stop in map(plan.span, ready))
    step = partial(FolderProgress, count=count, resumed=resumed)
    yield step(images_done)
    job = Job(request.folder, out, plan.threads, plan.device)
    remaining = (shard for shard in range(plan.shards) if shard not in ready)
    ahead = 0  # files that were told of and whose shard is not finished
    with (
        (out / LOG).open("a", encoding="utf-8") as log,
        closing(runner.run(job, remaining)) as work,
    ):
        for event in work:
            shard = None
            if isinstance(event, ShardDone):
                shard = event.shard
                log.write(_line({"at": time.time(), **asdict(event)}))
                log.flush()
                images_done += event.images
                ahead = max(0, ahead - event.images)
            else:
                ahead += event.images
            yield step(images_done + ahead, shard=shard)
        seconds = time.perf_counter() - began
        figures = {"workers": runner.workers, "images": images_done - resumed, "seconds": seconds}
        log.write(_line({**figures, "peak_bytes": peak_bytes()}))
    remove_unfinished(out)
    return resumed


def _line(figures: dict[str, Any]) -> str:
    rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}
    return json.dumps(rounded) + "\n"


def _count_rows(out: Path, plan: Plan) -> tuple[int, int]:
    rows = failed = 0
    for shard in range(plan.shards):
        status = pq.read_table(manifest_path(out, shard), columns=["status"]).column("status")
        rows += len(status)
        failed += int(pc.sum(pc.equal(status, FAILED)).as_py() or 0)
    return rows, failed
