"""The end of a process of `whylens` or `demo.py`, without taking apart all that was imported.

Python does that last of all, and with torch and Gradio it takes three seconds of the processor: a
container's orchestrator waits for them, and so does whoever has asked one question.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable


def run_and_end(work: Callable[[], object]) -> None:
    """Do what is to be done, and end this process with its exit code as Python would.

    Threads are waited for, what is registered for the end is done, and what was written is flushed.

    Raises:
        SystemExit: Its code is a text, or nobody reads what was written any more: Python says so.
    """
    code = 0
    try:
        work()
    except SystemExit as exc:
        if not isinstance(exc.code, int | None):
            raise
        code = exc.code or 0
    try:
        # As multiprocessing ends its processes.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except (KeyboardInterrupt, OSError, ValueError):
        raise SystemExit(code) from None
    os._exit(code)
