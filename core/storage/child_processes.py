"""Processes that work for this one: their start, and their end with it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from whylens.core.storage.interrupts import interrupts_blocked


def start_process(
    context: Any, target: Callable[..., None], *arguments: Any, own_group: bool = False
) -> tuple[Connection[Any, Any], BaseProcess]:
    """Return the line to a new process, which breaks when the process ends, and the process.

    It ends when this process does, however that ends, and wherever its own work is.

    Args:
        context: Of multiprocessing.
        target: A function of a module; it gets the line's other end after the arguments.
        own_group: Whether what it starts ends with it.
    """
    line, child_end = context.Pipe()
    process = context.Process(
        target=_begin, args=(own_group, target, *arguments, child_end), daemon=True
    )
    # Ctrl-C reaches the whole group; the one who started the processes decides.
    with interrupts_blocked():
        try:
            process.start()
        except FileNotFoundError:
            if context.get_start_method() != "forkserver":
                raise
            _fork_from_another()
            process.start()
    child_end.close()
    # At the end of this process multiprocessing only asks, and waits for ever for one that does not
    # listen; this comes before that, but not once the process object is gone.
    Finalize(process, _kill_running, (weakref.ref(process),), exitpriority=100)
    return line, process


def _fork_from_another() -> None:
    """Put another in place of the process that all others are forked from: it cannot be reached.

    Its socket lay in the folder for temporary files, and somebody removed that. What was forked
    from it is lost to whoever works with it.
    """
    from multiprocessing import forkserver, util  # which not every system has

    Path(util.get_temp_dir()).mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):  # the socket, which is to be removed
        forkserver._forkserver._stop()  # type: ignore[attr-defined]


def kill_process(process: BaseProcess) -> None:
    """End a process at once, with all that it started where it has a group of its own."""
    if process.pid is not None and hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _kill_running(reference: weakref.ref[BaseProcess]) -> None:
    process = reference()
    if process is not None and process.is_alive():
        kill_process(process)


def _begin(own_group: bool, target: Callable[..., None], *arguments: Any) -> None:
    if own_group and hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, args=(own_group,), daemon=True).start()
    target(*arguments)


def _end_with_parent(own_group: bool) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        if own_group and hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)
        os._exit(1)
