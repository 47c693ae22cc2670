"""Photos in which a box says where each object lies, for networks that know such objects."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from whylens.core.datasets.dataset import Dataset, Item, Mask, Pixels
from whylens.core.errors import BadInput, wrong_value
from whylens.core.inputs.photo import read_photo

BOXES = "boxes.json"


class _Object(BaseModel):
    model_config = ConfigDict(frozen=True)

    label: str
    box: tuple[float, float, float, float]


class _File(BaseModel):
    model_config = ConfigDict(frozen=True)

    file: str
    objects: tuple[_Object, ...]


class BoxedPhotos(Dataset):
    """Objects in photos: one item per object, all of the test split.

    The folder's `boxes.json` is a list of {"file", "objects": [{"label", "box": [left, top, right,
    bottom]}]} with the box in shares of the photo's sides. An object's evidence is its box.
    """

    def __init__(self, folder: Path, labels: tuple[str, ...]) -> None:
        """Read the list; photos are read when asked for.

        Args:
            labels: Of the network. Objects that it has no class for are left out, and noted.

        Raises:
            BadInput: The list cannot be used, or the network knows none of its objects.
        """
        path = folder / BOXES
        try:
            files = TypeAdapter(list[_File]).validate_json(path.read_bytes())
        except OSError as exc:
            raise BadInput(f"{path} cannot be read: {exc.strerror}.") from exc
        except ValidationError as exc:
            where, words = wrong_value(exc)
            raise BadInput(f"{path}: {where or 'the file'}: {words}.") from exc
        self._folder, self.labels = folder, labels
        self.name = folder.resolve().name
        self._objects: list[tuple[str, _Object]] = []
        items, strangers = [], []
        index_of = {label.lower(): i for i, label in reversed(list(enumerate(labels)))}
        for entry in files:
            for number, thing in enumerate(entry.objects):
                label = index_of.get(thing.label.lower())
                if label is None:
                    strangers.append(thing.label)
                    continue
                items.append(Item(f"{entry.file}#{number}", label, "test"))
                self._objects.append((entry.file, thing))
        if not items:
            raise BadInput(f"The network has a class for none of the objects of {path}.")
        self.items = tuple(items)
        if strangers:
            self.notes = (f"The network has no class for {', '.join(strangers)}: left out.",)

    def _bytes(self, index: int) -> bytes:
        path = self._folder / self._objects[index][0]
        if not path.resolve().is_relative_to(self._folder.resolve()):
            raise BadInput(f"{BOXES} names a file outside its folder: {path.name}.")
        try:
            return path.read_bytes()
        except OSError as exc:
            raise BadInput(f"{path} cannot be read: {exc.strerror}.") from exc

    def pixels(self, index: int) -> Pixels:  # noqa: D102
        return read_photo(self._bytes(index)).pixels

    def evidence(self, index: int) -> Mask:
        """Return (H, W) bool: the object's box."""
        height, width = self.pixels(index).shape[:2]
        left, top, right, bottom = self._objects[index][1].box
        down, across = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
        rows, columns = (down >= top) & (down <= bottom), (across >= left) & (across <= right)
        return np.asarray(rows[:, None] & columns)

    def content_digest(self, index: int) -> str:
        """Return the sha256 of the photo's file and its object's box."""
        box = repr(self._objects[index][1].box).encode()
        return hashlib.sha256(self._bytes(index) + box).hexdigest()
