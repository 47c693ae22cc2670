"""From a name on the command line to a set of pictures or signals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from whylens.core.datasets.dataset import Dataset, DatasetSource
from whylens.core.errors import BadInput, CoreError, DatasetFailed, quote

Sources = Mapping[str, DatasetSource]


def load_registered(text: str, sources: Sources) -> Dataset | None:
    """Return the set of this name that a plugin offers, or None where none does.

    Args:
        text: As in "cats:breed".

    Raises:
        BadInput: The data set has no such option.
        DatasetFailed: The plugin failed, or gave no data set of this name.
    """
    name, _, option = text.partition(":")
    source = sources.get(name)
    if source is None:
        return None
    if text not in source.names:
        raise BadInput(
            f"There is no data set {quote(text)}; there is {' and '.join(source.names)}."
        )
    try:
        dataset: object = source.load(option)
    except CoreError:
        raise
    except Exception as exc:
        raise DatasetFailed(text, f"{type(exc).__name__}: {exc}") from exc
    if not isinstance(dataset, Dataset):
        raise DatasetFailed(text, f"it gave {type(dataset).__name__}, not a Dataset")
    if dataset.name != text:
        raise DatasetFailed(text, f"it gave a set called {dataset.name!r}")
    return dataset


def load_dataset(
    text: str, sources: Sources, *, progress: Callable[[float, str], None] | None = None
) -> Dataset:
    """Return the set that `text` names.

    Args:
        text: A plugin's data set, as in "cats:breed"; else a .npz file, a folder or a ZIP
            of one.
        progress: Called with a share done and a sentence while a folder is read.

    Raises:
        BadInput: There is nothing of this name, or too little in it.
        DatasetFailed: The plugin that offers it failed.
    """
    dataset = load_unfiled(text, sources)
    if dataset is not None:
        return dataset
    from whylens.core.datasets.folder import ImageFolder

    return ImageFolder(Path(text), progress=progress)


def load_unfiled(text: str, sources: Sources) -> Dataset | None:
    """Return the set that `text` names where its pictures are no files of their own, else None.

    Args:
        text: As `load_dataset` takes it.

    Raises:
        BadInput: It is no such set, or too little is in it.
        DatasetFailed: The plugin that offers it failed.
    """
    dataset = load_registered(text, sources)
    path = Path(text)
    if dataset is not None or path.suffix != ".npz":
        return dataset
    from whylens.core.datasets.arrays import ArraySet, holds_arrays

    if holds_arrays(path):
        return ArraySet(path)
    from whylens.core.datasets.npz import ImageArchive

    return ImageArchive(path)
