"""A set of pictures that is read where it is used: in a process that others do not wait for."""

from __future__ import annotations

from collections.abc import Callable, Generator

from whylens.core.datasets.dataset import Dataset
from whylens.core.errors import BadInput, CoreError, words_of
from whylens.core.progress import Progress, map_progress

# Yields the share read so far, and returns the set; plain data, as it crosses into a process.
PicturesReader = Callable[[], Generator[float, None, Dataset]]


def dataset_of(dataset: Dataset | PicturesReader) -> Generator[Progress, None, Dataset]:
    """Yield how far the reading is, and return the set; one that is there is returned at once.

    Raises:
        BadInput: It cannot be read.
    """
    if isinstance(dataset, Dataset):
        return dataset
    try:
        return (
            yield from map_progress(dataset(), lambda share: Progress(share, "Reading pictures"))
        )
    except CoreError:
        raise
    except Exception as exc:  # no method is to blame
        raise BadInput(f"The pictures cannot be read ({words_of(exc)}).") from exc
