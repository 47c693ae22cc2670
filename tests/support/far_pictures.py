"""A method to be fitted and a data set, each of which tells in which process it was read."""

from __future__ import annotations

import os

import numpy as np

from benchmarks.bad_plugins import explainer_of, good_map
from tests.support.pictures import Colours
from whylens.core.conformance.toy_networks import patches
from whylens.core.datasets.dataset import DatasetSource
from whylens.core.engine import Engine
from whylens.core.params import NoParams
from whylens.core.progress import Progress
from whylens.core.registry import Entry, Registry
from whylens.core.storage.artifacts import Artifact

LABELS = patches().labels[:2]
LOADED: list[str] = []  # in this process


class Far(Colours):
    """Colours by the labels of a toy network; each picture holds the number of its process."""

    def __init__(self):
        super().__init__(test=(2, 2), name="far")
        self.labels = LABELS

    def pixels(self, index):
        LOADED.append("a picture")
        return np.full((32, 32, 3), list(os.getpid().to_bytes(3)), np.uint8)


def _load(option):
    LOADED.append("a set")
    return Far()


def _fit(dataset, backbone, params):
    means = [dataset.pixels(index).mean() for index in range(len(dataset.items))]
    facts = {"process": os.getpid()}
    yield Progress(1.0, "A mean", Artifact({"mean": np.float32([np.mean(means)])}, facts))


def far_registry() -> Registry:
    """Return both, and a method that needs nothing."""
    good_explainer, fitted_explainer = (
        explainer_of("good", good_map),
        explainer_of("fitted", good_map),
    )
    type(fitted_explainer).artifact_kind, type(fitted_explainer).FitParams = "a mean", NoParams
    fitted_explainer.fit = _fit
    entries = {
        e.name: Entry(e, e.name, "a stranger's", "1") for e in (good_explainer, fitted_explainer)
    }
    return Registry(entries, datasets={"far": DatasetSource("far", "x", _load)})


def far_engine() -> Engine:
    """Return an engine with them and a small network; made anew in every process."""
    return Engine(far_registry(), loader=lambda *_: patches())
