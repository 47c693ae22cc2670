"""Pictures of a set that a plugin offers, read where the engine computes: not where it serves."""

from __future__ import annotations

from collections.abc import Iterator

from whylens.core.datasets.by_name import load_registered
from whylens.core.datasets.dataset import Dataset, Item, Pixels
from whylens.core.engine import Engine
from whylens.core.progress import last_of


class OfferedPictures(Dataset):
    """A set as `load_registered` returns it; every picture is asked for by itself."""

    def __init__(
        self, engine: Engine, name: str, labels: tuple[str, ...], items: tuple[Item, ...]
    ) -> None:
        """Make a set of what is known of it; `offered_pictures` does."""
        self._engine, self.name, self.labels, self.items = engine, name, labels, items

    def pixels(self, index: int) -> Pixels:
        """Return a picture."""
        return last_of(self._engine.run(_pixels, self.name, index, quick=True))

    def content_digest(self, index: int) -> str:
        """Return what the set says of a picture."""
        return last_of(self._engine.run(_digest, self.name, index, quick=True))


def offered_pictures(engine: Engine, name: str) -> OfferedPictures | None:
    """Return the set of this name that a plugin offers, or None where none does.

    Raises:
        CoreError: As `load_registered`; or reading it took too long, or ended its process.
    """
    if name.partition(":")[0] not in engine.registry.datasets:
        return None
    description = last_of(engine.run(_describe, name, quick=True))
    return None if description is None else OfferedPictures(engine, name, *description)


_Described = tuple[tuple[str, ...], tuple[Item, ...]]


def _describe(engine: Engine, name: str) -> Iterator[_Described | None]:
    dataset = load_registered(name, engine.registry.datasets)
    yield None if dataset is None else (dataset.labels, dataset.items)


def _pixels(engine: Engine, name: str, index: int) -> Iterator[Pixels]:
    yield _load(engine, name).pixels(index)


def _digest(engine: Engine, name: str, index: int) -> Iterator[str]:
    yield _load(engine, name).content_digest(index)


def _load(engine: Engine, name: str) -> Dataset:
    dataset = load_registered(name, engine.registry.datasets)
    assert dataset is not None  # noqa: S101 - it was described
    return dataset
