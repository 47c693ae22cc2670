"""One shard of a run, computed: what it writes depends on the plan and the files, on nothing else.

The same worker serves every way of sharing out the shards.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from whylens.core.batch.listing import FILES, LoadedFile, read_ahead, read_listing
from whylens.core.batch.plan import Plan, batch_versions, method_plan, model_plan, read_plan
from whylens.core.batch.rows import FAILED, FileRow, explain_file, map_bytes, write_rows
from whylens.core.batch.shards import (
    MAPS,
    ShardDone,
    commit,
    manifest_path,
    new_workdir,
    shard_name,
)
from whylens.core.engine import Engine
from whylens.core.errors import BadArtifact, NeedsNotMet
from whylens.core.explanation import Explanation, Question
from whylens.core.inputs.framing import parse_framing
from whylens.core.models.load import load
from whylens.core.outputs.export import explanation_picture, png_bytes
from whylens.core.results import Heatmap

# What is kept of one picture for its next method; more would only fill memory.
MOST_FORWARD_PASS_BYTES = 64_000_000


def engine_for(device: str, batch_size: int) -> Engine:
    """Return an engine whose networks lie on a device.

    Raises:
        NeedsNotMet: There is no such device.
    """
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as exc:
        reason = str(exc).splitlines()[0]
        raise NeedsNotMet(f"The device {device!r} cannot be used here: {reason}") from exc
    return Engine(
        loader=lambda name, progress: load(name, progress=progress, device=device),
        batch_size=batch_size,
        slots=1,
        forward_pass_bytes=MOST_FORWARD_PASS_BYTES,
    )


class Worker:
    """Explains shards of one run, one after another."""

    def __init__(self, folder: Path, out: Path, engine: Engine | None = None) -> None:
        """Load the plan and its network.

        Args:
            engine: By default one of its own, as the plan says.

        Raises:
            BadArtifact: This process has another network, method or version than the plan.
        """
        self.folder, self.out = folder, out
        self.plan = read_plan(out)
        self.digest = self.plan.digest()
        self.engine = engine or engine_for(self.plan.device, self.plan.batch_size)
        _check(self.plan, self.engine)

    def work(self, shard: int, tick: Callable[[], object] = lambda: None) -> ShardDone:
        """Compute a shard, put it in place, and return what became of it.

        Args:
            tick: Called after each file.
        """
        began = time.perf_counter()
        start, stop = self.plan.span(shard)
        paths = read_listing(self.out / FILES, start, stop)
        workdir = new_workdir(self.out, shard)
        rows: list[dict[str, Any]] = []
        times = [began]
        files = read_ahead(self.folder, paths)
        for index, (path, file) in enumerate(zip(paths, files, strict=True), start):
            rows += self._rows(index, path, file, workdir / MAPS, shard)
            times.append(time.perf_counter())
            tick()
        write_rows(workdir / manifest_path(self.out, shard).name, rows, self.digest)
        commit(self.out, shard, workdir)
        return ShardDone(
            shard=shard,
            images=stop - start,
            failed=sum(row["status"] == FAILED for row in rows),
            seconds=time.perf_counter() - began,
            peak_bytes=peak_bytes(),
            file_seconds=tuple(round(end - start, 3) for start, end in pairwise(times)),
        )

    def _rows(
        self, index: int, path: bytes, file: LoadedFile, maps: Path, shard: int
    ) -> list[dict[str, Any]]:
        if file.photo is not None:
            framing = parse_framing(self.plan.framing)
            file = replace(file, photo=replace(file.photo, framing=framing))
        size = None if file.photo is None else file.photo.size
        source = FileRow(
            index=index,
            path=path.decode("utf-8", "backslashreplace"),
            seed=seed_of(path, self.plan.seed),
            sha256=file.sha256,
            size=size,
            notes=() if file.photo is None else file.photo.notes,
        )
        question = Question(
            model=self.plan.model.name,
            target=self.plan.target,
            quantity=self.plan.quantity,
            versus=self.plan.versus,
            seed=source.seed,
        )
        methods = {method.name: method.params for method in self.plan.methods}
        rows = []
        for row, answer in explain_file(
            self.engine, question, methods, source, file, scores=self.plan.scores
        ):
            for column, name, content in [] if answer is None else self._files(source, answer):
                (maps / name).write_bytes(content)
                row[column] = f"{MAPS}/{shard_name(shard)}/{name}"
            rows.append(row)
        return rows

    def _files(self, source: FileRow, answer: Explanation) -> list[tuple[str, str, bytes]]:
        kind, heat = self.plan.maps, answer.result
        if kind == "picture":
            name = f"{source.index:08d}-{source.stem}-{answer.method}.png"
            return [("map", name, png_bytes(explanation_picture(answer)))]
        if not isinstance(heat, Heatmap):
            return []
        stem = f"{source.index:08d}-{answer.method}"
        files = [("map", f"{stem}.{kind}", map_bytes(heat.values, kind))]
        if heat.error is not None:
            files.append(("error_map", f"{stem}-error.{kind}", map_bytes(heat.error, kind)))
        return files


def seed_of(path: bytes, seed: int) -> int:
    """Return a file's own seed, whichever worker asks and whatever other files there are.

    Args:
        path: Relative, as the disk spells it.
    """
    digest = hashlib.sha256(b"%d\0%s" % (seed, path)).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def peak_bytes() -> int | None:
    """Return the largest memory this process has held; None where the system does not say."""
    # Not getrusage: what it says survives the start of another program in the same process, so
    # that every worker would be as large as the one that started it.
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = status.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _check(plan: Plan, engine: Engine) -> None:
    model = plan.model.name
    methods = tuple(method_plan(engine, model, m.name, m.params) for m in plan.methods)
    now = (model_plan(engine, model), methods, batch_versions())
    for planned, actual, what in zip(
        (plan.model, plan.methods, plan.versions),
        now,
        ("network", "methods", "versions"),
        strict=True,
    ):
        if planned != actual:
            raise BadArtifact(
                f"A worker has other {what} than the plan of {plan.files.count:,} files: "
                f"{actual}. Install the same on every machine and start again."
            )
