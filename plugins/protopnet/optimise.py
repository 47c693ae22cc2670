"""Training prototypes on cached features, and projecting each onto a training patch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from whylens.plugins._order import ROUNDING, strongest_first
from whylens.plugins.protopnet.similarity import PatchMetric, cosine_maps, top_mean

BATCH = 96
SMOOTHING = 0.05
# Weights of the loss's terms.
CLUSTER, SEPARATION, ORTHOGONALITY, USAGE = 0.8, 0.08, 0.05, 0.1
# Two prototypes whose cosine is above this are merged.
SAME_COSINE = 0.95


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """Whitened features of the training pictures.

    Attributes:
        plain: (N, D, *S) of the pictures themselves.
        augmented: (N, V, D, *S) of V augmented versions of each; V may be 0.
        labels: (N,).
        classes: C.
    """

    plain: Tensor
    augmented: Tensor
    labels: Tensor
    classes: int


@dataclass(frozen=True, slots=True)
class PatchSource:
    """The training patch that a prototype was projected onto.

    Attributes:
        picture: Position in the cache.
        place: Row-major position in the feature map.
        cosine: Between the patch and the prototype before projection.
    """

    picture: int
    place: int
    cosine: float


def class_scores(sims: Tensor, owner: Tensor, classes: int) -> Tensor:
    """Return (N, C): mean similarity to the prototypes of each class."""
    total = sims.new_zeros(len(sims), classes).index_add(1, owner, sims)
    count = torch.bincount(owner, minlength=classes).clamp_min(1)
    return total / count


def train_prototypes(
    cache: FeatureCache,
    metric: PatchMetric,
    owner: Tensor,
    *,
    steps: int,
    generator: torch.Generator,
) -> Iterator[tuple[float, PatchMetric]]:
    """Yield (fraction, metric) during training; the last is the outcome.

    Args:
        owner: (P,) class of each prototype.
    """
    rotation, patches = (t.clone().requires_grad_() for t in (metric.rotation, metric.patches))
    scale = torch.tensor(10.0, requires_grad=True)
    parameters = [rotation, patches, scale]
    optimiser = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    balance = 1.0 / torch.bincount(cache.labels, minlength=cache.classes).clamp_min(1)
    probabilities = balance[cache.labels]
    for step in range(steps):
        rows = torch.multinomial(probabilities, BATCH, replacement=True, generator=generator)
        white = _pick_versions(cache, rows, generator).float()
        unit = functional.normalize(patches, dim=1)
        sims = top_mean(cosine_maps(white, rotation, unit))
        loss = _loss(sims, unit, cache.labels[rows], owner, scale, cache.classes)
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
        schedule.step()
        if step % 20 == 19 or step == steps - 1:
            current = replace(
                metric,
                rotation=rotation.detach().clone(),
                patches=functional.normalize(patches.detach(), dim=1),
            )
            yield (step + 1) / steps, current


def _pick_versions(cache: FeatureCache, rows: Tensor, generator: torch.Generator) -> Tensor:
    count = cache.augmented.shape[1]
    if count == 0:
        return cache.plain[rows]
    which = torch.randint(count + 1, rows.shape, generator=generator)
    augmented = cache.augmented[rows, (which - 1).clamp_min(0)]
    plain = (which == 0)[(...,) + (None,) * (augmented.ndim - 1)]
    return torch.where(plain, cache.plain[rows], augmented)


def _loss(
    sims: Tensor, unit: Tensor, labels: Tensor, owner: Tensor, scale: Tensor, classes: int
) -> Tensor:
    own = owner[None] == labels[:, None]
    cluster, separation = _best_cosines(sims, own)
    fit = functional.cross_entropy(
        scale * class_scores(sims, owner, classes), labels, label_smoothing=SMOOTHING
    )
    gram_residual = unit @ unit.T - torch.eye(len(unit))
    orthogonality = (gram_residual[owner[:, None] == owner[None]] ** 2).sum() / classes
    return (
        fit
        - CLUSTER * cluster
        + SEPARATION * separation
        + ORTHOGONALITY * orthogonality
        + USAGE * _usage_penalty(sims, own, owner)
    )


def _best_cosines(sims: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    # Other classes are filled with -inf, never 0: a cosine may be negative.
    cluster = sims.masked_fill(~own, -torch.inf).max(1).values.mean()
    separation = sims.masked_fill(own, -torch.inf).max(1).values.mean()
    return cluster, separation


def _usage_penalty(sims: Tensor, own: Tensor, owner: Tensor) -> Tensor:
    # How far each prototype's share of wins lies below a third of an even share.
    wins = (20 * sims).masked_fill(~own, -torch.inf).softmax(1)
    rows = own.float().sum(0).clamp_min(1)
    share = wins.sum(0) / rows
    even = 1.0 / (3 * torch.bincount(owner).float()[owner])
    return (even - share).clamp_min(0).sum()


def class_similarities(sims: Tensor, labels: Tensor, owner: Tensor) -> tuple[float, float]:
    """Return (own, other): mean best cosine to prototypes of the own class and of the others.

    Args:
        sims: (N, P) similarities.
        labels: (N,) classes of the pictures.
        owner: (P,) classes of the prototypes.
    """
    own_class, other_classes = _best_cosines(sims, owner[None] == labels[:, None])
    return float(own_class), float(other_classes)


def cached_similarities(white: Tensor, metric: PatchMetric) -> Tensor:
    """Return (N, P) similarities of whitened features, in bounded pieces."""
    pieces = [
        top_mean(cosine_maps(piece.float(), metric.rotation, metric.patches))
        for piece in white.split(256)
    ]
    return torch.cat(pieces)


def project(
    cache: FeatureCache, metric: PatchMetric, owner: Tensor
) -> tuple[PatchMetric, npt.NDArray[np.int64], list[PatchSource]]:
    """Return prototypes projected onto training patches, their classes, and the patches' sources.

    Within a class no picture is used twice: the assignment is optimal for the class as a whole.
    Prototypes that end up alike are merged.

    Args:
        cache: Training features; only unaugmented patches of the own class are used.
        owner: (P,) their classes.
    """
    from scipy.optimize import linear_sum_assignment  # half a second, which only this needs

    unit: list[Tensor] = []
    owners: list[int] = []
    sources: list[PatchSource] = []
    for c in range(cache.classes):
        pictures = torch.nonzero(cache.labels == c)[:, 0]
        members = torch.nonzero(owner == c)[:, 0]
        maps = cosine_maps(cache.plain[pictures].float(), metric.rotation, metric.patches[members])
        values, places = maps.flatten(2).max(2)
        rows, columns = linear_sum_assignment(-values.numpy())
        order = strongest_first(values.numpy()[rows, columns], ROUNDING)
        class_patches: list[Tensor] = []
        for row, column in zip(rows[order], columns[order], strict=True):
            picture, place = int(pictures[row]), int(places[row, column])
            flat = cache.plain[picture].float().flatten(1)[:, place]
            patch = functional.normalize(metric.rotation @ flat, dim=0)
            if any(float(patch @ earlier) > SAME_COSINE for earlier in class_patches):
                continue
            class_patches.append(patch)
            owners.append(c)
            sources.append(PatchSource(picture, place, float(values[row, column])))
        unit += class_patches
    projected = replace(metric, patches=torch.stack(unit), prototype_of=torch.arange(len(unit)))
    return projected, np.array(owners, np.int64), sources
