"""A gallery of training pictures: their vectors, what they show, and what the network says to them.

May touch the public surface of core.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from core import Artifact, BadInput, Fitting, inputs_of, packed_pictures, view_pixels
from plugins.twin.neighbours import tiny

if TYPE_CHECKING:
    from core import Backbone, Dataset


class GalleryParams(BaseModel):
    """How a gallery is made.

    Attributes:
        limit: Pictures at most, taken evenly from all classes.
        splits: Which splits of the data they come from.
        seed: Of the choice among more pictures than the limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: int = Field(2000, ge=2, le=5_000_000)
    splits: Literal["train", "train+val", "all"] = "train"
    seed: int = 0


def chosen(dataset: Dataset, params: GalleryParams) -> list[int]:
    """Return positions of the pictures to keep: as many of every class as there are or fit.

    Args:
        dataset: Labelled pictures.
        params: Limit, splits, seed.

    Raises:
        BadInput: There are none.
    """
    wanted = {"train": ("train",), "train+val": ("train", "val")}.get(params.splits)
    rng = np.random.default_rng(params.seed)
    by_class: list[list[int]] = [[] for _ in dataset.labels]
    for i, item in enumerate(dataset.items):
        if wanted is None or item.split in wanted:
            by_class[item.label].append(i)
    if not any(by_class):
        raise BadInput(f"{dataset.name} has no pictures in {params.splits}; choose other splits.")
    for members in by_class:
        rng.shuffle(members)
    # Turn by turn, one of each class: a rare class keeps all it has.
    turns = [
        members[turn]
        for turn in range(max(map(len, by_class)))
        for members in by_class
        if turn < len(members)
    ]
    return sorted(turns[: params.limit])


def gallery(dataset: Dataset, backbone: Backbone, params: GalleryParams) -> Iterator[Fitting]:
    """Yield the steps of making a gallery.

    Args:
        dataset: Labelled pictures.
        backbone: The network whose vectors are compared.
        params: How.
    """
    positions = chosen(dataset, params)
    vectors, predicted, tinies, pictures = [], [], [], []
    for piece, x in inputs_of(dataset, positions, backbone.spec):
        with torch.no_grad():
            found = backbone.embed(x).float().cpu().numpy()
            said = backbone.batch_logits(x).argmax(1).cpu().numpy()
        lengths = np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        vectors.append((found / lengths).astype(np.float16))
        predicted.append(said.astype(np.int32))
        for row in x.split(1):
            view = view_pixels(row, backbone.spec)
            pictures.append(view)
            tinies.append(tiny(view))
        done = len(pictures)
        yield Fitting(0.99 * done / len(positions), f"{done:,} of {len(positions):,} pictures")
        del piece
    items = [dataset.items[i] for i in positions]
    arrays = {
        "vectors": np.concatenate(vectors),
        "labels": np.array([item.label for item in items], np.int32),
        "predicted": np.concatenate(predicted),
        "tinies": np.stack(tinies),
        **packed_pictures(pictures),
    }
    facts = {
        "data": dataset.name,
        "data_digest": dataset.digest,
        "licence": dataset.licence,
        "labels": list(dataset.labels),
        "keys": [item.key for item in items],
        "splits": [item.split for item in items],
        "params": params.model_dump(),
    }
    yield Fitting(1.0, f"A gallery of {len(items):,} pictures", Artifact(arrays, facts))
