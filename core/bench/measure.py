"""One input of a benchmark: a row for each method, and the references that no method is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whylens.core.bench.columns import BEATS, GRID, KNOWN, SHORTCUT
from whylens.core.bench.mosaics import Mosaic, mosaic_around
from whylens.core.bench.plan import EDGES, RANDOM_MAP, REFERENCES, TRUE_MASK, BenchPlan, Sight
from whylens.core.bench.rows import Row
from whylens.core.datasets.dataset import Mask, Pixels
from whylens.core.errors import BadInput, CoreError, NeedsNotMet
from whylens.core.evaluation import random_maps
from whylens.core.evaluation.curves import margins_over_random_maps, share_beaten
from whylens.core.evaluation.grid_pointing import share_in_tile
from whylens.core.evaluation.hiding import Setting
from whylens.core.evaluation.metric import Case, Metric, Score
from whylens.core.evaluation.parts import (
    Parts,
    auroc_of_place,
    part_marks,
    single_deletion,
    target_sensitivity,
)
from whylens.core.evaluation.randomised_weights import randomised_subjects
from whylens.core.explanation import Question
from whylens.core.inputs.photo import photo_of
from whylens.core.inputs.preprocess import photo_tensor
from whylens.core.inputs.spec import InputSpec
from whylens.core.inputs.view import view_of
from whylens.core.results import Heatmap
from whylens.core.subject import Subject


@dataclass(frozen=True)
class _Hybrid:
    pixels: Pixels
    labels: tuple[int, int]
    signs: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class _Hint:
    label: int
    place: Tensor


@dataclass(frozen=True)
class _Scene:
    question: Question
    subject: Subject
    mask: Tensor
    recognised: bool
    parts: Parts | None
    hybrid: _Hybrid | None
    hint: _Hint | None
    mosaic: Mosaic | None


def rows_of(plan: BenchPlan, sight: Sight, pairs: Sequence[tuple[str, str]]) -> Iterator[Row]:
    """Yield a row for each method; what is wrong with one is in its row.

    Args:
        pairs: Names with owners.

    Raises:
        CoreError: Something is wrong with the data set or the network.
    """
    scene = _scene(plan, sight)
    for name, owner in pairs:
        yield {
            "picture": plan.dataset.items[sight.index].key,
            "split": sight.split,
            "method": name,
            "owner": owner,
            "recognised": scene.recognised,
            "independent": None if scene.parts is None else scene.parts.background_independence,
            **_measure(plan, sight, scene, name),
        }


def mask_in_view(mask: Mask, input_spec: InputSpec) -> Tensor:
    """Return (h, w) bool: a photo's mask where the network sees it, False beside the photo.

    Args:
        mask: (H, W) of the photo.
    """
    height, width = mask.shape
    view = view_of((width, height), input_spec)
    wide, tall = view.model
    x, y = view.to_original(np.arange(wide) + 0.5, np.arange(tall) + 0.5)  # type: ignore[arg-type]
    columns, rows = np.floor(x).astype(int), np.floor(y).astype(int)
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    in_view = mask[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)] & inside
    return torch.from_numpy(in_view)


def _scene(plan: BenchPlan, sight: Sight) -> _Scene:
    dataset, backbone, index = plan.dataset, plan.backbone, sight.index
    label, evidence = dataset.items[index].label, dataset.evidence(index)
    question = plan.question(sight)
    signal = len(backbone.input_spec.size) == 1
    shape = question.array.shape[1:] if signal else question.array.shape[:2]
    if evidence is None or evidence.shape != shape:
        raise BadInput(
            f"{dataset.name} gave no evidence of its input's size for {dataset.items[index].key}."
        )
    subject = plan.engine.subject(question)
    best = int(subject.forward_pass.logits[0].argmax())
    is_test = sight.split == "test"
    grid = mosaic_around(plan, sight) if is_test and sight.position < plan.bench.few else None
    if signal:
        mask = _on_signal(evidence, subject.size)
        return _Scene(question, subject, mask, best == label, None, None, None, grid)

    def seen(mask: Mask) -> Tensor:
        return mask_in_view(mask, backbone.input_spec)

    # Thresholds are all that is fitted on the validation split.
    hint = dataset.shortcut(index) if is_test else None
    return _Scene(
        question,
        subject,
        seen(evidence),
        best == label,
        _parts(plan, index, seen),
        _hybrid(plan, index, seen) if is_test else None,
        _Hint(hint.label, seen(hint.place)) if hint and hint.present else None,
        grid,
    )


def _on_signal(evidence: Mask, size: Sequence[int]) -> Tensor:
    """Return (L,) bool: a signal's mask at the positions of the network's input."""
    (length,) = size
    nearest = ((np.arange(length) + 0.5) * len(evidence) / length).astype(int)
    return torch.from_numpy(evidence[nearest])


def _logits(plan: BenchPlan, pixels: Pixels) -> Tensor:
    x, _ = photo_tensor(photo_of(pixels), plan.backbone.input_spec)
    return plan.backbone.fast_logits(x.to(plan.backbone.device))[0].detach()


def _parts(plan: BenchPlan, index: int, to_view: Callable[[Mask], Tensor]) -> Parts | None:
    dissection = plan.dataset.dissection(index)
    if dissection is None:
        return None
    label = plan.dataset.items[index].label
    logits: dict[frozenset[str], Tensor] = {}

    def without(names: frozenset[str]) -> Tensor:
        if names not in logits:
            logits[names] = _logits(plan, dissection.without(names))
        return logits[names]

    score = float(without(frozenset())[label])
    return Parts(
        label,
        score,
        {
            name: score - float(without(frozenset({name}))[label])
            for name in (*dissection.own, *dissection.around)
        },
        {name: to_view(mask) for name, mask in dissection.masks.items()},
        dissection.own,
        dissection.signs,
        lambda names: int(without(names).argmax()),
    )


def _hybrid(plan: BenchPlan, index: int, to_view: Callable[[Mask], Tensor]) -> _Hybrid | None:
    """Return a hybrid, where each class does lose more without its own sign than the other's.

    Source: Hesse et al. 2023, TS: pictures in which removals do not agree are left out, for a map
    that followed the network would have to prefer the other sign.
    """
    hybrid = plan.dataset.hybrid(index)
    if hybrid is None:
        return None
    whole = _logits(plan, hybrid.pixels)
    drops = [whole - _logits(plan, pixels) for pixels in hybrid.without]
    for own, label in enumerate(hybrid.labels):
        if drops[own][label] <= drops[1 - own][label]:
            return None
    first_mask, second_mask = hybrid.masks
    return _Hybrid(hybrid.pixels, hybrid.labels, (to_view(first_mask), to_view(second_mask)))


def _score(metric: Metric, case: Case, failures: list[str]) -> Score:
    """Return a metric's score; of a stranger's that fails none, and add why to the failures."""
    try:
        return metric.score(case)
    except CoreError:
        raise
    except Exception as exc:
        if metric.name in KNOWN:
            raise
        failures.append(f"A metric failed: {metric.title} ({type(exc).__name__}: {exc}).")
        return Score(None, note=failures[-1])


def _measure(plan: BenchPlan, sight: Sight, scene: _Scene, name: str) -> Row:
    """Return the part of a row that a method's map decides, or the reason why there is none."""
    scores: dict[str, Score] = {}
    failures: list[str] = []
    parts = None
    try:
        case = _case(plan, scene, name)
        if sight.split == "test":
            for metric in plan.metrics:
                if plan.asks(name, metric.name, sight):
                    scores[metric.name] = _score(metric, case, failures)
            if name == RANDOM_MAP and sight.position < plan.bench.few:
                scores[BEATS.name] = _over_random_maps(plan, case)
        if scene.parts is not None:
            scores["single-deletion"] = single_deletion(case.heat, scene.parts)
            marks = part_marks(case.heat, scene.parts)
            parts = marks and _round(asdict(marks))
        if scene.hybrid is not None:
            maps = _of_hybrid(plan, scene.hybrid, scene, name)
            scores["target-sensitivity"] = Score(target_sensitivity(maps, scene.hybrid.signs), 0.5)
        if scene.hint is not None:
            heat = _of_hint(plan, scene.hint, scene, name)
            scores[SHORTCUT.name] = Score(auroc_of_place(heat, scene.hint.place), 0.5)
        if scene.mosaic is not None:
            scores[GRID.name] = _in_mosaic(scene.mosaic, case, name)
    except CoreError as exc:
        return {"values": {}, "chance": {}, "parts": None, "reason": str(exc), "failed": ""}
    # Six digits: another batch may round the last ones in another way.
    return {
        "values": {k: round(s.value, 6) for k, s in scores.items() if s.value is not None},
        "chance": {k: round(s.chance, 6) for k, s in scores.items() if s.chance is not None},
        "parts": parts,
        "reason": "",
        "failed": next(iter(failures), ""),
    }


