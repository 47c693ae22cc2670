"""MNIST-1D, made here."""

from collections.abc import Iterable

from whylens import DatasetSource, hookimpl
from whylens.plugins.mnist1d.dataset import GeneratedSignals

__all__ = ["GeneratedSignals", "datasets"]


@hookimpl
def datasets() -> Iterable[DatasetSource]:
    """Return the generated signals."""
    yield DatasetSource(
        name=GeneratedSignals.name,
        summary="Signals of 40 values that hold one of ten shapes, and where it lies.",
        load=lambda _: GeneratedSignals(),
        kind="signals",
    )
