"""Twin: the training pictures nearest to this one by the network's features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from whylens import (
    BadInput,
    Comparison,
    Example,
    Examples,
    Explainer,
    NumberedBox,
    Params,
    decode_images,
    decode_tensor,
    hookimpl,
    load_encoder,
    view_pixels,
)
from whylens.plugins._gallery import embedding_problem
from whylens.plugins._near_duplicates import duplicate_test
from whylens.plugins.twin.cosine_search import Bools, Floats
from whylens.plugins.twin.familiarity import share_farther, usual_similarities
from whylens.plugins.twin.gallery import GalleryParams, fit_gallery
from whylens.plugins.twin.patch_matches import match_cells
from whylens.plugins.twin.search import VOTING_NEIGHBOURS, drop_copies, nearest, similarities

if TYPE_CHECKING:
    from whylens import Backbone, Dataset, Progress, Subject

_BOTH = "Nearest with another label, which the network also calls something else"


class TwinParams(Params):
    """How neighbours are measured and shown."""

    weighting: Literal["class-weighted", "plain"] = Field(
        default="class-weighted",
        description="Class-weighted counts each feature by what it does for the explained class; "
        "plain is the cosine of all features.",
    )
    count: int = Field(default=4, ge=1, le=12, description="Pictures per group.")
    matches: bool = Field(
        default=True, title="Patch matches", description="Draw which patch looks like which."
    )


@dataclass(frozen=True)
class _Group:
    heading: str
    allowed: Bools


class Twin(Explainer[TwinParams]):
    """Nearest training pictures by the features that the last layer reads."""

    name = "twin"
    title = "Twin"
    family = "Examples"
    summary = (
        "Shows the training pictures that the network finds most like this one, of its class and "
        "of others, and which patches match."
    )
    limits = (
        "It shows what the network finds alike, not why; a neighbour need not have caused the "
        "decision, and pictures outside the gallery are never seen."
    )
    question_kind = "like what"
    when = "To see what the network takes this picture for, by pictures it learnt from."
    source = (
        "Cosine neighbours of penultimate features; weighting by the class as in Kenny & Keane "
        "2019, 'Twin-systems to explain artificial neural networks using case-based reasoning' "
        "(COLE)"
    )
    cost = "1 forward pass and a search"
    needs = frozenset()
    Params = TwinParams
    artifact_kind = "a gallery of training pictures"
    FitParams = GalleryParams

    def why_not(self, backbone: Backbone) -> str | None:
        """Return why this network's inputs cannot be compared, or None."""
        return embedding_problem(backbone)

    def fit(self, dataset: Dataset, backbone: Backbone, params: Any) -> Iterator[Progress]:
        """Yield the progress of fitting a gallery of the data's training pictures."""
        return fit_gallery(dataset, backbone, params)

    def explain(self, subject: Subject, params: TwinParams) -> Examples:
        """Return neighbours in three groups: the target's class, others by label, by prediction."""
        arrays, facts = subject.artifact.arrays, subject.artifact.facts
        query, weights, unit = _query(subject, params)
        groups = _groups(subject, arrays, facts["labels"])
        masks = [group.allowed for group in groups]
        similarity = similarities(arrays, query, weights, masks)
        view = view_pixels(subject.x, subject.backbone.input_spec)
        drop_copies(similarity, masks, params.count, duplicate_test(subject, arrays))
        nearest_groups = [
            (group.heading, nearest(similarity, group.allowed, params.count)) for group in groups
        ]
        if len(nearest_groups) == 3 and nearest_groups[1][1] == nearest_groups[2][1]:
            # By label and by prediction are two questions; with one answer it is shown once.
            nearest_groups = [nearest_groups[0], (_BOTH, nearest_groups[1][1])]
        items: list[Example] = []
        for heading, members in nearest_groups:
            for rank, i in enumerate(members):
                compare = params.matches and rank == 0
                items.append(_example(subject, i, float(similarity[i]), heading, view, compare))
        return Examples(tuple(items), unit, _note(subject, similarity, arrays, facts))

    def familiarity(self, subject: Subject) -> float | None:
        """Return which share of the gallery is at least as far from its nearest neighbour.

        Source: Sun et al. 2022, Out-of-Distribution Detection with Deep Nearest Neighbors, eq. 2
        with k = 1; as a share of the gallery's own distances rather than against a threshold.
        """
        artifact = subject.artifact
        if len(artifact.arrays["vectors"]) < 2:
            return None
        query, _, _ = _query(subject, TwinParams(weighting="plain"))
        if artifact.digest:
            usual = subject.backbone.once(
                f"twin: what is usual in {artifact.digest}",
                lambda _: usual_similarities(artifact.arrays),
            )
        else:
            usual = usual_similarities(artifact.arrays)
        everyone = np.ones(len(artifact.arrays["vectors"]), np.bool_)
        similar = similarities(artifact.arrays, query, None, [everyone])
        return share_farther(float(similar.max()), usual)


