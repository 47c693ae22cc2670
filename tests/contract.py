"""What the contract tests share: every registered explainer, one toy network of every kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.answers import Question
from core.engine import Engine
from core.models.backbone import Backbone, wrap
from core.models.spec import InputSpec
from core.registry import load_registry
from core.results import Heatmap
from tests.conftest import GapNet, seeded
from tests.toys import NETS

REGISTRY = load_registry()
METHODS = list(REGISTRY.explainers)
KINDS = [*NETS, "1-d"]
# Smaller windows for smaller pictures; every channel asked, so that answers can be compared.
PARAMS = {"occlusion": {"window": 8, "stride": 4}, "score-cam": {"mode": "exact"}}
COLOURS = {"mean": (0.4, 0.5, 0.3), "std": (0.25, 0.2, 0.3)}


def params(method: str) -> dict[str, object]:
    fields = REGISTRY.explainers[method].Params.model_fields
    return {k: v for k, v in PARAMS.get(method, {}).items() if k in fields}


def spec_of(kind: str) -> InputSpec:
    if kind == "1-d":
        return InputSpec(size=(64,), channels=2, mean=(0.1, 0.2), std=(1.5, 0.5), crop=1.0)
    return InputSpec(size=(16, 24), crop=0.9, **COLOURS)


def made(kind: str, seed: int = 3) -> Backbone:
    module = seeded(GapNet(axes=1, channels=2) if kind == "1-d" else NETS[kind](), seed)
    with torch.no_grad():
        module.fc.weight *= 20  # scores as far apart as a trained network's
    return wrap(module, spec=spec_of(kind), labels=("ant", "bee", "cat"))


def engine(kind: str, *, seed: int = 3, **kwargs) -> Engine:
    return Engine(REGISTRY, loader=lambda name, progress: made(kind, seed), **kwargs)


def asked(kind: str, target: int | None = None, seed: int = 11) -> Question:
    rng = np.random.default_rng(seed)
    if kind == "1-d":
        signal = rng.normal(size=(2, 64)).astype(np.float32)
        return Question("toy", signal=signal, target=target)
    return Question("toy", rng.integers(0, 256, (33, 47, 3), dtype=np.uint8), target=target)


def final(page: Engine, question: Question, method: str):
    *_, last = page.explain(question, method, params(method))
    return last


def values(answer) -> np.ndarray:
    """Return the figures of a result of any kind."""
    if isinstance(answer.result, Heatmap):
        return np.asarray(answer.result.values)
    return np.array([item.value for item in answer.result.items])


def telling(page: Engine, question: Question, method: str) -> int:
    """Return a class for which the map is not blank."""
    for target in range(3):
        if values(final(page, replace(question, target=target), method)).any():
            return target
    raise AssertionError(f"{method} is blank for every class")


every = pytest.mark.parametrize("method", METHODS)
PAIRS = [(method, kind) for kind in KINDS for method in METHODS]
REFUSED = [
    (method, kind, reason)
    for kind in KINDS
    for method, reason in engine(kind).card("toy").unavailable.items()
]
on_every_net = pytest.mark.parametrize(
    ("method", "kind"), [p for p in PAIRS if p not in [r[:2] for r in REFUSED]]
)
