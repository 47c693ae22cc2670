"""What every registered explainer owes, on every kind of network; nothing here names a method."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import seeded
from tests.contract import (
    ON_NETS,
    REFUSED,
    REGISTRY,
    asked,
    engine,
    every_unfitted,
    final,
    made,
    on_every_net,
    params,
    spec_of,
    telling,
    values,
)
from tests.toys import LinearNet, difference
from whylens.core.engine import Engine
from whylens.core.errors import NeedsNotMet
from whylens.core.models.backbone import wrap
from whylens.core.results import Heatmap


@on_every_net
def test_an_answer_is_finite_of_the_right_shape_and_finishes(method, kind):
    page, question = engine(kind), asked(kind)
    answers = list(page.explain(question, method, params(method)))
    assert all(0 <= a.fraction <= 1 for a in answers)
    assert [a.finished for a in answers] == [False] * (len(answers) - 1) + [True]
    assert answers[-1].fraction == 1
    backbone = page.backbone("toy")
    with torch.no_grad():
        grid = tuple(backbone.features(backbone.probe_inputs()).map.shape[2:])
    for answer in answers:
        assert np.isfinite(values(answer)).all()
        if isinstance(answer.result, Heatmap):
            assert answer.result.values.shape in (grid, backbone.spec.size)
            assert answer.result.unit
            assert all(np.isfinite(v) for v in answer.result.diagnostics.values())
    assert values(
        final(page, replace(question, target=telling(page, question, method)), method)
    ).any()


@on_every_net
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_batch_size_does_not_change_the_answer(method, kind, batch_size):
    page = engine(kind, batch_size=16)
    question = asked(kind)
    question = replace(question, target=telling(page, question, method))
    wanted = values(final(page, question, method))
    got = values(final(engine(kind, batch_size=batch_size), question, method))
    assert difference(got, wanted) < 1e-4


@pytest.mark.parametrize(("method", "kind", "reason"), REFUSED)
def test_an_unmet_need_is_refused_with_its_reason(method, kind, reason):
    with pytest.raises(NeedsNotMet, match="is not available on") as refusal:
        final(engine(kind), asked(kind), method)
    assert reason in str(refusal.value)
    explainer = REGISTRY.explainers[method]
    own = explainer.why_not(made(kind))
    assert reason == own or any(need.value in reason for need in explainer.needs)


@on_every_net
def test_the_same_question_has_the_same_answer(method, kind):
    page, question = engine(kind), asked(kind)
    first, again = (values(final(page, question, method)) for _ in range(2))
    anew = values(final(engine(kind), question, method))
    assert np.array_equal(first, again)
    assert np.array_equal(first, anew)


@on_every_net
def test_another_class_has_another_map_or_the_method_says_that_it_is_blind(method, kind):
    page, question = engine(kind), asked(kind)
    maps = [values(final(page, replace(question, target=c), method)) for c in range(3)]
    explainer = REGISTRY.explainers[method]
    if explainer.class_blind:
        assert "every class" in explainer.limits
        assert maps[0].any()
        assert all(np.array_equal(m, maps[0]) for m in maps)
        return
    for one, other in ((0, 1), (1, 2), (2, 0)):
        size = np.linalg.norm(maps[one]) + np.linalg.norm(maps[other])
        if size > 0:
            assert np.linalg.norm(maps[one] - maps[other]) > 1e-2 * size
    telling(page, question, method)


@on_every_net
def test_other_weights_have_another_map(method, kind):
    page, question = engine(kind), asked(kind)
    question = replace(question, target=telling(page, question, method))
    ours = values(final(page, question, method))
    other = values(final(engine(kind, seed=8), question, method))
    assert difference(other, ours) > 0.1


@pytest.mark.parametrize(("method", "kind"), [p for p in ON_NETS if p[1] in ("gap", "1-d")])
def test_questions_and_answers_cross_a_process_boundary(method, kind):
    question = pickle.loads(pickle.dumps(asked(kind, 1)))
    answer = final(engine(kind), question, method)
    again = pickle.loads(pickle.dumps(answer))
    assert np.array_equal(values(again), values(answer))
    assert np.array_equal(again.question.array, question.array)
    for field in ("method", "title", "plugin", "model", "target", "labels", "score", "probability",
                  "view", "params", "fraction", "seconds", "finished", "reason"):  # fmt: skip
        assert getattr(again, field) == getattr(answer, field)
    if isinstance(answer.result, Heatmap):
        assert again.result.diagnostics == answer.result.diagnostics
        assert not again.result.values.flags.writeable


class DeafNet(nn.Module):
    """Cuts its gradient and has no map."""

    def __init__(self) -> None:
        super().__init__()
        self.net = LinearNet(16, 24)

    def forward(self, x):
        with torch.no_grad():
            return self.net(x.sign()).detach()


@every_unfitted
def test_a_network_without_map_and_gradients_is_refused_for_just_that(method):
    backbone = wrap(seeded(DeafNet()), spec=spec_of("gap"))
    page = Engine(REGISTRY, loader=lambda name, progress: backbone)
    needs = REGISTRY.explainers[method].needs
    if not needs:
        assert np.isfinite(values(final(page, asked("gap"), method))).all()
        return
    with pytest.raises(NeedsNotMet, match="is not available on DeafNet") as refusal:
        final(page, asked("gap"), method)
    for need in needs:
        assert f"needs {need.value}: {backbone.unmet[need]}" in str(refusal.value)
