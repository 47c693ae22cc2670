"""Processes that work for this one: their start, and their end with it."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from whylens.core.storage.interrupts import interrupts_blocked


def start_process(
    context: Any, target: Callable[..., None], *arguments: Any
) -> tuple[Connection[Any, Any], BaseProcess]:
    """Return the line to a new process, which breaks when the process ends, and the process.

    Args:
        context: Of multiprocessing.
        target: A function of a module; it gets the line's other end after the arguments.
    """
    line, child_end = context.Pipe()
    process = context.Process(target=target, args=(*arguments, child_end), daemon=True)
    # Ctrl-C reaches the whole group; the one who started the processes decides.
    with interrupts_blocked():
        process.start()
    child_end.close()
    return line, process


def end_with_parent() -> None:
    """From now on end this process, wherever its work is, when the one that started it ends."""
    threading.Thread(target=_await_parent, daemon=True).start()


def _await_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
