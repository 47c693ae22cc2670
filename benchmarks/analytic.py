"""A linear network and its pictures: what makes its score is known to the pixel."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from whylens import Dataset, Item
from whylens.core.conformance.toy_networks import plain_spec
from whylens.core.datasets.dataset import Mask, Pixels
from whylens.core.models.backbone import Backbone, wrap

SIDE, CLASSES, TEST = 64, 4, 400
LABELS = tuple(f"blob {number}" for number in range(CLASSES))


def blob(label: int) -> Mask:
    """Return (64, 64) bool: the place of a class, an eighth of the picture."""
    # Streams of their own: a random map that was drawn from the same one would know the place.
    noise = np.random.default_rng([label, 2]).standard_normal((SIDE, SIDE))
    smooth = gaussian_filter(noise, 6, mode="wrap")
    return np.asarray(smooth > np.quantile(smooth, 7 / 8))


class Blobs(Dataset):
    """Noise with bright spots, in which the place of one class is bright."""

    name, labels = "blobs", LABELS
    items = tuple(Item(str(i), i % CLASSES, "test") for i in range(TEST))

    def pixels(self, index: int) -> Pixels:  # noqa: D102
        rng = np.random.default_rng([index, 1])
        spots = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 3, mode="wrap")
        light = 40 + 120 * (spots > np.quantile(spots, 7 / 8)) + rng.integers(30, size=spots.shape)
        light[blob(self.items[index].label)] += 60
        return np.repeat(light.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)

    def evidence(self, index: int) -> Mask:  # noqa: D102
        return blob(self.items[index].label)

    def content_digest(self, index: int) -> str:  # noqa: D102
        return hashlib.sha256(self.pixels(index).tobytes()).hexdigest()


def network() -> Backbone:
    """Return the network whose score of a class is the light in its place, times a number."""
    linear = nn.Linear(3 * SIDE * SIDE, CLASSES, bias=False)
    places = np.stack([np.broadcast_to(blob(label), (3, SIDE, SIDE)) for label in range(CLASSES)])
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(places.reshape(CLASSES, -1) / 60.0))
    return wrap(
        nn.Sequential(nn.Flatten(), linear).eval(), input_spec=plain_spec(SIDE, SIDE), labels=LABELS
    )
