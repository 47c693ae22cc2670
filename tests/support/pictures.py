"""Small sets of pictures for tests: structured noise whose colour tells the class."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from whylens.core.conformance.toy_inputs import tinted_pixels
from whylens.core.datasets.dataset import Dataset, Item, SplitName
from whylens.core.train.recipe import Recipe
from whylens.core.train.run import train

# What a hostile label would do in a page that took it for HTML.
HOSTILE_LABEL = "<img src=x onerror='window.harmed=1'>${window.harmed=1}{{value}}"
SLIM = {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16)}


def noisy(seed: int, channel: int, *, side: int = 32) -> np.ndarray:
    """Return (side, side, 3) uint8: blocks of noise, brighter in one channel."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 120, (8, 8, 3)).astype(np.uint8)
    pixels = blocks.repeat(side // 8, 0).repeat(side // 8, 1)
    pixels[..., channel] = pixels[..., channel] // 2 + 120
    return pixels


class Colours(Dataset):
    """Red and blue noise, drawn when asked for."""

    def __init__(self, *, train=(24, 24), val=(8, 8), test=(6, 6), name="colours"):
        self.name, self.labels, self.licence = name, ("red", "blue"), "none needed"
        counts: dict[SplitName, tuple[int, int]] = {"train": train, "val": val, "test": test}
        self.items = tuple(
            Item(f"{split}-{label}-{i}", label, split)
            for split, (red, blue) in counts.items()
            for label, count in enumerate((red, blue))
            for i in range(count)
        )

    def pixels(self, index):
        return noisy(index, 2 * self.items[index].label)

    def content_digest(self, index):
        return f"{index}"


class Mislabelled(Colours):
    """Colours of which some pictures carry the wrong label; one class is called as an attack is."""

    def __init__(self):
        super().__init__()
        self.labels = ("red", HOSTILE_LABEL)

    def pixels(self, index):
        item = self.items[index]
        number = int(item.key.rsplit("-", 1)[1])
        wrong = item.split != "train" and number < (2 if item.split == "test" else 1)
        return noisy(index, 2 * (item.label ^ wrong))


class Tinted(Dataset):
    """Pictures of noise whose class is the colour of a few cells, for methods that are fitted."""

    name = "tinted"
    labels = ("ant", "bee", "cat")
    items = tuple(Item(f"tinted/{i}", i % 3, "train" if i < 36 else "val") for i in range(54))

    def pixels(self, index):
        return tinted_pixels(index)

    def content_digest(self, index):
        return str(index)


def colour_folder(root: Path, counts: dict[str, int], *, first: int = 0) -> Path:
    """Return a folder of PNGs, one subfolder per class; the n-th class is bright in channel n."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            image = Image.fromarray(noisy(first + 1000 * label + i, label))
            image.save(root / name / f"{i:03d}.png")
    return root


def zip_of_fruit(root: Path) -> str:
    """Write a ZIP of cherries and kiwis, one cherry twice, and return its path."""
    colour_folder(root / "fruit", {"cherry": 20, "kiwi": 20})
    path = root / "fruit.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((root / "fruit").rglob("*.png")):
            archive.write(file, file.relative_to(root))
        archive.write(root / "fruit" / "cherry" / "000.png", "fruit/cherry/copy.png")
    return str(path)


def train_mislabelled(folder: Path) -> None:
    """Train a small network that errs on six pictures, with a report, into a folder."""
    recipe = Recipe(backbone="resnet18", arguments=SLIM, size=32, batch=16, epochs=6, lr=0.05)
    for _ in train(Mislabelled(), recipe, folder):
        pass
