"""Strangers' plugins are loaded in a process of their own first: one that ends it is left out."""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import signal
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from whylens.core.hookspecs import PROJECT
from whylens.core.registry import PluginSource, all_entry_points, load_registry
from whylens.core.storage.child_processes import kill_process, start_process
from whylens.core.workers.process import (
    SECONDS_TO_CLOSE,
    SECONDS_TO_DIE,
    ending_of,
    process_context,
)

SECONDS_TO_LOAD = 60.0


def harmful_plugins(
    sources: Iterable[PluginSource] | None = None, *, seconds: float = SECONDS_TO_LOAD
) -> dict[str, str]:
    """Return the entry points whose loading ends a process or does not end, each with its reason.

    What merely raises is not among them: that is a Problem of the registry.

    Args:
        sources: Entry points; by default all strangers' that are installed.
        seconds: How long one may take.
    """
    if sources is None:
        sources = [item for item in all_entry_points() if item.distribution != PROJECT]
    untried, harmful = list(sources), dict[str, str]()
    while untried:
        count, reason = _try(untried, seconds)
        if reason:
            harmful[untried[count].point.name] = reason
            count += 1
        untried = untried[count:]
    return harmful


def _try(sources: Sequence[PluginSource], seconds: float) -> tuple[int, str]:
    """Return how many loaded, and what became of the one after them; "" if there was none."""
    line, process = start_process(process_context(), _load_each, list(sources), own_group=True)
    loaded_count = 0
    try:
        while loaded_count < len(sources):
            ready = multiprocessing.connection.wait([line, process.sentinel], seconds)
            if not ready:
                return loaded_count, f"It took longer than {seconds:.0f} s to load."
            if line not in ready:
                break
            try:
                line.recv()
            except (EOFError, OSError):
                break
            loaded_count += 1
        if loaded_count == len(sources):
            return loaded_count, ""
        process.join(SECONDS_TO_CLOSE)
        return loaded_count, f"The process that loaded it {ending_of(process.exitcode)}."
    finally:
        kill_process(process)
        process.join(SECONDS_TO_DIE)
        line.close()


def _load_each(sources: Sequence[PluginSource], line: Connection[Any, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for source in sources:
        # Whatever is raised is raised again, and told, where it is loaded for good.
        with contextlib.suppress(BaseException):
            load_registry([source], strict=False)
        line.send(None)
