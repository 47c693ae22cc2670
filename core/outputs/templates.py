"""Templates for HTML, whose values are escaped unless they are marked as HTML already."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from whylens.core.words import percent


def load_templates(folder: Path) -> Environment:
    """Return the templates of a folder, with the filters `number`, `percent` and `jpeg_url`."""
    templates = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": format, "percent": percent, "jpeg_url": jpeg_url}
    return templates


def jpeg_url(data: bytes) -> str:
    """Return a JPEG as an address that holds it."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
