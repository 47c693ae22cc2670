"""Lets the process of which all working processes are forks end at once; only that one imports it.

At its end Python would take apart all that was imported, which takes seconds with torch on a busy
machine. That process has nothing to put away, and the page that it served is gone by then.
"""

from __future__ import annotations

import atexit
import os
import sys


def _end_at_once(forker: int) -> None:
    if os.getpid() == forker:  # its forks inherit what is registered
        os._exit(0)


if any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    atexit.register(_end_at_once, os.getpid())
