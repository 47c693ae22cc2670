"""KernelSHAP: Shapley's formula written out, shap's own answers, and honest errors."""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.methods.test_lime import RegionMean, smooth
from tests.support.networks import GapNet, MlpHeadNet, seeded
from tests.support.toys import (
    CASES,
    IDS,
    LinearNet,
    difference,
    final,
    noise,
    picture,
    precise,
    score64,
    subject_of,
    toy,
)
from whylens.core.inputs.spec import InputSpec
from whylens.core.registry import load_registry
from whylens.core.targets import Target
from whylens.plugins._segments import segments
from whylens.plugins.kernel_shap import (
    KernelSHAP,
    KernelSHAPParams,
    coalition_pairs,
    shapley_values,
)

METHOD = KernelSHAP()


def explained(subject, **params):
    return final(METHOD.explain(subject, KernelSHAPParams(**params)))


def regions_of(subject, **params) -> np.ndarray:
    options = KernelSHAPParams(**params)
    return segments(subject, options.segments, options.regions).numpy()


def random_game(players: int, seed: int = 3):
    """Return the worth of every coalition of (N, players) float64 rows."""
    worth = torch.randn(2**players, generator=torch.Generator().manual_seed(seed)).double()
    worth += torch.arange(2**players).double() / 2 ** (players - 1)  # bigger is mostly better
    powers = 2 ** torch.arange(players).double()
    return lambda coalitions: worth[(coalitions @ powers).long()]


def fair_shares(worth, players: int) -> np.ndarray:
    """Return Shapley's formula, coalition by coalition; `worth` takes a set."""
    values = []
    for player in range(players):
        teammates = [p for p in range(players) if p != player]
        total = 0.0
        for size in range(players):
            weight = math.factorial(size) * math.factorial(players - size - 1)
            for group in itertools.combinations(teammates, size):
                gain = worth({*group, player}) - worth(set(group))
                total += weight / math.factorial(players) * gain
        values.append(total)
    return np.array(values)


def solved(players: int, budget: int, game, seed: int = 0):
    """Return values and errors of a game by the plugin's own functions."""
    pairs = coalition_pairs(players, budget, torch.Generator().manual_seed(seed))
    gaps = game(pairs.coalitions) - game(1 - pairs.coalitions)
    ends = torch.stack([torch.ones(players), torch.zeros(players)]).double()
    full, empty = game(ends).tolist()
    return shapley_values(pairs, gaps, full - empty)


@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_values_are_shapley_s_formula_coalition_by_coalition(axes, target, kind):
    module, x = toy(axes, kind), picture(axes)
    subject = subject_of(module, x, target)
    options = {"segments": 5, "regions": "boxes"}
    labels = regions_of(subject, **options)
    players = labels.max() + 1
    assert 4 <= players <= 6
    twin = precise(module)

    def worth(group) -> float:
        masked_x = torch.full_like(x.double(), 0.5)
        for region in group:
            mask = torch.from_numpy(labels == region)
            masked_x[..., mask] = x.double()[..., mask]
        with torch.no_grad():
            return float(score64(twin(masked_x)[0], target))

    heat = explained(subject, fill="grey", **options)
    assert difference(heat.values, fair_shares(worth, players)[labels]) < 1e-4
    assert heat.error is None
    assert heat.diagnostics["coalitions"] == 2**players
    change = worth(range(players)) - worth([])
    assert heat.diagnostics["score change"] == pytest.approx(change, rel=1e-3)
    assert heat.signed
    assert heat.unit == target.unit


@pytest.mark.parametrize("players", [1, 2, 3, 4, 5, 6])
def test_values_are_the_mean_gain_over_all_orders(players):
    game = random_game(players)

    def worth(group) -> float:
        return float(game(torch.tensor([[float(p in group) for p in range(players)]]).double()))

    total = np.zeros(players)
    orders = list(itertools.permutations(range(players)))
    for order in orders:
        for place, player in enumerate(order):
            total[player] += worth(order[: place + 1]) - worth(order[:place])
    values, errors = solved(players, 50, game)
    assert values.numpy() == pytest.approx(total / len(orders), abs=1e-9)
    assert errors is None


@pytest.mark.slow  # the peer takes seconds to import; the formula itself is written out above
@pytest.mark.parametrize("players", [7, 10, 11])
def test_values_are_shap_s_where_all_coalitions_are_asked(players):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import warns about packages of its own
        shap = pytest.importorskip("shap", reason="the peer shap is not installed")
    game = random_game(players)
    explainer = shap.KernelExplainer(
        lambda rows: game(torch.from_numpy(np.asarray(rows, float))).numpy(),
        np.zeros((1, players)),
    )
    reference = explainer.shap_values(
        np.ones((1, players)), nsamples=2**players, l1_reg=False, silent=True
    )[0]
    values, errors = solved(players, 2**players - 2, game)
    assert np.abs(values.numpy() - reference).max() < 1e-6
    assert errors is None


