"""What the tests of files of weights share."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import ROOT
from whylens.core.models.import_options import ImportOptions
from whylens.core.models.import_weights import import_weights

PHOTO = ROOT / "examples" / "photos" / "cat.jpg"


def make(file: Path, **options):
    """Return what `file` is made into, below its own folder."""
    options.setdefault("out", file.parent / "model")
    return import_weights(ImportOptions(file=file, photo=PHOTO, **options))


def prefixed(prefix: str, tensors: dict) -> dict:
    return {prefix + name: value for name, value in tensors.items()}
