"""A benchmark of methods on inputs in which the place of the evidence is known.

Every input and method gives a row, which is in a file as soon as its input is done: a run that was
stopped goes on after its last row. Several processes write the same file as one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from whylens.core.batch.process_runner import run_in_processes
from whylens.core.bench.measure import rows_of
from whylens.core.bench.plan import Bench, BenchPlan, Sight
from whylens.core.bench.rows import ROWS, Row, read_rows, row_line
from whylens.core.bench.summary import BenchSummary, summary_of
from whylens.core.errors import Busy, quote

if TYPE_CHECKING:
    from whylens.core.engine import Engine

LOCK = "bench.lock"
Pairs = tuple[tuple[str, str], ...]


def run_bench(
    engine: Engine, bench: Bench, out: Path, *, processes: int = 1
) -> Generator[float, None, BenchSummary]:
    """Yield the share done, first that of an earlier run, and return the summary.

    Rows hold no time, so that a run that was stopped ends with the same file as one that was not.

    Args:
        out: An existing folder; the rows lie in `ROWS`.
        processes: More than one load the network and the registered methods each for themselves.

    Raises:
        CoreError: Of the kind that says what is wrong. What is wrong with one method is in its row.
    """
    try:
        with FileLock(out / LOCK, timeout=0):
            return (yield from _run(BenchPlan(engine, bench), out / ROWS, processes))
    except Timeout as exc:
        raise Busy(
            f"Another benchmark is writing into {quote(str(out))}. Wait for it, or choose another "
            "--out."
        ) from exc


def _run(plan: BenchPlan, path: Path, processes: int) -> Generator[float, None, BenchSummary]:
    rows = read_rows(path, plan.head())
    finished_keys = {(row["picture"], row["method"], row["owner"]) for row in rows}
    every = [
        (sight, plan.dataset.items[sight.index].key, plan.pairs(sight)) for sight in plan.sights
    ]
    missing = {
        number: tuple(pair for pair in pairs if (key, *pair) not in finished_keys)
        for number, (_, key, pairs) in enumerate(every)
    }
    missing = {number: pairs for number, pairs in missing.items() if pairs}
    total = sum(len(pairs) for _, _, pairs in every)
    count = total - sum(map(len, missing.values()))
    yield count / total
    work = (
        _in_processes(plan, missing, processes)
        if processes > 1
        else _in_this_process(plan, missing)
    )
    with path.open("ab") as stream:
        try:
            for batch in work:
                for row in batch:
                    rows.append(row)
                    stream.write(row_line(row))
                stream.flush()
                count += len(batch)
                yield count / total
        finally:
            work.close()
            os.fsync(stream.fileno())
    return summary_of(plan, rows)


def _in_this_process(plan: BenchPlan, missing: dict[int, Pairs]) -> Generator[list[Row]]:
    for number, pairs in missing.items():
        for row in rows_of(plan, plan.sights[number], pairs):
            yield [row]


def _in_processes(
    plan: BenchPlan, missing: dict[int, Pairs], processes: int
) -> Generator[list[Row]]:
    """Yield the rows of one input after another, in the order of the plan."""
    early_rows: dict[int, list[Row]] = {}
    order = iter(missing)
    next_number = next(order, None)
    job = BenchJob(plan.bench, plan.sights, missing)
    for event in run_in_processes(job, missing, processes):
        early_rows[event.number] = event.rows
        while next_number in early_rows:
            yield early_rows.pop(next_number)
            next_number = next(order, None)


@dataclass(frozen=True)
class InputDone:
    """All rows of an input.

    Attributes:
        number: Position among the plan's inputs.
    """

    number: int
    rows: list[Row]


@dataclass(frozen=True)
class BenchJob:
    """A benchmark as a process of its own works on it.

    Attributes:
        sights: The plan's inputs.
        missing: Methods that have yet to see an input, by its position.
        threads: Of one process's arithmetic.
    """

    bench: Bench
    sights: tuple[Sight, ...]
    missing: dict[int, Pairs]
    threads: int = 1

    def worker(self) -> BenchWorker:
        """Return what measures inputs in this process."""
        import torch

        from whylens.core.engine import Engine

        torch.set_num_threads(self.threads)
        return BenchWorker(BenchPlan(Engine(), self.bench, self.sights), self.missing)


class BenchWorker:
    """Measures one input after another."""

    def __init__(self, plan: BenchPlan, missing: dict[int, Pairs]) -> None:
        """Take what is to be done."""
        self._plan, self._missing = plan, missing

    def work(self, number: int, tick: Callable[[], None], /) -> InputDone:  # noqa: ARG002
        """Return the rows of an input."""
        rows = rows_of(self._plan, self._plan.sights[number], self._missing[number])
        return InputDone(number, list(rows))
