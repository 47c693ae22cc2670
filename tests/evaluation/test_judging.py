"""Explanations are judged whatever made them: methods of strangers, signals, examples, failures."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.support.networks import GapNet, plain_spec, seeded
from tests.support.toys import toy
from whylens.core.engine import Engine
from whylens.core.errors import NeedsNotMet
from whylens.core.evaluation.agreement import rank_correlation
from whylens.core.evaluation.metric import Score
from whylens.core.evaluation.verdict import Verdict
from whylens.core.explainer import Explainer
from whylens.core.explanation import Question
from whylens.core.models.backbone import wrap
from whylens.core.outputs.export import manifest
from whylens.core.outputs.ranking import ORDERS, agreements, ranked_answers
from whylens.core.outputs.render import Style, scales_together
from whylens.core.params import NoParams
from whylens.core.registry import Entry, Registry
from whylens.core.results import Example, Examples, Heatmap
from whylens.ui.page import html
from whylens.ui.page.judging import judged_steps, shown_steps
from whylens.ui.page.page_store import PageStore
from whylens.ui.page.session import Session

PHOTO = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)


class Strange(Explainer[NoParams]):
    """A stranger's method, in whatever way a test wants it."""

    title, family = "Strange", "Test"
    summary = limits = source = cost = "words"
    needs = frozenset()
    Params = NoParams

    def __init__(self, name, answer):
        self.name, self.answer = name, answer

    def explain(self, subject, params):
        return self.answer(subject)


def gradient_times_input(subject):
    values = (subject.input_gradients(subject.x) * subject.x)[0].sum(0)
    return Heatmap(values.numpy(), "logit", signed=True)


def breaks_on_random_weights(subject):
    if subject.backbone.identity.source.startswith("random weights"):
        raise RuntimeError("no such network")
    return gradient_times_input(subject)


def pictures(subject):
    return Examples((Example(np.zeros((4, 4, 3), np.uint8), "a neighbour", 0.5),), "cosine")


METHODS = {
    "good": gradient_times_input,
    "brittle": breaks_on_random_weights,
    "shows": pictures,
}


@pytest.fixture(scope="module")
def engine():
    entries = {
        name: Entry(Strange(name, answer), name, "stranger", "0.1")
        for name, answer in METHODS.items()
    }
    module = seeded(GapNet())
    x = torch.from_numpy(PHOTO).permute(2, 0, 1)[None] / 255
    empty = x.mean((2, 3), keepdim=True).expand_as(x)
    with torch.no_grad():  # class "a" for the photo, "b" where all of it is hidden
        full, blank = (module.features(side).mean((2, 3))[0] for side in (x, empty))
        step = (full - blank) / (full - blank).square().sum()
        module.fc.weight.copy_(torch.stack([3 * step, -3 * step, 0 * step]))
        middle = 3 * float(step @ (full + blank) / 2)
        module.fc.bias.copy_(torch.tensor([-middle, middle, -9.0]))
    network = wrap(module, input_spec=plain_spec(40, 48), labels=("a", "b", "c"))
    return Engine(Registry(entries), loader=lambda *_: network)


def answer_of(engine, method):
    *_, answer = engine.explain(Question("toy", PHOTO), method)
    return answer


