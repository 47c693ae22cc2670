"""The kit that every metric is held to: the built-ins pass it, and each mistake is found."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.conftest import ROOT
from tests.evaluation.wrong_metrics import SOUND, WRONG
from whylens.core.conformance.metric_suite import METRIC_CHECKS
from whylens.core.conformance.metric_under_test import MetricUnderTest
from whylens.core.conformance.outcome import CheckFailed, NotApplicable
from whylens.core.conformance.toy_networks import ToyNetworks
from whylens.core.evaluation.metric import Score, metric_errors
from whylens.core.registry import load_registry

METRICS = load_registry().metrics
NETWORKS = ToyNetworks()


# They read the curve of deletion, or the maps of random weights, once more.
READ_AGAIN = {
    "insertion", "random-maps", "aopc", "random-weights-sizes", "random-weights-entropy",
}  # fmt: skip


# Hundreds of curves; what they show is asked of the same two, on smaller inputs, in test_curves.py
# and test_road.py. Whose class is asked about is told to both in one place.
MANY_CURVES = {*(("deletion", number) for number in (1, 2, 3, 5, 7)), ("road", 2), ("road", 3)}


@pytest.mark.parametrize(
    ("check", "name"),
    [
        pytest.param(
            check,
            name,
            id=f"{check.id}-{name}",
            marks=[pytest.mark.slow]
            if name in READ_AGAIN or (name, check.number) in MANY_CURVES
            else [],
        )
        for check in METRIC_CHECKS
        for name in METRICS
    ],
)
def test_every_built_in_passes(check, name):
    try:
        check.run(MetricUnderTest(METRICS[name], NETWORKS))
    except NotApplicable as reason:
        pytest.skip(str(reason))


def failures(metric, checks=METRIC_CHECKS) -> dict[int, str]:
    """Return number and sentence of every identity that a metric misses."""
    sentences = {}
    for check in checks:
        try:
            check.run(MetricUnderTest(metric, NETWORKS))
        except NotApplicable:
            continue
        except CheckFailed as exc:
            sentences[check.number] = str(exc)
    return sentences


@pytest.mark.parametrize("metric", SOUND, ids=lambda m: m.name)
def test_a_sound_metric_passes_all(metric):
    assert metric_errors(metric) == []
    assert failures(metric) == {}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_metric_fails_the_identity_that_is_there_for_its_mistake(wrong):
    metric, number = WRONG[wrong]
    assert metric_errors(metric) == []
    messages = failures(metric, [check for check in METRIC_CHECKS if check.number == number])
    assert list(messages) == [number]
    assert len(messages[number]) > 60
    assert messages[number].endswith(".")


def test_there_are_eight_identities_and_each_has_a_mistake_that_it_finds():
    assert [check.number for check in METRIC_CHECKS] == list(range(1, 9))
    assert {number for _, number in WRONG.values()} == set(range(1, 9))
    assert all(c.says.endswith(".") and "\n" not in c.says for c in METRIC_CHECKS)


def test_what_does_not_apply_says_why():
    def describes(case):
        yield Score(0.5)

    plain = replace(SOUND[0], measure=describes, direction="none", scale_free=False)
    words = {1: "scale_free=False", 2: "no chance level", 3: "no chance level", 7: "only describes"}
    for check in METRIC_CHECKS:
        if check.number in words:
            with pytest.raises(NotApplicable, match=words[check.number]):
                check.run(MetricUnderTest(plain, NETWORKS))


def test_the_page_has_a_row_for_every_metric():
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| [^|]+ \| (\w+) \|", text, re.MULTILINE)
    directions = {name: m.direction.replace("none", "describes") for name, m in METRICS.items()}
    assert dict(rows) == directions