def _round(facts: dict[str, Any]) -> dict[str, list[Any]]:
    return {
        name: [value if isinstance(value, bool) else round(value, 6) for value in values]
        for name, values in facts.items()
    }


def _case(plan: BenchPlan, scene: _Scene, name: str) -> Case:
    subject = scene.subject
    if name not in REFERENCES:
        *_, last = plan.engine.explain(scene.question, name)
        heat = _map_of(last.result, scene.mask.ndim)
        # A memory for this map alone: an interval rests on every input asked by itself.
        return replace(plan.engine.case(last, mask=scene.mask), heat=heat, cache={})
    if name == EDGES:
        randomised = randomised_subjects(subject, plan.engine.random_networks)
        return Case(subject, _edges(subject), _edges, randomised, scene.mask, cache={})
    heat = _map_of_mask(scene.mask) if name == TRUE_MASK else _noise(subject)
    return Case(subject, heat, mask=scene.mask)


def _over_random_maps(plan: BenchPlan, case: Case) -> Score:
    """Return the mean of many random maps: what one of them gets says little of chance."""
    inputs = min(plan.bench.few, sum(sight.split == "test" for sight in plan.sights))
    maps = (_noise(case.subject, number) for number in range(-(-plan.bench.random_maps // inputs)))
    shares = []
    for heat in maps:
        # At the steps of the comparison alone: a map of which nothing else is asked.
        setting = Setting("blur", steps=random_maps.STEPS)
        *_, (margins, _, _) = margins_over_random_maps(case.subject, heat, setting)
        shares.append(share_beaten(margins))
    return Score(float(np.mean(shares)), 0.5)


def _in_mosaic(mosaic: Mosaic, case: Case, name: str) -> Score:
    subject = mosaic.subject
    if name == TRUE_MASK:
        return Score(1.0, mosaic.chance)
    try:
        heat = _noise(subject) if case.explain is None else case.explain(subject)
    except NeedsNotMet as exc:  # the method takes no input of another size
        return Score(None, note=str(exc))
    return Score(share_in_tile(heat, mosaic.tile), mosaic.chance)


def _of_hybrid(plan: BenchPlan, hybrid: _Hybrid, scene: _Scene, name: str) -> list[Heatmap]:
    if name == TRUE_MASK:
        return [_map_of_mask(sign) for sign in hybrid.signs]
    photo = photo_of(hybrid.pixels)
    questions = [replace(scene.question, photo=photo, target=label) for label in hybrid.labels]
    return [_any_map(plan, question, scene, name) for question in questions]


def _of_hint(plan: BenchPlan, hint: _Hint, scene: _Scene, name: str) -> Heatmap:
    if name == TRUE_MASK:
        return _map_of_mask(hint.place)
    return _any_map(plan, replace(scene.question, target=hint.label), scene, name)


def _any_map(plan: BenchPlan, question: Question, scene: _Scene, name: str) -> Heatmap:
    if name == RANDOM_MAP:
        return _noise(scene.subject)
    if name == EDGES:
        return _edges(plan.engine.subject(question))
    *_, last = plan.engine.explain(question, name)
    return _map_of(last.result, scene.mask.ndim)


def _map_of_mask(mask: Tensor) -> Heatmap:
    return Heatmap(mask.float().numpy(), "evidence")


def _noise(subject: Subject, number: int = 0) -> Heatmap:
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng((subject.seed, number)).standard_normal(subject.size)
    smooth = gaussian_filter(noise, max(subject.size) / 16, mode="wrap")
    return Heatmap(smooth, "nothing", signed=True)


def _edges(subject: Subject) -> Heatmap:
    from scipy.ndimage import gaussian_gradient_magnitude

    grey = subject.x[0].mean(0).detach().cpu().numpy()
    return Heatmap(gaussian_gradient_magnitude(grey, 1.0), "contrast")


def _map_of(result: object, axes: int) -> Heatmap:
    if not isinstance(result, Heatmap) or result.values.ndim != axes:
        raise NeedsNotMet(f"It gave no map of {axes} axes.")
    return result
