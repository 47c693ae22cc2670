"""The eight identities that every metric owes, whoever wrote it, on linear networks.

Source: what metrics of public libraries were found to miss; each test names it.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from whylens.core.conformance.metric_under_test import (
    Explain,
    MetricUnderTest,
    exact,
    heatmap,
    random_values,
    sloped_backbone,
)
from whylens.core.conformance.outcome import CheckFailed, NotApplicable, require
from whylens.core.conformance.suite import Check
from whylens.core.results import Heatmap
from whylens.core.subject import Subject
from whylens.core.targets import Target

DRAWS = 24
ERRORS = 3.5  # standard errors within which a mean counts as what is expected


def positive_scaling(candidate: MetricUnderTest) -> None:
    """A map times a positive number gets the same."""
    if not candidate.metric.scale_free:
        raise NotApplicable("it declares scale_free=False")
    expected = candidate.value(candidate.case())
    for factor in (1e-4, 1e4):
        actual = candidate.value(candidate.case(explain=_scaled_by(factor)))
        require(
            _same(actual, expected),
            f"The map times {factor:g} gets {actual:.4g}, the map itself {expected:.4g}. Only the "
            "form of a map counts: add no epsilon to its values and compare them with no fixed "
            "number, or declare scale_free=False.",
        )


def _scaled_by(factor: float) -> Explain:
    return lambda subject: heatmap(factor * exact(subject).values.astype(float))


def constant_map(candidate: MetricUnderTest) -> None:
    """A map of one value gets what random orders of its places get on average."""
    flat = candidate.score(candidate.case(explain=lambda _: heatmap(np.ones((4, 6)))))
    if flat.chance is None:
        raise NotApplicable("it has no chance level: it does not order places")
    values = np.array([value for value, _ in _of_random_maps(candidate, 1.0, 1e-3)])
    expected, error = values.mean(), values.std(ddof=1) / DRAWS**0.5
    distance = abs((flat.value or 0.0) - expected)
    require(
        distance <= ERRORS * error + 2e-3 * max(1.0, abs(expected)),
        f"A map of one value gets {flat.value:.4g}; {DRAWS} maps in random orders get "
        f"{expected:.4g} on average, with a standard error of {error:.2g}. Equal values must count "
        "by expectation or be drawn at random: sorting takes them in raster order, a threshold "
        "takes all of them at once, and every maximum of several is no hit.",
    )


def chance_level(candidate: MetricUnderTest) -> None:
    """Random maps get, on average, the chance level that stands beside the score."""
    gaps = []
    half = DRAWS // 2
    # Other maps for the second mean: to a metric of ranks a map and its shifted copy are one.
    for mean, salts in ((0.6, range(half)), (0.0, range(half, DRAWS))):
        for value, chance in _of_random_maps(candidate, mean, 1.0, salts):
            if chance is None:
                raise NotApplicable("it states no chance level")
            gaps.append(value - chance)
    error = float(np.std(gaps, ddof=1)) / len(gaps) ** 0.5
    require(
        abs(np.mean(gaps)) <= ERRORS * error + 2e-3,
        f"{len(gaps)} random maps get {np.mean(gaps):+.4f} beside the chance level that the metric "
        f"states, with a standard error of {error:.2g}. State what independent values get on "
        "average, and leave out of the mean what is no comparison, as of a map with itself.",
    )


def _of_random_maps(
    candidate: MetricUnderTest, mean: float, spread: float, salts: Sequence[int] = range(DRAWS)
) -> list[tuple[float, float | None]]:
    scores, case = [], candidate.case()
    for salt in salts:

        def explain(subject: Subject, salt: int = salt) -> Heatmap:
            return heatmap(mean + spread * (random_values(subject, salt) - 0.5))

        score = candidate.score(replace(case, heat=explain(case.subject), explain=explain))
        scores.append((score.value or 0.0, score.chance))
    return scores


def batch(candidate: MetricUnderTest) -> None:
    """A score depends neither on the batch size nor on what was scored before."""
    expected = candidate.value(candidate.case())
    for size in (1, 3):
        actual = candidate.value(candidate.case(batch_size=size))
        require(
            _same(actual, expected),
            f"With batch_size={size} instead of 16 the score is {actual:.4g}, not {expected:.4g}. "
            "Normalise nothing over a batch, and draw random numbers one by one.",
        )
    candidate.value(candidate.case(explain=_scaled_by(1e3)))
    second_value = candidate.value(candidate.case())
    require(
        _same(second_value, expected),
        f"After another map was scored the score is {second_value:.4g}, not {expected:.4g}. Keep "
        "nothing between calls.",
    )


def target_fixed(candidate: MetricUnderTest) -> None:
    """The class stays the one asked about, and a probability stays one."""
    network = candidate.networks.get
    expected = candidate.value(candidate.case(network(sloped_backbone, "labels")))
    for other_scores in (-50.0, 50.0):
        actual = candidate.value(candidate.case(network(sloped_backbone, "labels", other_scores)))
        require(
            _same(actual, expected),
            f"Each label has a score of its own, and {other_scores:+g} on the others changes what "
            f"the metric says about this one from {expected:.4g} to {actual:.4g}. Follow the "
            "target of the subject: choose no class anew once the input has changed, and take "
            "no softmax.",
        )
    target = Target(1, "probability")
    expected = candidate.value(candidate.case(target=target))
    actual = candidate.value(candidate.case(network(sloped_backbone, offset=5.0), target=target))
    require(
        _same(actual, expected),
        f"A probability was asked about, and 5 more on all logits, which changes none, changes the "
        f"score from {expected:.4g} to {actual:.4g}. Take subject.scores, not the logits.",
    )


def seeded(candidate: MetricUnderTest) -> None:
    """The same question has the same score, no global seed is touched, and draws are fresh."""
    _draw_globally()
    before = _global_state()
    case = candidate.case()
    draws: list[bytes] = []

    def explain(subject: Subject) -> Heatmap:
        draws.append(random_values(subject).tobytes())
        return exact(subject)

    first = candidate.value(replace(case, explain=explain))
    require(
        _global_state() == before,
        "It drew from, or set, a seed of the whole process. Draw from subject.generator() only.",
    )
    _draw_globally()
    second = candidate.value(candidate.case())
    require(
        first == second,
        f"The same question was scored {first:.6g} and {second:.6g}. Draw from "
        "subject.generator() only, and keep nothing between calls.",
    )
    subject_asked: list[bytes] = case.subject.forward_pass.memo.get("asked", [])
    for what, queries in (("the network", subject_asked), ("the method", draws)):
        require(
            len(queries) < 6 or len(set(queries)) > 2,
            f"It asked {what} {len(queries)} times, and {len(set(queries))} of the questions "
            "differ. Draw every sample afresh: one generator for the whole loop, not one for each.",
        )


def _draw_globally() -> None:
    # So that what rests on the generators of the process finds them elsewhere.
    random.random()  # noqa: S311
    np.random.random()  # noqa: NPY002
    torch.rand(1)


def _global_state() -> tuple[object, ...]:
    legacy = np.random.get_state()  # noqa: NPY002
    return random.getstate(), pickle.dumps(legacy), torch.get_rng_state().numpy().tobytes()


def direction(candidate: MetricUnderTest) -> None:
    """What is better gets the better score, in the direction that is stated."""
    if "method" in candidate.metric.asks:
        good = candidate.value(candidate.case())
        gains = {}
        for name, explain in _BAD.items():
            try:
                gains[name] = candidate.better(
                    good, candidate.value(candidate.case(explain=explain))
                )
            except NotApplicable:
                if candidate.metric.direction == "none":
                    raise
        # Each metric asks one thing: what it finds worst of these must be worse.
        name, gain = max(gains.items(), key=lambda item: abs(item[1]))
        require(gain > 0.05, _worse(name, good))
        return
    case = candidate.exact_case()
    good = candidate.value(case)
    inverted_case = replace(case, heat=heatmap(-case.heat.values))
    try:
        gain = candidate.better(good, candidate.value(inverted_case))
    except NotApplicable:
        if candidate.metric.direction == "none":
            raise
        return  # it refuses what is turned over
    require(gain > 0.05 * abs(good), _worse("the exact map turned over", good))


def _worse(what: str, good: float) -> str:
    return (
        f"The exact map gets {good:.4g}, and {what} is no worse by the direction that is stated. "
        "Keep the sign of what is compared, square nothing, and state which way is good."
    )


def _blind(subject: Subject) -> Heatmap:
    return heatmap(np.random.default_rng(3).random(subject.size))


def _restless(subject: Subject) -> Heatmap:
    return heatmap(random_values(subject) - 0.5)


_BAD: dict[str, Explain] = {
    "a map that is the same whatever is asked": _blind,
    "a map that is another whatever is asked": _restless,
}


def linear_truth(candidate: MetricUnderTest) -> None:
    """On a linear network the exact map gets the best score, or better than all random maps."""
    if "method" in candidate.metric.asks:
        raise NotApplicable("it compares maps of a method: none of them is the truth")
    case, best = candidate.exact_case(), candidate.metric.best
    good = candidate.value(case)
    if best is not None:
        require(
            abs(good - best) <= 1e-3,
            f"On a linear network the exact map gets {good:.4g}, and it owes {best:g}. Start every "
            "perturbation from the input itself, and compare like with like.",
        )
        return
    for seed in range(DRAWS // 2):
        values = np.random.default_rng(seed).normal(size=case.heat.values.shape)
        try:
            random_one = candidate.value(replace(case, heat=heatmap(values)))
        except NotApplicable as refusal:
            raise CheckFailed(f"A random map has no score: {refusal}.") from refusal
        require(
            candidate.better(good, random_one) >= -1e-6,
            f"On a linear network the exact map gets {good:.4g} and a random one {random_one:.4g}, "
            "which is better. Follow the map's own values, the largest first.",
        )


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-3 * max(abs(a), abs(b)) + 1e-5


METRIC_CHECKS: tuple[Check[MetricUnderTest], ...] = (
    Check(1, "positive-scaling", positive_scaling),
    Check(2, "constant-map", constant_map),
    Check(3, "chance-level", chance_level),
    Check(4, "batch", batch),
    Check(5, "target-fixed", target_fixed),
    Check(6, "seeded", seeded),
    Check(7, "direction", direction),
    Check(8, "linear-truth", linear_truth),
)
