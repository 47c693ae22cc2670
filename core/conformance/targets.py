"""Tests 11 and 14: the map is about the class that was asked for, and about this network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from whylens.core.conformance.outcome import CheckFailed, NotApplicable, difference, require
from whylens.core.conformance.randomness import (
    default_network,
    for_each_network,
    non_blank_answer,
)
from whylens.core.conformance.toy_inputs import noise
from whylens.core.conformance.toy_networks import patches, with_change
from whylens.core.conformance.under_test import ExplainerUnderTest
from whylens.core.models.backbone import Backbone
from whylens.core.results import Heatmap
from whylens.core.words import percent


def class_sensitivity(candidate: ExplainerUnderTest) -> None:
    """Two classes have two maps, and one that hears nothing a blank one; or it says it is blind."""
    for_each_network(
        candidate,
        lambda make: _classes_differ(candidate, candidate.network(make)),
        briefly="convolutions under a linear head",
    )
    first = candidate.plain_answer(default_network(candidate), 0)
    if not isinstance(first.result, Heatmap) or first.subject.unit not in first.result.unit:
        return
    silent = candidate.network(_deaf_to_class_1)
    if candidate.refusal(silent) is None:
        heat = candidate.plain_answer(silent, 1).heat
        require(
            not heat.values.any(),
            "Class 1 scores the same whatever the picture, yet its map, in units of its score "
            f"({heat.unit!r}), is not zero. Explain subject.target, not the predicted class.",
        )


def _deaf_to_class_1() -> Backbone:
    def deaf(module: nn.Module) -> None:
        module.get_parameter("fc.weight")[1] = 0

    return with_change(patches(), deaf)


def _classes_differ(candidate: ExplainerUnderTest, backbone: Backbone) -> None:
    maps = [candidate.plain_answer(backbone, target).values for target in range(3)]
    explainer = candidate.explainer
    if explainer.class_blind:
        require(
            all(np.array_equal(values, maps[0]) for values in maps),
            "It declares class_blind, but its answers differ between classes. Leave the "
            "declaration out.",
        )
        require(
            "every class" in explainer.limits,
            "It declares class_blind; limits must tell visitors that the map is the same for "
            '"every class".',
        )
        return
    for a, b in ((0, 1), (1, 2), (2, 0)):
        size = float(np.linalg.norm(maps[a]) + np.linalg.norm(maps[b]))
        require(
            size == 0 or float(np.linalg.norm(maps[a] - maps[b])) > 1e-2 * size,
            f"Classes {a} and {b} have the same map. Explain subject.target, or declare "
            'class_blind = True and say in limits that it is the same for "every class".',
        )


def other_weights(candidate: ExplainerUnderTest) -> None:
    """Another network has another map: what is shown is the network, not the picture's edges."""

    def ask(make: Callable[..., Backbone]) -> None:
        first = non_blank_answer(candidate, candidate.network(make))
        redrawn_answer = candidate.plain_answer(
            candidate.network(make, 8), first.subject.target.index
        )
        distance = difference(redrawn_answer.values, first.values)
        require(
            distance > 0.1,
            f"With all weights drawn anew the map differs by {percent(distance, 1)} only. It shows "
            "the picture, not the network's reasons, as guided backpropagation does.",
        )

    for_each_network(candidate, ask, briefly="convolutions under a linear head")


def sign_of_score(candidate: ExplainerUnderTest) -> None:
    """A constant added to all scores, which makes the target's negative, leaves the map alone."""
    _needs_own_pictures(candidate)
    backbone = candidate.network(patches)
    plain = non_blank_answer(candidate, backbone)
    target, x = plain.subject.target, noise(backbone.input_spec)
    high = 2 * float(plain.subject.forward_pass.logits.abs().max())
    maps = [
        candidate.answer(candidate.network(_lifted_backbone, constant), x, target).values
        for constant in (high, -high)
    ]
    distance = difference(maps[1], maps[0])
    require(
        distance < 1e-2,
        "With a constant taken from all scores, so that the target's is negative, the map differs "
        f"by {percent(distance)}. Use differences of scores, and never divide by the score itself.",
    )


def _lifted_backbone(constant: float) -> Backbone:
    return with_change(patches(), lambda module: module.get_parameter("fc.bias").add_(constant))


def one_logit(candidate: ExplainerUnderTest) -> None:
    """A network with one output explains the predicted side, as two mirrored outputs would."""
    _needs_own_pictures(candidate)
    for side in (0, 1):
        one_output, two_outputs = candidate.network(_speaks_for, side)
        answer = candidate.plain_answer(one_output)
        if answer.subject.target.index != side:
            raise CheckFailed(
                f"A network whose one output speaks for side {side} predicts the other."
            )
        expected = candidate.plain_answer(two_outputs, side)
        distance = difference(answer.values, expected.values)
        require(
            distance < 1e-3,
            f"For a network with one output that predicts side {side}, the map differs by "
            f"{percent(distance)} from that of two mirrored outputs. Score by subject.target, "
            "never by the module's raw output.",
        )


def _speaks_for(side: int) -> tuple[Backbone, Backbone]:
    # A network whose one output predicts a side of seeded noise, and one with two mirrored outputs.
    single = patches(classes=1)
    with torch.no_grad():
        up = float(single.module(noise(single.input_spec))[0, 0]) > 0
    sign = 1.0 if up == bool(side) else -1.0

    def turned(module: nn.Module) -> None:
        for name in ("fc.weight", "fc.bias"):
            module.get_parameter(name).mul_(sign)

    one_output = with_change(single, turned)

    def mirrored(module: nn.Module) -> None:
        for name in ("fc.weight", "fc.bias"):
            half = one_output.module.get_parameter(name) / 2
            module.get_parameter(name).copy_(torch.cat([-half, half]))

    return one_output, with_change(patches(classes=2), mirrored)


def _needs_own_pictures(candidate: ExplainerUnderTest) -> None:
    if candidate.explainer.artifact_kind:
        raise NotApplicable("it is fitted: what it shows rests on pictures of its own")
