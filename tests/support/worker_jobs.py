"""Work for the tests of working processes; each of these loads this file, so nothing heavy is."""

from __future__ import annotations

import itertools
import os
import sys
import time
from pathlib import Path

import numpy as np

from tests.support.pictures import Colours
from whylens.core.errors import BadInput
from whylens.core.progress import TrainingProgress

HELD = []


def never_made():
    """Hang, in place of making an engine."""
    time.sleep(600)


def forking(line):
    """Fork a process that holds the line as well, say so, and hang with it."""
    if os.fork() == 0:
        line.send("forked")
    time.sleep(600)


def hanging_later(engine):
    """Yield once, and then hang."""
    yield None
    time.sleep(600)


def leaking(engine, count):
    """Yield nothing of use, having put so many bytes where nobody finds them."""
    HELD.append(bytearray(count))
    yield None


def without_memory(engine, error):
    """Raise an error in the way of a library that is short of memory, or of another."""
    try:
        raise error
    except Exception as exc:
        raise BadInput("It failed.") from exc
    yield


def oom_score(engine):
    """Yield what the kernel adds to the size of the process when it looks for one to end."""
    yield int(Path("/proc/self/oom_score_adj").read_text())


def process_id(engine):
    """Yield the number of the process that works."""
    yield os.getpid()


def until_there(engine, path):
    """Yield the number of the process that works, and end once a file is there."""
    yield os.getpid()
    while not path.exists():
        time.sleep(0.01)


def surroundings(engine):
    """Yield what work finds: the folder, variables, where modules are looked for, and settings."""
    yield Path.cwd(), sorted(os.environ), len(sys.path), sys.getrecursionlimit(), np.geterr()


def modules(engine):
    """Yield the names of all that is imported."""
    yield sorted(sys.modules)


def niceness(engine):
    """Yield how far the process gives way to others."""
    yield os.nice(0)


def counting(engine):
    """Yield 0, 1, 2 and so on without end."""
    yield from itertools.count()


def colours(engine, tell):
    """Return a set of pictures to train on, having told how many methods there are."""
    tell(0.5, f"{len(engine.registry.explainers)} methods")
    return Colours()


def refusing(engine, tell):
    """Refuse the pictures."""
    raise BadInput("These pictures do not do.")


def own_process(engine, dataset):
    """Yield one step that says what was trained on, and in which process."""
    yield TrainingProgress(0.5, f"{dataset.name} in {os.getpid()}")
