"""What the process of which all working processes are forks imports; only that one imports it.

It ends at once: Python would take apart all that was imported, which takes seconds with torch on a
busy machine. That process has nothing to put away, and the page that it served is gone by then.
"""

from __future__ import annotations

import atexit
import os
import sys

from whylens.core.storage.garbage import permanent_objects

with permanent_objects():
    import timm  # noqa: F401
    import torchvision  # noqa: F401

    import whylens.core.engine
    import whylens.core.workers.process  # noqa: F401


def _end_at_once(forker: int) -> None:
    if os.getpid() == forker:  # its forks inherit what is registered
        os._exit(0)


# What is registered last is done first.
if any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    atexit.register(_end_at_once, os.getpid())