@pytest.mark.parametrize(
    ("players", "budget"), [(2, 50), (9, 50), (10, 50), (11, 2046), (12, 4094)]
)
def test_all_coalitions_and_each_once_where_the_budget_is_enough(players, budget):
    pairs = coalition_pairs(players, budget, torch.Generator())
    coalitions = {
        tuple(row) for row in torch.cat([pairs.coalitions, 1 - pairs.coalitions]).tolist()
    }
    assert 2 * len(pairs.coalitions) == len(coalitions) == 2**players - 2
    assert not pairs.sampled.any()
    sizes = pairs.coalitions.sum(1).long().tolist()
    weights = dict(zip(sizes, pairs.weights.tolist(), strict=True))
    single = weights.get(1, weights.get(players - 1))
    for size, weight in zip(sizes, pairs.weights.tolist(), strict=True):
        kernel = (players - 1) / (math.comb(players, size) * size * (players - size))
        assert weight / single == pytest.approx(kernel * players)


@pytest.mark.parametrize(("players", "budget"), [(11, 500), (20, 1000), (40, 1000), (200, 1000)])
def test_small_coalitions_are_enumerated_and_the_rest_drawn_by_the_kernel(players, budget):
    pairs = coalition_pairs(players, budget, torch.Generator().manual_seed(1))
    assert 2 * len(pairs.coalitions) <= budget
    assert len(pairs.coalitions) == budget // 2
    assert float(pairs.weights.sum()) == pytest.approx(1)
    sizes = pairs.coalitions.sum(1)
    outer = torch.minimum(sizes, players - sizes)
    counts = outer[~pairs.sampled].long().bincount().tolist()
    for size, count in enumerate(counts[1:], 1):
        assert count == math.comb(players, size)
    sampled_sizes = {int(s) for s in outer[pairs.sampled]}
    assert not sampled_sizes & set(range(len(counts)))
    assert players == 200 or len(counts) >= 2


def test_the_sampled_values_close_in_on_the_exact_ones_and_always_add_up():
    game = random_game(12)
    exact, _ = solved(12, 4094, game)
    errors = []
    for budget in (100, 400, 1600):
        squares = []
        for seed in range(20):
            values, _ = solved(12, budget, game, seed)
            ends = game(torch.stack([torch.ones(12), torch.zeros(12)]).double())
            assert float(values.sum()) == pytest.approx(float(ends[0] - ends[1]), abs=1e-9)
            squares.append(float((values - exact).square().mean()))
        errors.append(np.mean(squares) ** 0.5)
    assert errors[0] > 1.7 * errors[1] > 1.7 * 1.7 * errors[2]


@pytest.mark.parametrize(
    "budget", [100, *(pytest.param(n, marks=pytest.mark.slow) for n in (200, 800))]
)
def test_standard_errors_are_the_scatter_about_the_exact_values(budget):
    game = random_game(12)
    exact, _ = solved(12, 4094, game)
    values, errors = zip(*(solved(12, budget, game, seed) for seed in range(300)), strict=True)
    scatter = (torch.stack(values) - exact).square().mean(0).sqrt()
    expected = torch.stack(errors).square().mean(0).sqrt()
    ratio = expected / scatter
    # 300 seeds tell a scatter to 4 %; few draws per region overstate it, and never understate it.
    assert ratio.min() > 0.9
    assert ratio.max() < 1.25


def test_values_add_up_to_the_score_s_change_and_the_gap_is_stated():
    for count in (6, 40):
        subject = subject_of(seeded(MlpHeadNet()), smooth(48, 64))
        heat = explained(subject, segments=count, samples=100)
        labels = regions_of(subject, segments=count)
        assert (labels.max() >= 10) == (count == 40)
        total = sum(float(heat.values[labels == r][0]) for r in range(labels.max() + 1))
        ends = subject.scores(torch.cat([subject.x, subject.baseline("grey")]))
        assert total == pytest.approx(float(ends[0] - ends[1]), rel=1e-4)
        assert heat.diagnostics["efficiency gap"] < 1e-12
        assert (heat.error is None) == (count == 6)


@pytest.mark.parametrize("count", [6, 24])
def test_a_network_that_reads_one_region_peaks_on_it_whichever_it_is(count):
    x = 0.2 + smooth(32, 48)
    labels = regions_of(subject_of(LinearNet(32, 48), x), segments=count)
    assert (labels.max() >= 10) == (count == 24)
    for region in {*range(0, labels.max() + 1, 1 if count == 6 else 4), labels.max()}:
        mask = torch.from_numpy(labels == region)
        subject = subject_of(RegionMean(mask), x)
        heat = explained(subject, fill="black", segments=count, samples=200)
        light = float(x.mean(1)[0][mask].mean())
        assert heat.values[mask] == pytest.approx(light, rel=1e-4)
        assert np.abs(heat.values[~mask]).max() < 1e-4 * light


