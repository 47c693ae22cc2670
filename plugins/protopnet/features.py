"""Features of a data set for prototypes: splits, plain and augmented features."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from whylens import BadInput, Progress, iter_tensors

if TYPE_CHECKING:
    from whylens import Backbone, Dataset
    from whylens.plugins.protopnet.similarity import PatchMetric

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PictureSet:
    """Positions in a data set and the labels of the pictures there."""

    positions: list[int]
    labels: Labels


def make_splits(dataset: Dataset, limit: int, seed: int) -> tuple[PictureSet, PictureSet]:
    """Return training and validation pictures, the former at most `limit` and of all classes.

    Args:
        limit: Training pictures at most.

    Raises:
        BadInput: There are too few classes or pictures.
    """
    rng = np.random.default_rng(seed)
    if len(dataset.labels) < 2:
        raise BadInput(f"{dataset.name} has one class; prototypes tell classes apart.")
    train, val = list(dataset.of("train")), list(dataset.of("val"))
    if not val:
        order = [int(i) for i in rng.permutation(train)]
        val = [i for n, i in enumerate(order) if n % 5 == 0]
        train = sorted(set(train) - set(val))
    label = {i: dataset.items[i].label for i in [*train, *val]}
    for c, name in enumerate(dataset.labels):
        if sum(label[i] == c for i in train) < 4:
            raise BadInput(f"The class {name} has fewer than 4 training pictures; add some.")
    if len(train) > limit:
        by_class = [[i for i in train if label[i] == c] for c in range(len(dataset.labels))]
        share = max(4, limit // len(dataset.labels))
        train = sorted(int(i) for members in by_class for i in rng.permutation(members)[:share])
    return tuple(  # type: ignore[return-value]
        PictureSet(part, np.array([label[i] for i in part], np.int64)) for part in (train, val)
    )


def read_features(
    dataset: Dataset, backbone: Backbone, split: PictureSet, span: tuple[float, float], message: str
) -> Generator[Progress, None, Tensor]:
    """Yield the progress of reading a split; return (N, K, *S) float16 features."""
    pieces = []
    for _, x in iter_tensors(dataset, split.positions, backbone.input_spec):
        with torch.no_grad():
            pieces.append(backbone.features(x).map.half())
        share = sum(len(p) for p in pieces) / len(split.positions)
        yield Progress(span[0] + (span[1] - span[0]) * share, message)
    return torch.cat(pieces)


def read_augmented(
    dataset: Dataset,
    backbone: Backbone,
    split: PictureSet,
    metric: PatchMetric,
    versions: int,
    generator: torch.Generator,
) -> Generator[Progress, None, Tensor]:
    """Yield likewise; return (N, V, D, *S) float16 whitened features of V augmented versions."""
    rows = []
    for _, x in iter_tensors(dataset, split.positions, backbone.input_spec):
        views = []
        for _ in range(versions):
            with torch.no_grad():
                features = backbone.features(augment(x, generator)).map.float()
            views.append(metric.to_white(features).half())
        if views:
            rows.append(torch.stack(views, 1))
        else:
            with torch.no_grad():
                shape = backbone.features(x).map.shape[2:]
            rows.append(torch.zeros(len(x), 0, len(metric.whiten), *shape, dtype=torch.float16))
        share = sum(len(r) for r in rows) / len(split.positions)
        yield Progress(0.25 + 0.35 * share, "reading augmented pictures")
    return torch.cat(rows)


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return (N, C, *S) inputs, mildly cropped and tinted; pictures are mirrored as well."""
    if x.ndim == 3:
        # A signal read backwards is another signal.
        return _augment_images(x[:, :, None], generator, mirrored=False)[:, :, 0]
    return _augment_images(x, generator, mirrored=True)


def _augment_images(x: Tensor, generator: torch.Generator, *, mirrored: bool) -> Tensor:
    n = len(x)
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5 * mirrored, -1.0, 1.0)
    zoom = 0.8 + 0.2 * torch.rand(n, generator=generator)
    shift = (2 * torch.rand(n, 2, generator=generator) - 1) * (1 - zoom)[:, None]
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = mirror * zoom, zoom, shift
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    warped_images = functional.grid_sample(x, grid, align_corners=False, padding_mode="reflection")
    gain = 1 + 0.15 * (2 * torch.rand(n, x.shape[1], 1, 1, generator=generator) - 1)
    return warped_images * gain
