"""From labelled pictures to prototypes that are safe to show: every stage in order, with alarms.

The recipe: frozen features, a whitened cosine, a discriminative start, gated projection, a convex
head; it cannot collapse to one class by construction, and where it fails all the same it refuses to
be published.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from whylens import Artifact, BadInput, Progress, encode_views, iter_tensors
from whylens.plugins.protopnet.features import Labels, Split, features_of, splits_of, varied_of
from whylens.plugins.protopnet.head import PENALTIES, Head, chosen_penalty, solved
from whylens.plugins.protopnet.init import probe, spherical_centres, telling_patches, whitening
from whylens.plugins.protopnet.optimise import (
    Cache,
    Source,
    cached_similarities,
    learnt,
    projected,
    ready,
)
from whylens.plugins.protopnet.quality import part_quality, sparsity
from whylens.plugins.protopnet.similarity import Metric, similarities, whitened

if TYPE_CHECKING:
    from whylens import Backbone, Dataset

RETRIES = 2
TOLERATED_LOSS = 0.02
_PATCH_SAMPLE = 20_000
_PURE = 0.8


class PrototypeParams(BaseModel):
    """How prototypes are made.

    Attributes:
        limit: Training pictures at most.
        per_class: Prototypes per class before alike ones are merged; 0 chooses by the data.
        directions: Dimensions of the whitened space.
        versions: Augmented versions of each picture.
        steps: Updates before the first projection.
        penalty: Of the head's weights; 0 takes the sparsest within one standard error of the best.
        seed: Of everything random.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: int = Field(3000, ge=8)
    per_class: int = Field(0, ge=0, le=20)
    directions: int = Field(64, ge=2, le=512)
    versions: int = Field(3, ge=0, le=16)
    steps: int = Field(300, ge=1, le=5000)
    penalty: float = Field(0.0, ge=0, le=1)
    seed: int = 0


class Refused(BadInput):
    """The prototypes are not fit to be shown; the message says which check failed."""


