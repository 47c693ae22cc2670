"""No explainer changes the model, the input or the process, whatever happens to it."""

from __future__ import annotations

import gc
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.contract import (
    HOME,
    METHODS,
    REGISTRY,
    asked,
    engine,
    every,
    final,
    made,
    on_every_net,
    params,
    spec_of,
    values,
)
from tests.toys import difference
from whylens.core.conformance.side_effects import FusedNet, Switch, state
from whylens.core.conformance.toy_networks import randomised
from whylens.core.engine import Engine
from whylens.core.errors import ExplainerFailed
from whylens.core.explainer import Explainer, is_single_step
from whylens.core.models.backbone import wrap
from whylens.core.params import NoParams
from whylens.core.registry import Entry, Registry
from whylens.core.results import Heatmap, Partial
from whylens.core.storage.cache import ByteLRU


@on_every_net
def test_success_and_cancel_leave_model_input_and_process_as_they_were(method, kind):
    page, question = engine(kind, batch_size=4), asked(kind)
    pixels = question.array.copy()
    before = state(page.backbone("toy"))
    final(page, question, method)
    assert state(page.backbone("toy")) == before
    work = page.explain(replace(question, target=1), method, params(method))
    assert 0 < next(work).fraction <= 1
    work.close()
    assert state(page.backbone("toy")) == before
    with torch.no_grad():
        final(page, replace(question, target=2), method)
        assert not torch.is_grad_enabled()
    assert state(page.backbone("toy")) == before
    assert np.array_equal(question.array, pixels)


def test_the_injected_failures_do_reach_the_methods():
    switch = Switch()
    backbone = wrap(randomised(FusedNet(switch)), spec=spec_of("gap"))
    page = Engine(REGISTRY, loader=lambda name, progress: backbone)
    page.predict(asked("gap"))
    switch.armed = "backward"
    with pytest.raises(ExplainerFailed, match="blown on the way back"):
        final(page, asked("gap"), "grad-cam")
    switch.armed = "forward"
    with pytest.raises(ExplainerFailed, match="blown on the way there"):
        final(page, asked("gap"), "occlusion")


@every
@pytest.mark.parametrize("calls", [10, pytest.param(40, marks=pytest.mark.slow)])
def test_four_threads_get_the_answers_that_one_gets(method, calls):
    kind = HOME[method]
    page = engine(kind, slots=4)
    questions = [asked(kind, target, seed) for target in range(3) for seed in (1, 2)]
    serial = [values(final(engine(kind), q, method)) for q in questions]
    assert sum(bool(v.any()) for v in serial) >= 3
    wrong: list[object] = []
    start = threading.Barrier(4)

    def work(first: int) -> None:
        start.wait(30)
        for call in range(calls):
            i = (first + call) % len(questions)
            try:
                got = values(final(page, questions[i], method))
                if serial[i].any():
                    assert difference(got, serial[i]) < 1e-3
                else:
                    assert not got.any()
            except BaseException as failure:  # noqa: BLE001 - a thread's failure is this test's
                wrong.append(failure)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


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


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("harm", [_hook, _weight, _weight_data, _other_weight])
def test_a_stranger_that_changes_the_model_is_reported_and_the_model_evicted(harm, stopped):
    vandal = Vandal(harm)
    registry = Registry({"vandal": Entry(vandal, "vandal", "stranger", "1")})
    page = Engine(registry, loader=lambda name, progress: made("gap"))
    harmed, question = page.backbone("toy"), asked("gap")
    wanted = page.predict(question)
    work = page.explain(question, "vandal")
    next(work)
    next(work)
    with pytest.raises(ExplainerFailed, match=r"'vandal' failed .*changed the model"):
        work.close() if stopped else next(work)
    assert page.models.peek("toy") is None
    assert page.backbone("toy") is not harmed
    assert page.predict(question).classes == wanted.classes


def resident() -> int:
    """Return the bytes of memory that this process holds now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def grown(method: str, calls: int, warm: int) -> int:
    """Return by how many bytes the process grows over `calls` answers, each to another input."""
    kind = HOME[method]
    page = engine(kind)
    # Traces are kept on purpose; with little room for them none is added once counting begins.
    page._forward_passes = ByteLRU(1_000_000, lambda item: item[0].bytes)
    for call in range(warm):
        final(page, asked(kind, call % 3, seed=call), method)
    hooks, files = state(page.backbone("toy"))["hooks"], len(list(Path("/proc/self/fd").iterdir()))
    before = resident()
    for call in range(calls):
        final(page, asked(kind, call % 3, seed=1000 + call), method)
    after = resident()
    assert state(page.backbone("toy"))["hooks"] == hooks
    assert len(list(Path("/proc/self/fd").iterdir())) == files
    return after - before


QUICK = [method for method in METHODS if is_single_step(REGISTRY.explainers[method])]


@pytest.mark.parametrize("method", QUICK)
def test_200_quick_answers_leave_memory_as_it_was(method):
    assert grown(method, calls=200, warm=100) < 8_000_000


@pytest.mark.slow
@every
def test_1000_answers_leave_memory_as_it_was(method):
    assert grown(method, calls=1000, warm=100) < 20_000_000
