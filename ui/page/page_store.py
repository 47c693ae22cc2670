"""What the page keeps between two clicks: answers per visitor, pictures on disk, all bounded."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import TypeVar

import numpy as np
from gradio.utils import get_upload_folder
from PIL import Image

from whylens.core.errors import BadInput
from whylens.core.explanation import Explanation
from whylens.core.inputs.arrays import read_channels
from whylens.core.inputs.photo import ImageLimits, Photo, Pixels
from whylens.core.inputs.signal import (
    is_signal_file,
    plot_signal,
    read_signal,
    signal_in,
    signal_picture,
)
from whylens.core.inputs.spec import InputSpec
from whylens.core.inputs.view import View, shrunk
from whylens.core.outputs.export import write_zip
from whylens.core.outputs.photo_report import PhotoRow
from whylens.core.results import Array, Heatmap
from whylens.core.storage.cache import ByteLRU
from whylens.core.storage.files import replacing, write_atomically
from whylens.core.storage.memory import memory_for, trim_memory
from whylens.ui.page.photo_files import PhotoFile
from whylens.ui.page.photo_input import GONE, photo_at

SCREEN_SIDE = 1400
LEAST_SIDE, STRIP = 600, 4  # shorter parts of a photo more than so many times as long as wide grow
Box = tuple[int, int, int, int]
T = TypeVar("T")


@dataclass(frozen=True)
class PhotoTable:
    """What was found of the first of many photos.

    Attributes:
        model: Name of the network.
        weights_sha256: Of the network.
        network: Id of the network and of how photos were shown to it.
        methods: Titles of the methods whose maps are in the rows.
        files: All that were given.
        rows: Of the first of them, in the same order.
    """

    model: str
    weights_sha256: str
    network: str
    methods: tuple[str, ...]
    files: tuple[PhotoFile, ...]
    rows: tuple[PhotoRow, ...] = ()


class PageStore:
    """Answers by visitor and method, decoded photos, and files ready to be shown.

    Nothing of a visitor lies in Gradio's own session state, which copies what it holds.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Make an empty store.

        Args:
            folder: Where files are written; by default a private temporary one.
        """
        photos, answers = memory_for("photos"), memory_for("answers")
        if folder is None:
            place = Path(get_upload_folder())  # which the janitor keeps in order
            place.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=place, prefix="page-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)  # or at exit
        self.folder = folder
        self._reading = threading.Lock()  # decoding one of 30 million pixels takes 300 MB
        self._answers: ByteLRU[tuple[str, str], tuple[Explanation, str]] = ByteLRU(
            4 * answers // 5, lambda pair: _weight(pair[0])
        )
        self._photos: ByteLRU[tuple[str, int], Photo] = ByteLRU(
            photos // 3, lambda photo: photo.pixels.nbytes
        )
        self._tables: ByteLRU[str, PhotoTable] = ByteLRU(answers // 5, _table_weight)
        # By the id of the pixels that they were made of, which are kept as well: an id in use
        # belongs to no second array.
        self._shown: ByteLRU[tuple[int, Box], tuple[Pixels, Photo]] = ByteLRU(
            photos // 3, lambda pair: pair[0].nbytes + pair[1].pixels.nbytes
        )
        self._originals: ByteLRU[int, tuple[Pixels, str]] = ByteLRU(
            photos // 3, lambda pair: pair[0].nbytes
        )

    def photo(self, path: str | None) -> Photo:
        """Return the decoded photo at `path`, from memory if it was read before."""
        if not path:
            return photo_at(path)
        try:
            key = (path, Path(path).stat().st_mtime_ns)
        except OSError as exc:
            raise BadInput(GONE) from exc

        return self._photos.get(key, lambda: self.decode_alone(lambda: photo_at(path)))

    def decode_alone(self, decode: Callable[[], T]) -> T:
        """Return what `decode` returns, while nothing else is decoded: all decoding goes here."""
        with self._reading:
            value = decode()
            trim_memory()
            return value

    def has_signal(self, path: str) -> bool:
        """Return whether the file at `path` is a signal, or a picture that carries one."""
        return is_signal_file(path) or signal_in(_content(path)) is not None

    def signal(self, path: str | None) -> Array:
        """Return the signal that the picture at `path` carries.

        Raises:
            BadInput: There is none.
        """
        signal = None
        if path and is_signal_file(path):  # as scripts give it
            signal = read_signal(_content(path), Path(path).name)
        elif path:
            signal = signal_in(_content(path))
        if signal is None:
            raise BadInput(
                "This network reads signals, not photos. Choose a sample or upload a signal, "
                "or choose another model."
            )
        return signal

    def channels(self, path: str | None, input_spec: InputSpec) -> tuple[Array, tuple[str, ...]]:
        """Return the bands that the .npy or .tif file at `path` holds, and what was done to them.

        Scripts give it.

        Raises:
            BadInput: There are none of a network's number and size.
        """
        if not path:
            raise BadInput(
                f"This network takes arrays of {(input_spec.channels, *input_spec.size)}, not "
                "photos. Choose another, or send one from a script as a .npy or .tif file."
            )
        limit = ImageLimits().bytes
        try:
            size = Path(path).stat().st_size
        except OSError as exc:
            raise BadInput(GONE) from exc
        if size > limit:
            raise BadInput(f"The file is larger than {limit / 1e6:.0f} MB. Send fewer values.")
        return self.decode_alone(lambda: read_channels(path, input_spec))

    def save_signal(self, signal: Array) -> str:
        """Return the path of a signal's plot, which carries the signal."""
        return self.save_file(signal_picture(signal), suffix=".png", stem="signal")

    def put_answer(self, visitor: str, slot: str, answer: Explanation, stamp: str) -> None:
        """Store an answer; the visitor's earlier one in this slot is replaced.

        Args:
            stamp: Id of the question that it answers.
        """
        self._answers.put((visitor, slot), (answer, stamp))

    def answer(self, visitor: str, slot: str) -> Explanation | None:
        """Return the visitor's answer in a slot, if it is still there."""
        pair = self._answers.peek((visitor, slot))
        return None if pair is None else pair[0]

    def stamp(self, visitor: str, slot: str) -> str:
        """Return the id of the question that the answer in a slot is for, or ""."""
        pair = self._answers.peek((visitor, slot))
        return "" if pair is None else pair[1]

    def answers(self, visitor: str, stamp: str) -> dict[str, Explanation]:
        """Return the visitor's answers to one question, by slot, those of last use last."""
        pairs = {key[1]: self._answers.peek(key) for key in self._answers.cached_keys()
                 if key[0] == visitor}  # fmt: skip
        return {slot: pair[0] for slot, pair in pairs.items() if pair and pair[1] == stamp}

    def by_method(self, visitor: str, stamp: str, model: str) -> dict[str, Explanation]:
        """Return the visitor's finished answers to one question about one network, by method."""
        answers = self.answers(visitor, stamp).values()
        return {a.method: a for a in answers if a.finished and a.model.name == model}

    def put_photos(self, visitor: str, table: PhotoTable) -> None:
        """Store a visitor's table of many photos in place of the earlier one."""
        self._tables.put(visitor, table)

    def photos(self, visitor: str) -> PhotoTable | None:
        """Return the visitor's table of many photos, if it is still there."""
        return self._tables.peek(visitor)

    def forget(self, visitor: str, *, slots: str = "") -> None:
        """Forget all of a visitor, or the answers in slots whose names begin so."""
        if not slots:
            self._tables.forget(visitor)
        for key in self._answers.cached_keys():
            if key[0] == visitor and key[1].startswith(slots):
                self._answers.forget(key)

    def downscale(self, answer: Explanation) -> Explanation:
        """Return the answer for a photo that a screen can show; downloads have the whole one.

        A strip, which would be a few pixels high, is cut to what the network sees and what lies
        about it; a photo larger than a screen is made smaller. Others, and signals, stay.
        """
        photo, view = answer.question.photo, answer.view
        if photo is None or view is None:
            return answer
        box = _around_what_is_seen(view)
        if box == (0, 0, *photo.size) and max(photo.size) <= SCREEN_SIDE:
            return answer
        left, top, right, bottom = box
        # A long answer comes in many parts, all of the same photo.
        _, visible_photo = self._shown.get(
            (id(photo.pixels), box),
            lambda: (
                photo.pixels,
                replace(photo, pixels=_fit_screen(photo.pixels[top:bottom, left:right])),
            ),
        )
        view = view.for_crop(left, top, right - left, bottom - top).for_original(
            *visible_photo.size
        )
        return replace(answer, question=replace(answer.question, photo=visible_photo), view=view)

    def input_image(self, answer: Explanation) -> str | None:
        """Return the path of what an answer is about, without the map: a photo or a plot."""
        if answer.question.pixels is not None:
            return self.photo_image(answer.question.pixels)
        if answer.question.signal is not None and answer.question.signal.ndim <= 2:
            return self.save_image(plot_signal(answer.question.signal, axes=True))
        return None

    def photo_image(self, pixels: Pixels) -> str:
        """Return the path of a photo's image, encoded once for all parts of an answer.

        Args:
            pixels: (H, W, 3) that nobody writes to.
        """

        def encode() -> tuple[Pixels, str]:
            return pixels, self.save_image(Image.fromarray(pixels))

        _, path = self._originals.get(id(pixels), encode)
        if not Path(path).is_file():  # swept out meanwhile
            self._originals.forget(id(pixels))
            _, path = self._originals.get(id(pixels), encode)
        return path

    def save_image(self, image: Image.Image) -> str:
        """Return the path of an image, named after its content and written whole."""
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=92, subsampling=0)
        return self.save_file(buffer.getvalue(), suffix=".jpg")

    def save_png(self, pixels: Pixels, *, stem: str) -> str:
        """Return the path of a picture as it is, not compressed a second time.

        Args:
            pixels: (H, W, 3).
        """
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return self.save_file(buffer.getvalue(), suffix=".png", stem=stem)

    def save_file(self, content: bytes, *, suffix: str, stem: str = "") -> str:
        """Return the path of a file with this content.

        Args:
            suffix: As in ".zip".
        """
        folder = self.folder / hashlib.sha256(content).hexdigest()[:24]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stem or 'picture'}{suffix}"
        if not path.is_file():
            write_atomically(path, content)
        return str(path)

    def save_zip(self, files: Iterable[tuple[str, bytes]], *, stem: str) -> str:
        """Return the path of a ZIP of named contents, of which one at a time is in memory."""
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        path = folder / f"{stem}.zip"
        with replacing(path) as stream:
            write_zip(stream, files)
        trim_memory()
        return str(path)


