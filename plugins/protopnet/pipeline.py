"""From labelled pictures to prototypes that are safe to show: every stage in order, with alarms.

Frozen features, a whitened cosine, a discriminative start, gated projection, a convex head: it
cannot collapse to one class by construction, and where it fails all the same it is not published.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from whylens import Artifact, BadInput, Progress, encode_views, iter_tensors
from whylens.plugins.protopnet.features import (
    Labels,
    PictureSet,
    make_splits,
    read_augmented,
    read_features,
)
from whylens.plugins.protopnet.head import PENALTIES, Head, choose_penalty, solve_head
from whylens.plugins.protopnet.init import (
    discriminative_patches,
    fit_linear_probe,
    fit_whitening,
    spherical_kmeans,
)
from whylens.plugins.protopnet.optimise import (
    FeatureCache,
    PatchSource,
    cached_similarities,
    class_similarities,
    project,
    train_prototypes,
)
from whylens.plugins.protopnet.quality import part_quality, sparsity
from whylens.plugins.protopnet.similarity import PatchMetric, similarities

if TYPE_CHECKING:
    from whylens import Backbone, Dataset

RETRIES = 2
TOLERATED_LOSS = 0.02
_PATCH_SAMPLE = 20_000
_PURE = 0.8


class PrototypeParams(BaseModel):
    """How prototypes are fitted.

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


