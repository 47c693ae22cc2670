"""What a method shows on average over the pictures of a class: an explanation of the model.

Maps are averaged on the view that the network was shown, where one place of the map is the same
place of every picture's frame.
"""

from __future__ import annotations

import io
import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from whylens.core.datasets.dataset import SPLITS, Dataset
from whylens.core.datasets.tensors import to_tensor, view_pixels
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, NeedsNotMet
from whylens.core.explanation import Question
from whylens.core.inputs.photo import Pixels, photo_of
from whylens.core.inputs.spec import InputSpec
from whylens.core.inputs.view import view_of
from whylens.core.outputs.export import npy_bytes, recorded_files, versions
from whylens.core.outputs.render import Style, overlay
from whylens.core.progress import last_of
from whylens.core.results import Heatmap
from whylens.core.storage.files import FileSet

DESCRIPTION = "means.json"


@dataclass(frozen=True, slots=True)
class MeanMap:
    """The mean of one method's maps over pictures of one class.

    Attributes:
        heatmap: The mean, with its standard error over pictures.
        picture: (H, W, 3) the mean of what the network was shown.
        count: How many pictures.
    """

    heatmap: Heatmap
    picture: Pixels
    count: int


def mean_maps(
    engine: Engine,
    model: str,
    method: str,
    dataset: Dataset,
    *,
    params: Mapping[str, object] | None = None,
    per_class: int = 20,
) -> Generator[float, None, dict[str, MeanMap]]:
    """Yield the share done, and return the mean map of every class, by its label.

    Each picture is asked about its own class. Pictures of the test split are taken, those of
    validation where there is none, else those of training.

    Args:
        per_class: Pictures of each class, at most.

    Raises:
        NeedsNotMet: The method gives no maps.
        BadInput: The network has no class of that label, or nothing was given to look at.
    """
    card = engine.card(model)
    input_spec, labels = InputSpec.model_validate(card.input), card.labels
    missing = [label for label in dataset.labels if label not in labels]
    if missing:
        raise BadInput(
            f"{model} has no class {missing[0]!r}. Give the pictures that it was trained on."
        )
    selected = _choose(dataset, per_class)
    if not selected:
        raise BadInput(f"{dataset.name} holds no pictures.")
    maps: dict[int, list[Heatmap]] = {}
    images: dict[int, list[Pixels]] = {}
    for number, index in enumerate(selected, start=1):
        label, pixels = dataset.items[index].label, dataset.pixels(index)
        question = Question(model, photo_of(pixels), target=labels.index(dataset.labels[label]))
        answer = last_of(engine.explain(question, method, params))
        if not isinstance(answer.result, Heatmap):
            raise NeedsNotMet(f"{answer.title} gives no maps, so there is nothing to average.")
        maps.setdefault(label, []).append(answer.result)
        images.setdefault(label, []).append(view_pixels(to_tensor(pixels, input_spec), input_spec))
        yield number / len(selected)
    return {dataset.labels[label]: _mean(maps[label], images[label]) for label in sorted(maps)}


def mean_picture(mean: MeanMap, input_spec: InputSpec, style: Style) -> Image.Image:
    """Return the mean map over the mean of what the network was shown."""
    height, width = mean.picture.shape[:2]
    whole = input_spec.model_copy(update={"crop": 1.0, "crop_mode": "squash"})
    # Its standard error is of the choice of pictures, not of the method: nothing is hidden.
    style = replace(style, significant_only=False)
    return overlay(mean.picture, mean.heatmap, view_of((width, height), whole), style)


def write_means(
    folder: Path,
    means: Mapping[str, MeanMap],
    names: Mapping[str, str],
    input_spec: InputSpec,
    described: Mapping[str, object],
) -> None:
    """Write of every class picture, values and their standard error, and what describes all.

    They are the old ones or the new ones, as their hashes in the description tell, however this
    process ends.

    Args:
        folder: Made if absent.
        means: By label.
        names: That of a class's files, by label.
        described: What else to say of all of them, as JSON-able data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = FileSet(folder / DESCRIPTION, recorded_files)
    hashes, classes = dict[str, str](), dict[str, object]()
    try:
        for label, mean in means.items():
            contents = {
                ".png": _png(mean, input_spec),
                ".values.npy": npy_bytes(mean.heatmap.values),
            }
            if mean.heatmap.error is not None:
                contents[".error.npy"] = npy_bytes(mean.heatmap.error)
            for ending, content in contents.items():
                name = f"{names[label]}{ending}"
                hashes[name] = files.add_bytes(name, content)
            classes[label] = {
                "name": names[label], "pictures": mean.count, "unit": mean.heatmap.unit
            }  # fmt: skip
        text = {**described, "classes": classes, "versions": versions(), "files": hashes}
        files.commit((json.dumps(text, indent=2) + "\n").encode())
    except BaseException:
        files.discard()
        raise


def _png(mean: MeanMap, input_spec: InputSpec) -> bytes:
    buffer = io.BytesIO()
    mean_picture(mean, input_spec, Style()).save(buffer, "PNG")
    return buffer.getvalue()


def _choose(dataset: Dataset, per_class: int) -> list[int]:
    for split in reversed(SPLITS):
        by_label: dict[int, list[int]] = {}
        for index in dataset.of(split):
            by_label.setdefault(dataset.items[index].label, []).append(index)
        if by_label:
            return [i for label in sorted(by_label) for i in by_label[label][:per_class]]
    return []


def _mean(maps: list[Heatmap], images: list[Pixels]) -> MeanMap:
    values = np.stack([heat.values for heat in maps]).astype(np.float64)
    count = len(values)
    spread = values.std(0, ddof=1) if count > 1 else np.zeros_like(values[0])
    heat = Heatmap(
        values.mean(0),
        maps[0].unit,
        maps[0].signed,
        {"pictures": count},
        "The mean over pictures; its standard error is that of another choice of pictures.",
        spread / np.sqrt(count),
    )
    picture = np.stack(images).mean(0).round().astype(np.uint8)
    return MeanMap(heat, picture, count)
