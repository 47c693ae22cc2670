"""A first look at labelled pictures: how many of each class, and what some of them look like.

Names are enough to count: a set is not read whole, and copies in it not looked for.
"""

from __future__ import annotations

import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from whylens.core.datasets import folder
from whylens.core.datasets import zip as zipped
from whylens.core.datasets.by_name import Sources, load_unfiled
from whylens.core.datasets.class_folders import place_files
from whylens.core.datasets.dataset import Pixels
from whylens.core.datasets.files import open_files
from whylens.core.errors import BadInput
from whylens.core.inputs.photo import PICTURE_ENDINGS, ImageLimits, read_photo
from whylens.core.inputs.view import shrunk

MOST_CLASSES, MOST_EACH = 12, 4
MOST_SECONDS = 10.0  # of reading pictures
SIDE = 96  # pixels of a thumbnail's longer side


@dataclass(frozen=True)
class ClassPreview:
    """One class of a set.

    Attributes:
        count: How many files are called pictures, or how many pictures a data set has.
        pictures: JPEGs of the first of them.
    """

    label: str
    count: int
    pictures: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class SetPreview:
    """A set of labelled pictures at a glance.

    Attributes:
        classes: All of them; the first have pictures.
        notes: What was taken for what, what cannot be read, and what is not shown.
    """

    classes: tuple[ClassPreview, ...]
    notes: tuple[str, ...] = ()


def preview_set(place: str, sources: Sources, *, visitor: bool = False) -> Iterator[SetPreview]:
    """Yield the classes of a set with their counts, and again with the pictures of each in turn.

    Args:
        place: A plugin's data set, an .npz, a folder or a ZIP, as `load_dataset` takes it.
        visitor: Whether it is a stranger's upload, which is read under closer limits.

    Raises:
        BadInput: There is nothing of this name, or no two classes in it.
        DatasetFailed: The plugin that offers it failed.
    """
    opened = _open(place, sources, visitor=visitor)
    labels, notes = opened.by_label, opened.notes
    preview = SetPreview(
        tuple(ClassPreview(label, len(labels[label])) for label in sorted(labels)), notes
    )
    yield preview
    ends = time.monotonic() + MOST_SECONDS
    unreadable: list[str] = []
    for number, class_ in enumerate(preview.classes[:MOST_CLASSES]):
        pictures: list[bytes] = []
        for index in labels[class_.label][:MOST_EACH]:
            if time.monotonic() > ends:
                late = f"Pictures are shown that were read within {MOST_SECONDS:.0f} s."
                yield replace(preview, notes=(*notes, *unreadable, late))
                return
            try:
                pictures.append(_jpeg(opened.read(index)))
            except BadInput as exc:
                unreadable.append(f"{class_.label}: {exc}")
        classes = list(preview.classes)
        classes[number] = replace(class_, pictures=tuple(pictures))
        preview = replace(preview, classes=tuple(classes), notes=(*notes, *unreadable))
        yield preview


def picture_of(place: str, sources: Sources, key: str, *, visitor: bool = False) -> Pixels:
    """Return one picture of a set.

    Args:
        place: As `preview_set` takes it; `visitor` likewise.
        key: Of an item of the data set that the place is loaded as.

    Raises:
        BadInput: It is not there, or cannot be read.
    """
    opened = _open(place, sources, visitor=visitor)
    for index in (i for indices in opened.by_label.values() for i in indices):
        if opened.key(index) == key:
            return opened.read(index)
    raise BadInput(f"{key} is no longer in {place}.")


@dataclass(frozen=True)
class _Opened:
    """A set of which nothing was read yet but names.

    Attributes:
        by_label: Numbers of the pictures of each class.
        read: Returns a picture by its number.
        key: Returns its key in the data set, likewise.
    """

    by_label: Mapping[str, Sequence[int]]
    read: Callable[[int], Pixels]
    key: Callable[[int], str]
    notes: tuple[str, ...]


def _open(place: str, sources: Sources, *, visitor: bool) -> _Opened:
    by_label: defaultdict[str, list[int]] = defaultdict(list)
    dataset = None if visitor else load_unfiled(place, sources)
    if dataset is not None:
        items = dataset.items
        for index, item in enumerate(items):
            by_label[dataset.labels[item.label]].append(index)
        return _Opened(by_label, dataset.pixels, lambda index: items[index].key, dataset.notes)
    files = open_files(Path(place))
    folders = place_files(files.paths, "The ZIP" if visitor else f"The folder {place}")
    for file in folders.files:
        if Path(files.paths[file.path]).suffix.lower() in PICTURE_ENDINGS:
            by_label[file.label].append(file.path)
    limits: ImageLimits = zipped.LIMITS if visitor else folder.LIMITS

    def read(index: int) -> Pixels:
        try:
            return read_photo(files.read(index, limits.bytes), limits=limits).pixels
        except BadInput as exc:
            raise BadInput(f"{files.paths[index]}: {exc}") from exc

    notes = (*files.notes, *folders.notes)
    return _Opened(by_label, read, files.paths.__getitem__, notes)


def _jpeg(pixels: Pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(shrunk(pixels, SIDE)).save(stream, "JPEG", quality=80)
    return stream.getvalue()
