"""Explainers that harm the process they run in, each in its own way, and an engine with them."""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from whylens.core.conformance.toy_networks import patches
from whylens.core.engine import Engine
from whylens.core.explainer import Explainer
from whylens.core.params import NoParams
from whylens.core.registry import Entry, Registry
from whylens.core.results import Example, Examples, Heatmap, Partial
from whylens.plugins.saliency import Saliency


class _Bad(Explainer[NoParams]):
    family, title = "Test", "Bad"
    summary = limits = source = cost = "x"
    needs = frozenset()
    Params = NoParams


def good_map():
    """Return a map that is nobody's harm."""
    return Heatmap(np.ones((2, 2), np.float32), "x")


def _step():
    yield Partial(good_map(), 0.5)
    while True:  # in Python, where it can be broken off
        pass


def _endless():
    while True:
        yield Partial(good_map(), 0.5)


def _huge_example():
    return Example(np.zeros((6_000, 6_200, 3), np.uint8), "x", 1.0)


def explainer_of(key, work):
    """Return an explainer of that name which answers what `work` returns, or yields."""

    def answer(*_):
        return work()

    def steps(*_):
        yield from work()

    explain = steps if inspect.isgeneratorfunction(work) else answer
    return type(key.title(), (_Bad,), {"name": key, "explain": explain})()


def _raise(error):
    raise error


def _fork():
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
    os._exit(1)


def _hold_the_interpreter():
    libc, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
    for _ in range(2):  # the second never returns, and no other line of Python runs meanwhile
        libc.pthread_mutex_lock(mutex)


def _recurse():
    return _recurse()


def _after(change):
    """Return the answer of one that changes its process and then answers as if nothing were."""
    change()
    return good_map()


def _leave_no_folder():
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    Path(folder).rmdir()


def _change_settings():
    os.environ.clear()
    sys.path.clear()
    sys.setrecursionlimit(80)
    np.seterr(all="raise")


def _busy_thread():
    threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=False).start()


def _naps():
    for number in range(3):
        time.sleep(0.1)
        yield Partial(good_map(), (number + 1) / 3)


KILLERS = {
    "exits": lambda: os._exit(3),
    "segfaults": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "aborts": os.abort,
    "closes": lambda: os.closerange(3, 4096),
    "forks": _fork,
}
RAISERS = {
    "system-exit": lambda: _raise(SystemExit(2)),
    "interrupt": lambda: _raise(KeyboardInterrupt()),
    "generator-exit": lambda: _raise(GeneratorExit()),
    "cancelled": lambda: _raise(asyncio.CancelledError()),
    "recurses": _recurse,
    "own-class": lambda: _raise(type("Odd", (Exception,), {})("odd")),
    "memory": lambda: torch.empty(40_000_000_000, dtype=torch.uint8).fill_(1),
    "huge-error": lambda: _raise(ValueError("e" * 110_000_000)),
    "odd-error": lambda: _raise(type("Odd", (Exception,), {"__str__": lambda _: 1 / 0})()),
    "huge-map": lambda: Heatmap(np.zeros((5_000, 5_000), np.float32), "x"),
}
HANGERS = {
    "sleeps": lambda: time.sleep(600),
    "ignores": lambda: (signal.signal(signal.SIGUSR1, signal.SIG_IGN), time.sleep(600)),
    "endless": _endless,
    "holds": _hold_the_interpreter,
}
# What they change is there for whoever is answered next by the same process.
CHANGERS = {
    "no-gradients": lambda: _after(lambda: torch.set_grad_enabled(False)),
    "other-dtype": lambda: _after(lambda: torch.set_default_dtype(torch.float64)),
    "other-folder": lambda: _after(lambda: os.chdir("/")),
    "no-folder": lambda: _after(_leave_no_folder),
    "settings": lambda: _after(_change_settings),
    "deterministic": lambda: _after(lambda: torch.use_deterministic_algorithms(True)),
    "busy-thread": lambda: _after(_busy_thread),
}
# More than may cross from one process into another.
TOO_LARGE = {
    "huge-example": lambda: Examples((_huge_example(),), "x"),
    "huge-note": lambda: Heatmap(np.ones((2, 2), np.float32), "x", note="n" * 110_000_000),
}
ALL = {**KILLERS, **RAISERS, **HANGERS, **TOO_LARGE}
_BAD = ALL | CHANGERS


def bad_registry(names: Collection[str] = tuple(_BAD)) -> Registry:
    """Return bad ones, three that are sound, and one that has a first step and no second."""
    bad = {name: _BAD[name] for name in names}
    works = {"good": good_map, "naps": _naps, "stepping": _step, **bad}
    explainers = [Saliency(), *(explainer_of(name, work) for name, work in works.items())]
    return Registry({e.name: Entry(e, e.name, "a stranger's", "1") for e in explainers})


def bad_engine(names: Collection[str] = tuple(_BAD)) -> Engine:
    """Return an engine with them and a small network; made anew in every process."""
    return Engine(bad_registry(names), loader=lambda *_: patches())
