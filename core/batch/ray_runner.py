"""Shards shared out by Ray Data: actors that hold the network, on this machine or on a cluster.

Folder and output must lie under the same paths on every machine, and each needs the same
installation.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Generator, Iterable
from typing import Any

import numpy as np

from whylens.core.batch.protocol import FilesDone, Job, cores, thread_variables
from whylens.core.batch.shards import ShardDone
from whylens.core.errors import CoreError, NotInstalled, WorkerLost

ADDRESS = "RAY_ADDRESS"  # Ray's own name for the variable that says where a cluster is
_STORE = 100 * 2**20  # bytes of shared memory: nothing but shard numbers travels


class RayActors:
    """Runs shards in actors of Ray."""

    def __init__(self, workers: int | None = None) -> None:
        """Check that Ray is installed; nothing is started yet.

        Args:
            workers: Actors, each with a network of its own; by default as many as there are cores,
                or devices, on this machine or in the cluster that RAY_ADDRESS names.

        Raises:
            NotInstalled: Ray is not there.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before it is imported
        # Ray Data warns of its own actors in the log of its core; what fails is raised anyway.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        try:
            import ray
            import ray.data
        except ImportError as exc:
            raise NotInstalled(
                "The engine ray needs Ray, which is not installed: `pip install '.[ray]'` in the "
                "checkout. On one machine --engine local does the same."
            ) from exc
        self._ray: Any = ray
        self._wanted = workers
        self.workers = workers or cores()

    def run(self, job: Job, shards: Iterable[int]) -> Generator[FilesDone | ShardDone]:
        """Yield what becomes of the shards; closing the generator ends the actors.

        Raises:
            CoreError: An actor cannot do its work, or was lost.
        """
        numbers = list(shards)
        if not numbers:
            return
        ray = self._ray
        own = not ray.is_initialized()
        if own:
            self._start(job)
        try:
            self.workers = min(self._wanted or self._room(job), len(numbers))
            yield from self._events(job, numbers)
        finally:
            if own:
                ray.shutdown()

    def _start(self, job: Job) -> None:
        common: dict[str, Any] = {
            "runtime_env": {"env_vars": thread_variables(job.threads)},
            "log_to_driver": False,
            "logging_level": logging.ERROR,
        }
        if os.environ.get(ADDRESS):
            self._ray.init(address=os.environ[ADDRESS], **common)
            return
        # One machine: nothing listens on any other address, and no other cluster is joined.
        self._ray.init(
            address="local",
            num_cpus=self.workers * job.threads,
            include_dashboard=False,
            object_store_memory=_STORE,
            _node_ip_address="127.0.0.1",
            **common,
        )

    def _room(self, job: Job) -> int:
        available = self._ray.cluster_resources()
        if _on_gpu(job):
            return max(1, int(available.get("GPU", 0)))
        return max(1, int(available.get("CPU", 1)) // job.threads)

    def _events(self, job: Job, numbers: list[int]) -> Generator[ShardDone]:
        ray = self._ray
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        # One block per shard: a shard is told of when it is done, not with its neighbours.
        items = ray.data.from_items(
            [{"shard": number} for number in numbers], override_num_blocks=len(numbers)
        )
        results = items.map_batches(
            _Actor,
            fn_constructor_args=(job,),
            # One shard in work and one waiting: more would all go to the actor that is ready first.
            compute=ray.data.ActorPoolStrategy(size=self.workers, max_tasks_in_flight_per_actor=2),
            batch_size=1,
            num_cpus=job.threads,
            num_gpus=1 if _on_gpu(job) else None,
        )
        try:
            for batch in results.iter_batches(batch_size=1, prefetch_batches=0):
                outcome = pickle.loads(batch["outcomes"][0])  # noqa: S301 - our own actor wrote it
                if isinstance(outcome, CoreError):
                    raise outcome
                yield outcome
        except ray.exceptions.RayError as exc:
            raise WorkerLost(
                f"Ray could not go on: {str(exc).strip().splitlines()[-1]} Finished shards are "
                "kept: run the same command again."
            ) from exc


class _Actor:
    """Lives as long as the run, with the network in memory."""

    def __init__(self, job: Job) -> None:
        self._worker = job.worker()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        outcomes: list[bytes] = []
        for shard in batch["shard"]:
            try:
                outcomes.append(pickle.dumps(self._worker.work(int(shard))))
            except CoreError as exc:  # told as it is, without Ray's wrapping
                outcomes.append(pickle.dumps(exc))
        return {"outcomes": np.array(outcomes, dtype=object)}


def _on_gpu(job: Job) -> bool:
    return job.device.startswith("cuda")
