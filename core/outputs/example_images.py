"""Examples and prototypes as pictures: numbered boxes, coloured likeness, tiles side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from whylens.core.outputs.render import Pixels, colour
from whylens.core.results import Array, Example, Examples, NumberedBox, Prototypes

# Told apart by people with any kind of colour vision (Okabe and Ito), bright first.
_INKS = ("#f0e442", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
_GAP = 6
_PAPER = "#ffffff"


def tile(example: Example, *, side: int = 224, colormap: str = "heat") -> Image.Image:
    """Return an example's picture, to the right of what it is compared with, if anything.

    Args:
        side: Height of the tile in pixels.
        colormap: Of the likeness; one of `colour_names()`.
    """
    own = draw_marks(_size(example.image, side), example.marks)
    if example.comparison is None:
        return own
    view = _size(example.comparison.image, side)
    if example.comparison.similarity is not None:
        view = likeness(view, example.comparison.similarity, colormap)
    view = draw_marks(view, example.comparison.marks)
    both = Image.new("RGB", (view.width + _GAP + own.width, side), _PAPER)
    both.paste(view, (0, 0))
    both.paste(own, (view.width + _GAP, 0))
    return both


def likeness(picture: Image.Image, similarity: Array, colormap: str) -> Image.Image:
    """Return a picture under a map of cosines; zero and less stay uncoloured, 1 is full colour.

    Args:
        similarity: (h, w) float32.
        colormap: One of `colour_names()`.
    """
    coarse = Image.fromarray(np.asarray(similarity, np.float32), mode="F")
    wide = np.asarray(coarse.resize(picture.size, Image.Resampling.BILINEAR))
    share = np.clip(wide, 0, 1)
    paint = colour(share, colormap, diverges=False).astype(np.float32)
    weight = (0.75 * share**1.5)[..., None]
    blend = np.asarray(picture, np.float32) * (1 - weight) + paint * weight
    return Image.fromarray(np.rint(blend).astype(np.uint8))


def draw_marks(picture: Image.Image, marks: Sequence[NumberedBox]) -> Image.Image:
    """Return a picture with numbered boxes; one number has one colour everywhere."""
    boxed = picture.copy()
    draw = ImageDraw.Draw(boxed)
    width, height = boxed.size
    line = max(2, min(width, height) // 80)
    font = ImageFont.load_default(size=max(11, min(width, height) // 14))
    for mark in marks:
        ink = _INKS[(mark.number - 1) % len(_INKS)]
        box = (
            round(mark.left * (width - 1)),
            round(mark.top * (height - 1)),
            round(mark.right * (width - 1)),
            round(mark.bottom * (height - 1)),
        )
        draw.rectangle([c + o for c, o in zip(box, (-1, -1, 1, 1), strict=True)], outline="#111111")
        draw.rectangle(box, outline=ink, width=line)
        if len(marks) > 1:
            text = str(mark.number)
            left, top, right, bottom = draw.textbbox((box[0], box[1]), text, font=font)
            draw.rectangle((left - 3, top - 3, right + 3, bottom + 3), fill=ink)
            draw.text((box[0], box[1]), text, font=font, fill="#111111")
    return boxed


def sheet(result: Examples | Prototypes, *, count: int = 6, side: int = 168) -> Image.Image:
    """Return the first examples as one picture, two in a row.

    Args:
        count: Tiles at most.
    """
    tiles = [tile(item, side=side) for item in result.items[:count]]
    if not tiles:
        return Image.new("RGB", (side, side), _PAPER)
    rows: list[list[Image.Image]] = [[]]
    limit = max(2 * side + _GAP, *(t.width for t in tiles))
    for picture in tiles:
        row_width = sum(t.width + _GAP for t in rows[-1])
        if rows[-1] and row_width + picture.width > limit:
            rows.append([])
        rows[-1].append(picture)
    whole = Image.new("RGB", (limit, len(rows) * (side + _GAP) - _GAP), _PAPER)
    for number, row in enumerate(rows):
        left = 0
        for picture in row:
            whole.paste(picture, (left, number * (side + _GAP)))
            left += picture.width + _GAP
    return whole


def _size(pixels: Pixels, side: int) -> Image.Image:
    height, width = pixels.shape[:2]
    size = max(1, round(width * side / height)), side
    return Image.fromarray(np.asarray(pixels)).resize(size, Image.Resampling.LANCZOS)
