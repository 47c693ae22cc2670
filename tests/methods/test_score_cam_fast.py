"""Score-CAM's fast mode: near the exact map, and where it cannot be, exact and saying so."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from tests.support.networks import plain_spec, seeded
from whylens.core.inputs.photo import read_photo
from whylens.core.inputs.preprocess import photo_tensor
from whylens.core.models.backbone import wrap
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.subject import Subject
from whylens.core.targets import Target
from whylens.plugins._gaussian_process import (
    fit_gaussian_process,
    rank_correlation,
    squared_distances,
)
from whylens.plugins.score_cam import FIRST_CHANNELS, ScoreCAM

METHOD = ScoreCAM()
WIDTH = 192


class Deep(nn.Module):
    """Four strided convolutions: masks that are alike score alike, as in real networks."""

    def __init__(self, *, axes: int = 2, width: int = WIDTH) -> None:
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d}[axes]
        widths = (3, 16, 32, 64, width)
        self.convs = nn.ModuleList(
            conv(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(widths)
        )
        self.fc = nn.Linear(width, 5)
        self.sizes = set()

    def features(self, x):
        self.sizes.add(tuple(x.shape[2:]))
        for conv in self.convs:
            x = conv(x).relu()
        return x

    def head(self, f):
        return self.fc(f.flatten(2).mean(-1))

    def forward(self, x):
        return self.head(self.features(x))


class Erratic(Deep):
    """Its scores change wildly with the finest change of what it sees: nothing can be predicted."""

    def head(self, f):
        pooled = f.flatten(2).mean(-1)
        return self.fc(pooled) + 3 * torch.sin(3000 * pooled.sum(1, keepdim=True) + self.fc.bias)


def subject_of(module, *size, seed=0, batch_size=16):
    backbone = wrap(module, input_spec=plain_spec(*size))
    generator = torch.Generator().manual_seed(5)
    cells = tuple(n // 16 for n in size)
    x = torch.rand(1, 3, *cells, generator=generator)
    x = nn.functional.interpolate(x, size, mode={1: "linear", 2: "bilinear"}[len(size)])
    x = x + 0.1 * torch.rand(1, 3, *size, generator=generator)
    trace = ForwardPass(backbone, x)
    return Subject(trace, Target(int(trace.logits.argmax())), batch_size, seed)


def partials(subject, mode, **params):
    return list(METHOD.explain(subject, METHOD.Params(mode=mode, **params)))


def final(subject, mode="fast", **params):
    return partials(subject, mode, **params)[-1].result


def spearman(first, second):
    return spearmanr(first.values.ravel(), second.values.ravel()).statistic


@pytest.fixture(scope="module")
def subject():
    return subject_of(seeded(Deep()), 96, 128)


@pytest.mark.parametrize("weighting", ["softmax", "increase", "probability"])
def test_its_ranks_are_those_of_the_exact_map(subject, weighting):
    fast, exact = (final(subject, mode, weighting=weighting) for mode in ("fast", "exact"))
    assert spearman(fast, exact) >= 0.999
    assert (
        exact.diagnostics["channels asked"]
        == exact.diagnostics["channels"] - exact.diagnostics["constant channels"]
    )
    assert exact.note == ""


def test_it_asks_fewer_channels_and_says_how_many_and_how_sure_it_is(subject):
    heat = final(subject)
    count = heat.diagnostics["channels asked"]
    assert FIRST_CHANNELS <= count < 0.7 * heat.diagnostics["channels"]
    assert heat.note.startswith(f"Fast mode asked {count:.0f} of ")
    assert 0.999 <= heat.diagnostics["rank agreement"] <= 1


def test_it_works_on_signals():
    signal = subject_of(seeded(Deep(axes=1)), 512)
    assert spearman(final(signal), final(signal, "exact")) >= 0.999


def test_it_never_shows_the_network_another_size_than_its_own(subject):
    module = subject.backbone.module
    module.sizes.clear()
    subject.backbone.fast_module.sizes.clear()
    final(subject)
    assert module.sizes | subject.backbone.fast_module.sizes == {(96, 128)}


def test_where_scores_cannot_be_predicted_it_falls_back_to_exact_and_says_so():
    erratic = subject_of(seeded(Erratic()), 96, 128)
    fast, exact = final(erratic), final(erratic, "exact")
    assert fast.diagnostics["channels asked"] == exact.diagnostics["channels asked"]
    assert "fell back" in fast.note
    assert fast.diagnostics["rank agreement"] == 1
    # Even rounding is amplified by this network, so equality is too much to ask.
    assert spearman(fast, exact) >= 0.999


def test_with_few_channels_it_is_exact():
    few_channels = subject_of(seeded(Deep(width=24)), 96, 128)
    np.testing.assert_array_equal(final(few_channels).values, final(few_channels, "exact").values)


def test_the_same_seed_gives_the_same_map_and_another_seed_asks_others(subject):
    first, repeat = final(subject), final(subject)
    np.testing.assert_array_equal(first.values, repeat.values)
    assert first.diagnostics == repeat.diagnostics
    second_seed = final(Subject(subject.forward_pass, subject.target, seed=1))
    assert not np.array_equal(first.values, second_seed.values)


def test_the_batch_size_changes_nothing(subject):
    small = Subject(subject.forward_pass, subject.target, batch_size=3)
    first, second = final(subject), final(small)
    assert first.diagnostics["channels asked"] == second.diagnostics["channels asked"]
    np.testing.assert_allclose(first.values, second.values, rtol=1e-4)


def test_constant_channels_weigh_nothing():
    maps = []
    for level in (5.0, 500.0):
        module = seeded(Deep())
        with torch.no_grad():
            module.convs[-1].weight[:20] = 0
            module.convs[-1].bias[:20] = level
            module.fc.weight[:, :20] = 0
        heat = final(subject_of(module, 96, 128))
        assert heat.diagnostics["constant channels"] >= 20
        maps.append(heat.values)
    np.testing.assert_array_equal(*maps)


def test_stopped_midway_it_leaves_a_valid_map(subject):
    work = METHOD.explain(subject, METHOD.Params())
    parts = [next(work) for _ in range(4)]
    work.close()
    fractions = [partial.fraction for partial in parts]
    assert fractions == sorted(fractions)
    assert fractions[-1] < 1
    for partial in parts:
        assert partial.result.values.min() >= 0
        assert partial.result.values.max() > 0
    assert [p.result.diagnostics["channels asked"] for p in parts] == [8, 16, 24, 32]


def _real(squeezenet, photo, seed=0):
    x, _ = photo_tensor(read_photo(photo.read_bytes()), squeezenet.input_spec)
    trace = ForwardPass(squeezenet, x)
    return Subject(trace, Target(int(trace.logits.argmax())), 16, seed)


@pytest.mark.slow
def test_on_a_trained_network_and_a_photo_its_ranks_are_those_of_the_exact_map(squeezenet, shared):
    real = _real(squeezenet, shared / "photos" / "zebra.jpg")
    fast, exact = final(real), final(real, "exact")
    assert spearman(fast, exact) >= 0.999
    assert fast.diagnostics["channels asked"] < 0.5 * fast.diagnostics["channels"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "photo", ["Persian_cat.jpg", "goose.jpg", "ladybug.jpg", "sea_lion.jpg", "sorrel.jpg"]
)
def test_on_more_photos_too_whatever_the_seed(squeezenet, shared, photo):
    exact = final(_real(squeezenet, shared / "photos" / photo), "exact")
    for seed in range(3):
        fast = final(_real(squeezenet, shared / "photos" / photo, seed))
        assert spearman(fast, exact) >= 0.999


def test_rank_agreement_is_spearman_s_with_shared_ranks():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(40, generator=generator).relu().double()
    columns = (values[:, None] + 0.3 * torch.randn(40, 6, generator=generator)).relu().double()
    expected = [spearmanr(values, column).statistic for column in columns.T]
    assert rank_correlation(values, columns).tolist() == pytest.approx(expected)


def test_a_flat_map_agrees_with_flat_ones_only():
    flat, slope = torch.zeros(5), torch.arange(5.0)
    assert rank_correlation(flat, torch.stack([flat, slope], 1)).tolist() == [1, 0]


def _smooth(count=120):
    generator = torch.Generator().manual_seed(2)
    features = torch.rand(count, 4, generator=generator, dtype=torch.float64)
    truth = torch.sin(3 * features[:, 0]) + features[:, 1] * features[:, 2]
    order = torch.randperm(count, generator=generator)
    trend = torch.stack([torch.ones_like(truth), features.mean(1)], 1)
    return features, truth, order[:60], order[60:], trend


def test_the_regression_predicts_a_smooth_function_within_what_it_claims():
    features, truth, train, hidden, trend = _smooth()
    scores = torch.full_like(truth, torch.nan)
    scores[train] = truth[train]
    fit = fit_gaussian_process(squared_distances(features), trend, scores, train)
    error = (fit.mean - truth)[hidden]
    deviation = fit.covariance.diagonal()[hidden].sqrt()
    assert error.abs().max() < 0.3 * truth.std()
    assert 0.3 < (error / deviation).square().mean().sqrt() < 1.7


def test_errors_larger_than_claimed_widen_the_claim():
    features, truth, train, hidden, trend = _smooth()
    scores = torch.full_like(truth, torch.nan)
    scores[train] = truth[train]
    scores[train[:3]] += 8  # outliers: the only controls
    distances = squared_distances(features)
    wide = fit_gaussian_process(distances, trend, scores, train[:3])
    calm = fit_gaussian_process(distances, trend, scores, train[3:])
    assert wide.overconfidence > 3 > calm.overconfidence
    ratio = wide.covariance.diagonal()[hidden] / calm.covariance.diagonal()[hidden]
    assert ratio.min() > 3
    assert scores[train].equal(wide.sample(scores, 2, torch.Generator())[train, 0])