def _content(path: str) -> bytes:
    try:
        with Path(path).open("rb") as stream:
            return stream.read(ImageLimits().bytes + 1)  # what is longer carries no signal
    except OSError as exc:
        raise BadInput(GONE) from exc


def _table_weight(table: PhotoTable) -> int:
    pictures = (picture for row in table.rows for picture in (row.photo, *row.maps.values()))
    return sum(map(len, pictures)) + 1000 * len(table.files)


def _weight(answer: Explanation) -> int:
    pixels = answer.question.pixels
    values = answer.result.values.nbytes if isinstance(answer.result, Heatmap) else 0
    return (0 if pixels is None else pixels.nbytes) + values + 1000


def _around_what_is_seen(view: View) -> Box:
    """Return left, top, right and bottom of the part of a photo that is shown: of a strip not all.

    Along its length that is what the network sees, and as much on either side.
    """
    size = view.original
    if max(size) <= STRIP * min(size):
        return (0, 0, *size)
    visible_box, axis = view.visible_box, int(size[1] > size[0])
    start, end = visible_box[axis], visible_box[axis + 2]
    first, last = max(0, int(2 * start - end)), min(size[axis], ceil(2 * end - start))
    return (first, 0, last, size[1]) if axis == 0 else (0, first, size[0], last)


def _fit_screen(pixels: Pixels) -> Pixels:
    """Return a part of a photo at the size of a screen's picture: neither large nor tiny."""
    side = max(pixels.shape[:2])
    if side >= LEAST_SIDE:
        return shrunk(pixels, SCREEN_SIDE)
    height, width = (round(length * LEAST_SIDE / side) for length in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST))
