"""A folder of photos as a set, or a ZIP of one: classes and splits are its subfolders.

Every file is read once at the start: what cannot be read is listed with its reason, and copies of
one picture are kept on one side.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from whylens.core.datasets.class_folders import PlacedFile, place_files
from whylens.core.datasets.dataset import Dataset, Item, Pixels
from whylens.core.datasets.dataset_notes import check_counts, dataset_notes, left_out_notes
from whylens.core.datasets.files import Files, open_files
from whylens.core.datasets.splits import Fingerprint, complete_splits, fingerprint, group_copies
from whylens.core.errors import BadInput
from whylens.core.inputs.photo import ImageLimits, read_photo

# One's own photos, not a visitor's: cameras write larger files than a page should accept.
LIMITS = ImageLimits(bytes=40_000_000, pixels=60_000_000, memory=480_000_000)
ProgressCallback = Callable[[float, str], None]


class ImageFolder(Dataset):
    """Photos in one subfolder per class, in a folder or a ZIP.

    Attributes:
        unreadable: Key and reason of every file that was left out.
    """

    unreadable: tuple[tuple[str, str], ...]

    def __init__(
        self,
        root: Path,
        *,
        val: float = 0.15,
        test: float = 0.15,
        seed: int = 0,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Read every file once.

        Args:
            root: The folder or ZIP. Its own train/ and val/ or test/ are honoured.
            val: Share for validation where the set has none of its own.
            test: Share for the test where the set is not split yet.
            progress: Called with a share done and a sentence.

        Raises:
            BadInput: There is no such folder, or too little in it to learn from.
        """
        self.name = root.resolve().name
        self._root, self._files = root, open_files(root)
        paths = self._files.paths
        folders = place_files(paths, f"The folder {root}")
        prints, reasons = _read(self._files, folders.files, progress)
        self.unreadable = tuple((paths[i], reason) for i, reason in reasons.items())
        files = [file for file in folders.files if file.path in prints]
        self.labels = tuple(sorted({file.label for file in folders.files}))
        check_counts(
            str(root),
            self.labels,
            [file.label for file in files],
            [(f.label, paths[f.path], reasons[f.path]) for f in folders.files if f.path in reasons],
        )
        index = {label: i for i, label in enumerate(self.labels)}
        labels = [index[file.label] for file in files]
        groups = group_copies([prints[file.path] for file in files])
        own = [file.split for file in files]
        splits, split_notes = complete_splits(own, labels, groups, val=val, test=test, seed=seed)
        self._indices = tuple(file.path for file in files)
        self.items = tuple(
            Item(paths[i], label, split)
            for i, label, split in zip(self._indices, labels, splits, strict=True)
        )
        self._contents = tuple(prints[i].content for i in self._indices)
        self.notes = (
            *left_out_notes(self.unreadable, len(folders.files)),
            *self._files.notes,
            *folders.notes,
            *split_notes,
            *dataset_notes(self.items, self.labels, groups),
        )

    def pixels(self, index: int) -> Pixels:  # noqa: D102
        try:
            data = self._files.read(self._indices[index], LIMITS.bytes)
        except BadInput as exc:
            raise BadInput(f"{self._root}/{self.items[index].key}: {exc}") from exc
        return read_photo(data, limits=LIMITS).pixels

    def content_digest(self, index: int) -> str:  # noqa: D102
        return self._contents[index]


def _read(
    files: Files, placed: Sequence[PlacedFile], progress: ProgressCallback | None
) -> tuple[dict[int, Fingerprint], dict[int, str]]:
    """Return the fingerprints of the pictures, and why others cannot be read."""

    def read_one(file: PlacedFile) -> Fingerprint | str:
        try:
            data = files.read(file.path, LIMITS.bytes)
            pixels = read_photo(data, limits=LIMITS).pixels
        except BadInput as exc:
            return str(exc)
        return fingerprint(pixels, hashlib.sha256(data).hexdigest())

    prints: dict[int, Fingerprint] = {}
    reasons: dict[int, str] = {}
    # Pillow lets other threads run while it decodes.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for number, (file, answer) in enumerate(
            zip(placed, pool.map(read_one, placed), strict=True), 1
        ):
            if isinstance(answer, str):
                reasons[file.path] = answer
            else:
                prints[file.path] = answer
            if progress is not None and (number % 50 == 0 or number == len(placed)):
                progress(number / len(placed), f"reading {number} of {len(placed)} pictures")
    return prints, reasons
