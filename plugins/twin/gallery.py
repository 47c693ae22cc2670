"""A gallery of training pictures: their vectors, what they show, and what the network says to them.

May touch the public surface of core.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from core import Artifact, Fitting
from plugins._gallery import Splits, gathered, members_by_class
from plugins.twin.index import has_faiss, index_of
from plugins.twin.neighbours import tiny
from plugins.twin.search import is_large

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
    splits: Splits = "train"
    seed: int = 0


def chosen(dataset: Dataset, params: GalleryParams) -> list[int]:
    """Return positions of the pictures to keep: as many of every class as there are or fit.

    Args:
        dataset: Labelled pictures.
        params: Limit, splits, seed.

    Raises:
        BadInput: There are none.
    """
    rng = np.random.default_rng(params.seed)
    by_class = members_by_class(dataset, params.splits)
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
    arrays, facts, pictures = yield from gathered(dataset, backbone, positions, params)
    arrays["tinies"] = np.stack([tiny(picture) for picture in pictures])
    if is_large(len(positions)) and has_faiss():
        arrays["index"] = index_of(arrays["vectors"], arrays["labels"], seed=params.seed)
    facts["splits"] = [dataset.items[i].split for i in positions]
    yield Fitting(1.0, f"A gallery of {len(positions):,} pictures", Artifact(arrays, facts))
