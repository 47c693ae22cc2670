"""Pictures decoded once and kept as bytes, at the size from which training cuts its views."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
from PIL import Image

from whylens.core.datasets.dataset import Dataset, Pixels
from whylens.core.inputs.spec import InputSpec
from whylens.core.inputs.view import model_view, view_of
from whylens.core.storage.interrupts import interrupts_blocked

_CHUNK = 64
_LONG = 40.0  # seconds of decoding from which other processes, which take seconds to start, pay


@dataclass(frozen=True, slots=True)
class Frames:
    """Pictures of one shape, in memory or read whenever they are asked for.

    Attributes:
        dataset: Where they come from.
        indices: Their positions in it.
        input_spec: How each was cut to shape.
        cached: (N, H, W, 3) uint8, or None where they do not fit into memory.
    """

    dataset: Dataset
    indices: tuple[int, ...]
    input_spec: InputSpec
    cached: Pixels | None

    def batch(self, places: Sequence[int]) -> Pixels:
        """Return (B, H, W, 3) uint8.

        Args:
            places: Positions in `indices`.
        """
        if self.cached is not None:
            return self.cached[np.asarray(places, dtype=np.int64)]
        return load_batch(self.dataset, [self.indices[place] for place in places], self.input_spec)


def resize(pixels: Pixels, input_spec: InputSpec) -> Pixels:
    """Return (h, w, 3) uint8: a picture as a network of this input_spec sees it.

    Args:
        pixels: (H, W, 3) uint8.
    """
    size = (pixels.shape[1], pixels.shape[0])
    return model_view(Image.fromarray(pixels), view_of(size, input_spec), input_spec)


def load_batch(dataset: Dataset, indices: Sequence[int], input_spec: InputSpec) -> Pixels:
    """Return (N, H, W, 3) uint8: pictures of a set, cut to one shape."""
    return np.stack([resize(dataset.pixels(index), input_spec) for index in indices])


def cache_spec(dataset: Dataset, indices: Sequence[int], input_spec: InputSpec) -> InputSpec:
    """Return the shape in which training pictures are kept.

    Small square pictures of one size are kept as they are; larger ones are cut to the square
    whose middle the network would see, so that views can be shifted within it.
    """
    some = [indices[i] for i in np.linspace(0, len(indices) - 1, 12).astype(int)]
    shapes = {dataset.pixels(index).shape[:2] for index in set(some)}
    whole = _whole(input_spec)
    if len(shapes) == 1:
        ((height, width),) = shapes
        if height <= whole[0] and width <= whole[1]:
            whole = (height, width)
    return input_spec.model_copy(update={"size": whole, "crop": 1.0})


def visible_detail(cached: InputSpec, input_spec: InputSpec) -> int | None:
    """Return how many pixels of a picture's shorter side the network sees, or None if all it could.

    Args:
        cached: Made by `cache_spec`.
    """
    side = min(cached.size)
    return round(side * input_spec.crop) if side < min(_whole(input_spec)) else None


def _whole(input_spec: InputSpec) -> tuple[int, ...]:
    # The frame whose middle the network sees.
    return tuple(int(np.floor(n / input_spec.crop)) for n in input_spec.size)


def cache_images(
    dataset: Dataset, indices: tuple[int, ...], input_spec: InputSpec, *, budget: int
) -> Generator[float, None, Frames]:
    """Yield the share done and return the frames."""
    need = len(indices) * input_spec.size[0] * input_spec.size[1] * 3
    if need > budget or not indices:
        return Frames(dataset, indices, input_spec, None)
    cached = np.empty((len(indices), *input_spec.size, 3), dtype=np.uint8)
    started = time.monotonic()
    first_count = min(8, len(indices))
    cached[:first_count] = load_batch(dataset, indices[:first_count], input_spec)
    expected = (time.monotonic() - started) / first_count * len(indices)
    workers = min(8, os.cpu_count() or 1)
    # A process that works for a page may start no others.
    if expected > _LONG and workers > 1 and not multiprocessing.current_process().daemon:
        try:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(workers, mp_context=context) as pool:
                yield from _fill_cache(pool, cached, first_count, dataset, indices, input_spec)
            return Frames(dataset, indices, input_spec, cached)
        except BrokenProcessPool:
            pass  # a script without a main guard cannot be started again; threads always can
    with ThreadPoolExecutor(workers) as pool:
        yield from _fill_cache(pool, cached, first_count, dataset, indices, input_spec)
    return Frames(dataset, indices, input_spec, cached)


def _fill_cache(
    pool: Executor,
    cached: Pixels,
    first_count: int,
    dataset: Dataset,
    indices: tuple[int, ...],
    input_spec: InputSpec,
) -> Generator[float, None, None]:
    starts = range(first_count, len(indices), _CHUNK)
    with interrupts_blocked():  # processes start as work comes in; Ctrl-C is for this one
        jobs = [
            pool.submit(load_batch, dataset, indices[start : start + _CHUNK], input_spec)
            for start in starts
        ]
    try:
        for start, job in zip(starts, jobs, strict=True):
            part = job.result()
            cached[start : start + len(part)] = part
            yield (start + len(part)) / len(indices)
    finally:
        for job in jobs:
            job.cancel()
