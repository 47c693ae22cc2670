"""The gallery from which patches are taken: a few pictures of every class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from whylens import Artifact, Progress
from whylens.plugins._gallery import Splits, embed_items, normalize_rows, positions_by_class

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whylens import Backbone, Dataset


class DistractorParams(BaseModel):
    """How the gallery is fitted.

    Attributes:
        per_class: Pictures of every class at most.
        splits: Which splits of the data they come from.
        seed: Of the choice among more pictures than that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_class: int = Field(40, ge=1, le=10_000)
    splits: Splits = "train"
    seed: int = 0


def choose_positions(dataset: Dataset, params: DistractorParams) -> list[int]:
    """Return positions of at most `per_class` random pictures of every class.

    Raises:
        BadInput: There are none.
    """
    rng = np.random.default_rng(params.seed)
    positions = [
        int(i)
        for members in positions_by_class(dataset, params.splits)
        for i in rng.permutation(members)[: params.per_class]
    ]
    return sorted(positions)


def fit_gallery(
    dataset: Dataset, backbone: Backbone, params: DistractorParams
) -> Iterator[Progress]:
    """Yield the progress of fitting a gallery; the last holds it."""
    positions = choose_positions(dataset, params)
    arrays, facts = yield from embed_items(dataset, backbone, positions, params)
    yield Progress(1.0, f"A gallery of {len(positions):,} pictures", Artifact(arrays, facts))


def rank_candidates(
    arrays: Mapping[str, npt.NDArray[Any]],
    labels: list[str],
    goal: tuple[int, str],
    query: npt.NDArray[np.float32],
) -> list[tuple[int, float]]:
    """Return (position, cosine) of the pictures of a class, the nearest first.

    Pictures that the network predicts to be of the class come before those that only have its
    label: patches of a picture that is predicted otherwise need not change the decision.

    Args:
        query: (D,) the vector of the visitor's picture.
    """
    index, name = goal
    predicted = np.asarray(arrays["predicted"]) == index
    # Of a gallery with classes of its own only predictions count.
    labelled = np.asarray(arrays["labels"])
    members = labelled == labels.index(name) if name in labels else predicted
    # Row by row alike, as a matrix product is not: copies of a picture then tie exactly.
    vectors = np.asarray(arrays["vectors"], np.float32)
    similarity = np.einsum("nd,d->n", vectors, normalize_rows(query[None])[0])
    order = np.lexsort((-similarity, ~predicted))
    return [(int(i), float(similarity[i])) for i in order if members[i]]
