"""ProtoPNet: the decision as a sum of points for looking like patches of training pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
from whylens.plugins.protopnet.editing import ACTIONS, edit_prototypes
from whylens.plugins.protopnet.patch_check import PatchCheck, check_patch, rows_and_columns
from whylens.plugins.protopnet.pipeline import PrototypeParams, fit_prototypes
from whylens.plugins.protopnet.similarity import (
    PatchMetric,
    cosine_maps,
    max_over_patches,
    metric_from_arrays,
    top_mean,
)

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

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
    test_fit_params = PrototypeParams(steps=30, versions=1, penalty=0.003)
    actions = ACTIONS

    def fit(self, dataset: Dataset, backbone: Backbone, params: Any) -> Iterator[Progress]:
        """Yield the steps of learning prototypes."""
        return fit_prototypes(dataset, backbone, params)

    def edit(self, artifact: Artifact, action: str, chosen: tuple[str, ...], text: str) -> Artifact:
        """Return prototypes that a visitor deleted, merged or renamed."""
        return edit_prototypes(artifact, action, chosen, text)

    def explain(self, subject: Subject, params: ProtoParams) -> Iterator[Partial]:
        """Yield the prototypes that decide, first without their patches checked, then with."""
        arrays, facts = subject.artifact.arrays, subject.artifact.facts
        metric = metric_from_arrays(arrays)
        maps = cosine_maps(metric.to_white(subject.features), metric.rotation, metric.patches)
        values = top_mean(maps)
        sims = max_over_patches(values, metric)[0].double().numpy()
        weight = np.asarray(arrays["weight"], np.float64)
        scores = weight @ sims + np.asarray(arrays["bias"], np.float64)
        predicted = int(scores.argmax())
        name = subject.backbone.labels[subject.target.index]
        has_class = name in facts["labels"]
        explained = facts["labels"].index(name) if has_class else predicted
        points = weight[explained] * sims
        largest = strongest_first(np.abs(points))[: params.count]
        indices = [i for i in largest if points[i]]
        evidence = _Evidence(subject, metric, maps[0], values[0], sims, points)
        checks: dict[int, PatchCheck] = {}

        def answer() -> Prototypes:
            ordered = sorted(indices, key=lambda i: -points[i])
            return Prototypes(
                tuple(evidence.example(i, checks.get(i)) for i in ordered),
                f"points towards {facts['labels'][explained]}",
                predicted=facts["labels"][predicted],
                score=float(scores[explained]),
                rest=float(scores[explained] - points[indices].sum()),
                note=_note(subject, facts, facts["labels"][predicted], known=has_class),
            )

        if params.patches:
            for number, i in enumerate(indices, 1):
                yield Partial(answer(), number / (len(indices) + 1))
                checks[i] = check_patch(subject, metric, i)
        yield Partial(answer(), 1.0)


@dataclass(frozen=True, slots=True)
class _Evidence:
    """An input's similarities to the prototypes, and their points for the explained class.

    Attributes:
        maps: (P, *S) cosine to each patch.
        values: (P,) the mean of each map's best places.
        sims: (M,) float64 similarity to each prototype.
        points: (M,) float64.
    """

    subject: Subject
    metric: PatchMetric
    maps: Tensor
    values: Tensor
    sims: npt.NDArray[np.float64]
    points: npt.NDArray[np.float64]

    def example(self, prototype: int, check: PatchCheck | None) -> Example:
        """Return a prototype beside the input, with its box there if it was checked."""
        arrays, facts = self.subject.artifact.arrays, self.subject.artifact.facts
        members = torch.nonzero(self.metric.prototype_of == prototype)[:, 0]
        patch = int(members[first_largest(self.values[members].numpy())])
        owner = facts["labels"][int(arrays["owner"][prototype])]
        value, sim = float(self.points[prototype]), float(self.sims[prototype])
        weight = value / sim if sim else 0.0
        caption = (
            f"{facts['names'][prototype]}: likeness {sim:.2f} x weight {weight:+.2f} = {value:+.2f}"
        )
        diagnostics: dict[str, float] = {}
        boxes: tuple[NumberedBox, ...] = ()
        if check is not None:
            diagnostics = {"drop when covered": check.drop, "drop elsewhere": check.random_drop}
            top, left, bottom, right = check.box
            height, width = rows_and_columns(self.subject.size)
            boxes = (NumberedBox(1, left / width, top / height, right / width, bottom / height),)
            if check.drop > check.random_drop:
                caption += (
                    f" · covering the box takes {check.drop:.2f}, elsewhere {check.random_drop:.2f}"
                )
            else:
                caption += " · its box fails the check: covering it costs no more than elsewhere"
        (picture,) = decode_images(arrays, [patch])
        grid = rows_and_columns(facts["grid"])
        cell = divmod(int(arrays["places"][patch]), grid[1])
        similarity_map = self.maps[patch].reshape(rows_and_columns(self.maps.shape[1:])).numpy()
        return Example(
            picture,
            caption,
            value,
            key=facts["keys"][patch],
            group=f"Looks like {owner}" if value > 0 else "Speaks against",
            # Half a cell more on every side: a feature sees beyond its cell.
            marks=(NumberedBox.of_cell(cell, grid, reach=0.5),),
            comparison=Comparison(
                view_pixels(self.subject.x, self.subject.backbone.input_spec), boxes, similarity_map
            ),
            diagnostics=diagnostics,
        )


def _note(subject: Subject, facts: Any, predicted: str, *, known: bool) -> str:
    backbone = subject.backbone
    label = backbone.labels[int(subject.forward_pass.logits[0].argmax())]
    accuracy = facts["report"].get("test_accuracy", facts["report"]["validation_accuracy"])
    trust = f"The prototypes are right on {100 * accuracy:.1f} % of pictures they have not seen."
    if not known:
        return f"They know other classes than {backbone.name} does, and say {predicted}. {trust}"
    if predicted != label:
        return f"They disagree: the network says {label}, the prototypes say {predicted}. {trust}"
    return trust


@hookimpl
def explainers() -> list[Explainer[Any]]:
    """Return the one explainer of this plugin."""
    return [ProtoPNet()]
