"""The engine: answers, errors, limits, caches; on tiny networks that need no files."""

from __future__ import annotations

import logging
import pickle
import re
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.networks import GapNet, MlpHeadNet, plain_spec, seeded
from whylens.core.engine import Engine
from whylens.core.errors import (
    BadInput,
    Busy,
    ExplainerFailed,
    InvalidParameter,
    NeedsNotMet,
    UnknownName,
)
from whylens.core.explainer import Explainer
from whylens.core.explanation import Question
from whylens.core.models.backbone import wrap
from whylens.core.needs import Need
from whylens.core.params import NoParams
from whylens.core.registry import Entry, Registry
from whylens.core.results import Heatmap, Partial
from whylens.core.storage.cache import ByteLRU


def backbone(kind=GapNet):
    return wrap(seeded(kind()), input_spec=plain_spec(32, 48), labels=("ant", "bee", "cat"))


def engine(**kwargs) -> Engine:
    kwargs.setdefault("loader", lambda name, progress: backbone())
    return Engine(**kwargs)


@pytest.fixture
def question(rng) -> Question:
    return Question("toy", rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))


def final(answers):
    *_, last = answers
    return last


class Stepper(Explainer[NoParams]):
    """Yields three partial maps and remembers whether it was closed."""

    name, title, family = "stepper", "Stepper", "Test"
    summary = limits = source = cost = "x"
    needs = frozenset()
    Params = NoParams
    closed: threading.Event

    def explain(self, subject, params):
        try:
            for step in range(1, 4):
                yield Partial(Heatmap([[float(step)]], "steps"), step / 3)
        finally:
            self.closed.set()


def registry_of(explainer) -> Registry:
    return Registry({explainer.name: Entry(explainer, explainer.name, "test", "1")})


def test_the_target_is_the_predicted_class_unless_asked_otherwise(question):
    page = engine()
    best = page.predict(question).classes[0]
    assert final(page.explain(question, "cam")).target.index == best.index
    target = (best.index + 1) % 3
    answer = final(page.explain(replace(question, target=target), "cam"))
    assert answer.target.index == target
    assert answer.score == pytest.approx(page.predict(question, top=3).classes[
        [g.index for g in page.predict(question, top=3).classes].index(target)
    ].logit)  # fmt: skip


def test_a_contrast_without_a_second_class_takes_the_runner_up(question):
    page = engine()
    first, second, _ = page.predict(question, top=3).classes
    answer = final(page.explain(replace(question, quantity="contrast"), "grad-cam"))
    assert (answer.target.index, answer.target.versus) == (first.index, second.index)
    assert answer.score == pytest.approx(first.logit - second.logit, abs=1e-5)
    assert answer.question_text == f"{first.label} rather than {second.label}"


def test_probabilities_are_the_softmax_of_the_logits(question):
    guesses = engine().predict(question, top=3).classes
    logits = torch.tensor([g.logit for g in guesses])
    assert [g.probability for g in guesses] == pytest.approx(logits.softmax(0).tolist(), abs=1e-6)


def test_questions_and_answers_cross_a_process_boundary(question):
    question_copy = pickle.loads(pickle.dumps(question))
    answer = final(engine().explain(question_copy, "occlusion", {"window": 16, "stride": 8}))
    answer_copy = pickle.loads(pickle.dumps(answer))
    assert np.array_equal(answer_copy.result.values, answer.result.values)
    assert (answer_copy.view, answer_copy.target, answer_copy.params) == (
        answer.view,
        answer.target,
        answer.params,
    )


def test_a_method_that_yields_nothing_has_failed(question):
    class Mute(Stepper):
        name = "mute"

        def explain(self, subject, params):
            yield from ()

    with pytest.raises(ExplainerFailed, match=r"'mute' failed .* it yielded nothing"):
        list(engine(registry=registry_of(Mute())).explain(question, "mute"))


