"""The pictures from which patches are taken: a few of every class, and what tells them apart.

May touch the public surface of core.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from core import Artifact, BadInput, Fitting, inputs_of, packed_pictures, view_pixels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core import Backbone, Dataset

# Mean difference of pixels, in grey levels, up to which two views are one picture saved twice.
_SAME = 5.0


class GalleryParams(BaseModel):
    """How the gallery is made.

    Attributes:
        per_class: Pictures of every class at most.
        splits: Which splits of the data they come from.
        seed: Of the choice among more pictures than that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_class: int = Field(40, ge=1, le=10_000)
    splits: Literal["train", "train+val", "all"] = "train"
    seed: int = 0


def chosen(dataset: Dataset, params: GalleryParams) -> list[int]:
    """Return positions of the pictures to keep, at most `per_class` of every class.

    Args:
        dataset: Labelled pictures.
        params: Limit, splits, seed.

    Raises:
        BadInput: There are none.
    """
    wanted = {"train": ("train",), "train+val": ("train", "val")}.get(params.splits)
    rng = np.random.default_rng(params.seed)
    kept: list[int] = []
    for label in range(len(dataset.labels)):
        members = [
            i
            for i, item in enumerate(dataset.items)
            if item.label == label and (wanted is None or item.split in wanted)
        ]
        kept.extend(int(i) for i in rng.permutation(members)[: params.per_class])
    if not kept:
        raise BadInput(f"{dataset.name} has no pictures in {params.splits}; choose other splits.")
    return sorted(kept)


def gallery(dataset: Dataset, backbone: Backbone, params: GalleryParams) -> Iterator[Fitting]:
    """Yield the steps of making a gallery.

    Args:
        dataset: Labelled pictures.
        backbone: The network whose vectors are compared.
        params: How.
    """
    positions = chosen(dataset, params)
    vectors, predicted = [], []
    pictures: list[npt.NDArray[np.uint8]] = []
    for _, x in inputs_of(dataset, positions, backbone.spec):
        with torch.no_grad():
            found = backbone.embed(x).float().cpu().numpy()
            predicted.append(backbone.batch_logits(x).argmax(1).cpu().numpy().astype(np.int32))
        vectors.append(_unit(found).astype(np.float16))
        pictures.extend(view_pixels(row, backbone.spec) for row in x.split(1))
        done = len(pictures)
        yield Fitting(0.99 * done / len(positions), f"{done:,} of {len(positions):,} pictures")
    items = [dataset.items[i] for i in positions]
    arrays: dict[str, npt.NDArray[Any]] = {
        "vectors": np.concatenate(vectors),
        "labels": np.array([item.label for item in items], np.int32),
        "predicted": np.concatenate(predicted),
        **packed_pictures(pictures),
    }
    facts = {
        "data": dataset.name,
        "data_digest": dataset.digest,
        "licence": dataset.licence,
        "labels": list(dataset.labels),
        "keys": [item.key for item in items],
        "params": params.model_dump(),
    }
    yield Fitting(1.0, f"A gallery of {len(items):,} pictures", Artifact(arrays, facts))


def ranked(
    arrays: Mapping[str, npt.NDArray[Any]],
    labels: list[str],
    goal: tuple[int, str],
    query: npt.NDArray[np.float32],
) -> list[tuple[int, float]]:
    """Return (position, cosine) of the pictures of a class, the nearest first.

    Those that the network itself gives to the class come before those that only their label does:
    patches of a picture that the network takes for something else need not change its mind.

    Args:
        arrays: Of the gallery.
        labels: Its classes.
        goal: The class, by index in the network and by name.
        query: (D,) the vector of the visitor's picture.
    """
    index, name = goal
    called = np.asarray(arrays["predicted"]) == index
    # Of a gallery with classes of its own only the network's word counts.
    labelled = np.asarray(arrays["labels"])
    member = labelled == labels.index(name) if name in labels else called
    near = np.asarray(arrays["vectors"], np.float32) @ _unit(query[None])[0]
    order = np.lexsort((-near, ~called))
    return [(int(i), float(near[i])) for i in order if member[i]]


def is_copy(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> bool:
    """Return whether two views show one picture, give or take what saving as JPEG changes.

    Args:
        one: (H, W, 3) uint8.
        other: (H, W, 3) uint8.
    """
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean()) <= _SAME


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    unit: npt.NDArray[np.float32] = (rows / lengths).astype(np.float32)
    return unit
