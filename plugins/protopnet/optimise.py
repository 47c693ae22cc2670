"""Learning prototypes on cached features, and putting each onto a training patch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from whylens.plugins._order import ROUNDING, strongest_first
from whylens.plugins.protopnet.similarity import Metric, best_places, cosine_maps

BATCH = 96
SMOOTHING = 0.05
# Weights of the loss: own class near, other classes far, prototypes of a class apart, all in use.
NEAR, FAR, APART, USED = 0.8, 0.08, 0.05, 0.1
# Two prototypes more alike than this are one.
SAME = 0.95


@dataclass(frozen=True, slots=True)
class Cache:
    """Whitened features of the training pictures.

    Attributes:
        plain: (N, D, *S) of the pictures themselves.
        varied: (N, V, D, *S) of V augmented versions of each; V may be 0.
        labels: (N,).
        classes: C.
    """

    plain: Tensor
    varied: Tensor
    labels: Tensor
    classes: int


@dataclass(frozen=True, slots=True)
class Source:
    """Where a prototype is a patch of.

    Attributes:
        picture: Position in the cache.
        place: Row-major position in the feature map.
        cosine: How near the learnt prototype was.
    """

    picture: int
    place: int
    cosine: float


def nearest_class(sims: Tensor, owner: Tensor, classes: int) -> Tensor:
    """Return (N, C): mean similarity to the prototypes of each class."""
    total = sims.new_zeros(len(sims), classes).index_add(1, owner, sims)
    count = torch.bincount(owner, minlength=classes).clamp_min(1)
    return total / count


def learnt(
    cache: Cache, metric: Metric, owner: Tensor, *, steps: int, generator: torch.Generator
) -> Iterator[tuple[float, Metric]]:
    """Yield (fraction, metric) while prototypes and metric are learnt; the last is the outcome.

    Args:
        owner: (P,) class of each prototype.
    """
    turn, patches = (t.clone().requires_grad_() for t in (metric.turn, metric.patches))
    scale = torch.tensor(10.0, requires_grad=True)
    values = [turn, patches, scale]
    optimiser = torch.optim.AdamW(values, lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    balance = 1.0 / torch.bincount(cache.labels, minlength=cache.classes).clamp_min(1)
    chances = balance[cache.labels]
    for step in range(steps):
        rows = torch.multinomial(chances, BATCH, replacement=True, generator=generator)
        white = _versions(cache, rows, generator).float()
        unit = functional.normalize(patches, dim=1)
        sims = best_places(cosine_maps(white, turn, unit))
        loss = _loss(sims, unit, cache.labels[rows], owner, scale, cache.classes)
        for value, gradient in zip(values, torch.autograd.grad(loss, values), strict=True):
            value.grad = gradient
        optimiser.step()
        schedule.step()
        if step % 20 == 19 or step == steps - 1:
            now = functional.normalize(patches.detach(), dim=1)
            yield (step + 1) / steps, replace(metric, turn=turn.detach().clone(), patches=now)


def _versions(cache: Cache, rows: Tensor, generator: torch.Generator) -> Tensor:
    count = cache.varied.shape[1]
    if count == 0:
        return cache.plain[rows]
    which = torch.randint(count + 1, rows.shape, generator=generator)
    varied = cache.varied[rows, (which - 1).clamp_min(0)]
    plain = (which == 0)[(...,) + (None,) * (varied.ndim - 1)]
    return torch.where(plain, cache.plain[rows], varied)


def _loss(
    sims: Tensor, unit: Tensor, labels: Tensor, owner: Tensor, scale: Tensor, classes: int
) -> Tensor:
    own = owner[None] == labels[:, None]
    # Other classes are filled with -inf, never 0: a cosine may be negative.
    near = sims.masked_fill(~own, -torch.inf).max(1).values.mean()
    far = sims.masked_fill(own, -torch.inf).max(1).values.mean()
    fit = functional.cross_entropy(
        scale * nearest_class(sims, owner, classes), labels, label_smoothing=SMOOTHING
    )
    alike = unit @ unit.T - torch.eye(len(unit))
    apart = (alike[owner[:, None] == owner[None]] ** 2).sum() / classes
    return fit - NEAR * near + FAR * far + APART * apart + USED * _idle(sims, own, owner)


def _idle(sims: Tensor, own: Tensor, owner: Tensor) -> Tensor:
    # How far each prototype's share of wins lies below a third of an even share.
    chances = (20 * sims).masked_fill(~own, -torch.inf).softmax(1)
    rows = own.float().sum(0).clamp_min(1)
    share = chances.sum(0) / rows
    even = 1.0 / (3 * torch.bincount(owner).float()[owner])
    return (even - share).clamp_min(0).sum()


def ready(cache: Cache, metric: Metric, owner: Tensor) -> tuple[float, float]:
    """Return (own, other): mean best cosine to the own class and to the others.

    Args:
        owner: (P,) their classes.
    """
    sims = cached_similarities(cache.plain, metric)
    own = owner[None] == cache.labels[:, None]
    near = sims.masked_fill(~own, -torch.inf).max(1).values.mean()
    far = sims.masked_fill(own, -torch.inf).max(1).values.mean()
    return float(near), float(far)


def cached_similarities(white: Tensor, metric: Metric) -> Tensor:
    """Return (N, P) similarities of whitened features, in bounded pieces."""
    pieces = [
        best_places(cosine_maps(piece.float(), metric.turn, metric.patches))
        for piece in white.split(256)
    ]
    return torch.cat(pieces)


def projected(
    cache: Cache, metric: Metric, owner: Tensor
) -> tuple[Metric, npt.NDArray[np.int64], list[Source]]:
    """Return prototypes moved onto training patches, their classes, and which patches they are.

    Within a class no picture is used twice: an assignment, not each prototype's own wish.
    Prototypes that end up alike are merged.

    Args:
        cache: Training features; only unaugmented patches of the own class are used.
        owner: (P,) their classes.
    """
    unit: list[Tensor] = []
    owners: list[int] = []
    sources: list[Source] = []
    for c in range(cache.classes):
        pictures = torch.nonzero(cache.labels == c)[:, 0]
        mine = torch.nonzero(owner == c)[:, 0]
        maps = cosine_maps(cache.plain[pictures].float(), metric.turn, metric.patches[mine])
        values, places = maps.flatten(2).max(2)
        rows, columns = linear_sum_assignment(-values.numpy())
        order = strongest_first(values.numpy()[rows, columns], ROUNDING)
        kept: list[Tensor] = []
        for row, column in zip(rows[order], columns[order], strict=True):
            picture, place = int(pictures[row]), int(places[row, column])
            flat = cache.plain[picture].float().flatten(1)[:, place]
            patch = functional.normalize(metric.turn @ flat, dim=0)
            if any(float(patch @ other) > SAME for other in kept):
                continue
            kept.append(patch)
            owners.append(c)
            sources.append(Source(picture, place, float(values[row, column])))
        unit += kept
    moved = replace(metric, patches=torch.stack(unit), member=torch.arange(len(unit)))
    return moved, np.array(owners, np.int64), sources
