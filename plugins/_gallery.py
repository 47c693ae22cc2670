"""A data set's pictures with their feature vectors, for methods that show examples."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from whylens import (
    BadInput,
    NeedsNotMet,
    Progress,
    concat_views,
    encode_views,
    iter_tensors,
    view_pixels,
)
from whylens.plugins._near_duplicates import thumbnail

if TYPE_CHECKING:
    from pydantic import BaseModel

    from whylens import Backbone, Dataset

Splits = Literal["train", "train+val", "all"]
Arrays = dict[str, npt.NDArray[Any]]


def embedding_problem(backbone: Backbone) -> str | None:
    """Return why a network has no feature vectors to compare inputs by, or None."""
    try:
        _ = backbone.embedder
    except NeedsNotMet as reason:
        return str(reason)
    return None


def positions_by_class(dataset: Dataset, splits: Splits) -> list[list[int]]:
    """Return, per class, the positions of its pictures.

    Raises:
        BadInput: There are none.
    """
    names = {"train": ("train",), "train+val": ("train", "val")}.get(splits)
    by_class: list[list[int]] = [[] for _ in dataset.labels]
    for i, item in enumerate(dataset.items):
        if names is None or item.split in names:
            by_class[item.label].append(i)
    if not any(by_class):
        raise BadInput(f"{dataset.name} has no pictures in {splits}; choose other splits.")
    return by_class


def embed_items(
    dataset: Dataset, backbone: Backbone, positions: Sequence[int], params: BaseModel
) -> Generator[Progress, None, tuple[Arrays, dict[str, Any]]]:
    """Yield the progress of reading pictures or signals; return arrays and facts for an artifact.

    The arrays are "vectors" (unit length, float16), "labels", "predicted" classes, the network's
    inputs, encoded, and of pictures "tinies", their thumbnails.
    """
    vectors, predicted = [], []
    views: list[Arrays] = []
    thumbnails: list[npt.NDArray[np.uint8]] = []
    count = 0
    for _, x in iter_tensors(dataset, positions, backbone.input_spec):
        with torch.no_grad():
            rows = backbone.embed(x).float().cpu().numpy()
            predicted.append(backbone.fast_logits(x).argmax(1).cpu().numpy().astype(np.int32))
        vectors.append(normalize_rows(rows).astype(np.float16))
        views.append(encode_views(x.split(1), backbone.input_spec))
        if x.ndim == 4:
            thumbnails += [thumbnail(view_pixels(row, backbone.input_spec)) for row in x.split(1)]
        count += len(x)
        yield Progress(0.99 * count / len(positions), f"{count:,} of {len(positions):,}")
    items = [dataset.items[i] for i in positions]
    arrays: Arrays = {
        "vectors": np.concatenate(vectors),
        "labels": np.array([item.label for item in items], np.int32),
        "predicted": np.concatenate(predicted),
        **concat_views(views),
    }
    if thumbnails:
        arrays["tinies"] = np.stack(thumbnails)
    facts = {
        "data": dataset.name,
        "data_digest": dataset.digest,
        "licence": dataset.licence,
        "labels": list(dataset.labels),
        "keys": [item.key for item in items],
        "params": params.model_dump(),
    }
    return arrays, facts


def normalize_rows(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return (N, D) rows of length 1; a row of zeros stays so."""
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    unit: npt.NDArray[np.float32] = (rows / lengths).astype(np.float32)
    return unit
