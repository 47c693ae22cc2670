"""The hooks through which built-ins and strangers alike offer explainers, data sets and metrics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from whylens.core.datasets.dataset import DatasetSource
    from whylens.core.evaluation.metric import Metric
    from whylens.core.explainer import Explainer

PROJECT = "whylens"
GROUP = "whylens.explainers"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def explainers() -> Iterable[Explainer[Any]]:  # type: ignore[empty-body]
    """Return the explainers that this plugin offers, in the order to show them."""


@hookspec
def datasets() -> Iterable[DatasetSource]:  # type: ignore[empty-body]
    """Return the data sets that this plugin makes or fetches itself, known by name."""


@hookspec
def metrics() -> Iterable[Metric]:  # type: ignore[empty-body]
    """Return the metrics that this plugin offers, each with a chance level where there is one."""
