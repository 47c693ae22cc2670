"""The verdict: its rule written out, and what true maps, random maps and edges get by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.cases import linear, linear_case
from tests.support.toys import noise, subject_of
from whylens.core.evaluation.hiding import FILLS, Setting, hiding_curve
from whylens.core.evaluation.metric import Case, Score
from whylens.core.evaluation.ordering import cells
from whylens.core.evaluation.random_maps import random_maps
from whylens.core.evaluation.verdict import FORETOLD, STEPS, Verdict, judge, word_of
from whylens.core.outputs.masked_mean import expected_agreement
from whylens.core.results import Heatmap
from whylens.core.targets import Target
from whylens.plugins.rise import RISE
from whylens.plugins.smoothgrad import SmoothGrad

NO_SCORE = Score(None)


def last(case, **options) -> Verdict:
    *_, verdict = judge(case, **options)
    return verdict


@pytest.fixture(scope="module")
def strong() -> Case:
    """A linear network that is sure, whose evidence is one corner, and the exact map of it."""
    x = noise(1, 1, 12, 16, seed=3)
    detail = x[0, 0] - 0.5
    weights = torch.zeros(12, 16)
    weights[:7, :9] = 2 * detail[:7, :9]
    subject = subject_of(linear(weights, torch.zeros(12, 16)), x, Target(0))
    return Case(subject, Heatmap((weights * detail).numpy(), "logit", signed=True))


MEASURED = [
    # beaten (middle, worst), lead, random weights, seeds, the word
    ((1.0, 1.0), 5.0, 0.1, None, "holds"),
    ((0.95, 0.75), 1.83, 0.49, 0.5, "holds"),
    ((1.0, 1.0), 2.5, None, None, "holds"),
    ((1.0, 0.9), 1.82, 0.1, None, "mixed"),
    ((1.0, 0.7), 3.0, 0.1, None, "mixed"),
    ((1.0, 1.0), 3.0, 0.5, None, "mixed"),
    ((1.0, 1.0), 3.0, 0.1, 0.49, "mixed"),
    ((0.75, 0.75), 1.0, 0.1, None, "mixed"),
    ((0.74, 0.7), 2.0, 0.1, 0.9, "no better than chance"),
    ((1.0, 1.0), 3.0, 0.8, 1.0, "no better than chance"),
]


@pytest.mark.parametrize(("beaten", "lead", "weights", "seeds", "word"), MEASURED)
def test_the_rule_is_as_it_is_written_down(beaten, lead, weights, seeds, word):
    verdict = Verdict(
        None, "", NO_SCORE, NO_SCORE, Score(beaten[0], span=(beaten[1], 1.0)), Score(weights),
        Score(seeds), 0.9, lead,
    )  # fmt: skip
    actual, reason = word_of(verdict)
    assert actual == word
    assert reason.endswith(".")
    assert reason[0].isupper()


def test_the_true_map_holds_and_its_opposite_does_not(strong):
    verdict = last(strong)
    assert verdict.word == "holds", verdict
    assert verdict.fraction == 1
    assert verdict.figures["insertion"] > verdict.figures["deletion"]
    opposite_case = replace(strong, heat=Heatmap(-strong.heat.values, "logit", signed=True))
    assert last(opposite_case).word == "no better than chance"


def test_a_map_leads_by_what_it_does_better_in_units_of_what_random_maps_spread(strong):
    verdict = last(strong)
    values, scores, chance = cells(strong.heat, strong.subject.size), [], []
    for fill in FILLS:
        setting = Setting(fill, steps=STEPS)
        *_, hidden = hiding_curve(strong.subject, values, setting)
        *_, opposite_curve = hiding_curve(strong.subject, -values, setting)
        scores.append(opposite_curve.area() - hidden.area())
        *_, random = random_maps(strong.subject, values, setting)
        chance.append(random.insertion - random.deletion)
    spread = np.sqrt((np.mean(chance, axis=0) ** 2).mean())
    assert verdict.lead == pytest.approx(np.mean(scores) / spread, rel=1e-5)


def test_random_maps_hold_no_more_often_than_one_in_twenty(strong):
    words = []
    for seed in range(12):
        grid = np.random.default_rng(seed).random((3, 4))
        words.append(last(replace(strong, heat=Heatmap(grid, "nothing"))).word)
    assert words.count("holds") <= 2  # of 12, at a rate of 1 in 21: more come once in 50 such tests
    assert words.count("no better than chance") >= 6


def test_what_knows_no_network_never_holds():
    case = linear_case(12, 16)

    def edges(subject):
        rows = torch.diff(subject.x[0, 0], dim=0, prepend=subject.x[0, 0, :1]).abs()
        return Heatmap(rows.numpy(), "brightness")

    verdict = last(replace(case, heat=edges(case.subject), explain=edges))
    assert verdict.random_weights.value == pytest.approx(1)
    assert verdict.word in ("no better than chance", "cannot be judged here")
    assert verdict.word == "cannot be judged here" or "random weights" in verdict.reason


def test_what_cannot_be_judged_says_why(strong):
    blank = last(replace(strong, heat=Heatmap(np.zeros((3, 4)), "x")))
    flat = last(replace(strong, heat=Heatmap(np.full((3, 4), 2.0), "x")))
    for verdict, words in ((blank, "No positive evidence"), (flat, "same value everywhere")):
        assert verdict.word == "cannot be judged here"
        assert words in verdict.reason
    zero_net = linear(torch.zeros(12, 16), torch.zeros(12, 16))
    deaf = subject_of(zero_net, noise(1, 1, 12, 16), Target(0))
    verdict = last(replace(strong, subject=deaf))
    assert verdict.word == "cannot be judged here"
    assert "Hiding all of the input" in verdict.reason


def test_a_second_seed_and_a_long_method(strong):
    calls = []

    def random_map(subject):
        calls.append(subject.seed)
        wild = np.random.default_rng(subject.seed).normal(size=(12, 16)) * 3
        return Heatmap(strong.heat.values + wild, "logit", signed=True)

    case = replace(strong, explain=random_map, randomised=None)
    verdict = last(case)
    assert verdict.seeds.value is not None
    assert verdict.seeds.value < 0.5
    assert verdict.word == "mixed"
    assert verdict.reason == f"Another seed gives another map ({verdict.seeds.value:.2f})."
    calls.clear()
    unknown = last(case, repeats=False)
    assert unknown.seeds.value is None
    assert unknown.seeds.note.startswith("Not asked of a method that takes long: ")
    assert unknown.word == "holds"
    assert calls == []


@pytest.mark.parametrize(
    ("agreement", "word", "reason"),
    [(0.31, "mixed", "Another seed is expected to give another map (0.31)."), (0.5, "holds", "")],
)
def test_a_long_method_is_taken_by_its_word_on_other_seeds(strong, agreement, word, reason):
    diagnostics = {"masks": 64.0, "expected agreement of seeds": agreement}
    heat = Heatmap(strong.heat.values, "logit", signed=True, diagnostics=diagnostics)
    verdict = last(replace(strong, heat=heat, explain=None, randomised=None), repeats=False)
    assert verdict.seeds == Score(agreement, 0.0, "Expected, from its own samples.")
    assert verdict.word == word
    assert reason in verdict.reason
    # One that answers at once is asked, whatever it says.
    answers = replace(strong, heat=heat, explain=lambda subject: heat, randomised=None)
    assert last(answers).seeds.note == "It draws no random numbers: every seed has this map."


def test_the_name_by_which_seeds_are_foretold_is_that_of_the_methods_that_sample():
    subject = replace(linear_case(12, 16).subject, seed=1)
    for method in (SmoothGrad(), RISE()):
        *_, partial = method.explain(subject, method.test_params or method.Params())
        foretold = partial.result.diagnostics[FORETOLD]
        assert foretold == pytest.approx(
            expected_agreement(*map(torch.tensor, (partial.result.values, partial.result.error))),
            abs=1e-6,
        )
