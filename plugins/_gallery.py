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
from whylens.plugins._near_duplicates import tiny

if TYPE_CHECKING:
    from pydantic import BaseModel

    from whylens import Backbone, Dataset

Splits = Literal["train", "train+val", "all"]
Arrays = dict[str, npt.NDArray[Any]]


def why_no_vectors(backbone: Backbone) -> str | None:
    """Return why a network gives no vectors by which inputs are compared, or None."""
    try:
        _ = backbone.embedder
    except NeedsNotMet as reason:
        return str(reason)
    return None


def members_by_class(dataset: Dataset, splits: Splits) -> list[list[int]]:
    """Return the positions of every class's pictures.

    Raises:
        BadInput: There are none.
    """
    wanted = {"train": ("train",), "train+val": ("train", "val")}.get(splits)
    found: list[list[int]] = [[] for _ in dataset.labels]
    for i, item in enumerate(dataset.items):
        if wanted is None or item.split in wanted:
            found[item.label].append(i)
    if not any(found):
        raise BadInput(f"{dataset.name} has no pictures in {splits}; choose other splits.")
    return found


def gathered(
    dataset: Dataset, backbone: Backbone, positions: Sequence[int], params: BaseModel
) -> Generator[Progress, None, tuple[Arrays, dict[str, Any]]]:
    """Yield the steps of reading pictures or signals; return arrays and facts.

    The arrays are "vectors" (unit length, float16), "labels", what the network "predicted", what
    it was shown, packed, and of pictures "tinies"; the facts say where they come from.
    """
    vectors, predicted = [], []
    packs: list[Arrays] = []
    tinies: list[npt.NDArray[np.uint8]] = []
    done = 0
    for _, x in iter_tensors(dataset, positions, backbone.spec):
        with torch.no_grad():
            found = backbone.embed(x).float().cpu().numpy()
            predicted.append(backbone.fast_logits(x).argmax(1).cpu().numpy().astype(np.int32))
        vectors.append(unit_rows(found).astype(np.float16))
        packs.append(encode_views(x.split(1), backbone.spec))
        if x.ndim == 4:
            tinies += [tiny(view_pixels(row, backbone.spec)) for row in x.split(1)]
        done += len(x)
        yield Progress(0.99 * done / len(positions), f"{done:,} of {len(positions):,}")
    items = [dataset.items[i] for i in positions]
    arrays: Arrays = {
        "vectors": np.concatenate(vectors),
        "labels": np.array([item.label for item in items], np.int32),
        "predicted": np.concatenate(predicted),
        **concat_views(packs),
    }
    if tinies:
        arrays["tinies"] = np.stack(tinies)
    facts = {
        "data": dataset.name,
        "data_digest": dataset.digest,
        "licence": dataset.licence,
        "labels": list(dataset.labels),
        "keys": [item.key for item in items],
        "params": params.model_dump(),
    }
    return arrays, facts


def unit_rows(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return rows of length 1; one that is 0 stays so.

    Args:
        rows: (N, D).
    """
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    unit: npt.NDArray[np.float32] = (rows / lengths).astype(np.float32)
    return unit