@dataclass(frozen=True, slots=True)
class _Data:
    """The pictures, and their features for training.

    Attributes:
        cache: Whitened features of the training pictures.
        val_features: (N, D, *S) whitened features of the validation pictures.
    """

    dataset: Dataset
    backbone: Backbone
    train: PictureSet
    val: PictureSet
    cache: FeatureCache
    val_features: Tensor

    @property
    def classes(self) -> int:
        return len(self.dataset.labels)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Projected prototypes and the similarities of all pictures to them.

    Attributes:
        owner: (M,) classes of the prototypes.
        sims: (N, M) similarities of the training pictures.
        val_sims: (N, M) of the validation pictures.
        accuracy: Of a quick head on the validation pictures.
        accuracy_before: Likewise, before projection.
    """

    metric: PatchMetric
    owner: Labels
    sources: list[PatchSource]
    sims: Tensor
    val_sims: Tensor
    accuracy: float
    accuracy_before: float

    def select(self, prototypes: Labels) -> _Candidate:
        """Return the candidate with some of its prototypes."""
        return replace(
            self,
            metric=self.metric.select(prototypes.tolist()),
            owner=self.owner[prototypes],
            sources=[self.sources[i] for i in prototypes],
            sims=self.sims[:, prototypes],
            val_sims=self.val_sims[:, prototypes],
        )


def fit_prototypes(
    dataset: Dataset, backbone: Backbone, params: PrototypeParams
) -> Iterator[Progress]:
    """Yield the progress of fitting prototypes; the last holds them and their report.

    Args:
        dataset: Labelled pictures in splits; without a validation split a fifth is held out.

    Raises:
        Refused: An alarm went off.
        BadInput: There are too few classes or pictures.
    """
    generator = torch.Generator().manual_seed(params.seed)
    train, val = make_splits(dataset, params.limit, params.seed)
    raw = yield from read_features(dataset, backbone, train, (0.0, 0.25), "reading pictures")
    metric = _initial_metric(raw, params, generator)
    if len(metric.whiten) == 0:
        raise Refused(
            f"To {backbone.name} all places of these pictures look the same: its features do not "
            "vary, and there is nothing to be like. Choose another network, or other pictures."
        )
    plain = metric.to_white(raw.float()).half()
    augmented = yield from read_augmented(
        dataset, backbone, train, metric, params.versions, generator
    )
    raw_val = yield from read_features(
        dataset, backbone, val, (0.6, 0.65), "reading the held-out ones"
    )
    cache = FeatureCache(plain, augmented, torch.from_numpy(train.labels), len(dataset.labels))
    data = _Data(dataset, backbone, train, val, cache, metric.to_white(raw_val.float()).half())
    metric, owner, probe_accuracy = _initial_prototypes(data, metric, params)
    best = yield from _train_and_project(data, metric, owner, params, generator)

    yield Progress(0.9, "solving the head")
    head = _solve_sparse_head(data, best, params)
    # Prototypes of which the sparse head makes no use explain nothing.
    is_used = _used_prototypes(head, best.owner, data.classes)
    best, head = best.select(is_used), Head(head.weight[:, is_used], head.bias, head.penalty)
    val_sims = _array(best.val_sims)
    own_similarity, other_similarity = class_similarities(
        best.sims, cache.labels, torch.from_numpy(best.owner)
    )
    report = {
        "validation_accuracy": head.accuracy(val_sims, val.labels),
        "validation_accuracy_before_projection": best.accuracy_before,
        "linear_probe_accuracy": probe_accuracy,
        "own_similarity": own_similarity,
        "other_similarity": other_similarity,
        "prototypes": len(is_used),
        "penalty": head.penalty,
        **sparsity(head, val_sims),
    }
    _check_alarms(data, head.scores(val_sims).argmax(1), len(is_used), report)
    yield Progress(0.93, "measuring the prototypes")
    test = list(dataset.of("test"))
    if test:
        report |= _test(data, test, best.metric, head)
        report |= part_quality(
            dataset, test[:400], backbone, best.metric, best.owner, seed=params.seed
        )
    artifact = _artifact(data, best, head, report, params)
    yield Progress(1.0, f"{len(is_used)} prototypes", artifact)


def _array(values: Tensor) -> npt.NDArray[np.float64]:
    return values.numpy().astype(np.float64)


def _initial_metric(
    raw: Tensor, params: PrototypeParams, generator: torch.Generator
) -> PatchMetric:
    flat = raw.flatten(2).transpose(1, 2).flatten(0, 1)
    rows = torch.randperm(len(flat), generator=generator)[:_PATCH_SAMPLE]
    mean, whiten = fit_whitening(flat[rows].float().numpy(), params.directions)
    size = len(whiten)
    return PatchMetric(
        torch.from_numpy(mean),
        torch.from_numpy(whiten),
        torch.eye(size),
        torch.zeros(0, size),
        torch.zeros(0, dtype=torch.long),
    )


def _initial_prototypes(
    data: _Data, metric: PatchMetric, params: PrototypeParams
) -> tuple[PatchMetric, Tensor, float]:
    labels, classes = data.train.labels, data.classes
    flat = data.cache.plain.float().flatten(2)
    weights = fit_linear_probe(flat.mean(2).numpy(), labels, classes)
    pooled = data.val_features.float().flatten(2).mean(2).numpy()
    predicted = (pooled @ weights[:, :-1].T + weights[:, -1]).argmax(1)
    centres, owner = [], []
    for c in range(classes):
        members = flat[data.cache.labels == c].numpy()
        count = params.per_class or int(np.clip(len(members) // 6, 2, 6))
        patches = discriminative_patches(members, weights, c)
        centres.append(spherical_kmeans(patches, count, seed=params.seed + c))
        owner += [c] * len(centres[-1])
    units = torch.from_numpy(np.concatenate(centres))
    initial = replace(metric, patches=units, prototype_of=torch.arange(len(units)))
    return initial, torch.tensor(owner), float((predicted == data.val.labels).mean())


def _train_and_project(
    data: _Data,
    metric: PatchMetric,
    owner: Tensor,
    params: PrototypeParams,
    generator: torch.Generator,
) -> Generator[Progress, None, _Candidate]:
    # The gate: near enough to their classes, and little lost by moving onto real patches.
    best: _Candidate | None = None
    for attempt in range(1 + RETRIES):
        steps = params.steps if attempt == 0 else max(1, params.steps // 3)
        training = train_prototypes(data.cache, metric, owner, steps=steps, generator=generator)
        for share, current in training:
            metric = current
            yield Progress(0.65 + 0.1 * share, "learning prototypes")
        sims, val_sims, before = _evaluate(data, metric, owner)
        own_similarity, other_similarity = class_similarities(sims, data.cache.labels, owner)
        projected, owners, sources = project(data.cache, metric, owner)
        sims, val_sims, after = _evaluate(data, projected, torch.from_numpy(owners))
        if best is None or after > best.accuracy:
            best = _Candidate(projected, owners, sources, sims, val_sims, after, before)
        if own_similarity > other_similarity and after >= before - TOLERATED_LOSS:
            break
    assert best is not None  # noqa: S101 - there is at least one attempt
    return best


def _evaluate(data: _Data, metric: PatchMetric, owner: Tensor) -> tuple[Tensor, Tensor, float]:
    sims = cached_similarities(data.cache.plain, metric)
    val_sims = cached_similarities(data.val_features, metric)
    head = solve_head(
        _array(sims), data.train.labels, owner.numpy(), data.classes, 0.003, steps=300
    )
    return sims, val_sims, head.accuracy(_array(val_sims), data.val.labels)


def _solve_sparse_head(data: _Data, best: _Candidate, params: PrototypeParams) -> Head:
    sims, labels, owner, classes = _array(best.sims), data.train.labels, best.owner, data.classes
    if params.penalty:
        return solve_head(sims, labels, owner, classes, params.penalty)
    limit = choose_penalty(sims, labels, owner, classes, seed=params.seed)
    own = owner[None] == np.arange(classes)[:, None]
    head = None
    # A class that is only ever recognised by what it is not explains nothing: weaker penalties,
    # until every class has a prototype that speaks for it.
    for penalty in (p for p in PENALTIES if p <= limit):
        head = solve_head(sims, labels, owner, classes, penalty, start=head)
        if ((head.weight > 1e-9) & own).any(1).all():
            break
    assert head is not None  # noqa: S101 - the limit is one of the penalties
    return head


def _used_prototypes(head: Head, owner: Labels, classes: int) -> Labels:
    is_used = np.abs(head.weight).max(0) > 1e-9
    for c in range(classes):  # a class keeps one in any case; the alarms judge whether it is enough
        members = np.flatnonzero(owner == c)
        if len(members) and not is_used[members].any():
            is_used[members[0]] = True
    return np.flatnonzero(is_used)


def _check_alarms(data: _Data, predicted: Labels, count: int, report: dict[str, Any]) -> None:
    labels, classes = data.val.labels, data.classes
    share = np.bincount(predicted, minlength=classes) / len(predicted)
    entropy = float(-(share[share > 0] * np.log(share[share > 0])).sum())
    missed_classes = [c for c in np.unique(labels) if not (predicted[labels == c] == c).any()]
    alarm = ""
    if entropy < 0.5 * np.log(len(np.unique(labels))):
        alarm = "its answers have collapsed to few classes"
    elif missed_classes:
        alarm = f"it never recognises {data.dataset.labels[int(missed_classes[0])]}"
    elif report["validation_accuracy"] < report["linear_probe_accuracy"] - 0.10:
        alarm = (
            f"it is right on {100 * report['validation_accuracy']:.0f} % of the held-out pictures, "
            f"a linear probe on {100 * report['linear_probe_accuracy']:.0f} %"
        )
    elif count < classes:
        alarm = f"only {count} distinct prototypes are left for {classes} classes"
    elif report["own_similarity"] < report["other_similarity"] + 0.05:
        alarm = "its prototypes look no more like their own class than like others"
    if alarm:
        raise Refused(
            f"No prototypes are shown, since they cannot be trusted: {alarm}. Give more pictures "
            "per class, or a network that tells the classes apart."
        )


def _test(data: _Data, positions: list[int], metric: PatchMetric, head: Head) -> dict[str, Any]:
    dataset, backbone = data.dataset, data.backbone
    labels = np.array([dataset.items[i].label for i in positions])
    sims, network = [], []
    for _, x in iter_tensors(dataset, positions, backbone.input_spec):
        with torch.no_grad():
            sims.append(similarities(backbone.features(x).map.float(), metric))
            network.append(backbone.fast_logits(x).argmax(1).numpy())
    predicted = head.scores(_array(torch.cat(sims))).argmax(1)
    report = {
        "test_accuracy": float((predicted == labels).mean()),
        "test_recall_each": [
            float((predicted[labels == c] == c).mean()) for c in np.unique(labels)
        ],
        "test_pictures": len(positions),
    }
    if backbone.labels == dataset.labels:
        report["black_box_test_accuracy"] = float((np.concatenate(network) == labels).mean())
    return report


def _names(labels: tuple[str, ...], owner: Labels, report: dict[str, Any]) -> list[str]:
    # Where the parts of pictures are known, what a prototype is a patch of goes into its name.
    parts = report.get("part_each", [""] * len(owner))
    purity = report.get("purity_each", [0.0] * len(owner))
    numbers = [0] * len(labels)
    names = []
    for c, part, pure in zip(owner, parts, purity, strict=True):
        numbers[c] += 1
        suffix = f", {part}" if pure >= _PURE else ""
        names.append(f"{labels[c]} {numbers[c]}{suffix}")
    return names


def _artifact(
    data: _Data, best: _Candidate, head: Head, report: dict[str, Any], params: PrototypeParams
) -> Artifact:
    dataset, backbone = data.dataset, data.backbone
    positions = [data.train.positions[source.picture] for source in best.sources]
    views = [next(iter(iter_tensors(dataset, [i], backbone.input_spec)))[1] for i in positions]
    arrays = {
        **best.metric.arrays(),
        "owner": best.owner.astype(np.int32),
        "places": np.array([s.place for s in best.sources], np.int32),
        "weight": head.weight.astype(np.float32),
        "bias": head.bias.astype(np.float32),
        "train_similarities": _array(best.sims).astype(np.float16),
        "train_labels": data.train.labels.astype(np.int32),
        "val_similarities": _array(best.val_sims).astype(np.float16),
        "val_labels": data.val.labels.astype(np.int32),
        **encode_views(views, backbone.input_spec),
    }
    facts = {
        "data": dataset.name,
        "data_digest": dataset.digest,
        "licence": dataset.licence,
        "labels": list(dataset.labels),
        "names": _names(dataset.labels, best.owner, report),
        "keys": [dataset.items[i].key for i in positions],
        "grid": list(data.cache.plain.shape[2:]),
        "report": report,
        "params": params.model_dump(),
    }
    return Artifact(arrays, facts)
