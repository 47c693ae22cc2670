"""Explainers that harm their process before they explain, and engines with them."""

from __future__ import annotations

import time

from benchmarks.bad_plugins import ALL, explainer_of, good_map
from whylens.core.conformance.toy_networks import patches
from whylens.core.engine import Engine
from whylens.core.registry import Entry, Registry

UNREADY = ("exits", "system-exit", "interrupt", "cancelled")


def unready_registry() -> Registry:
    """Return explainers that do harm once it is asked whether they can be used, and sound ones."""
    explainers = [explainer_of("good", good_map)]
    for name in UNREADY:
        for question in ("why_not", "familiarity"):
            explainer = explainer_of(f"{name}-{question}", good_map)
            setattr(type(explainer), question, lambda *_, work=ALL[name]: work())
            explainers.append(explainer)
    knowing = explainer_of("knowing", good_map)
    type(knowing).familiarity = lambda *_: 0.5
    explainers.append(knowing)
    return Registry({e.name: Entry(e, e.name, "a stranger's", "1") for e in explainers})


def unready_engine() -> Engine:
    """Return an engine with them, of which one network does not fit into memory."""
    return Engine(unready_registry(), loader=_load)


def silent_registry() -> Registry:
    """Return one explainer, which never says whether it runs on a network."""
    silent = explainer_of("silent", good_map)
    type(silent).why_not = lambda *_: time.sleep(600)
    return Registry({"silent": Entry(silent, "silent", "a stranger's", "1")})


def silent_engine() -> Engine:
    """Return an engine with it."""
    return Engine(silent_registry(), loader=_load)


def _load(name, _):
    if name == "broken":
        raise MemoryError
    return patches()
