"""A set in one .npz file of arrays, as MedMNIST and Keras write it: images, labels and splits."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from whylens.core.datasets.dataset import Dataset, Item, Pixels, SplitName
from whylens.core.datasets.dataset_notes import check_counts
from whylens.core.datasets.splits import complete_splits
from whylens.core.errors import BadInput
from whylens.core.inputs.arrays import to_photo
from whylens.core.inputs.npy import NpzFile

_IMAGES = ("{}_images", "x_{}", "X_{}", "{}_x", "{}_data", "images", "x", "X", "data")
_LABELS = ("{}_labels", "y_{}", "Y_{}", "{}_y", "{}_targets", "labels", "y", "Y", "targets")
_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class ArraySet(Dataset):
    """Images of an .npz file's arrays; splits that it lacks are drawn from its training part."""

    def __init__(self, path: Path, *, val: float = 0.15, test: float = 0.15, seed: int = 0) -> None:
        """Read the file whole.

        Args:
            path: With `train_images` and `train_labels` or `x_train` and `y_train`, likewise of val
                and test, or `images` and `labels`; images are (N, H, W) or (N, H, W, C);
                labels are numbers, names or one-hot rows.
            val: Share for validation where the file has none.
            test: Share for the test where the file has no splits.

        Raises:
            BadInput: The arrays do not fit each other, or hold several labels for an image.
        """
        self.name = path.stem
        self._images: list[tuple[npt.NDArray[np.generic], int]] = []
        own: list[SplitName | None] = []
        values: list[Any] = []  # numbers, or names
        archive = NpzFile(path)
        for split in _SPLITS:
            pair = _pair(set(archive), split)
            if pair is None or (split != "train" and "{}" not in pair[2]):
                continue
            images, labels = _check(path, archive, *pair[:2])
            self._images += [(images, i) for i in range(len(images))]
            values += labels.tolist()
            own += [split if "{}" in pair[2] else None] * len(images)
        names = archive.get("classes")
        kinds = sorted(set(values))
        if names is None or not kinds or isinstance(kinds[0], str):
            self.labels = tuple(map(str, kinds))
        else:
            self.labels = tuple(str(names[kind]) for kind in kinds)
        index = {kind: i for i, kind in enumerate(kinds)}
        labels_ = [index[value] for value in values]
        check_counts(str(path), self.labels, [self.labels[i] for i in labels_])
        self._contents = tuple(
            hashlib.sha256(np.ascontiguousarray(array[i]).tobytes()).hexdigest()
            for array, i in self._images
        )
        # Copies with the same bytes stay together.
        numbers: dict[str, int] = {}
        groups = [numbers.setdefault(content, len(numbers)) for content in self._contents]
        splits, self.notes = complete_splits(own, labels_, groups, val=val, test=test, seed=seed)
        self.items = tuple(
            Item(f"{i:06d}", label, split)
            for i, (label, split) in enumerate(zip(labels_, splits, strict=True))
        )

    def pixels(self, index: int) -> Pixels:  # noqa: D102
        array, place = self._images[index]
        return to_photo(array[place]).pixels

    def content_digest(self, index: int) -> str:  # noqa: D102
        return self._contents[index]


def holds_arrays(path: Path) -> bool:
    """Return whether a file is an .npz of images and labels."""
    try:
        return _pair(set(NpzFile(path)), "train") is not None
    except BadInput:
        return False


def _pair(names: set[str], split: SplitName) -> tuple[str, str, str] | None:
    """Return the names of a split's images and labels, and the pattern that they follow."""
    for images, labels in zip(_IMAGES, _LABELS, strict=True):
        if {images.format(split), labels.format(split)} <= names:
            return images.format(split), labels.format(split), images
    return None


def _check(
    path: Path, archive: NpzFile, images_name: str, labels_name: str
) -> tuple[npt.NDArray[np.generic], npt.NDArray[Any]]:
    images, labels = archive[images_name], archive[labels_name]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2 and labels.dtype.kind in "iubf" and _is_one_hot(labels):
        labels = labels.argmax(1)
    if labels.ndim != 1:
        raise BadInput(
            f"{labels_name} in {path} is {labels.shape}: several labels for an image cannot be "
            "learnt here. Give one class for each."
        )
    if images.ndim not in (3, 4) or len(images) != len(labels):
        raise BadInput(
            f"{images_name} in {path} is {images.shape} and {labels_name} {labels.shape}: images "
            "are (N, H, W) or (N, H, W, channels), with a label each."
        )
    if labels.dtype.kind == "U":
        return images, labels
    if labels.dtype.kind not in "iubf" or (labels != np.rint(labels)).any():
        raise BadInput(
            f"{labels_name} in {path} holds {labels.dtype}, neither numbers nor names of classes."
        )
    return images, labels.astype(np.int64)


def _is_one_hot(labels: npt.NDArray[Any]) -> bool:
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all())
