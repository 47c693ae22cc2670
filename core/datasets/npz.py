"""A set in one .npz file: JPEG bytes end to end, offsets, labels, class names, test marks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from whylens.core.datasets.dataset import Dataset, Item, Pixels
from whylens.core.datasets.folder import LIMITS
from whylens.core.datasets.splits import split_stratified
from whylens.core.errors import BadInput
from whylens.core.inputs.npy import NpzFile
from whylens.core.inputs.photo import read_photo
from whylens.core.words import number_of

_ARRAYS = ("jpeg", "offset", "label", "classes", "is_test")


class ImageArchive(Dataset):
    """Pictures of an .npz file; validation is split off its training part."""

    def __init__(self, path: Path, *, val: float = 0.1, seed: int = 0) -> None:
        """Read the file whole, pictures still compressed.

        Args:
            path: With picture i in `jpeg[offset[i]:offset[i + 1]]`, of class `label[i]` among
                `classes`, in the test split where `is_test[i]`.
            val: Share of the training part for validation.

        Raises:
            BadInput: There is no such file, or it holds something else.
        """
        self.name = path.stem
        arrays = _read_arrays(path)
        self._jpeg, self._offset = arrays["jpeg"], arrays["offset"]
        self.labels = tuple(str(name) for name in arrays["classes"])
        labels = [int(label) for label in arrays["label"]]
        is_test = arrays["is_test"].astype(bool)
        self._contents = tuple(
            hashlib.sha256(self._bytes(i)).hexdigest() for i in range(len(labels))
        )
        train_idx = np.flatnonzero(~is_test)
        # Copies with the same bytes stay together; pictures are not decoded only to be compared.
        group_numbers: dict[str, int] = {}
        groups = [
            group_numbers.setdefault(self._contents[i], len(group_numbers)) for i in train_idx
        ]
        train_splits = split_stratified(
            [labels[i] for i in train_idx], groups, val=val, test=0.0, seed=seed
        )
        splits = dict(zip(train_idx.tolist(), train_splits, strict=True))
        self.items = tuple(
            Item(f"{i:06d}", label, splits.get(i, "test")) for i, label in enumerate(labels)
        )
        test = {self._contents[i] for i in np.flatnonzero(is_test)}
        shared = len(test & set(group_numbers))
        if shared:
            self.notes = (
                f"{number_of(shared, 'picture')} of the test split "
                f"{'occurs' if shared == 1 else 'occur'} in its training part too.",
            )

    def _bytes(self, index: int) -> bytes:
        return self._jpeg[self._offset[index] : self._offset[index + 1]].tobytes()

    def pixels(self, index: int) -> Pixels:  # noqa: D102
        return read_photo(self._bytes(index), limits=LIMITS).pixels

    def content_digest(self, index: int) -> str:  # noqa: D102
        return self._contents[index]


def _read_arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    expected = (
        "It must hold images and labels, or train_images and train_labels and likewise of val and "
        f"test; or {', '.join(_ARRAYS)}, as `ImageArchive` explains."
    )
    archive = NpzFile(path)
    if not set(_ARRAYS) <= set(archive):
        raise BadInput(f"{path} is not an archive of pictures. {expected}")
    arrays = {name: archive[name] for name in _ARRAYS}
    count = len(arrays["label"])
    offset, label = arrays["offset"], arrays["label"]
    consistent = (
        arrays["jpeg"].dtype == np.uint8
        and offset.shape == (count + 1,)
        and arrays["is_test"].shape == (count,)
        and np.issubdtype(offset.dtype, np.integer)
        and np.issubdtype(label.dtype, np.integer)
        and count > 0
        and int(offset[0]) >= 0
        and bool((np.diff(offset.astype(np.int64)) > 0).all())
        and int(offset[-1]) <= len(arrays["jpeg"])
        and int(label.min()) >= 0
        and int(label.max()) < len(arrays["classes"])
    )
    if not consistent:
        raise BadInput(f"The arrays of {path} contradict one another. {expected}")
    if len(arrays["classes"]) < 2:
        raise BadInput(f"{path} holds one class only; at least two are needed.")
    return arrays
