"""ProtoPNet: the decision as a sum of points for looking like patches of training pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field

from whylens import (
    Comparison,
    Example,
    Explainer,
    Need,
    NumberedBox,
    Params,
    Partial,
    Prototypes,
    decode_images,
    hookimpl,
    view_pixels,
)
from whylens.plugins._order import first_largest, strongest_first
from whylens.plugins.protopnet.editing import ACTIONS, edited
from whylens.plugins.protopnet.patch_check import Seen, in_rows, seen_by
from whylens.plugins.protopnet.pipeline import PrototypeParams, prototypes
from whylens.plugins.protopnet.similarity import (
    Metric,
    best_places,
    cosine_maps,
    metric_of,
    strongest,
    whitened,
)

if TYPE_CHECKING:
    from whylens import Artifact, Backbone, Dataset, Progress, Subject


class ProtoParams(Params):
    """How much is shown."""

    count: int = Field(default=5, ge=1, le=20, description="Prototypes shown.")
    patches: bool = Field(
        default=True,
        title="Check the patches",
        description="Find by gradient what each prototype rests on, and cover it to make sure.",
    )


class ProtoPNet(Explainer[ProtoParams]):
    """Prototypes on frozen features with a convex, sparse head."""

    name = "protopnet"
    title = "ProtoPNet"
    family = "Prototypes"
    summary = (
        "Adds up the class score from likeness to patches of training pictures, and shows each "
        "patch, where it fires here, and the points it gives."
    )
    limits = (
        "It is a second classifier on the network's features: it may disagree with the network, "
        "and says so; likeness to the network need not be likeness to the eye."
    )
    question_kind = "like what"
    when = "To see a decision as a sum of parts that look like parts of known pictures."
    source = (
        "Chen et al. 2019, 'This Looks Like That'; here with whitened cosine similarity, a "
        "discriminative start, gated projection and a convex sparse head on frozen features"
    )
    cost = "1 forward pass, and 1 backward and 9 forward per prototype shown"
    needs = frozenset({Need.GRADIENTS, Need.SPATIAL_FEATURES})
    Params = ProtoParams
    artifact_kind = "prototypes learnt from labelled pictures"
    FitParams = PrototypeParams
    test_fit_params = PrototypeParams(steps=60, versions=1)
    actions = ACTIONS

    def fit(self, dataset: Dataset, backbone: Backbone, params: Any) -> Iterator[Progress]:
        """Yield the steps of learning prototypes."""
        return prototypes(dataset, backbone, params)

    def edit(self, artifact: Artifact, action: str, chosen: tuple[str, ...], text: str) -> Artifact:
        """Return prototypes that a visitor deleted, merged or renamed."""
        return edited(artifact, action, chosen, text)

    def explain(self, subject: Subject, params: ProtoParams) -> Iterator[Partial]:
        """Yield the prototypes that decide, first without their patches checked, then with."""
        arrays, facts = subject.artifact.arrays, subject.artifact.facts
        metric = metric_of(arrays)
        white = whitened(subject.features, metric.mean, metric.whiten)
        maps = cosine_maps(white, metric.turn, metric.patches)
        values = best_places(maps)
        sims = strongest(values, metric.member, metric.count)[0].double().numpy()
        weight = np.asarray(arrays["weight"], np.float64)
        bias = np.asarray(arrays["bias"], np.float64)
        scores = weight @ sims + bias
        said = int(scores.argmax())
        name = subject.trace.backbone.labels[subject.target.index]
        known = name in facts["labels"]
        explained = facts["labels"].index(name) if known else said
        points = weight[explained] * sims
        shown = [i for i in strongest_first(np.abs(points))[: params.count] if points[i]]
        rest = float(scores[explained] - points[shown].sum())
        view = view_pixels(subject.x, subject.trace.backbone.spec)
        checked: dict[int, Seen] = {}

        def answer() -> Prototypes:
            items = tuple(
                _item(subject, metric, maps, values, view, i, points, sims, checked.get(i))
                for i in sorted(shown, key=lambda i: -points[i])
            )
            return Prototypes(
                items,
                f"points towards {facts['labels'][explained]}",
                predicted=facts["labels"][said],
                score=float(scores[explained]),
                rest=rest,
                note=_note(subject, facts, said, known=known),
            )

        todo = shown if params.patches else []
        for done, i in enumerate(todo):
            yield Partial(answer(), (done + 1) / (len(todo) + 1))
            checked[i] = seen_by(subject, metric, i)
        yield Partial(answer(), 1.0)


def _item(
    subject: Subject,
    metric: Metric,
    maps: torch.Tensor,
    values: torch.Tensor,
    view: Any,
    prototype: int,
    points: Any,
    sims: Any,
    seen: Seen | None,
) -> Example:
    arrays, facts = subject.artifact.arrays, subject.artifact.facts
    members = torch.nonzero(metric.member == prototype)[:, 0]
    patch = int(members[first_largest(values[0, members].numpy())])
    owner = facts["labels"][int(arrays["owner"][prototype])]
    name, value = facts["names"][prototype], float(points[prototype])
    weight = value / float(sims[prototype]) if sims[prototype] else 0.0
    caption = f"{name}: likeness {sims[prototype]:.2f} x weight {weight:+.2f} = {value:+.2f}"
    diagnostics: dict[str, float] = {}
    marks: tuple[NumberedBox, ...] = ()
    if seen is not None:
        diagnostics = {"drop when covered": seen.drop, "drop elsewhere": seen.random_drop}
        top, left, bottom, right = seen.box
        height, width = in_rows(subject.size)
        marks = (NumberedBox(1, left / width, top / height, right / width, bottom / height),)
        if seen.drop > seen.random_drop:
            caption += (
                f" · covering the box takes {seen.drop:.2f}, elsewhere {seen.random_drop:.2f}"
            )
        else:
            caption += " · its box fails the check: covering it costs no more than elsewhere"
    (picture,) = decode_images(arrays, [patch])
    rows, columns = in_rows(facts["grid"])
    place = divmod(int(arrays["places"][patch]), columns)
    return Example(
        picture,
        caption,
        value,
        key=facts["keys"][patch],
        group=f"Looks like {owner}" if value > 0 else "Speaks against",
        # Half a cell more on every side: a feature sees beyond its cell.
        marks=(NumberedBox.of_cell(place, (rows, columns), reach=0.5),),
        beside=Comparison(view, marks, maps[0, patch].reshape(in_rows(maps.shape[2:])).numpy()),
        diagnostics=diagnostics,
    )


def _note(subject: Subject, facts: Any, said: int, *, known: bool) -> str:
    backbone = subject.trace.backbone
    label = backbone.labels[int(subject.trace.logits[0].argmax())]
    ours = facts["labels"][said]
    accuracy = facts["report"].get("test_accuracy", facts["report"]["validation_accuracy"])
    trust = f"The prototypes are right on {accuracy:.1%} of pictures they have not seen."
    if not known:
        return f"They know other classes than {backbone.name} does, and say {ours}. {trust}"
    if ours != label:
        return f"They disagree: the network says {label}, the prototypes say {ours}. {trust}"
    return trust


@hookimpl
def explainers() -> list[Explainer[Any]]:
    """Return the one explainer of this plugin."""
    return [ProtoPNet()]