def test_an_unmet_need_is_refused_in_words(question):
    page = engine(loader=lambda name, progress: backbone(MlpHeadNet))
    with pytest.raises(NeedsNotMet, match=r"CAM is not available on .*linear"):
        final(page.explain(question, "cam"))
    assert "linear" in page.unavailable("toy")["cam"]
    assert "grad-cam" not in page.unavailable("toy")


@pytest.mark.parametrize(
    ("method", "params", "error", "message"),
    [
        ("gradcam", {}, UnknownName, "grad-cam"),
        ("occlusion", {"windw": 3}, InvalidParameter, "no parameter 'windw'"),
        ("occlusion", {"window": 4000}, InvalidParameter, "window"),
        ("occlusion", {"fill": "red"}, InvalidParameter, "fill"),
    ],
)
def test_wrong_names_and_values_are_named(question, method, params, error, message):
    with pytest.raises(error, match=message):
        final(engine().explain(question, method, params))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": 3}, "classes 0 to 2"),
        ({"target": 1, "quantity": "contrast", "versus": 1}, "two different classes"),
        ({"photo": None}, "photo or a signal"),
    ],
)
def test_impossible_questions_are_refused(question, change, message):
    with pytest.raises(BadInput, match=message):
        final(engine().explain(replace(question, **change), "grad-cam"))


def test_closing_the_iterator_stops_the_explainer_and_keeps_what_came(question):
    explainer = Stepper()
    explainer.closed = threading.Event()
    page = engine(registry=registry_of(explainer))
    work = page.explain(question, "stepper")
    first = next(work)
    assert (first.fraction, first.finished) == (pytest.approx(1 / 3), False)
    assert first.seconds_left is not None
    work.close()
    assert explainer.closed.is_set()
    assert float(first.result.values[0, 0]) == 1


def test_a_suspended_question_holds_no_slot(question):
    explainer = Stepper()
    explainer.closed = threading.Event()
    page = engine(registry=registry_of(explainer), slots=1, busy_timeout=0.2)
    steps = page.explain(question, "stepper")
    next(steps)
    assert final(page.explain(question, "stepper")).finished
    steps.close()


def test_a_full_engine_says_so_in_time(question):
    entered, leave = threading.Event(), threading.Event()

    class Slow(Stepper):
        name = "slow"

        def explain(self, subject, params):
            entered.set()
            leave.wait(10)
            return Heatmap([[1.0]], "x")

    page = engine(registry=registry_of(Slow()), slots=1, busy_timeout=0.1)
    page.predict(question)
    thread = threading.Thread(target=lambda: final(page.explain(question, "slow")))
    thread.start()
    assert entered.wait(10)
    with pytest.raises(Busy, match="slots stayed taken"):
        final(page.explain(question, "slow"))
    leave.set()
    thread.join(10)
    assert final(page.explain(question, "slow")).finished


def test_a_foreign_exception_names_the_plugin(question):
    class CheckFailed(Stepper):
        name = "broken"

        def explain(self, subject, params):
            raise ZeroDivisionError("by a stranger")

    page = engine(registry=registry_of(CheckFailed()))
    with pytest.raises(ExplainerFailed, match=r"'broken' failed .*by a stranger"):
        final(page.explain(question, "broken"))
    assert page.predict(question).classes


class Raising(Stepper):
    name = "raising"

    def why_not(self, backbone):
        raise ZeroDivisionError("by a stranger")


class Wordless(Stepper):
    name = "wordless"

    def why_not(self, backbone):
        return 3


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Raising, r"'raising' failed \(ZeroDivisionError: by a stranger\)"),
        (Wordless, r"'wordless' failed \(TypeError: its why_not returned 3, not words\)"),
    ],
)
def test_a_method_that_cannot_say_why_not_is_refused_alone(question, kind, message, monkeypatch):
    records = []
    log = logging.Handler()
    log.emit = records.append
    monkeypatch.setattr(logging.getLogger(), "handlers", [log])
    sound = Stepper()
    sound.closed = threading.Event()
    entries = {e.name: Entry(e, e.name, "test", "1") for e in (kind(), sound)}
    page = engine(registry=Registry(entries))
    assert final(page.explain(question, "stepper")).finished
    unavailable = page.unavailable("toy")
    assert list(unavailable) == [kind.name]
    assert re.search(message, unavailable[kind.name])
    with pytest.raises(NeedsNotMet, match=message):
        final(page.explain(question, kind.name))
    assert all(record.exc_info for record in records)
    assert {record.levelname for record in records} == {"ERROR"}


