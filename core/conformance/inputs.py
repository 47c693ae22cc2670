"""Tests 9 and 10: input that shows nothing, and features laid out in every way."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whylens.core.conformance.outcome import NotApplicable, difference, require
from whylens.core.conformance.randomness import for_each_network, non_blank_answer
from whylens.core.conformance.toy_inputs import GRID, SIZE, noise
from whylens.core.conformance.toy_networks import (
    LABELS,
    PatchNet,
    dead_network,
    patches,
    plain_spec,
    randomise,
    tinted_spec,
    tiny_vit,
    with_change,
)
from whylens.core.conformance.under_test import ExplainerUnderTest, figures
from whylens.core.inputs.preprocess import normalize
from whylens.core.models.backbone import Backbone, wrap
from whylens.core.results import Heatmap
from whylens.core.targets import Target
from whylens.core.words import percent

LAYOUTS: dict[str, dict[str, Any]] = {
    "channels last": {"layout": "channels last"},
    "tokens without prefix": {"layout": "tokens", "prefix": 0},
    "tokens behind 1 prefix token": {"layout": "tokens", "prefix": 1},
    "tokens behind 2 prefix tokens": {"layout": "tokens", "prefix": 2},
    "tokens behind 5 prefix tokens": {"layout": "tokens", "prefix": 5},
}


def _one_place() -> Backbone:
    # One patch as large as the picture: a feature map of 1 x 1.
    module = PatchNet()
    module.conv = nn.Conv2d(3, 6, SIZE)
    return wrap(randomise(module), input_spec=tinted_spec(), labels=LABELS)


def _dead_channel() -> Backbone:
    def kill(module: nn.Module) -> None:
        module.get_parameter("conv.weight")[1] = 0
        module.get_parameter("conv.bias")[1] = -1

    return with_change(patches(), kill)


def _flat(colour: float) -> Tensor:
    return normalize(torch.full((1, 3, *SIZE), colour), tinted_spec())


def degenerate(candidate: ExplainerUnderTest) -> None:
    """Where there is nothing to see the map is finite, and blank rather than painted over."""
    alive = candidate.network(patches)
    random = noise(alive.input_spec)
    cases: dict[str, tuple[Backbone, Tensor, bool]] = {
        "a black picture": (alive, _flat(0.0), False),
        "a white picture": (alive, _flat(1.0), False),
        "a picture of one grey": (alive, _flat(0.5), False),
        "a dead channel": (candidate.network(_dead_channel), random, False),
        "a network that no photo can wake": (
            candidate.network(dead_network),
            noise(plain_spec()),
            True,
        ),
        "a feature map of one place": (candidate.network(_one_place), random, False),
        "one output only": (candidate.network(patches, classes=1), random, False),
    }
    targets = Target(1), Target(1, "probability"), Target(1, "contrast", 0)
    refusals, questions = [], 0
    for number, (case, (backbone, x, nothing)) in enumerate(cases.items()):
        for target in targets[number % 3 :][:1] if candidate.brief else targets:
            questions += 1
            try:
                answer = candidate.answer(backbone, x, target)
            except NotApplicable as refusal:
                refusals.append(str(refusal))
                continue
            require(
                np.isfinite(answer.values).all(),
                f"With {case} the answer holds NaN or infinite values.",
            )
            if not isinstance(answer.result, Heatmap):
                continue
            heat = answer.result
            require(
                all(np.isfinite(value) for value in heat.diagnostics.values()),
                f"With {case} a check is not finite: {dict(heat.diagnostics)}.",
            )
            require(
                not (nothing and candidate.explainer.question_kind == "where")
                or not np.ptp(heat.values),
                f"With {case} no place of the picture changes any score, yet the map shows "
                f"differences of up to {np.ptp(heat.values):.3g} {heat.unit}. Return the zeros "
                "that were computed: the page says in words that nothing was found.",
            )
    if len(refusals) == questions:
        raise NotApplicable(refusals[0])


def every_part(candidate: ExplainerUnderTest) -> None:
    """Every part of an answer is finite and has a map's shape, and fractions grow to 1."""
    for_each_network(candidate, lambda make: _parts_are_whole(candidate, candidate.network(make)))


def _parts_are_whole(candidate: ExplainerUnderTest, backbone: Backbone) -> None:
    answer = non_blank_answer(candidate, backbone)
    fractions = [part.fraction for part in answer.partials]
    require(
        fractions == sorted(fractions) and fractions[0] > 0 and fractions[-1] == 1,
        f"The parts of the answer have fractions {fractions[:8]}. They say how much is done: "
        "above 0, never falling, and 1 at the end.",
    )
    shapes = [backbone.input_spec.size]
    if backbone.split is not None:
        with torch.no_grad():
            shapes.append(tuple(backbone.features(backbone.probe_inputs()).map.shape[2:]))
    for part in answer.partials:
        require(
            np.isfinite(figures(part.result)).all(),
            f"The part at {percent(part.fraction)} holds NaN or infinite values. Divide by what "
            "has been computed so far, and leave zeros where nothing has.",
        )
        if isinstance(part.result, Heatmap):
            require(
                part.result.values.shape in shapes and part.result.unit,
                f"The part at {percent(part.fraction)} is a map of {part.result.values.shape} in "
                f"{part.result.unit!r}. Each part is of one of {shapes}, the input or the feature "
                "map, and names its unit.",
            )
            require(
                all(np.isfinite(value) for value in part.result.diagnostics.values()),
                f"At {percent(part.fraction)} a check is not finite: "
                f"{dict(part.result.diagnostics)}.",
            )


def layouts(candidate: ExplainerUnderTest) -> None:
    """One network, its features laid out in six ways, has one map, on the grid of its patches."""
    try:
        expected = non_blank_answer(candidate, candidate.network(patches))
    except NotApplicable:
        _on_transformers(candidate)
        return
    target = expected.subject.target.index
    _fits(expected.heat, "channels first")
    for layout, changes in LAYOUTS.items():
        actual = candidate.plain_answer(candidate.network(patches, **changes), target)
        _fits(actual.heat, layout)
        distance = difference(actual.heat.values, expected.heat.values)
        require(
            distance < 1e-3,
            f"The same network with its features as {layout} has a map that differs by "
            f"{percent(distance, 1)} from that with channels first. subject.features is (1, K, *S) "
            "whatever the layout; read nothing from backbone.module by its shape.",
        )


def _on_transformers(candidate: ExplainerUnderTest) -> None:
    for registers in (0, 4):
        heat = non_blank_answer(candidate, candidate.network(tiny_vit, registers=registers)).heat
        _fits(heat, f"tokens behind {registers + 1} prefix tokens")


def _fits(heat: Heatmap, layout: str) -> None:
    require(
        heat.values.shape in (GRID, SIZE),
        f"With features as {layout} the map is of {heat.values.shape}; it must be of the patches' "
        f"grid {GRID} or of the input {SIZE}. Class and register tokens have no place.",
    )
