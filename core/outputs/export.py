"""What a visitor takes home: the picture, the raw values, how they came about, how to redo them.

The same files go into the page's ZIP and the command line's folder.
"""

from __future__ import annotations

import io
import json
import platform
import shlex
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image

from whylens.core.explanation import Explanation
from whylens.core.outputs.example_images import tile
from whylens.core.outputs.render import Style, render_explanation, scale_of
from whylens.core.results import Array, Example, Heatmap, Prototypes
from whylens.core.storage.files import write_atomically

_VERSIONS = ("whylens", "torch", "torchvision", "timm", "numpy", "pillow", "pluggy")


def bundle_files(
    explanation: Explanation,
    *,
    source: str = "photo.png",
    style: Style | None = None,
    command: str | None = None,
) -> dict[str, bytes]:
    """Return the files of one explanation by name, in a folder named after the method.

    Args:
        command: What makes the files again; by default a command line, which knows models by name.
    """
    style = style or Style()
    folder = explanation.method
    files: dict[str, bytes] = {}
    if isinstance(explanation.result, Heatmap):
        files[f"{folder}/overlay.png"] = _png(render_explanation(explanation, style))
        files[f"{folder}/values.npy"] = npy_bytes(explanation.result.values)
        if explanation.result.error is not None:
            files[f"{folder}/standard_error.npy"] = npy_bytes(explanation.result.error)
    else:
        for number, item in enumerate(explanation.result.items, start=1):
            files[f"{folder}/example-{number:02d}.png"] = _png(tile(item, colours=style.colormap))
    described = manifest(explanation, source=source, style=style)
    described |= {"command": command} if command else {}
    text = json.dumps(described, indent=2) + "\n"
    files[f"{folder}/manifest.json"] = text.encode()
    return files


def npy_bytes(values: Array) -> bytes:
    """Return values as an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def manifest(explanation: Explanation, *, source: str, style: Style) -> dict[str, object]:
    """Return everything needed to tell how an explanation came about, as JSON-able data."""
    card, target, result = explanation.model, explanation.target, explanation.result
    described: dict[str, object] = {
        "method": explanation.method,
        "plugin": explanation.plugin,
        "finished": explanation.finished,
        "fraction": explanation.fraction,
        "seconds": round(explanation.seconds, 4),
        "input": {
            "name": source,
            "sha256_of_pixels": explanation.question.digest(),
            "notes": list(explanation.notes),
        },
        "model": {
            "name": card.name,
            "weights_sha256": card.digest,
            "licence": card.licence,
            "source": card.source,
            "trained": card.trained,
            "transform": dict(card.input),
        },
        "view": explanation.view.as_dict() if explanation.view else None,
        "target": {
            "index": target.index,
            "label": explanation.labels[0],
            "quantity": target.quantity,
            "versus": target.versus,
            "versus_label": explanation.labels[1] if len(explanation.labels) > 1 else None,
            "score": explanation.score,
            "probability": explanation.probability,
        },
        "parameters": dict(explanation.params),
        "seed": explanation.question.seed,
        "style": {
            "colormap": style.colormap,
            "opacity": style.opacity,
            "significant_only": style.significant_only,
            "under": style.under,
        },
        "versions": versions(),
        "command": command_line(explanation, source),
    }
    if isinstance(result, Heatmap):
        scale = scale_of(result)
        described["map"] = {
            "shape": list(result.values.shape),
            "unit": result.unit,
            "signed": result.signed,
            "minimum": float(result.values.min()),
            "maximum": float(result.values.max()),
            "colour_scale": [scale.low, scale.high],
            "diagnostics": dict(result.diagnostics),
            "note": result.note,
            "blank_because": result.blank_reason(),
        }
    else:
        described["items"] = [_item(item) for item in result.items]
        described |= {"unit": result.unit, "note": result.note}
        if isinstance(result, Prototypes):
            described |= {
                "predicted": result.predicted,
                "score": result.score,
                "rest": result.rest,
            }
    return described


def _item(item: Example) -> Mapping[str, object]:
    return {
        "caption": item.caption,
        "value": item.value,
        "key": item.key,
        "group": item.group,
        "diagnostics": dict(item.diagnostics),
    }


def command_line(explanation: Explanation, source: str) -> str:
    """Return the command that makes the same files again."""
    target = explanation.target
    words = ["whylens", "explain", source, "--model", explanation.model.name]
    words += ["--method", explanation.method, "--target", str(target.index)]
    if target.versus is not None:
        words += ["--versus", str(target.versus)]
    if target.quantity == "probability":
        words += ["--quantity", "probability"]
    for name, value in explanation.params.items():
        words += ["--param", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
    if explanation.question.seed:
        words += ["--seed", str(explanation.question.seed)]
    return shlex.join([*words, "--out", "out"])


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the numbers."""
    numbers = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            numbers[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a bare checkout has no metadata of its own
            numbers[name] = "checkout"
    return numbers


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a ZIP of `files`, the same bytes for the same files.

    Args:
        files: Contents by name.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return buffer.getvalue()


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write `files` into `folder` and return their paths; a reader never sees half a file.

    Args:
        folder: Made if absent.
        files: Contents by name.
    """
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    return [folder / name for name in files]


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
