"""What the contract tests share: every registered explainer, one toy network of every kind."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from tests.conftest import GapNet, seeded
from tests.toys import NETS, attention_net
from whylens.core.conformance.toy_inputs import tinted
from whylens.core.datasets.dataset import Dataset, Item
from whylens.core.engine import Engine
from whylens.core.explanation import Question
from whylens.core.inputs.spec import InputSpec
from whylens.core.models.backbone import Backbone, wrap
from whylens.core.registry import load_registry
from whylens.core.results import Heatmap
from whylens.core.storage.artifacts import Artifact

REGISTRY = load_registry()
METHODS = list(REGISTRY.explainers)
KINDS = [*NETS, "attention", "1-d"]
# Smaller windows for smaller pictures; every channel asked, so that answers can be compared.
PARAMS = {
    "occlusion": {"window": 8, "stride": 4},
    "score-cam": {"mode": "exact"},
    "sise": {"masks": 8},
    "rise": {"masks": 128, "cells": 4},
    "lime": {"segments": 24, "samples": 100},
    "kernel-shap": {"segments": 24, "samples": 50},
    "permutation": {"segments": 24, "repeats": 4},
    "counterfactual-patches": {"swaps": 2, "candidates": 50},
    "smoothgrad": {"samples": 16},
    "gradient-shap": {"samples": 16},
    # A pertinent negative is nothing for all classes but one; small nets have small margins.
    "contrastive": {"find": "pertinent positive", "kappa": 0.0, "steps": 30, "constants": 1},
}
FITS = {"steps": 60, "versions": 1}
COLOURS = {"mean": (0.4, 0.5, 0.3), "std": (0.25, 0.2, 0.3)}


def params(method: str) -> dict[str, object]:
    fields = REGISTRY.explainers[method].Params.model_fields
    return {k: v for k, v in PARAMS.get(method, {}).items() if k in fields}


def spec_of(kind: str) -> InputSpec:
    if kind == "1-d":
        return InputSpec(size=(64,), channels=2, mean=(0.1, 0.2), std=(1.5, 0.5), crop=1.0)
    return InputSpec(size=(16, 24), crop=0.9, **COLOURS)


def made(kind: str, seed: int = 3) -> Backbone:
    others = {"1-d": lambda: GapNet(axes=1, channels=2), "attention": attention_net}
    module = seeded((NETS | others)[kind](), seed)
    with torch.no_grad():
        last = module.head if kind == "attention" else module.fc
        last.weight *= 20  # scores as far apart as a trained network's
    return wrap(module, spec=spec_of(kind), labels=("ant", "bee", "cat"))


class Tinted(Dataset):
    """Pictures of noise whose class is the colour of a few cells, for methods that are fitted."""

    name = "tinted"
    labels = ("ant", "bee", "cat")
    items = tuple(Item(f"tinted/{i}", i % 3, "train" if i < 36 else "val") for i in range(54))

    def pixels(self, index):
        return tinted(index)

    def content_digest(self, index):
        return str(index)


class Bumps(Tinted):
    """Signals of noise whose class is the steepness of a bump and the channel that holds it."""

    name = "bumps"

    def signal(self, index):
        rng = np.random.default_rng([8, index])
        values = 0.1 * rng.normal(size=(2, 64))
        kind, at = index % 3, rng.uniform(16, 48)
        width, channel, sign = ((2, 0, 1), (6, 1, 1), (3, 1, -1))[kind]
        values[channel] += sign * 2 * np.exp(-(((np.arange(64) - at) / width) ** 2))
        return values.astype(np.float32)


MINE = "the visitor of the contract"


def engine(kind: str, *, seed: int = 3, **kwargs) -> Engine:
    page = Engine(REGISTRY, loader=lambda name, progress: made(kind, seed), **kwargs)
    for name, fitted in _fitted(kind, seed).items():
        page.artifact_store.put_for_visitor(
            REGISTRY.explainers[name], page.backbone("toy"), MINE, fitted
        )
    return page


@cache  # fitting is deterministic: done once, shared by all tests of the contract
def _fitted(kind: str, seed: int) -> dict[str, Artifact]:
    page, found = Engine(REGISTRY, loader=lambda name, progress: made(kind, seed)), {}
    data = Bumps() if kind == "1-d" else Tinted()
    for name, explainer in REGISTRY.explainers.items():
        if explainer.artifact_kind and refusal(name, page.backbone("toy")) is None:
            given = {k: v for k, v in FITS.items() if k in explainer.FitParams.model_fields}
            *_, last = page.fit("toy", name, data, given, visitor=MINE)
            found[name] = last.artifact
    return found


def asked(kind: str, target: int | None = None, seed: int = 11) -> Question:
    rng = np.random.default_rng(seed)
    if kind == "1-d":
        signal = rng.normal(size=(2, 64)).astype(np.float32)
        return Question("toy", signal=signal, target=target, visitor=MINE)
    pixels = rng.integers(0, 256, (33, 47, 3), dtype=np.uint8)
    return Question("toy", pixels, target=target, visitor=MINE)


def final(page: Engine, question: Question, method: str):
    *_, last = page.explain(question, method, params(method))
    return last


def values(answer) -> np.ndarray:
    """Return the figures of a result of any kind."""
    if isinstance(answer.result, Heatmap):
        return np.asarray(answer.result.values)
    # One picture that is another one when other pictures come, or in another order. Paper is 0:
    # the plots of two signals are white almost everywhere.
    weighted = [
        rank * item.value * (255.0 - item.image) for rank, item in enumerate(answer.result.items, 1)
    ]
    return np.sum(weighted, axis=0)


def telling(page: Engine, question: Question, method: str) -> int:
    """Return a class for which the map is not blank; one that is so for all classes says why."""
    for target in range(3):
        answer = final(page, replace(question, target=target), method)
        if values(answer).any():
            return target
    assert answer.result.note, f"{method} is blank for every class and does not say why"
    pytest.skip(f"{method} is blank here, and says: {answer.result.note}")


# Methods that are asked about networks made for one test, where nothing was fitted.
UNFITTED = [m for m in METHODS if not REGISTRY.explainers[m].artifact_kind]
every_unfitted = pytest.mark.parametrize("method", UNFITTED)
every = pytest.mark.parametrize("method", METHODS)
PAIRS = [(method, kind) for kind in KINDS for method in METHODS]
BACKBONES = {kind: made(kind) for kind in KINDS}


def refusal(method: str, net: Backbone) -> str | None:
    """Return why a method does not run on a network, or None."""
    explainer = REGISTRY.explainers[method]
    return net.why_not(explainer.needs) or explainer.why_not(net)


REFUSED = [
    (method, kind, reason)
    for kind, net in BACKBONES.items()
    for method in METHODS
    if (reason := refusal(method, net))
]
ON_NETS = [p for p in PAIRS if p not in [r[:2] for r in REFUSED]]
on_every_net = pytest.mark.parametrize(("method", "kind"), ON_NETS)
# The network on which a method is tried where one is enough: the simplest that it runs on.
HOME = {method: next(kind for m, kind in ON_NETS if m == method) for method in METHODS}
