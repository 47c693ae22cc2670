"""What whoever shares out the shards of a run must know, and what is said back."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from whylens.core.batch.shards import ShardDone

if TYPE_CHECKING:
    from whylens.core.batch.worker import Worker


@dataclass(frozen=True)
class Job:
    """A run that was planned.

    Attributes:
        folder: With the files.
        out: The run's folder.
        threads: Of one worker's arithmetic.
        device: Where its network lies.
    """

    folder: Path
    out: Path
    threads: int
    device: str

    def worker(self) -> Worker:
        """Return a worker for this process, held to the plan's threads."""
        import torch

        from whylens.core.batch.worker import Worker

        torch.set_num_threads(self.threads)
        return Worker(self.folder, self.out)


@dataclass(frozen=True)
class FilesDone:
    """Files were explained whose shard is not finished yet.

    Attributes:
        images: How many.
    """

    images: int


class Runner(Protocol):
    """A way of sharing out shards; all ways write the same bytes."""

    workers: int

    def run(self, job: Job, shards: Iterable[int]) -> Generator[FilesDone | ShardDone]:
        """Yield what is done, as it is done; closing the generator ends the work."""


def thread_variables(threads: int) -> dict[str, str]:
    """Return the environment that holds every library of a new process to so many threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    return dict.fromkeys(names, str(threads)) | {"OMP_WAIT_POLICY": "passive"}


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
