"""Results made of pictures as HTML: groups of tiles, points as bars."""

from __future__ import annotations

import base64
import io
from itertools import groupby

from PIL import Image

from whylens.core.outputs.example_images import tile
from whylens.core.results import Examples, Prototypes
from whylens.ui.page.html import render


def tiles_html(result: Examples | Prototypes, *, colours: str) -> str:
    """Return HTML of a result's pictures under their headings, and the sum of prototypes' points.

    Args:
        colours: Colour map of likeness maps.
    """
    top = max((abs(item.value) for item in result.items), default=0.0) or 1.0
    groups = [
        (
            heading,
            [(item, _data_url(tile(item, colours=colours)), item.value / top) for item in members],
        )
        for heading, members in groupby(result.items, key=lambda item: item.group)
    ]
    bars = isinstance(result, Prototypes)
    return render("tiles", "tiles", result=result, groups=groups, bars=bars)


def _data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
