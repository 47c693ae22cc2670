"""Many photos as one table: what the network says of each, and a page of it that opens anywhere."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image

from whylens.core.inputs.view import View, shrunk
from whylens.core.outputs.render import Pixels, Style, overlay
from whylens.core.outputs.templates import jpeg_url, load_templates
from whylens.core.results import Heatmap
from whylens.core.words import number_of, percent

SIDE = 200  # pixels of a thumbnail's longer side
MOST_ROWS = 2_000
MOST_PICTURES = 800  # embedded in a report: about 8 MB
SECONDS = "Seconds"

Order = Literal["least sure", "wrong", "name"]


@dataclass(frozen=True, slots=True)
class PhotoRow:
    """One photo of many.

    Attributes:
        name: Path below the folder, with slashes, or the file's name.
        label: Of the most probable class; "" where there is no prediction.
        probability: Of that class.
        true_label: "" where it is not known.
        figures: Further columns of numbers by their heads.
        notes: What to know of the photo and its maps, errors among it.
        photo: JPEG of a thumbnail; b"" for none.
        maps: JPEGs of maps over the photo by their methods' titles.
    """

    name: str
    label: str = ""
    probability: float | None = None
    true_label: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    photo: bytes = b""
    maps: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def right(self) -> bool | None:
        """Whether the true class is the one that is predicted; None where either is not known."""
        return self.label == self.true_label if self.label and self.true_label else None


def order_key(order: Order) -> Callable[[PhotoRow], tuple[object, ...]]:
    """Return the key that sorts rows; what has no prediction comes last.

    Args:
        order: "least sure" first; "wrong" first, the surest mistakes before all others, and the
            rest as the least sure; or "name".
    """

    def key(row: PhotoRow) -> tuple[object, ...]:
        sureness = 0.0 if row.probability is None else row.probability
        if order == "name":
            return (row.name,)
        if order == "wrong" and row.right is False:
            return (False, False, -sureness, row.name)
        return (order == "wrong", not row.label, sureness, row.name)

    return key


def true_labels(labels: Sequence[str]) -> Callable[[str, str], str]:
    """Return what finds a photo's class by the name of the folder it lies in.

    It takes the photo's path and the name of the folder that the path is below, and returns a
    label, or "" where no label is called so. Case does not matter, nor "_" for a space.
    """
    by_folder = {_plain(label): label for label in reversed(labels)}

    def find(path: str, folder: str) -> str:
        return by_folder.get(_plain(PurePosixPath(path).parent.name or folder), "")

    return find


def _plain(text: str) -> str:
    return text.replace("_", " ").casefold().strip()


class Tally:
    """Counts of rows, in one sentence."""

    def __init__(self, rows: Iterable[PhotoRow] = ()) -> None:
        """Count the first rows."""
        self.photos = self.predicted = self.labelled = self.right = 0
        self.least_sure: PhotoRow | None = None
        for row in rows:
            self.add(row)

    def add(self, row: PhotoRow) -> None:
        """Count a row."""
        self.photos += 1
        self.predicted += bool(row.label)
        self.labelled += row.right is not None
        self.right += row.right is True
        sureness = order_key("least sure")
        if row.label and (self.least_sure is None or sureness(row) < sureness(self.least_sure)):
            self.least_sure = PhotoRow(row.name, row.label, row.probability)

    def sentence(self) -> str:
        """Return how many are named right, as far as that is known, and the least sure of all."""
        parts = [number_of(self.photos, "photo")]
        if self.labelled:
            parts = [f"{self.right:,} of {self.labelled:,} named right"]
            if self.predicted > self.labelled:
                parts.append(f"the class of {self.predicted - self.labelled:,} more is not known")
        if self.least_sure is not None and self.least_sure.probability is not None:
            row, share = self.least_sure, percent(self.least_sure.probability, 1)
            parts.append(f"least sure: {row.name} ({row.label}, {share})")
        if self.photos > self.predicted:
            parts.append(f"no prediction for {self.photos - self.predicted:,}")
        return "; ".join(parts) + "."


def thumbnail(picture: Image.Image | Pixels) -> bytes:
    """Return a small JPEG of a picture."""
    pixels = np.asarray(picture.convert("RGB") if isinstance(picture, Image.Image) else picture)
    stream = io.BytesIO()
    Image.fromarray(shrunk(pixels, SIDE)).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def map_thumbnail(photo: Pixels, heatmap: Heatmap, view: View, style: Style) -> bytes:
    """Return a small JPEG of a map over its photo.

    Args:
        photo: (H, W, 3) uint8, of the size that `view` was made for.
    """
    small = shrunk(photo, SIDE)
    small_view = view.for_original(small.shape[1], small.shape[0])
    return thumbnail(overlay(small, heatmap, small_view, style))


def most_pictured(methods: int) -> int:
    """Return for how many photos a report embeds pictures.

    Args:
        methods: How many maps each of them has.
    """
    return MOST_PICTURES // (1 + methods)


def report_html(
    rows: Sequence[PhotoRow],
    *,
    model: str,
    weights_sha256: str,
    methods: Sequence[str],
    tally: Tally | None = None,
) -> str:
    """Return a page that needs no other file: a sentence, and the table, which a click sorts.

    Args:
        rows: In the order to show them; only the first `most_pictured` are shown with pictures.
        methods: Titles of the methods that have a column of maps.
        tally: Of all photos where `rows` are some of them.
    """
    tally, pictured = tally or Tally(rows), most_pictured(len(methods))
    embedded = []
    for number, row in enumerate(rows):
        show = number < pictured
        photo = jpeg_url(row.photo) if show and row.photo else ""
        embedded.append((row, photo, {m: jpeg_url(j) for m, j in row.maps.items() if show}))
    figures = list(dict.fromkeys(name for row in rows for name in row.figures))
    remarks = []
    if tally.photos > len(rows):
        remarks.append(f"The table lists the first {len(rows):,} of {tally.photos:,} photos.")
    if pictured < len(rows):
        remarks.append(f"Pictures are embedded for the first {pictured:,} only.")
    template = _TEMPLATES.get_template("photo_report.html")
    return template.render(
        rows=embedded,
        model=model,
        weights_sha256=weights_sha256,
        methods=methods,
        figures=figures,
        truth=any(row.true_label for row in rows),
        remarks=remarks,
        tally=tally,
    )


_TEMPLATES = load_templates(Path(__file__).parent)
