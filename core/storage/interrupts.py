"""Ctrl-C, left to the process that decides: a terminal sends it to the whole group.

Workers and downloads would end with tracebacks of their own, before what they do is put away.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType


@contextmanager
def noted_interrupts(numbers: list[int]) -> Iterator[None]:
    """Note SIGINT while the block runs, and let it do what it does; elsewhere than here not at all.

    Args:
        numbers: Gets the signal's number each time.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        numbers.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block SIGINT in this thread: processes started within never get it, from their first moment.

    One that reaches this thread meanwhile is delivered afterwards. On Windows nothing is blocked.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it within would end the block (CPython 3.11, 3.12)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