def test_a_strangers_map_is_judged_and_said_in_the_manifest(engine):
    answer = answer_of(engine, "good")
    steps = list(engine.judge(answer))
    fractions = [step.verdict.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert all(step.verdict.word is None for step in steps[:-1])
    verdict = steps[-1].verdict
    assert verdict.word is not None
    assert steps[-1].result is answer.result
    content = json.loads(json.dumps(manifest(steps[-1], source="x", style=Style())))["scores"]
    assert content["verdict"] == verdict.word
    assert content["reason"] == verdict.reason
    for name, value in verdict.figures.items():
        assert content[name]["value"] == value
        assert content[name]["chance"] == verdict.scores[name].chance
    good = {name: score["good"] for name, score in content.items() if isinstance(score, dict)}
    assert good == {
        "deletion": "low", "insertion": "high", "beats random maps": "high",
        "random weights": "near 0", "seeds": "high",
    }  # fmt: skip
    assert "scores" not in manifest(answer, source="x", style=Style())
    repeat = list(engine.judge(answer))[-1].verdict
    assert repeat.figures == pytest.approx(verdict.figures, abs=1e-5)


def test_examples_have_no_map_to_judge(engine):
    with pytest.raises(NeedsNotMet, match="no map"):
        next(engine.judge(answer_of(engine, "shows")))


def test_a_signals_map_is_judged():
    network = wrap(toy(1), input_spec=plain_spec(64), labels=("a", "b", "c"))
    entries = {"good": Entry(Strange("good", gradient_times_input), "good", "stranger", "0.1")}
    engine = Engine(Registry(entries), loader=lambda *_: network)
    signal = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    *_, answer = engine.explain(Question("toy", signal=signal), "good")
    *_, final_step = engine.judge(answer)
    assert final_step.verdict.word is not None


def stored(engine, method, stamp="q1"):
    session = Session(engine, PageStore())
    answer = answer_of(engine, method)
    session.store.put_answer("me", "slot", answer, stamp)
    return session, answer


def test_what_is_known_is_stored_with_the_answer(engine):
    session, _ = stored(engine, "good")
    steps = list(judged_steps(session, "me", "slot"))
    assert steps[-1].verdict.word is not None
    assert session.store.answer("me", "slot") is steps[-1]
    assert session.store.stamp("me", "slot") == "q1"
    assert list(judged_steps(session, "another", "slot")) == []


def test_a_newer_answer_is_never_overwritten(engine):
    session, _ = stored(engine, "good")
    work = judged_steps(session, "me", "slot")
    next(work)
    newer = answer_of(engine, "good")
    session.store.put_answer("me", "slot", newer, "q2")
    assert list(work) == []
    assert session.store.answer("me", "slot") is newer
    assert session.store.stamp("me", "slot") == "q2"


def test_what_was_held_back_is_not_drawn_over_a_newer_answer(engine):
    session, answer = stored(engine, "good")
    newer = replace(answer, seconds=7.0, result=Heatmap([[0.0, 1.0]], "x"))
    verdicts = [step.verdict for step in engine.judge(answer)][:3]

    def judge(answer):
        yield replace(answer, verdict=verdicts[0])
        yield replace(answer, verdict=verdicts[1])  # less than half a second later: held back
        session.store.put_answer("me", "slot", newer, "q2")
        yield replace(answer, verdict=verdicts[2])

    slow = Session(SimpleNamespace(judge=judge), session.store)
    assert [step.verdict for step in shown_steps(slow, "me", "slot")] == verdicts[:1]
    assert session.store.answer("me", "slot") is newer


def test_a_method_that_breaks_while_it_is_tested_is_said_where_it_happened(engine):
    session, _ = stored(engine, "brittle")
    *_, final_step = judged_steps(session, "me", "slot")
    verdict = final_step.verdict
    assert verdict.word is not None
    assert "no such network" in verdict.random_weights.note
    assert verdict.random_weights.value is None
    shows, _ = stored(engine, "shows")
    assert list(judged_steps(shows, "me", "slot")) == []


def scored(engine, name, word, seconds, **figures):
    blank = Score(None)
    verdict = Verdict(
        word, "", *(Score(figures[key]) if key in figures else blank
                    for key in ("deletion", "insertion", "beaten", "weights", "seeds")), 1.0,
    )  # fmt: skip
    return replace(answer_of(engine, "good"), method=name, verdict=verdict, seconds=seconds)


def test_maps_are_ranked_by_word_then_by_what_they_beat_and_gain(engine):
    a = scored(
        engine, "a", "mixed", 1, deletion=0.1, insertion=0.9, beaten=1.0, weights=0.4, seeds=0.7
    )
    b = scored(engine, "b", "holds", 9, deletion=0.3, insertion=0.5, beaten=1.0, weights=0.3)
    c = scored(
        engine, "c", "holds", 5, deletion=0.2, insertion=0.5, beaten=1.0, weights=0.2, seeds=0.9
    )
    d = replace(a, method="d", verdict=None, seconds=0.5)
    e = scored(engine, "e", "cannot be judged here", 2)
    orders = {
        "Best first": "cbaed",
        "Beats random maps": "abced"[:3] + "ed",
        "Deletion": "acbed",
        "Insertion": "abced",
        "Random weights": "cbaed",
        "Seeds": "cabed",
        "Agrees": "abced",
        "Time": "daecb",
        "As chosen": "abced",
    }
    assert set(ORDERS) == set(orders) - {"As chosen"}
    # Every score of the table is a column that it can be sorted by.
    assert {name.capitalize() for name in Verdict().scores} <= set(ORDERS)
    for order, expected in orders.items():
        assert "".join(x.method for x in ranked_answers([a, b, c, e, d], order)) == expected, order


def test_agreement_is_spearman_on_the_coarser_grid(engine):
    rng = np.random.default_rng(3)
    fine, coarse = rng.random((8, 12)), rng.random((4, 6))
    answer = answer_of(engine, "good")
    maps = [replace(answer, result=Heatmap(v, "x")) for v in (fine, coarse, -fine)]
    matrix = agreements([*maps, answer_of(engine, "shows")])
    coarse_grid = fine.reshape(4, 2, 6, 2).mean((1, 3))
    assert matrix[0, 1] == matrix[1, 0] == pytest.approx(rank_correlation(coarse_grid, coarse))
    assert matrix[0, 2] == pytest.approx(-1)
    assert np.allclose(np.diag(matrix)[:3], 1)
    assert np.isnan(matrix[3]).all()


def test_maps_are_ranked_by_how_far_they_agree_with_the_others_on_average(engine):
    base = np.random.default_rng(4).random((8, 12))
    off = np.random.default_rng(5).random((8, 12))
    values_by_name = {"near": base, "apart": -base, "middle": base + 0.2 * off, "flat": base + off}
    answer = answer_of(engine, "good")
    maps = [
        replace(answer, method=name, title=name, result=Heatmap(values, "x"))
        for name, values in values_by_name.items()
    ]
    means = {
        name: np.mean([rank_correlation(values, v) for n, v in values_by_name.items() if n != name])
        for name, values in values_by_name.items()
    }
    order = sorted(means, key=lambda name: -means[name])
    assert order[-1] == "apart"
    assert order != list(values_by_name)
    pictures = replace(answer_of(engine, "shows"), method="shows")
    ranking = ranked_answers([pictures, *maps], "Agrees")
    assert [a.method for a in ranking] == [*order, "shows"]
    table = html.map_table(maps, scales_together([a.result for a in maps]), [""] * 4)
    assert "Agrees</th>" in table
    for name in values_by_name:
        assert f"<tr><td>{name}</td><td class='num'>{means[name]:.2f}</td>" in table
    assert "Agrees</th>" not in html.map_table(maps[:1], scales_together([maps[0].result]), [""])


def test_the_page_says_how_the_figure_of_seeds_was_had_or_why_there_is_none():
    spread = Score(0.2, 0.4, "0.10 to 0.30 over 3 ways of hiding.", span=(0.1, 0.3))
    for seeds in (
        Score(0.66, 0.0, "Expected, from its own samples."),
        Score(None, note="Not asked."),
    ):
        page = html.verdict(Verdict("mixed", "For tests.", deletion=spread, seeds=seeds))
        (row,) = re.findall(r"<tr><td>Seeds(.*?)</tr>", page)
        assert seeds.note in row
        assert ("<td class='num'>0.66</td>" in row) == (seeds.value is not None)
        assert "0.20 (0.10 to 0.30)" in page
        assert "ways of hiding" not in page  # the range is there as a range
        assert "<td>Insertion" not in page
