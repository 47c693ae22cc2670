"""Tests 6 and 7: the same question has the same answer, and chance is as large as it is said."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from whylens.core.conformance.outcome import (
    CheckFailed,
    NotApplicable,
    difference,
    require,
)
from whylens.core.conformance.toy_inputs import noise
from whylens.core.conformance.toy_networks import NETWORKS, patches, with_change
from whylens.core.conformance.under_test import Answer, ExplainerUnderTest
from whylens.core.evaluation.agreement import correlation
from whylens.core.models.backbone import Backbone
from whylens.core.params import ControlSpec, controls_of
from whylens.core.results import Heatmap
from whylens.core.words import percent

SEEDS = 8
STEADY = 0.99


def default_network(candidate: ExplainerUnderTest, seed: int = 3) -> Backbone:
    """Return the first network of this kit on which an explainer runs.

    Raises:
        NotApplicable: There is none; says why.
    """
    reasons = []
    for make in NETWORKS.values():
        backbone = candidate.network(make, seed)
        reason = candidate.refusal(backbone)
        if reason is None:
            return backbone
        reasons.append(reason)
    raise NotApplicable(f"it refuses every network of the kit: {'; '.join(reasons)}")


def for_each_network(
    candidate: ExplainerUnderTest,
    ask: Callable[[Callable[..., Backbone]], None],
    *,
    briefly: str = "",
) -> None:
    """Run a test on every network of this kit on which an explainer runs.

    Args:
        ask: Called with what makes the network from a seed; `candidate.network` makes it once.
        briefly: The network that is enough where the explainer is tested briefly, or the first on
            which it runs if not on this one; by default all.

    Raises:
        NotApplicable: There is none; says why.
        CheckFailed: As the test raises it, with the network in words.
    """
    reasons = []
    for name in sorted(NETWORKS, key=lambda name: name != briefly):
        make = NETWORKS[name]
        try:
            if candidate.fails_on_axes_of(candidate.network(make)):
                continue
            ask(make)
            if candidate.brief and briefly:
                return
        except NotApplicable as reason:
            reasons.append(str(reason))
        except CheckFailed as failure:
            raise CheckFailed(f"On {name}: {failure}") from failure.__cause__
    if len(reasons) == len(NETWORKS):
        raise NotApplicable(f"it refuses every network of the kit: {'; '.join(reasons)}")


def non_blank_answer(candidate: ExplainerUnderTest, backbone: Backbone) -> Answer:
    """Return an answer that is not blank, for some class.

    Raises:
        NotApplicable: The answers are blank, and each says why.
        CheckFailed: They are blank without a word.
    """
    notes = []
    for target in range(3):
        answer = candidate.plain_answer(backbone, target)
        if answer.values.any():
            return answer
        notes.append(answer.heat.note)
    if all(notes):
        raise NotApplicable(f"it is blank on this network, and says why: {notes[0]}")
    raise CheckFailed(
        "The answer is zero for every class of a network that does tell them apart. Check that the "
        "values are those that were computed, or say in the map's note why nothing can be seen."
    )


def _copy(make: Callable[..., Backbone]) -> Backbone:
    return make(3)


def determinism(candidate: ExplainerUnderTest) -> None:
    """The same question, asked twice and on a fresh copy of the network, has the same answer."""

    def ask(make: Callable[..., Backbone]) -> None:
        backbone = candidate.network(make)
        first = non_blank_answer(candidate, backbone)
        for copy in (backbone, candidate.network(_copy, make)):
            second_answer = candidate.answer(copy, noise(copy.input_spec), first.subject.target)
            require(
                np.array_equal(first.values, second_answer.values),
                "The same question had two answers. Draw random numbers from subject.generator() "
                "only, and keep nothing between calls.",
            )

    try:
        for_each_network(candidate, ask, briefly="convolutions under a linear head")
    except NotApplicable as refusal:
        raise CheckFailed(
            f"It runs on no network of the kit: {refusal}. Ask for less in needs and why_not."
        ) from refusal


def batch_size(candidate: ExplainerUnderTest) -> None:
    """How many inputs go into one forward pass does not change the answer."""

    def ask(make: Callable[..., Backbone]) -> None:
        backbone = candidate.network(make)
        expected = non_blank_answer(candidate, backbone)
        for size in (3,) if candidate.brief else (1, 3):
            actual = candidate.answer(
                backbone, noise(backbone.input_spec), expected.subject.target, batch_size=size
            )
            distance = difference(actual.values, expected.values)
            require(
                distance < 1e-3,
                f"With batch_size={size} instead of 16 the answer differs by "
                f"{percent(distance, 1)}. Draw random numbers one by one, and give each "
                "input of a batch its own mask, offset and noise.",
            )

    for_each_network(candidate, ask, briefly="convolutions under an MLP head")


def in_place(candidate: ExplainerUnderTest) -> None:
    """A layer that works in place does not change the answer: what is read is read before it."""
    plain, hidden = candidate.network(patches), candidate.network(patches, in_place=True)
    expected = non_blank_answer(candidate, plain)
    actual = candidate.answer(hidden, noise(plain.input_spec), expected.subject.target)
    distance = difference(actual.values, expected.values)
    require(
        distance < 1e-4,
        "A ReLU that works in place instead of one that does not changes the answer by "
        f"{percent(distance, 1)}, though the network computes the same. A forward hook keeps a "
        "reference, which the next layer overwrites: clone in the hook, or use subject.features.",
    )


def accelerator(candidate: ExplainerUnderTest) -> None:
    """On a GPU the answer is the one of the CPU."""
    if not torch.cuda.is_available():
        raise NotApplicable("there is no GPU here")
    backbone = default_network(candidate)
    expected = non_blank_answer(candidate, backbone)
    on_gpu = with_change(backbone, lambda module: module.to("cuda"))
    actual = candidate.answer(on_gpu, noise(backbone.input_spec), expected.subject.target)
    distance = difference(actual.values, expected.values)
    require(
        distance < 1e-2,
        f"The GPU's answer differs from the CPU's by {percent(distance, 1)}. Draw random numbers "
        "on the CPU and move them to subject.x.device; a copy to the CPU is none on the CPU.",
    )


def stated_error(candidate: ExplainerUnderTest) -> None:
    """The standard error that a map states is how far maps of other seeds lie apart."""
    backbone = default_network(candidate)
    first = non_blank_answer(candidate, backbone)
    target = first.subject.target
    heats = [first.heat]
    for seed in range(1, SEEDS):
        heats.append(candidate.answer(backbone, noise(backbone.input_spec), target, seed=seed).heat)
        if seed == 2:
            _draws(heats)
    if any(heat.error is None for heat in heats):
        raise NotApplicable("it draws random numbers, but states no standard error")
    errors = [np.asarray(heat.error, np.float64) for heat in heats]
    stated = float(np.sqrt(np.mean([e**2 for e in errors])))
    spread = float(np.sqrt(np.var([h.values for h in heats], axis=0, ddof=1).mean()))
    require(
        0.4 * spread <= stated <= 2.5 * spread,
        f"Maps of {SEEDS} seeds scatter by {spread:.3g} around their mean; the standard error they "
        f"state is {stated:.3g}. It is that of the mean shown, not of one sample.",
    )


def convergence(candidate: ExplainerUnderTest) -> None:
    """More samples bring seeds together: to 0.99, or to what the map itself says of other seeds."""
    backbone = default_network(candidate)
    first = non_blank_answer(candidate, backbone)
    target = first.subject.target

    def pair(**changes: object) -> list[Heatmap]:
        params = candidate.params.model_copy(update=changes)
        return [
            candidate.answer_to(
                candidate.subject(backbone, noise(backbone.input_spec), target, seed=seed), params
            ).heat
            for seed in (1, 2)
        ]

    few = pair()
    _draws(few)
    begin = correlation(few[0].values, few[1].values)
    if begin >= STEADY:
        return
    correlations = {}
    for field in controls_of(type(candidate.params)):
        if field.kind == "int":
            more = _larger(field, getattr(candidate.params, field.name))
            heats = pair(**{field.name: more})
            correlations[field.name, more] = correlation(heats[0].values, heats[1].values)
    best = max(correlations.values(), default=begin)
    require(
        best >= STEADY or 1 - best <= 0.5 * (1 - begin),
        f"Two seeds' maps correlate by {begin:.3f}, and no whole-number parameter brings them "
        f"closer when it is enlarged 16 times: {correlations}. The mean over samples must "
        "be over all of them, not over the last.",
    )


def _larger(field: ControlSpec, now: int) -> int:
    step = int(field.step)
    larger = min(int(field.high), 16 * now)
    return max(now, int(field.low) + (larger - int(field.low)) // step * step)


def _draws(heats: list[Heatmap]) -> None:
    if all(np.array_equal(h.values, heats[0].values) for h in heats):
        raise NotApplicable("it draws no random numbers here: all seeds have one answer")
