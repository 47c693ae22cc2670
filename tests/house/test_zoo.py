"""Many families of networks: where they are cut, what their heads are, whether copies agree.

The list and the expected verdicts are in benchmarks/zoo.py, which also writes docs/models.md.
"""

from __future__ import annotations

import re

import pytest
import torch

from benchmarks.zoo import SPECIMENS, WORKS, Specimen, read_table, table, verdicts
from tests.conftest import ROOT
from whylens.core.models.backbone import Backbone
from whylens.core.models.layouts import Features
from whylens.core.needs import Need
from whylens.core.storage.files import parameters_sha256

TABLE = ROOT / "docs" / "models.md"
ROWS: dict[Specimen, dict[str, str]] = {}

# What reads like debug output has no place in a sentence for visitors.
DEBUG = re.compile(r"Error|Exception|Traceback|node|None|_|tensor\(|\bfx\b|\n|;.*;.*;")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    # Inputs this small only lose by more threads, and lose much where other work wants them.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(
    scope="module",
    params=[pytest.param(s, marks=[] if s.fast else [pytest.mark.slow]) for s in SPECIMENS],
    ids=str,
)
def case(request) -> tuple[Specimen, Backbone]:
    specimen = request.param
    backbone = specimen.backbone()
    ROWS[specimen] = verdicts(backbone)
    return specimen, backbone


def fresh(backbone: Backbone, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(77)
    return torch.randn(count, 3, *backbone.input_spec.size, generator=generator)


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    scale = float(expected.abs().max())
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max()) <= 1e-3 * scale


def test_random_weights_leave_the_network_alive(case):
    _, net = case
    with torch.no_grad():
        logits = net.logits(fresh(net))
    assert torch.isfinite(logits).all()
    assert float((logits[0] - logits[1]).abs().max()) > 0.01 * float(logits.abs().max())
    assert Need.GRADIENTS not in net.unmet


def test_the_map_has_the_expected_grid_and_the_score_depends_on_all_of_it(case):
    specimen, net = case
    if specimen.grid is None:
        reason = net.why_not(frozenset({Need.SPATIAL_FEATURES}))
        assert reason
        assert not DEBUG.search(reason)
        return
    with torch.no_grad():
        features = net.features(fresh(net, 1))
    assert tuple(features.map.shape[2:]) == specimen.grid
    leaf = features.map.detach().requires_grad_()
    logits = net.head(Features(leaf, features.prefix_tokens))
    score = logits[0].logsumexp(0) if specimen.best_patch else logits[0, 1]
    depends_on_cell = torch.autograd.grad(score, leaf)[0].abs().sum(1) > 0
    if specimen.best_patch:
        assert 2 <= int(depends_on_cell.sum()) <= logits.shape[1]
    else:
        assert depends_on_cell.all(), "some position cannot matter"


def test_the_two_halves_add_up_to_the_whole(case):
    specimen, net = case
    if net.split is None:
        assert specimen.grid is None
        return
    for count in (1, 3):
        x = fresh(net, count)
        with torch.no_grad():
            close(net.head(net.features(x)), net.logits(x))


def test_the_verdict_on_the_head_is_the_expected_one_and_its_weights_are_the_networks(case):
    specimen, net = case
    if specimen.grid is None:
        assert {Need.SPATIAL_FEATURES, Need.POOLED_LINEAR_HEAD} & set(net.unmet)
        return
    assert (net.linear is not None) is specimen.linear
    assert (Need.POOLED_LINEAR_HEAD in net.unmet) is not specimen.linear
    if net.linear is None:
        assert not DEBUG.search(net.unmet[Need.POOLED_LINEAR_HEAD])
        return
    x = fresh(net)
    with torch.no_grad():
        pooled_features = net.features(x).map.flatten(2).mean(-1)
        close(pooled_features @ net.linear.weight.T + net.linear.bias, net.logits(x))


def test_the_folded_copy_agrees_and_the_network_stays_as_it_was(case):
    _, net = case
    before = parameters_sha256(net.module)
    x = fresh(net)
    with torch.no_grad():
        close(net.fast_logits(x), net.logits(x))
    assert parameters_sha256(net.module) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.module.modules())
    assert not any(m.training for m in net.module.modules())


def test_the_committed_table_names_the_same_verdicts(case):
    specimen, _ = case
    assert read_table(TABLE.read_text(encoding="utf-8"))[specimen.name] == ROWS[specimen]


def test_the_committed_table_has_a_row_for_every_network_and_reasons_in_words():
    rows = read_table(TABLE.read_text(encoding="utf-8"))
    assert list(rows) == [s.name for s in SPECIMENS]
    for row in rows.values():
        for verdict in row.values():
            assert verdict == WORKS or verdict.startswith("needs ") or len(verdict) > 20
            assert not DEBUG.search(verdict)


def test_a_table_read_back_is_what_was_written():
    first, second = SPECIMENS[:2]
    rows = {
        first: {"A": WORKS, "B": "needs more: it has less."},
        second: {"A": "no way.", "B": WORKS},
    }
    assert read_table(table(rows)) == {first.name: rows[first], second.name: rows[second]}


def test_the_zoo_is_wide():
    assert len(SPECIMENS) >= 60
    assert len({s.family for s in SPECIMENS}) >= 25
    assert len({s.name for s in SPECIMENS}) == len(SPECIMENS)
    assert 10 <= sum(s.fast for s in SPECIMENS) <= 15