class AllQuarters(nn.Module):
    """1 where every quarter of the picture shows something, else 0."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x):
        quarters = nn.functional.adaptive_max_pool2d(x.amax(1, keepdim=True), (2, 2)).flatten(1)
        value = self.gain * (quarters > 0).float().prod(1)
        return torch.stack([-value, value], 1)


def test_parts_that_matter_only_together_share_alike():
    subject = subject_of(AllQuarters(), 0.5 + smooth(16, 24))
    heat = explained(subject, segments=4, regions="boxes", fill="black")
    assert heat.values == pytest.approx(0.25)


def ranks(values) -> np.ndarray:
    return np.argsort(np.argsort(values))


def test_on_a_linear_network_lime_kernel_shap_and_occlusion_agree_in_rank():
    input_spec = InputSpec(size=(32, 48), mean=(0.4, 0.5, 0.1), std=(0.2, 0.3, 0.25), crop=1.0)
    subject = subject_of(
        seeded(LinearNet(32, 48)), noise(1, 3, 32, 48), Target(0), input_spec=input_spec
    )
    methods = load_registry().explainers
    cut = {"segments": 24, "regions": "boxes", "samples": 200, "fill": "grey"}
    options = {
        "lime": cut,
        "kernel-shap": cut,
        "occlusion": {"window": 8, "stride": 8, "fill": "grey"},
    }
    maps = [
        final(methods[name].explain(subject, methods[name].Params(**params))).values[4::8, 4::8]
        for name, params in options.items()
    ]
    orders = [ranks(values.ravel()).tolist() for values in maps]
    assert len(orders[0]) == 24
    assert orders[0] == orders[1] == orders[2]
    assert difference(maps[0], maps[2]) < 1e-3
    assert difference(maps[1], maps[2]) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
def test_at_the_default_budget_seeds_agree(kind):
    subject = subject_of(seeded(kind()), smooth(48, 64))
    maps = [explained(replace(subject, seed=seed)).values.ravel() for seed in range(3)]
    assert np.corrcoef(maps).min() > 0.99
    short_maps = [explained(replace(subject, seed=s), samples=100).values.ravel() for s in range(3)]
    assert np.corrcoef(short_maps).min() < np.corrcoef(maps).min()


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_the_answer_does_not_depend_on_the_batch_size(batch_size):
    subject, options = subject_of(seeded(MlpHeadNet()), noise(1, 3, 16, 24)), {"samples": 100}
    expected = explained(subject, segments=24, **options)
    actual = explained(replace(subject, batch_size=batch_size), segments=24, **options)
    assert difference(actual.values, expected.values) < 1e-4
    assert difference(actual.error, expected.error) < 1e-3


def test_every_part_adds_up_and_comes_nearer_to_the_end():
    subject = subject_of(seeded(MlpHeadNet()), smooth(48, 64))
    parts = list(METHOD.explain(subject, KernelSHAPParams(samples=800)))
    assert [p.fraction for p in parts] == pytest.approx([(i + 1) / 50 for i in range(50)])
    assert all(p.result.diagnostics["efficiency gap"] < 1e-12 for p in parts)
    ends = parts[-1].result
    distances = [difference(p.result.values, ends.values) for p in (parts[1], parts[9], parts[30])]
    assert distances[0] > distances[1] > distances[2] > 0
    assert ends.diagnostics["coalitions"] == 802


def test_one_region_takes_all_of_the_change():
    module, x = seeded(GapNet(axes=1)), picture(1)
    subject = subject_of(module, x[..., :1].contiguous())
    heat = explained(subject)
    assert heat.values.tolist() == [pytest.approx(heat.diagnostics["score change"])]
    assert heat.diagnostics["regions"] == 1


@pytest.mark.parametrize("fill", ["black", "blur", "segment mean"])
def test_hiding_black_with_black_shows_nothing_rather_than_rounding(fill):
    module = seeded(MlpHeadNet())
    heat = explained(subject_of(module, torch.zeros(1, 3, 32, 48)), fill=fill, samples=100)
    assert not heat.values.any()
    assert "zero everywhere" in heat.blank_reason()


def test_a_region_that_changes_nothing_gets_nothing():
    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = seeded(MlpHeadNet())

        def forward(self, x):
            return self.net(x[..., 12:])  # the left half is never looked at

    heat = explained(subject_of(Blind(), noise(1, 3, 16, 24)), segments=6, regions="boxes")
    assert np.abs(heat.values[:, :8]).max() < 1e-5 * np.abs(heat.values).max()
