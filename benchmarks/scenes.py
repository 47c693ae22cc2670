"""What methods are measured on: a network as it was trained and shuffled, and pictures of objects.

Photos with boxes for a network of ImageNet; painted cats, whose heads lie where the renderer put
them, for the shipped networks.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from whylens.core.datasets.by_name import load_dataset
from whylens.core.engine import Engine
from whylens.core.explanation import Question
from whylens.core.models.backbone import Backbone, wrap
from whylens.core.models.checkpoints import SHIPPED, Argument
from whylens.core.models.labels import class_index
from whylens.core.models.load import build, from_folder
from whylens.core.models.random_weights import randomize_weights
from whylens.core.registry import load_registry
from whylens.core.storage.files import file_sha256

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """A network, and pictures in which the place of the evidence is known.

    Attributes:
        name: Of the network, as questions call it.
        setting: One sentence about it.
        trained: The network.
        pages: Engines with the "trained" network and with one of "random" weights.
        objects: Questions, and the left, top, right and bottom of the object in shares of the
            picture's sides.
    """

    name: str
    setting: str
    trained: Backbone
    pages: dict[str, Engine]
    objects: list[tuple[Question, Box]]


def photos(data: Path, count: int) -> Scene:
    """Return SqueezeNet with ImageNet weights and photos with boxes.

    Args:
        data: Folder with both.
    """
    trained = _squeezenet(data / "squeezenet1_0_imagenet1k.safetensors")
    images = json.loads((data / "photos" / "boxes.json").read_text())
    every = [(i["file"], o["label"], tuple(o["box"])) for i in images for o in i["objects"]][:count]
    pixels = {
        file: np.asarray(Image.open(data / "photos" / file).convert("RGB")) for file, _, _ in every
    }
    question_list = [
        (Question("squeezenet", pixels[file], target=class_index(label, trained.labels)), box)
        for file, label, box in every
    ]
    return _scene(
        "squeezenet",
        "Measured on SqueezeNet with ImageNet weights and 12 objects in real photos, fewer for "
        "slow methods.",
        trained,
        "torchvision:squeezenet1_0",
        {},
        question_list,
    )


def painted_scene(name: str, count: int) -> Scene:
    """Return a shipped network and painted cats of its test split; the object is the head."""
    folder = SHIPPED / name
    trained = from_folder(folder)
    dataset = load_dataset("painted-cats:breed", load_registry().datasets)
    manifest = json.loads((folder / "model.json").read_text())
    question_list = []
    for i in dataset.of("test")[:count]:
        parts = dataset.parts(i)
        rows, columns = np.nonzero(parts["head"] | parts["ears"])
        height, width = parts["head"].shape
        box = (
            columns.min() / width,
            rows.min() / height,
            (columns.max() + 1) / width,
            (rows.max() + 1) / height,
        )
        question_list.append(
            (Question(name, dataset.pixels(i), target=dataset.items[i].label), box)
        )
    return _scene(
        name,
        f"Methods on {name}: on that network and {count} painted cats, whose head is the object.",
        trained,
        manifest["architecture"],
        manifest.get("arguments", {}),
        question_list,
    )


def _scene(
    name: str,
    setting: str,
    trained: Backbone,
    architecture: str,
    arguments: dict[str, Argument],
    objects: list[tuple[Question, Box]],
) -> Scene:
    module = build(architecture, classes=len(trained.labels), arguments=arguments)
    shuffled = randomize_weights(module, seed=1, probe=trained.probe_inputs())
    randomised = wrap(shuffled, input_spec=trained.input_spec, labels=trained.labels)
    pages = {
        "trained": Engine(loader=lambda *_: trained),
        "random": Engine(loader=lambda *_: randomised),
    }
    return Scene(name, setting, trained, pages, objects)


def _squeezenet(weights: Path) -> Backbone:
    manifest = {
        "architecture": "torchvision:squeezenet1_0",
        "input_size": [227, 227],
        "mean": [0.482353, 0.458824, 0.407843],
        "std": [1 / 255] * 3,
        "crop": 227 / 256,
        "interpolation": "bilinear",
        "labels": "imagenet-1k",
        "licence": "see the data",
        "sha256": file_sha256(weights),
    }
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "squeezenet"
        folder.mkdir()
        (folder / "model.safetensors").symlink_to(weights.resolve())
        (folder / "model.json").write_text(json.dumps(manifest))
        return from_folder(folder)
