"""What the engine adds to what the conformance kit asks of an explainer alone."""

from __future__ import annotations

import gc
import os
import pickle
import tempfile
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.networks import seeded
from tests.support.quick import some_quick
from tests.support.toys import LinearNet
from whylens.core.conformance.outcome import NotApplicable, difference
from whylens.core.conformance.randomness import default_network
from whylens.core.conformance.side_effects import FusedNet, Switch, state
from whylens.core.conformance.toy_inputs import SIZE
from whylens.core.conformance.toy_networks import (
    NETWORKS,
    ToyNetworks,
    patches,
    randomise,
    signal_patches,
    tinted_spec,
    with_change,
)
from whylens.core.conformance.under_test import ExplainerUnderTest, figures
from whylens.core.engine import Engine
from whylens.core.errors import ExplainerFailed, NeedsNotMet
from whylens.core.explainer import Explainer, is_single_step
from whylens.core.explanation import Question
from whylens.core.models.backbone import Backbone, wrap
from whylens.core.params import NoParams
from whylens.core.registry import Entry, Registry, load_registry
from whylens.core.results import Heatmap, Partial
from whylens.core.storage.cache import ByteLRU

REGISTRY = load_registry()
METHODS = list(REGISTRY.explainers)
UNFITTED = [m for m in METHODS if not REGISTRY.explainers[m].artifact_kind]
SINGLE_STEP = [m for m in METHODS if is_single_step(REGISTRY.explainers[m])]
VISITOR = "the visitor of these tests"
TOYS = ToyNetworks()  # each is built once: no method may leave a mark on it
every_method = pytest.mark.parametrize("method", METHODS)


@cache
def under_test(method: str) -> ExplainerUnderTest:
    """Return a method with its trial parameters and what it is fitted with."""
    return ExplainerUnderTest(REGISTRY.explainers[method], TOYS)


def engine_for(method: str, backbone: Backbone, **options) -> Engine:
    """Return an engine that knows one network, for which a method is fitted if it needs to be."""
    if reason := under_test(method).refusal(backbone):
        raise NotApplicable(reason)
    engine = Engine(REGISTRY, loader=lambda name, progress: backbone, **options)
    if REGISTRY.explainers[method].artifact_kind:
        artifact = under_test(method).artifact(backbone)
        engine.artifact_store.put_for_visitor(
            REGISTRY.explainers[method], backbone, VISITOR, artifact
        )
    return engine


def question_for(backbone: Backbone, target: int | None = None, seed: int = 11) -> Question:
    """Return a question about noise that fits a network."""
    rng = np.random.default_rng(seed)
    if len(backbone.input_spec.size) == 1:
        signal = rng.normal(size=(2, 64)).astype(np.float32)
        return Question("toy", signal=signal, target=target, visitor=VISITOR)
    pixels = rng.integers(0, 256, (33, 47, 3), dtype=np.uint8)
    return Question("toy", pixels, target=target, visitor=VISITOR)


def explain(engine: Engine, question: Question, method: str) -> list:
    """Return all answers to a question, by a method with its trial parameters."""
    return list(engine.explain(question, method, under_test(method).params.model_dump()))


def last_figures(engine: Engine, question: Question, method: str) -> np.ndarray:
    """Return the figures of the last answer."""
    return figures(explain(engine, question, method)[-1].result)