def _query(subject: Subject, params: TwinParams) -> tuple[Floats, Floats | None, str]:
    backbone, source = subject.backbone, subject.artifact.facts.get("vectors_by")
    if source:
        encoder = backbone.once(f"twin: {source['name']}", lambda _: load_encoder(source["name"]))
        if encoder.digest != source["digest"]:
            raise BadInput(
                f"The gallery was made with other weights of {encoder.name} than there are now. "
                "Fit it again."
            )
        view = view_pixels(subject.x, backbone.input_spec)
        return encoder.encode([view])[0], None, f"cosine of vectors by {encoder.name}"
    query = subject.embedding.float().cpu().numpy()
    if params.weighting == "class-weighted":
        weights = subject.embedding_weights.float().cpu().numpy()
        if np.abs(weights).max() > 0:
            return query, weights, "class-weighted cosine"
    return query, None, "plain cosine"


def _groups(subject: Subject, arrays: Any, labels: list[str]) -> list[_Group]:
    backbone, index = subject.backbone, subject.target.index
    name = backbone.labels[index]
    predicted = np.asarray(arrays["predicted"]) == index
    if name not in labels:
        # A gallery with classes of its own: only predictions can be compared.
        return [
            _Group(f"Nearest that the network also calls {name}", predicted),
            _Group("Nearest that the network calls something else", ~predicted),
        ]
    labelled = np.asarray(arrays["labels"]) == labels.index(name)
    return [
        _Group(f"Nearest labelled {name}", labelled),
        _Group("Nearest with another label", ~labelled),
        _Group("Nearest that the network calls something else", ~predicted),
    ]


def _example(
    subject: Subject, i: int, value: float, group: str, view: npt.NDArray[np.uint8], compare: bool
) -> Example:
    arrays, facts = subject.artifact.arrays, subject.artifact.facts
    backbone = subject.backbone
    label = facts["labels"][int(arrays["labels"][i])]
    predicted = backbone.labels[int(arrays["predicted"][i])]
    parts = [label, f"cosine {value:.3f}"]
    if predicted != label:
        parts.append(f"the network says {predicted}")
    parts.append("in training" if facts["splits"][i] == "train" else f"in {facts['splits'][i]}")
    (picture,) = decode_images(arrays, [i])
    marks, comparison = (), None
    if compare and backbone.split is not None:
        query_boxes, marks = _match_boxes(subject, i)
        comparison = Comparison(view, query_boxes)
    key = facts["keys"][i]
    return Example(picture, " · ".join(parts), value, key, group, marks, comparison)


def _match_boxes(subject: Subject, i: int) -> tuple[Any, Any]:
    backbone = subject.backbone
    with torch.no_grad():
        features = backbone.features(
            decode_tensor(subject.artifact.arrays, i, backbone.input_spec)
        ).map
    query, neighbour = (_in_rows(f[0].float().cpu().numpy()) for f in (subject.features, features))
    # A channel's weight is its mean gradient, as in Grad-CAM, on any head.
    weights = subject.gradients[0].flatten(1).mean(-1).float().cpu().numpy()
    if not np.abs(weights).any():
        weights = np.ones_like(weights)
    pairs = match_cells(query, neighbour, weights, 3)

    def boxes(cells: Iterable[tuple[int, int]], grid: tuple[int, int]) -> tuple[NumberedBox, ...]:
        # A feature sees more than its cell; the box shows the cell and half of its neighbours.
        return tuple(NumberedBox.of_cell(c, grid, n, reach=0.5) for n, c in enumerate(cells, 1))

    query_boxes = boxes((a for a, _, _ in pairs), query.shape[1:])
    return query_boxes, boxes((b for _, b, _ in pairs), neighbour.shape[1:])


def _in_rows(features: Floats) -> Floats:
    # A signal's places lie in one row.
    return features if features.ndim == 3 else features[:, None]


def _note(subject: Subject, similarity: Floats, arrays: Any, facts: Any) -> str:
    voters = nearest(similarity, np.ones(len(similarity), np.bool_), VOTING_NEIGHBOURS)
    if not voters:
        return "The gallery holds nothing but what you gave."
    votes = Counter(facts["labels"][int(arrays["labels"][i])] for i in voters)
    name = subject.backbone.labels[subject.target.index]
    winner, count = votes.most_common(1)[0]
    among = f"of the {len(voters)} nearest in {facts['data']}"
    if name not in facts["labels"]:
        return f"{count} {among} are labelled {winner}."
    if votes[name] * 2 >= len(voters):
        return f"{votes[name]} {among} are labelled {name}."
    return (
        f"Look twice: only {votes[name]} {among} are labelled {name}, {count} are labelled "
        f"{winner}. Either the decision stands on thin ground or labels near it are wrong."
    )


@hookimpl
def explainers() -> list[Explainer[Any]]:
    """Return the one explainer of this plugin."""
    return [Twin()]
