"""Explainers that harm the process they run in, each in its own way, and an engine with them."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import numpy as np
import torch

from tests.conftest import GapNet, plain_spec, seeded
from whylens.core.engine import Engine
from whylens.core.explainer import Explainer
from whylens.core.models.backbone import wrap
from whylens.core.params import NoParams
from whylens.core.registry import Entry, Registry
from whylens.core.results import Heatmap, Partial


class _Bad(Explainer[NoParams]):
    family, title = "Test", "Bad"
    summary = limits = source = cost = "x"
    needs = frozenset()
    Params = NoParams


class Good(_Bad):
    """Does what it should."""

    name = "good"

    def explain(self, subject, params):
        return Heatmap(np.ones((2, 2), np.float32), "x")


class Stepping(_Bad):
    """Has a first step at once and a second that takes for ever, in Python."""

    name = "stepping"

    def explain(self, subject, params):
        yield Partial(Heatmap(np.ones((2, 2), np.float32), "x"), 0.5)
        while True:
            pass


def _bad(key, work):
    return type(key.title(), (_Bad,), {"name": key, "explain": lambda *_: work()})


def _raise(error):
    raise error


def _fork():
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
    os._exit(1)


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
    "own-class": lambda: _raise(type("Odd", (Exception,), {})("odd")),
    "memory": lambda: torch.empty(40_000_000_000, dtype=torch.uint8).fill_(1),
    "huge-map": lambda: Heatmap(np.zeros((5_000, 5_000), np.float32), "x"),
}
HANGERS = {
    "sleeps": lambda: time.sleep(600),
    "ignores": lambda: (signal.signal(signal.SIGUSR1, signal.SIG_IGN), time.sleep(600)),
}
ALL = {**KILLERS, **RAISERS, **HANGERS}


def bad_registry() -> Registry:
    """Return all of them, and one that is sound."""
    explainers = [Good(), Stepping(), *(_bad(name, work)() for name, work in ALL.items())]
    return Registry({e.name: Entry(e, e.name, "a stranger's", "1") for e in explainers})


def bad_engine() -> Engine:
    """Return an engine with them and a small network; made anew in every process."""

    def load(name, progress):
        return wrap(seeded(GapNet()), spec=plain_spec(32, 48), labels=("ant", "bee", "cat"))

    return Engine(bad_registry(), loader=load)