@every_method
def test_an_answer_finishes_and_crosses_a_process_boundary_and_leaves_no_mark(method):
    explainer = REGISTRY.explainers[method]
    networks = [default_network(under_test(method))]
    if METHODS.index(method) % 3 == 0:  # what an engine adds about signals is no method's own
        networks.append(TOYS.get(signal_patches))
    for backbone in networks:
        try:
            engine = engine_for(method, backbone, batch_size=4)
        except NotApplicable:
            assert len(backbone.input_spec.size) == 1
            continue
        question = pickle.loads(pickle.dumps(question_for(backbone, 1)))
        array = question.array.copy()
        before = state(backbone)
        answers = explain(engine, question, method)
        assert state(backbone) == before
        assert [a.finished for a in answers] == [False] * (len(answers) - 1) + [True]
        assert answers[-1].fraction == 1
        work = engine.explain(question, method, under_test(method).params.model_dump())
        assert 0 < next(work).fraction <= 1
        work.close()
        with torch.no_grad():
            explain(engine, replace(question, target=2), method)
            assert not torch.is_grad_enabled()
        assert state(backbone) == before
        assert np.array_equal(question.array, array)
        copy = pickle.loads(pickle.dumps(answers[-1]))
        assert np.array_equal(figures(copy.result), figures(answers[-1].result))
        assert np.array_equal(copy.question.array, question.array)
        for field in ("method", "title", "plugin", "model", "target", "labels", "score",
                      "probability", "view", "params", "fraction", "seconds", "finished",
                      "reason"):  # fmt: skip
            assert getattr(copy, field) == getattr(answers[-1], field)
        assert copy.title == explainer.title
        if isinstance(copy.result, Heatmap):
            assert copy.result.diagnostics == answers[-1].result.diagnostics
            assert not copy.result.values.flags.writeable


def _deaf_to_the_picture(module: nn.Module) -> None:
    module.fc.weight[1] = 0  # class 1 scores the same whatever is shown


def deaf_patches() -> Backbone:
    return with_change(patches(), _deaf_to_the_picture)


@pytest.mark.parametrize("method", UNFITTED)
def test_a_map_that_shows_nothing_is_called_blank_and_no_other(method):
    deaf = TOYS.get(deaf_patches)
    if reason := under_test(method).refusal(deaf):
        pytest.skip(reason)
    for backbone in (TOYS.get(patches), deaf):
        engine = engine_for(method, backbone)
        black = np.zeros((33, 47, 3), np.uint8)
        for pixels in (black, question_for(backbone).pixels):
            answer = explain(engine, Question("toy", pixels, target=1), method)[-1]
            if isinstance(answer.result, Heatmap):
                spread = float(np.ptp(answer.result.values))
                largest = float(np.abs(answer.result.values).max())
                assert bool(answer.reason) == (spread <= 1e-6 * largest)


class DeafNet(nn.Module):
    """Cuts its gradient and has no map."""

    def __init__(self) -> None:
        super().__init__()
        self.net = LinearNet(*SIZE)

    def forward(self, x):
        with torch.no_grad():
            return self.net(x.sign()).detach()


def test_an_unmet_need_is_refused_with_its_reason():
    deaf = wrap(seeded(DeafNet()), input_spec=tinted_spec())
    refusals = 0
    for backbone in (*(make(3) for make in NETWORKS.values()), deaf):
        engine = Engine(REGISTRY, loader=lambda name, progress, net=backbone: net)
        for method in METHODS:
            explainer = REGISTRY.explainers[method]
            reason = under_test(method).refusal(backbone)
            if reason is None:
                continue
            refusals += 1
            with pytest.raises(NeedsNotMet, match="is not available on") as refusal:
                explain(engine, question_for(backbone), method)
            assert reason in str(refusal.value)
            unmet = [need for need in explainer.needs if need in backbone.unmet]
            assert unmet or reason == explainer.why_not(backbone)
            for need in unmet:
                assert f"needs {need.value}: {backbone.unmet[need]}" in str(refusal.value)
    assert refusals > len(METHODS)


def test_what_needs_nothing_explains_a_network_without_map_and_gradients():
    backbone = wrap(seeded(DeafNet()), input_spec=tinted_spec())
    free = [m for m in UNFITTED if not REGISTRY.explainers[m].needs]
    assert free
    for method in free:
        engine = engine_for(method, backbone)
        assert np.isfinite(last_figures(engine, question_for(backbone), method)).all()


