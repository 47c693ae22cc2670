"""Ctrl-C, restored where a shell has turned it off; for `whylens` and `demo.py`."""

from __future__ import annotations

import signal


def restore_interrupt() -> None:
    """Make SIGINT raise KeyboardInterrupt if this process was started with it ignored.

    A shell starts what it puts into the background that way, and children inherit it; `kill -INT`
    would then reach nobody.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
