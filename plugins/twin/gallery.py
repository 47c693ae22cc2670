"""A gallery of training pictures: their vectors, pixels and predicted classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from whylens import Artifact, BadInput, Progress, decode_images, load_encoder
from whylens.plugins._gallery import Splits, embed_items, normalize_rows, positions_by_class
from whylens.plugins.twin.index import has_faiss, index_of
from whylens.plugins.twin.search import is_large

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import numpy.typing as npt

    from whylens import Backbone, Dataset, ImageEncoder

_BATCH = 16


class GalleryParams(BaseModel):
    """How a gallery is made.

    Attributes:
        limit: Pictures at most, taken evenly from all classes.
        splits: Which splits of the data they come from.
        seed: Of the choice among more pictures than the limit.
        vectors_by: Another network by whose vectors pictures are compared, by name: a CLIP or
            DINO tower, or any other; empty for those of the network that is explained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: int = Field(2000, ge=2, le=5_000_000)
    splits: Splits = "train"
    seed: int = 0
    vectors_by: str = Field("", max_length=200)


def chosen(dataset: Dataset, params: GalleryParams) -> list[int]:
    """Return positions of the pictures to keep: as many of every class as there are or fit.

    Raises:
        BadInput: There are none.
    """
    rng = np.random.default_rng(params.seed)
    by_class = positions_by_class(dataset, params.splits)
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


def gallery(dataset: Dataset, backbone: Backbone, params: GalleryParams) -> Iterator[Progress]:
    """Yield the steps of making a gallery."""
    positions = chosen(dataset, params)
    arrays, facts = yield from embed_items(dataset, backbone, positions, params)
    if params.vectors_by:
        eyes = load_encoder(params.vectors_by)
        arrays["vectors"] = yield from _seen_by(eyes, arrays, len(positions))
        facts["vectors_by"] = {"name": eyes.name, "digest": eyes.digest}
    if is_large(len(positions)) and has_faiss():
        arrays["index"] = index_of(arrays["vectors"], arrays["labels"], seed=params.seed)
    facts["splits"] = [dataset.items[i].split for i in positions]
    kind = "signals" if "signals" in arrays else "pictures"
    yield Progress(1.0, f"A gallery of {len(positions):,} {kind}", Artifact(arrays, facts))


def _seen_by(
    eyes: ImageEncoder, arrays: Mapping[str, npt.NDArray[Any]], count: int
) -> Generator[Progress, None, npt.NDArray[np.float16]]:
    # What the gallery keeps is what the visitor's picture is compared with: JPEG and all.
    if "jpeg" not in arrays:
        raise BadInput(f"{eyes.name} compares pictures, and these are signals. Leave it out.")
    rows = []
    for start in range(0, count, _BATCH):
        places = range(start, min(start + _BATCH, count))
        rows.append(normalize_rows(eyes.encode(decode_images(arrays, places))).astype(np.float16))
        done = places.stop
        yield Progress(0.99, f"{eyes.name}: {done:,} of {count:,} pictures")
    return np.concatenate(rows)