def test_four_threads_with_all_methods_at_once_get_the_answers_that_one_gets():
    networks = {method: default_network(under_test(method)) for method in METHODS}
    engine = Engine(REGISTRY, loader=lambda name, progress: networks[name], slots=4)
    for method in METHODS:
        if REGISTRY.explainers[method].artifact_kind:
            artifact = under_test(method).artifact(networks[method])
            engine.artifact_store.put_for_visitor(
                REGISTRY.explainers[method], networks[method], VISITOR, artifact
            )
    work = [
        (method, replace(question_for(networks[method], target, seed), model=method))
        for number, method in enumerate(METHODS)
        # Beside one question, of every other method another class, of the rest another picture.
        for target, seed in ((0, 1), (1, 1) if number % 2 else (2, 2))
    ]
    expected = [last_figures(engine, question, method) for method, question in work]
    assert sum(bool(values.any()) for values in expected) > len(work) / 2
    failures: list[object] = []
    start = threading.Barrier(4)

    def run(first: int) -> None:
        start.wait(30)
        for number in range(len(work) // 2):
            # Each thread begins elsewhere and goes its own way, so that all methods meet.
            index = (first + number * (2 * first + 1)) % len(work)
            method, question = work[index]
            try:
                values = last_figures(engine, question, method)
                assert difference(values, expected[index]) < 1e-3, method
            except BaseException as failure:  # noqa: BLE001 - a thread's failure is this test's
                failures.append(failure)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []


def test_the_injected_failures_do_reach_the_methods():
    switch = Switch()
    backbone = wrap(randomise(FusedNet(switch)), input_spec=tinted_spec())
    engine = Engine(REGISTRY, loader=lambda name, progress: backbone)
    engine.predict(question_for(backbone))
    switch.armed = "backward"
    with pytest.raises(ExplainerFailed, match="blown on the way back"):
        explain(engine, question_for(backbone), "grad-cam")
    switch.armed = "forward"
    with pytest.raises(ExplainerFailed, match="blown on the way there"):
        explain(engine, question_for(backbone), "occlusion")


class Vandal(Explainer[NoParams]):
    """Harms the model between its first answer and its last."""

    name, title, family = "vandal", "Vandal", "Test"
    summary = limits = source = cost = "x"
    needs = frozenset()
    Params = NoParams

    def __init__(self, harm) -> None:
        self.harm = harm

    def explain(self, subject, params):
        yield Partial(Heatmap([1.0], "x"), 0.5)
        self.harm(subject.backbone.module)
        yield Partial(Heatmap([1.0], "x"), 1.0)


def _hook(module) -> None:
    module.fc.register_forward_pre_hook(lambda *_: None)


def _weight(module) -> None:
    with torch.no_grad():
        module.conv.weight[0, 0, 0, 0] += 1


def _weight_data(module) -> None:
    module.conv.weight.data[0, 0, 0, 0] += 1


def _other_weight(module) -> None:
    module.conv.weight = torch.nn.Parameter(2 * module.conv.weight, requires_grad=False)


@pytest.mark.parametrize("stopped", some_quick([False, True], lambda _, stopped: not stopped))
@pytest.mark.parametrize("harm", [_hook, _weight, _weight_data, _other_weight])
def test_a_stranger_that_changes_the_model_is_reported_and_the_model_evicted(harm, stopped):
    registry = Registry({"vandal": Entry(Vandal(harm), "vandal", "stranger", "1")})
    engine = Engine(registry, loader=lambda name, progress: patches())
    harmed, question = engine.backbone("toy"), question_for(patches())
    expected = engine.predict(question)
    work = engine.explain(question, "vandal")
    next(work)
    next(work)
    with pytest.raises(ExplainerFailed, match=r"'vandal' failed .*changed the model"):
        work.close() if stopped else next(work)
    assert engine.models.peek("toy") is None
    assert engine.backbone("toy") is not harmed
    assert engine.predict(question).classes == expected.classes


def resident() -> int:
    """Return the bytes of memory that this process holds now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@every_method
def test_a_thousand_answers_leave_the_process_as_it_was(method, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    backbone = default_network(under_test(method))
    engine = engine_for(method, backbone)
    # Traces are kept on purpose; with little room none is added once counting begins.
    engine._forward_passes = ByteLRU(1_000_000, lambda item: item[0].bytes)

    def answer(numbers: range) -> None:
        for number in numbers:
            explain(engine, question_for(backbone, number % 3, seed=number), method)

    def marks() -> tuple[object, ...]:
        open_files = len(list(Path("/proc/self/fd").iterdir()))
        files = sorted(tmp_path.rglob("*"))
        return state(backbone)["hooks"], open_files, threading.active_count(), files

    answer(range(100))
    before, start_memory = marks(), resident()
    answer(range(1000, 2000))
    assert resident() - start_memory < 20_000_000
    assert marks() == before
