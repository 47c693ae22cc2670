"""Results made of pictures as HTML: groups of tiles, points as bars; foreign text is escaped."""

from __future__ import annotations

import base64
import io
from html import escape
from itertools import groupby

from PIL import Image

from whylens.core.outputs.example_images import tile
from whylens.core.results import Example, Examples, Prototypes

_PAIRS = (
    "<p class='wl-source'>In pairs: left what you gave as the network saw it, right what was known "
    "before. Boxes of one number belong together.</p>"
)


def tiles_html(result: Examples | Prototypes, *, colours: str) -> str:
    """Return HTML of a result's pictures under their headings, and the sum of prototypes' points.

    Args:
        result: Examples or prototypes.
        colours: Of likeness maps.
    """
    if not result.items:
        return f"<p class='wl-reason'>{escape(result.note or 'There is nothing to show.')}</p>"
    top = max(abs(item.value) for item in result.items) or 1.0
    bars = isinstance(result, Prototypes)
    parts = [_sum(result)] if isinstance(result, Prototypes) else []
    for heading, members in groupby(result.items, key=lambda item: item.group):
        shares = [(item, item.value / top if bars else None) for item in members]
        figures = "".join(_figure(item, colours, share) for item, share in shares)
        title = f"<h4>{escape(heading)}</h4>" if heading else ""
        tiles = f"<div class='wl-tiles'>{figures}</div>"
        parts.append(f"<section class='wl-group'>{title}{tiles}</section>")
    if any(item.beside is not None for item in result.items):
        parts.append(_PAIRS)
    return "".join(parts)


def _figure(item: Example, colours: str, share: float | None) -> str:
    bar = ""
    if share is not None:
        kind = "for" if share >= 0 else "against"
        bar = f"<div class='wl-points wl-{kind}'><span style='width:{abs(share):.0%}'></span></div>"
    wide = " wl-pair" if item.beside is not None else ""
    key = f"<code>{escape(item.key)}</code>" if item.key else ""
    return (
        f"<figure class='wl-tile{wide}'><img src='{_data_url(tile(item, colours=colours))}' "
        f"alt='{escape(item.caption, quote=True)}'>{bar}"
        f"<figcaption>{escape(item.caption)} {key}</figcaption></figure>"
    )


def _sum(result: Prototypes) -> str:
    terms = " ".join(f"{item.value:+.2f}" for item in result.items)
    return (
        f"<p class='wl-sum'>The prototypes say <b>{escape(result.predicted)}</b>. "
        f"{escape(result.unit[:1].upper() + result.unit[1:])}: {terms}, all else "
        f"{result.rest:+.2f}, in all <b>{result.score:.2f}</b>.</p>"
    )


def _data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
