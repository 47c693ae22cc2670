"""Counterfactual patches: what, taken over from a picture of another class, turns the decision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field

from whylens import (
    Comparison,
    Example,
    Examples,
    Explainer,
    Need,
    NumberedBox,
    Params,
    Partial,
    decode_images,
    decode_tensor,
    hookimpl,
    view_pixels,
)
from whylens.plugins._gallery import embedding_problem
from whylens.plugins._near_duplicates import duplicate_test
from whylens.plugins.counterfactual_patches.gallery import GalleryParams, gallery, ranked
from whylens.plugins.counterfactual_patches.swaps import Decision, Swap, decision, greedy_swaps

if TYPE_CHECKING:
    import numpy.typing as npt

    from whylens import Backbone, Dataset, Progress, Subject


class CounterfactualParams(Params):
    """How many patches may be taken over, from how many pictures, and how hard to search."""

    swaps: int = Field(
        default=6, ge=1, le=20, title="Most swaps", description="Patches taken over at most."
    )
    pictures: int = Field(
        default=1,
        ge=1,
        le=4,
        description="Pictures of the other class that are tried, nearest first.",
    )
    candidates: int = Field(
        default=500,
        ge=10,
        le=50_000,
        multiple_of=10,
        title="Swaps tried",
        description="Pairs of patches tried for each swap; where there are more, those that the "
        "gradient promises most of. The paper tries all: 2,401 on a 7 x 7 map.",
    )


class CounterfactualPatches(Explainer[CounterfactualParams]):
    """Cells of the feature map exchanged one by one until another class wins.

    Departs from the paper in that long lists of pairs are cut to the most promising by the
    gradient, and in how the other picture is chosen: the nearest of its class, not a random one.
    """

    name = "counterfactual-patches"
    title = "Counterfactual Patches"
    family = "Contrast"
    summary = (
        "Which patches, taken over from the nearest picture of another class, would make the "
        "network say that class instead."
    )
    limits = (
        "Patches are exchanged in the feature map, where each has seen more than its box, and the "
        "mixture need not look like any picture; the search is greedy and may miss a shorter way."
    )
    question_kind = "what if"
    when = "When the question is why not the other class, shown by a picture of it."
    source = (
        "Goyal et al. 2019, Counterfactual Visual Explanations, eq. 4 and algorithm 1 (greedy "
        "sequential exhaustive search)"
    )
    cost = "per swap, one pass through the head for every pair of patches that is tried"
    needs = frozenset({Need.GRADIENTS, Need.SPATIAL_FEATURES})
    Params = CounterfactualParams
    test_params = CounterfactualParams(swaps=2, candidates=50)
    artifact_kind = "a few pictures of every class"
    FitParams = GalleryParams

    def why_not(self, backbone: Backbone) -> str | None:
        """Return why pictures of this network cannot be exchanged, or None."""
        if len(backbone.spec.size) != 2:
            return "it exchanges patches of pictures, and this network takes none"
        return embedding_problem(backbone)

    def fit(self, dataset: Dataset, backbone: Backbone, params: Any) -> Iterator[Progress]:
        """Yield the steps of making a gallery of the data's pictures."""
        return gallery(dataset, backbone, params)

    def explain(self, subject: Subject, params: CounterfactualParams) -> Iterator[Partial]:
        """Yield the pictures with the patches taken from them so far, swap by swap."""
        aim, backbone = decision(subject), subject.backbone
        seen = view_pixels(subject.x, backbone.spec)
        found = _distractors(subject, aim, params.pictures)
        items: list[Example] = []
        for n, (i, near, picture) in enumerate(found):
            with torch.no_grad():
                x = decode_tensor(subject.artifact.arrays, i, backbone.spec).to(subject.x.device)
                there = backbone.fast_features(x).map
            swaps: list[Swap] = []
            search = greedy_swaps(
                subject, there, aim, budget=params.swaps, candidates=params.candidates
            )
            for share, swap in search:
                done = n * params.swaps + len(swaps) + share
                if swap is not None:
                    swaps.append(swap)
                item = _example(subject, aim, swaps, (i, near, picture), seen)
                told = Examples((*items, item), subject.unit)
                yield Partial(told, min(0.99, done / (len(found) * params.swaps)))
            items.append(_example(subject, aim, swaps, (i, near, picture), seen))
        yield Partial(Examples(tuple(items), subject.unit, _note(subject, aim, items)), 1.0)