def prototypes(dataset: Dataset, backbone: Backbone, params: PrototypeParams) -> Iterator[Progress]:
    """Yield the steps of making prototypes; the last holds them and their report.

    Args:
        dataset: Labelled pictures in splits; without a validation split a fifth is held out.

    Raises:
        Refused: An alarm went off.
        BadInput: There are too few classes or pictures.
    """
    generator = torch.Generator().manual_seed(params.seed)
    train, val = splits_of(dataset, params.limit, params.seed)
    classes = len(dataset.labels)
    raw = yield from features_of(dataset, backbone, train, (0.0, 0.25), "reading pictures")
    metric = _whitened_metric(raw, params, generator)
    if len(metric.whiten) == 0:
        raise Refused(
            f"To {backbone.name} all places of these pictures look the same: its features do not "
            "vary, and there is nothing to be like. Choose another network, or other pictures."
        )
    plain = whitened(raw.float(), metric.mean, metric.whiten).half()
    varied = yield from varied_of(dataset, backbone, train, metric, params.versions, generator)
    raw_val = yield from features_of(
        dataset, backbone, val, (0.6, 0.65), "reading the held-out ones"
    )
    held = whitened(raw_val.float(), metric.mean, metric.whiten).half()
    cache = Cache(plain, varied, torch.from_numpy(train.labels), classes)
    metric, owner, linear = _start(cache, held, val, metric, params)

    spread = 0.65
    best, tried = (-1.0, metric, owner), 0
    while True:
        steps = params.steps if tried == 0 else max(1, params.steps // 3)
        started = metric
        for share, learning in learnt(cache, started, owner, steps=steps, generator=generator):
            metric = learning
            yield Progress(spread + 0.1 * share, "learning prototypes")
        own, other = ready(cache, metric, owner)
        before = _quick_accuracy(cache, held, val, metric, owner)
        moved, owners, sources = projected(cache, metric, owner)
        after = _quick_accuracy(cache, held, val, moved, torch.from_numpy(owners))
        if after > best[0]:
            best = (after, moved, torch.from_numpy(owners))
            kept = sources, before
        # The gate: near enough, and little lost by moving onto real patches.
        if own > other and after >= before - TOLERATED_LOSS:
            break
        tried += 1
        if tried > RETRIES:
            break
    after, metric, owner = best
    sources, before = kept
    owners = owner.numpy()

    yield Progress(0.9, "solving the head")
    sims = cached_similarities(plain, metric).numpy().astype(np.float64)
    sims_val = cached_similarities(held, metric).numpy().astype(np.float64)
    head = _head(sims, train.labels, owners, classes, params)
    penalty = head.penalty
    # Prototypes of which the sparse head makes no use explain nothing.
    used = _used(head, owners, classes)
    head = Head(head.weight[:, used], head.bias, penalty)
    sims, sims_val, owners = sims[:, used], sims_val[:, used], owners[used]
    metric = metric.keeping([int(i) for i in used], list(range(len(used))))
    sources = [sources[i] for i in used]
    own, other = ready(cache, metric, torch.from_numpy(owners))
    report = {
        "validation_accuracy": head.accuracy(sims_val, val.labels),
        "validation_accuracy_before_projection": before,
        "linear_probe_accuracy": linear,
        "own_similarity": own,
        "other_similarity": other,
        "prototypes": len(owners),
        "penalty": penalty,
        **sparsity(head, sims_val),
    }
    _alarms(head, sims_val, val, report, dataset, owners)
    yield Progress(0.93, "measuring the prototypes")
    test = list(dataset.of("test"))
    if test:
        report |= _tested(dataset, backbone, test, metric, head)
        report |= part_quality(dataset, test[:400], backbone, metric, owners, seed=params.seed)
    artifact = _artifact(
        dataset, backbone, train, val, metric, owners, sources, head, sims, sims_val, report, params
    )
    yield Progress(1.0, f"{len(owners)} prototypes", artifact)


def _whitened_metric(raw: Tensor, params: PrototypeParams, generator: torch.Generator) -> Metric:
    flat = raw.flatten(2).transpose(1, 2).flatten(0, 1)
    rows = torch.randperm(len(flat), generator=generator)[:_PATCH_SAMPLE]
    mean, whiten = whitening(flat[rows].float().numpy(), params.directions)
    size = len(whiten)
    return Metric(
        torch.from_numpy(mean),
        torch.from_numpy(whiten),
        torch.eye(size),
        torch.zeros(0, size),
        torch.zeros(0, dtype=torch.long),
    )


def _start(
    cache: Cache, held: Tensor, val: Split, metric: Metric, params: PrototypeParams
) -> tuple[Metric, Tensor, float]:
    labels = cache.labels.numpy()
    pooled = cache.plain.float().flatten(2)
    weights = probe(pooled.mean(2).numpy(), labels, cache.classes)
    scores = held.float().flatten(2).mean(2).numpy() @ weights[:, :-1].T + weights[:, -1]
    linear = float((scores.argmax(1) == val.labels).mean())
    centres, owner = [], []
    for c in range(cache.classes):
        mine = pooled[cache.labels == c].numpy()
        count = params.per_class or int(np.clip(len(mine) // 6, 2, 6))
        found = spherical_centres(telling_patches(mine, weights, c), count, seed=params.seed + c)
        centres.append(found)
        owner += [c] * len(found)
    patches = torch.from_numpy(np.concatenate(centres))
    started = Metric(metric.mean, metric.whiten, metric.turn, patches, torch.arange(len(patches)))
    return started, torch.tensor(owner), linear


def _quick_accuracy(cache: Cache, held: Tensor, val: Split, metric: Metric, owner: Tensor) -> float:
    sims = cached_similarities(cache.plain, metric).numpy().astype(np.float64)
    sims_val = cached_similarities(held, metric).numpy().astype(np.float64)
    head = solved(sims, cache.labels.numpy(), owner.numpy(), cache.classes, 0.003, steps=300)
    return head.accuracy(sims_val, val.labels)


def _head(
    sims: npt.NDArray[np.float64],
    labels: Labels,
    owner: Labels,
    classes: int,
    params: PrototypeParams,
) -> Head:
    if params.penalty:
        return solved(sims, labels, owner, classes, params.penalty)
    chosen = chosen_penalty(sims, labels, owner, classes, seed=params.seed)
    own = owner[None] == np.arange(classes)[:, None]
    head = None
    # A class that is only ever told by what it is not explains nothing: weaker penalties, until
    # every class has a prototype that speaks for it.
    for penalty in (p for p in PENALTIES if p <= chosen):
        head = solved(sims, labels, owner, classes, penalty, start=head)
        if ((head.weight > 1e-9) & own).any(1).all():
            break
    assert head is not None  # noqa: S101 - the chosen penalty is one of them
    return head


def _used(head: Head, owner: Labels, classes: int) -> Labels:
    weight = np.abs(head.weight)
    used = weight.max(0) > 1e-9
    for c in range(classes):  # a class keeps one in any case; the alarms judge whether it is enough
        mine = np.flatnonzero(owner == c)
        if len(mine) and not used[mine].any():
            used[mine[0]] = True
    return np.flatnonzero(used)


def _alarms(
    head: Head,
    sims: npt.NDArray[np.float64],
    val: Split,
    report: dict[str, Any],
    dataset: Dataset,
    owner: Labels,
) -> None:
    said = head.scores(sims).argmax(1)
    classes = len(dataset.labels)
    share = np.bincount(said, minlength=classes) / len(said)
    entropy = float(-(share[share > 0] * np.log(share[share > 0])).sum())
    missed = [c for c in np.unique(val.labels) if not (said[val.labels == c] == c).any()]
    failed = ""
    if entropy < 0.5 * np.log(len(np.unique(val.labels))):
        failed = "its answers have collapsed to few classes"
    elif missed:
        failed = f"it never recognises {dataset.labels[int(missed[0])]}"
    elif report["validation_accuracy"] < report["linear_probe_accuracy"] - 0.10:
        failed = (
            f"it is right on {report['validation_accuracy']:.0%} of the held-out pictures, a "
            f"linear probe on {report['linear_probe_accuracy']:.0%}"
        )
    elif len(owner) < classes:
        failed = f"only {len(owner)} distinct prototypes are left for {classes} classes"
    elif report["own_similarity"] < report["other_similarity"] + 0.05:
        failed = "its prototypes look no more like their own class than like others"
    if failed:
        raise Refused(
            f"These prototypes are not shown: {failed}. Give more pictures per class, or a network "
            "that tells the classes apart."
        )


def _tested(
    dataset: Dataset, backbone: Backbone, test: list[int], metric: Metric, head: Head
) -> dict[str, Any]:
    labels = np.array([dataset.items[i].label for i in test])
    sims, black_box = [], []
    for _, x in iter_tensors(dataset, test, backbone.spec):
        with torch.no_grad():
            sims.append(similarities(backbone.features(x).map.float(), metric).numpy())
            black_box.append(backbone.fast_logits(x).argmax(1).numpy())
    said = head.scores(np.concatenate(sims).astype(np.float64)).argmax(1)
    recall = [float((said[labels == c] == c).mean()) for c in np.unique(labels)]
    found = {
        "test_accuracy": float((said == labels).mean()),
        "test_recall_each": recall,
        "test_pictures": len(test),
    }
    if backbone.labels == dataset.labels:
        found["black_box_test_accuracy"] = float((np.concatenate(black_box) == labels).mean())
    return found


def _names(labels: tuple[str, ...], owner: Labels, report: dict[str, Any]) -> list[str]:
    # Where the parts of pictures are known, what a prototype is a patch of goes into its name.
    parts = report.get("part_each", [""] * len(owner))
    purity = report.get("purity_each", [0.0] * len(owner))
    numbers = [0] * len(labels)
    names = []
    for c, part, pure in zip(owner, parts, purity, strict=True):
        numbers[c] += 1
        said = f", {part}" if pure >= _PURE else ""
        names.append(f"{labels[c]} {numbers[c]}{said}")
    return names


def _artifact(
    dataset: Dataset,
    backbone: Backbone,
    train: Split,
    val: Split,
    metric: Metric,
    owner: Labels,
    sources: list[Source],
    head: Head,
    sims: npt.NDArray[np.float64],
    sims_val: npt.NDArray[np.float64],
    report: dict[str, Any],
    params: PrototypeParams,
) -> Artifact:
    views, keys = [], []
    grid: list[int] = []
    for source in sources:
        position = train.positions[source.picture]
        ((_, x),) = iter_tensors(dataset, [position], backbone.spec)
        views.append(x)
        keys.append(dataset.items[position].key)
        with torch.no_grad():
            grid = list(backbone.features(x).map.shape[2:])
    arrays = {
        **metric.arrays(),
        "owner": owner.astype(np.int32),
        "places": np.array([s.place for s in sources], np.int32),
        "weight": head.weight.astype(np.float32),
        "bias": head.bias.astype(np.float32),
        "train_similarities": sims.astype(np.float16),
        "train_labels": train.labels.astype(np.int32),
        "val_similarities": sims_val.astype(np.float16),
        "val_labels": val.labels.astype(np.int32),
        **encode_views(views, backbone.spec),
    }
    names = _names(dataset.labels, owner, report)
    facts = {
        "data": dataset.name,
        "data_digest": dataset.digest,
        "licence": dataset.licence,
        "labels": list(dataset.labels),
        "names": names,
        "keys": keys,
        "grid": grid,
        "report": report,
        "params": params.model_dump(),
    }
    return Artifact(arrays, facts)