def test_an_explainer_that_yields_something_else_fails(question):
    class Odd(Stepper):
        name = "odd"

        def explain(self, subject, params):
            yield 3

    with pytest.raises(ExplainerFailed, match="not a Partial"):
        final(engine(registry=registry_of(Odd())).explain(question, "odd"))


@pytest.mark.parametrize("harm", ["hook", "weights", "train", "grad"])
def test_a_method_that_changes_the_model_is_reported_and_the_model_loaded_anew(question, harm):
    class Vandal(Stepper):
        name = "vandal"

        def explain(self, subject, params):
            module = subject.backbone.module
            match harm:
                case "hook":
                    module.register_forward_hook(lambda *_: None)
                case "weights":
                    with torch.no_grad():
                        module.fc.weight.mul_(2)
                case "train":
                    module.train()
                case "grad":
                    module.fc.weight.requires_grad_()
            return Heatmap([[1.0]], "x")

    page = engine(registry=registry_of(Vandal()))
    before = page.backbone("toy")
    logit = page.predict(question).classes[0].logit
    with pytest.raises(ExplainerFailed, match="changed the model"):
        final(page.explain(question, "vandal"))
    assert page.backbone("toy") is not before
    assert page.predict(question).classes[0].logit == pytest.approx(logit)


def test_models_are_made_once_and_the_longest_unused_goes_first():
    loads = []

    def loader(name, progress):
        loads.append(name)
        return backbone()

    size = backbone().prepare().bytes
    page = engine(loader=loader, model_bytes=2 * size)
    for name in ("a", "b", "a", "c", "a", "b"):
        page.backbone(name)
    assert loads == ["a", "b", "c", "b"]
    assert page.models.bytes <= 2 * size


def test_ten_threads_share_one_load():
    barrier, loads = threading.Barrier(10), []

    def loader(name, progress):
        loads.append(name)
        return backbone()

    page = engine(loader=loader)
    backbones = []

    def ask():
        barrier.wait(10)
        backbones.append(page.backbone("a"))

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert loads == ["a"]
    assert len({id(b) for b in backbones}) == 1


def test_a_failed_load_is_tried_again():
    answers = iter([RuntimeError("first"), 5])

    def make():
        value = next(answers)
        if isinstance(value, Exception):
            raise value
        return value

    cache: ByteLRU[str, int] = ByteLRU(100, lambda v: v)
    with pytest.raises(RuntimeError, match="first"):
        cache.get("k", make)
    assert cache.get("k", make) == 5


def test_a_value_above_the_budget_is_returned_but_not_kept():
    cache: ByteLRU[str, int] = ByteLRU(10, lambda v: v)
    cache.put("small", 4)
    assert cache.get("huge", lambda: 50) == 50
    assert cache.cached_keys() == ["small"]
    assert cache.bytes == 4


def test_every_need_has_words():
    assert all(len(need.value.split()) > 3 for need in Need)


def test_inference_mode_around_a_call_leaves_no_trace(question):
    def loader(_name, _progress):
        return wrap(seeded(GapNet()), input_spec=plain_spec(32, 32))

    expected = final(Engine(loader=loader).explain(question, "grad-cam")).result.values
    engine = Engine(loader=loader)
    with torch.inference_mode():
        engine.predict(question)
        actual = final(engine.explain(question, "grad-cam")).result.values
    after = final(engine.explain(question, "input-x-gradient")).result.values
    assert np.array_equal(actual, expected)
    assert np.abs(after).max() > 0
