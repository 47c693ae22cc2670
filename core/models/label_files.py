"""The labels that a user names: a file of lines or of JSON, or words joined by commas."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whylens.core.errors import BadInput, quote
from whylens.core.models.labels import IMAGENET, labels_by_index

# A line that carries its index: "1 dog", "dog,1", or with a tab between.
_INDEX_FIRST = re.compile(r"(?P<index>\d+)[\s,;:]+(?P<label>.*\S)")
_INDEX_LAST = re.compile(r"(?P<label>\S.*?)[\s,;:]+(?P<index>\d+)")
# What lies around the labels in a config.json of Hugging Face and in annotations of COCO.
_WRAPPERS = ("id2label", "label2id", "categories")


def read_labels(text: str | None) -> tuple[str, ...] | str | None:
    """Return the labels that `--labels` means; None where it is left out.

    Raises:
        BadInput: They cannot be read.
    """
    if text is None or text == IMAGENET:
        return text
    path = _file(text)
    if path is None:
        if "," not in text and (Path(text).suffix or "/" in text):
            raise BadInput(
                f"There is no file of labels {quote(text)}. Give --labels a file with a label per "
                f"line or in JSON, labels joined by commas, or {IMAGENET}."
            )
        labels, source = tuple(label.strip() for label in text.split(",")), "--labels"
    else:
        labels, source = _labels_of_file(path), path.name
    if "" in labels:
        raise BadInput(
            f"{source} has an empty label, number {labels.index('')} as counted from 0. Give a "
            "word for every class."
        )
    return labels


def _file(text: str) -> Path | None:
    try:
        path = Path(text).expanduser()
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # more labels than a file's name is long
        return None


def _labels_of_file(path: Path) -> tuple[str, ...]:
    try:
        content = _decoded(path.read_bytes())
        if path.suffix.lower() != ".json":
            return _labels_of_lines([line.strip() for line in content.splitlines() if line.strip()])
        return _labels_of_json(json.loads(content))
    except OSError as exc:
        raise BadInput(f"{path.name} cannot be read: {exc.strerror}.") from exc
    except UnicodeError as exc:
        raise BadInput(
            f"{path.name} is not in UTF-8, and of other encodings one cannot tell which. Save it "
            "as UTF-8."
        ) from exc
    except (TypeError, ValueError) as exc:
        raise BadInput(
            f"{path.name} holds no labels ({' '.join(str(exc).split())[:100]}). Give a label per "
            "line, or JSON: a list, or an object of labels by index or indices by label."
        ) from exc


def _decoded(data: bytes) -> str:
    # Windows writes UTF-16 with a mark of byte order.
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if marked else "utf-8-sig")
    if "\0" in text:
        raise UnicodeError("without a mark of byte order")
    return text


def _labels_of_lines(lines: list[str]) -> tuple[str, ...]:
    """Return the labels in the order of the indices beside them, or in that of the lines."""
    readings = set()
    for pattern in (_INDEX_FIRST, _INDEX_LAST):
        matches = [match for line in lines if (match := pattern.fullmatch(line))]
        by_index = {int(match["index"]): match["label"] for match in matches}
        counts = [list(range(first, first + len(lines))) for first in (0, 1)]
        # "class 0", "class 1": there the number is the name.
        if sorted(by_index) in counts and len(set(by_index.values())) == len(lines) > 1:
            readings.add(tuple(by_index[index] for index in sorted(by_index)))
    if len(readings) > 1:
        raise ValueError("which of the two numbers of a line is the index is not clear")
    return readings.pop() if readings else tuple(lines)


def _labels_of_json(content: Any) -> tuple[str, ...]:
    if isinstance(content, Mapping):
        inner = (content.get(key) for key in _WRAPPERS)
        content = next((part for part in inner if isinstance(part, Mapping | list)), content)
    if isinstance(content, Mapping):
        content = labels_by_index(content)
    if not isinstance(content, list):
        raise TypeError("neither a list nor an object")
    if content and all(isinstance(item, Mapping) and "id" in item for item in content):
        by_id = {int(item["id"]): item for item in content}
        if len(by_id) < len(content):
            raise ValueError("one id is given to several labels")
        content = [by_id[index] for index in sorted(by_id)]
    return tuple(_label(item) for item in content)


def _label(item: Any) -> str:
    if isinstance(item, Mapping):
        item = item.get("name")
    if isinstance(item, list) and item:
        item = item[-1]  # torchvision's and timm's tables keep an id beside the name
    if not isinstance(item, str | int | float):
        raise TypeError(f"{str(item)[:40]} is no label")
    return str(item).strip()
