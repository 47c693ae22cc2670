"""Counterfactual patches: patches of another class's picture that change the decision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
from whylens.plugins.counterfactual_patches.gallery import (
    DistractorParams,
    fit_gallery,
    rank_candidates,
)
from whylens.plugins.counterfactual_patches.swaps import Decision, Swap, find_decision, greedy_swaps

if TYPE_CHECKING:
    import numpy.typing as npt

    from whylens import Backbone, Dataset, Progress, Subject


class CounterfactualParams(Params):
    """The number of patches and pictures, and the effort of the search."""

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
    FitParams = DistractorParams

    def why_not(self, backbone: Backbone) -> str | None:
        """Return why pictures of this network cannot be exchanged, or None."""
        if len(backbone.input_spec.size) != 2:
            return "it exchanges patches of pictures, and this network takes none"
        return embedding_problem(backbone)

    def fit(self, dataset: Dataset, backbone: Backbone, params: Any) -> Iterator[Progress]:
        """Yield the progress of fitting a gallery of the data's pictures."""
        return fit_gallery(dataset, backbone, params)

    def explain(self, subject: Subject, params: CounterfactualParams) -> Iterator[Partial]:
        """Yield the pictures with the patches taken from them so far, swap by swap."""
        decision, backbone = find_decision(subject), subject.backbone
        view = view_pixels(subject.x, backbone.input_spec)
        distractors = _find_distractors(subject, decision, params.pictures)
        items: list[Example] = []
        for n, distractor in enumerate(distractors):
            with torch.no_grad():
                x = decode_tensor(subject.artifact.arrays, distractor.position, backbone.input_spec)
                distractor_map = backbone.fast_features(x.to(subject.x.device)).map
            swaps: list[Swap] = []
            search = greedy_swaps(
                subject, distractor_map, decision, budget=params.swaps, candidates=params.candidates
            )
            for share, swap in search:
                swap_count = n * params.swaps + len(swaps) + share
                if swap is not None:
                    swaps.append(swap)
                item = _example(subject, decision, swaps, distractor, view)
                answer = Examples((*items, item), subject.unit)
                yield Partial(answer, min(0.99, swap_count / (len(distractors) * params.swaps)))
            items.append(_example(subject, decision, swaps, distractor, view))
        yield Partial(Examples(tuple(items), subject.unit, _note(subject, decision, items)), 1.0)


@dataclass(frozen=True, slots=True)
class _Distractor:
    """A picture of the other class: its position in the gallery, cosine and pixels."""

    position: int
    cosine: float
    pixels: npt.NDArray[np.uint8]


def _find_distractors(subject: Subject, decision: Decision, count: int) -> list[_Distractor]:
    arrays, facts = subject.artifact.arrays, subject.artifact.facts
    name = subject.backbone.labels[decision.goal]
    query = subject.embedding.float().cpu().numpy()
    # A copy of the visitor's own picture has no other patches.
    order = rank_candidates(arrays, facts["labels"], (decision.goal, name), query)
    copies = duplicate_test(subject, arrays)(np.array([i for i, _ in order], np.int64))
    pairs = [pair for pair, copy in zip(order, copies, strict=True) if not copy][:count]
    pictures = decode_images(arrays, [i for i, _ in pairs])
    return [_Distractor(*pair, picture) for pair, picture in zip(pairs, pictures, strict=True)]


def _example(
    subject: Subject,
    decision: Decision,
    swaps: list[Swap],
    distractor: _Distractor,
    view: npt.NDArray[np.uint8],
) -> Example:
    arrays, facts = subject.artifact.arrays, subject.artifact.facts
    i, labels = distractor.position, subject.backbone.labels
    label = facts["labels"][int(arrays["labels"][i])]
    predicted = labels[int(arrays["predicted"][i])]
    before = subject.forward_pass.logits[0]
    after = swaps[-1].logits if swaps else before
    flipped = bool(swaps) and decision.is_reached(after)
    probabilities = subject.backbone.probabilities(
        torch.stack([before, *(s.logits for s in swaps)])
    )
    steps = probabilities[:, decision.goal].tolist()
    parts = [label, f"cosine {distractor.cosine:.3f}"]
    if predicted != label:
        parts.append(f"the network says {predicted}")
    parts.append(f"{labels[decision.goal]} " + " → ".join(f"{100 * p:.3g} %" for p in steps))
    grid = (int(subject.features.shape[2]), int(subject.features.shape[3]))
    score = float(subject.target.score(after[None])[0])
    diagnostics = {
        "swaps": len(swaps),
        "flipped": float(flipped),
        "score before": subject.score,
        "score after": score,
        "share of swaps tried": (
            sum(s.pair_count for s in swaps) / sum(s.possible for s in swaps) if swaps else 0.0
        ),
    }

    def boxes(cells: Iterable[int]) -> tuple[NumberedBox, ...]:
        places = (divmod(cell, grid[1]) for cell in cells)
        return tuple(NumberedBox.of_cell(place, grid, n) for n, place in enumerate(places, 1))

    return Example(
        distractor.pixels,
        " · ".join(parts),
        score - subject.score,
        facts["keys"][i],
        f"{labels[decision.start]} → {labels[decision.goal]}",
        marks=boxes(s.distractor_cell for s in swaps),
        comparison=Comparison(view, boxes(s.query_cell for s in swaps)),
        diagnostics=diagnostics,
    )


def _note(subject: Subject, decision: Decision, items: list[Example]) -> str:
    labels = subject.backbone.labels
    start, goal = labels[decision.start], labels[decision.goal]
    if not items:
        return f"The gallery holds no picture of {goal} other than this one."
    flips = [int(item.diagnostics["swaps"]) for item in items if item.diagnostics["flipped"]]
    if not flips:
        most = max(int(item.diagnostics["swaps"]) for item in items)
        result = f"{most} patches taken over do not turn {start} into {goal}"
    else:
        fewest = min(flips)
        result = f"After {fewest} swap{'s' if fewest > 1 else ''} {start} becomes {goal}"
    if min(item.diagnostics["share of swaps tried"] for item in items) < 1:
        return f"{result}; only the most promising swaps were tried."
    return f"{result}."


@hookimpl
def explainers() -> list[Explainer[Any]]:
    """Return the one explainer of this plugin."""
    return [CounterfactualPatches()]
