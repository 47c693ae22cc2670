"""A gallery of training pictures: their vectors, pixels and predicted classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from whylens import Artifact, BadInput, Progress, decode_images, load_encoder
from whylens.plugins._gallery import Splits, embed_items, normalize_rows, positions_by_class
from whylens.plugins.twin.index import build_index, has_faiss
from whylens.plugins.twin.search import is_large

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import numpy.typing as npt

    from whylens import Backbone, Dataset, ImageEncoder

_BATCH = 16


class GalleryParams(BaseModel):
    """How a gallery is fitted.

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


def choose_positions(dataset: Dataset, params: GalleryParams) -> list[int]:
    """Return positions of at most `limit` pictures, taken evenly from all classes.

    Raises:
        BadInput: There are none.
    """
    rng = np.random.default_rng(params.seed)
    by_class = positions_by_class(dataset, params.splits)
    for members in by_class:
        rng.shuffle(members)
    # One of each class in every round: a rare class keeps all it has.
    rounds = [
        members[i]
        for i in range(max(map(len, by_class)))
        for members in by_class
        if i < len(members)
    ]
    return sorted(rounds[: params.limit])


def fit_gallery(dataset: Dataset, backbone: Backbone, params: GalleryParams) -> Iterator[Progress]:
    """Yield the progress of fitting a gallery; the last holds it."""
    positions = choose_positions(dataset, params)
    arrays, facts = yield from embed_items(dataset, backbone, positions, params)
    if params.vectors_by:
        encoder = load_encoder(params.vectors_by)
        arrays["vectors"] = yield from _encode_images(encoder, arrays, len(positions))
        facts["vectors_by"] = {"name": encoder.name, "digest": encoder.digest}
    if is_large(len(positions)) and has_faiss():
        arrays["index"] = build_index(arrays["vectors"], arrays["labels"], seed=params.seed)
    facts["splits"] = [dataset.items[i].split for i in positions]
    kind = "signals" if "signals" in arrays else "pictures"
    yield Progress(1.0, f"A gallery of {len(positions):,} {kind}", Artifact(arrays, facts))


def _encode_images(
    encoder: ImageEncoder, arrays: Mapping[str, npt.NDArray[Any]], count: int
) -> Generator[Progress, None, npt.NDArray[np.float16]]:
    # The stored JPEGs are encoded, since they are what a visitor's picture is compared with.
    if "jpeg" not in arrays:
        raise BadInput(f"{encoder.name} compares pictures, and these are signals. Leave it out.")
    rows = []
    for start in range(0, count, _BATCH):
        positions = range(start, min(start + _BATCH, count))
        vectors = encoder.encode(decode_images(arrays, positions))
        rows.append(normalize_rows(vectors).astype(np.float16))
        yield Progress(0.99, f"{encoder.name}: {positions.stop:,} of {count:,} pictures")
    return np.concatenate(rows)