def _mark(cell: int, grid: tuple[int, int], number: int) -> NumberedBox:
    return NumberedBox.of_cell(divmod(cell, grid[1]), grid, number)


def _distractors(
    subject: Subject, aim: Decision, count: int
) -> list[tuple[int, float, npt.NDArray[np.uint8]]]:
    arrays, facts = subject.artifact.arrays, subject.artifact.facts
    name = subject.backbone.labels[aim.goal]
    query = subject.embedding.float().cpu().numpy()
    # A copy of the visitor's own picture has nothing else to offer.
    order = ranked(arrays, facts["labels"], (aim.goal, name), query)
    copies = duplicate_test(subject, arrays)(np.array([i for i, _ in order], np.int64))
    chosen = [pair for pair, copy in zip(order, copies, strict=True) if not copy][:count]
    pictures = decode_images(arrays, [i for i, _ in chosen])
    return [(i, near, picture) for (i, near), picture in zip(chosen, pictures, strict=True)]


def _example(
    subject: Subject,
    aim: Decision,
    swaps: list[Swap],
    chosen: tuple[int, float, npt.NDArray[np.uint8]],
    seen: npt.NDArray[np.uint8],
) -> Example:
    (i, near, picture), facts = chosen, subject.artifact.facts
    arrays, labels = subject.artifact.arrays, subject.backbone.labels
    label = facts["labels"][int(arrays["labels"][i])]
    said = labels[int(arrays["predicted"][i])]
    before = subject.forward_pass.logits[0]
    after = swaps[-1].logits if swaps else before
    flipped = bool(swaps) and aim.reached(after)
    chances = [float(z.softmax(-1)[aim.goal]) for z in (before, *(s.logits for s in swaps))]
    parts = [label, f"cosine {near:.3f}"]
    if said != label:
        parts.append(f"the network says {said}")
    parts.append(f"{labels[aim.goal]} " + " → ".join(f"{100 * c:.3g} %" for c in chances))
    grid = (int(subject.features.shape[2]), int(subject.features.shape[3]))
    score = float(subject.target.score(after[None])[0])
    diagnostics = {
        "swaps": len(swaps),
        "flipped": float(flipped),
        "score before": subject.score,
        "score after": score,
        "share of swaps tried": (
            sum(s.tried for s in swaps) / sum(s.possible for s in swaps) if swaps else 0.0
        ),
    }
    return Example(
        picture,
        " · ".join(parts),
        score - subject.score,
        facts["keys"][i],
        f"{labels[aim.start]} → {labels[aim.goal]}",
        marks=tuple(_mark(s.taken, grid, n) for n, s in enumerate(swaps, 1)),
        beside=Comparison(seen, tuple(_mark(s.replaced, grid, n) for n, s in enumerate(swaps, 1))),
        diagnostics=diagnostics,
    )


def _note(subject: Subject, aim: Decision, items: list[Example]) -> str:
    labels = subject.backbone.labels
    start, goal = labels[aim.start], labels[aim.goal]
    if not items:
        return f"The gallery holds no picture of {goal} other than this one."
    flips = [int(item.diagnostics["swaps"]) for item in items if item.diagnostics["flipped"]]
    if not flips:
        most = max(int(item.diagnostics["swaps"]) for item in items)
        said = f"{most} patches taken over do not turn {start} into {goal}"
    else:
        taken = min(flips)
        said = f"After {taken} swap{'s' if taken > 1 else ''} {start} becomes {goal}"
    if min(item.diagnostics["share of swaps tried"] for item in items) < 1:
        return f"{said}; only the most promising swaps were tried."
    return f"{said}."


@hookimpl
def explainers() -> list[Explainer[Any]]:
    """Return the one explainer of this plugin."""
    return [CounterfactualPatches()]
