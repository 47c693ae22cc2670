"""Permutation importance: falls one draw at a time, pixels from elsewhere only, honest errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.methods.test_lime import RegionMean, smooth
from tests.support.networks import GapNet, MlpHeadNet, seeded
from tests.support.quick import some_quick
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
from whylens.core.targets import Target
from whylens.plugins._segments import boxes, segments
from whylens.plugins.permutation import (
    Permutation,
    PermutationParams,
    _ReplacementSampler,
    mean_drops,
)

METHOD = Permutation()


def explained(subject, **params):
    return final(METHOD.explain(subject, PermutationParams(**params)))


def regions_of(subject, **params) -> torch.Tensor:
    options = PermutationParams(**params)
    return segments(subject, options.segments, options.regions)


def literal(module, x, target, labels, repeats):
    """Return mean falls and errors; pixels from elsewhere, drawn with another generator."""
    twin, x = precise(module), x.double()
    rng = np.random.default_rng(4)
    flat, places = x[0].flatten(1), labels.flatten().numpy()

    def scores(pictures):
        with torch.no_grad():
            return np.array([float(score64(row, target)) for row in twin(pictures)])

    (base,) = scores(x)
    means, errors = np.zeros(labels.shape), np.zeros(labels.shape)
    for region in range(int(labels.max()) + 1):
        inner_places, outer_places = (
            np.flatnonzero(places == region),
            np.flatnonzero(places != region),
        )
        copies = flat.repeat(repeats, 1, 1)
        for draw in copies:
            draw[:, inner_places] = flat[:, rng.choice(outer_places, len(inner_places))]
        falls = base - scores(copies.view(repeats, *x.shape[1:]))
        means[labels == region] = np.mean(falls)
        errors[labels == region] = np.std(falls, ddof=1) / np.sqrt(repeats)
    return means, errors


@pytest.mark.parametrize("kind", some_quick([GapNet, MlpHeadNet], lambda number, _: number == 1))
@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_the_map_is_the_mean_fall_draw_by_draw_within_the_errors(axes, target, kind):
    module, x = toy(axes, kind), picture(axes)
    subject = subject_of(module, x, target)
    options = {"segments": 4, "regions": "boxes"}
    labels = regions_of(subject, **options)
    heat = explained(subject, repeats=64, **options)
    expected, errors = literal(module, x, target, labels, 64)
    spread = np.hypot(heat.error, errors)
    assert (np.abs(heat.values - expected) < 4 * spread).all()
    assert np.linalg.norm(spread) < np.linalg.norm(expected)
    # Two estimates of one spread from 64 draws each differ by a tenth or so.
    assert np.abs(np.log(heat.error / errors)).max() < 0.5
    assert heat.signed
    assert heat.unit == target.unit


def test_on_a_linear_network_falls_are_those_of_the_mean_of_the_rest():
    module, x = seeded(LinearNet(32, 48)), 0.2 + smooth(32, 48)
    subject = subject_of(module, x, Target(0))
    labels = regions_of(subject, segments=12)
    heat = explained(subject, segments=12, repeats=64)
    weight = module.fc.weight[0].detach().view(3, 32, 48)
    for region in labels.unique():
        mask = labels == region
        outside_mean = x[0][:, ~mask].mean(1)
        expected = float((weight[:, mask] * (x[0][:, mask] - outside_mean[:, None])).sum())
        value, error = heat.values[mask][0], heat.error[mask][0]
        assert abs(value - expected) < 4 * error
        # The variance of a sum of independent draws from the rest, over 64 repeats.
        scatter = torch.cov(x[0][:, ~mask].double(), correction=0)
        within = weight[:, mask].double()
        exact = float(torch.einsum("ci,cd,di->", within, scatter, within) / 64) ** 0.5
        assert error == pytest.approx(exact, rel=0.4)


@pytest.mark.parametrize("cut", ["superpixels", pytest.param("boxes", marks=pytest.mark.slow)])
def test_a_network_that_reads_one_region_peaks_on_it_whichever_it_is(cut):
    x = 0.2 * smooth(32, 48)
    labels = regions_of(subject_of(LinearNet(32, 48), x), segments=12, regions=cut)
    assert labels.max() >= 5
    for region in labels.unique():
        mask = labels == region
        lit = torch.where(mask, x + 0.01 + x.max(), x)  # brighter than anything elsewhere
        subject = subject_of(RegionMean(mask), x)
        # The regions are those of the picture before, so that all of them are lit in turn.
        sampler = _ReplacementSampler(labels, torch.Generator().manual_seed(0))
        base = float(subject.scores(lit)[0])
        falls = []
        for label in labels.unique().tolist():
            flat_x = lit[0].flatten(1).clone()
            places, sources = sampler.sample(label)
            flat_x[:, places] = flat_x[:, sources]
            falls.append(base - float(subject.scores(flat_x.view_as(lit))[0]))
        assert int(np.argmax(falls)) == int(region)
        assert np.abs(np.delete(falls, int(region))).max() < 1e-6
        heat = explained(subject, segments=12, regions=cut)
        assert np.abs(heat.values[~mask]).max() == 0
        assert heat.values[mask].any()


@pytest.mark.parametrize("labels", [boxes((6, 8), 6), torch.tensor([[0, 1, 1], [2, 2, 0]])])
def test_a_region_takes_pixels_from_all_of_the_rest_and_none_of_its_own(labels):
    sampler = _ReplacementSampler(labels, torch.Generator().manual_seed(2))
    flat = labels.flatten()
    for region in range(int(labels.max()) + 1):
        region_mask = flat == region
        counts = torch.zeros(len(flat))
        for _ in range(600):
            places, sources = sampler.sample(region)
            assert places.sort().values.tolist() == region_mask.nonzero()[:, 0].tolist()
            counts += sources.bincount(minlength=len(flat))
        assert not counts[region_mask].any()
        expected = 600 * int(region_mask.sum()) / int((~region_mask).sum())
        # Five standard deviations of a count; a place left out would be nine or more away.
        assert (counts[~region_mask] - expected).abs().max() < 5 * expected**0.5 < 0.6 * expected


def test_permuting_a_feature_map_over_positions_tells_nothing_of_a_pooled_head():
    # Why regions of the picture and not channels of the feature map are what is permuted.
    module, x = seeded(GapNet()), noise(1, 3, 16, 24)
    with torch.no_grad():
        features = module.features(x)
        flat = features.flatten(2)
        order = torch.randperm(flat.shape[2], generator=torch.Generator().manual_seed(1))
        permuted_map = flat[..., order].view_as(features)
        assert not torch.equal(permuted_map, features)
        assert torch.allclose(module.head(permuted_map), module.head(features), atol=1e-6)


@pytest.mark.slow
def test_standard_errors_are_the_scatter_from_seed_to_seed():
    subject = subject_of(seeded(MlpHeadNet()), smooth(16, 24))
    options = {"segments": 6, "regions": "boxes", "repeats": 8}
    heats = [explained(replace(subject, seed=seed), **options) for seed in range(100)]
    scatter = np.std([h.values for h in heats], axis=0, ddof=1)
    expected = np.sqrt(np.mean([np.square(h.error) for h in heats], axis=0))
    assert np.abs(expected / scatter - 1).max() < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
def test_at_the_default_budget_seeds_agree(kind):
    subject = subject_of(seeded(kind()), smooth(48, 64))
    maps = [explained(replace(subject, seed=seed)).values.ravel() for seed in range(3)]
    assert np.corrcoef(maps).min() > 0.98
    more = [explained(replace(subject, seed=s), repeats=64).values.ravel() for s in range(3)]
    assert np.corrcoef(more).min() > max(0.99, np.corrcoef(maps).min())


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_the_answer_does_not_depend_on_the_batch_size(batch_size):
    subject, options = subject_of(seeded(MlpHeadNet()), noise(1, 3, 16, 24)), {"segments": 24}
    expected = explained(subject, **options)
    actual = explained(replace(subject, batch_size=batch_size), **options)
    assert difference(actual.values, expected.values) < 1e-4
    assert difference(actual.error, expected.error) < 1e-3


def test_means_and_errors_of_what_is_measured_so_far():
    falls = torch.tensor([[1.0, 2.0], [3.0, 8.0], [5.0, 0.0]]).double()
    first = torch.tensor([[0.0, 2.0], [0.0, 0.0], [0.0, 0.0]]).double()
    means, errors = mean_drops(first, torch.tensor([0, 1]))
    assert (means.tolist(), errors) == ([0.0, 2.0], None)
    part = torch.tensor([[1.0, 2.0], [3.0, 8.0], [0.0, 0.0]]).double()
    means, errors = mean_drops(part, torch.tensor([2, 3]))
    assert means.tolist() == pytest.approx([2.0, 10 / 3])
    assert errors.tolist() == pytest.approx([1.0, np.std([2, 8, 0], ddof=1) / 3**0.5])
    means, errors = mean_drops(falls, torch.tensor([3, 3]))
    assert means.tolist() == pytest.approx([3, 10 / 3])
    assert errors.tolist() == pytest.approx(np.std(falls.numpy(), axis=0, ddof=1) / 3**0.5)


def test_every_region_has_a_value_early_and_errors_come_with_the_second():
    subject = subject_of(seeded(MlpHeadNet()), 0.1 + noise(1, 3, 48, 64))
    params = PermutationParams(segments=48, regions="boxes", repeats=4)
    parts = list(METHOD.explain(subject, params))
    assert [p.fraction for p in parts] == pytest.approx([(i + 1) / 12 for i in range(12)])
    assert (parts[2].result.values != 0).all()
    assert [p.result.error is None for p in parts] == [True] * 5 + [False] * 7


def test_a_single_region_has_no_rest_to_draw_from():
    subject = subject_of(seeded(GapNet(axes=1)), picture(1)[..., :1].contiguous())
    heat = explained(subject)
    assert not heat.values.any()
    assert "no rest to draw" in heat.note


def test_a_picture_of_one_colour_shows_nothing_rather_than_rounding():
    heat = explained(subject_of(seeded(MlpHeadNet()), torch.full((1, 3, 32, 48), 0.3)))
    assert not heat.values.any()
    assert "zero everywhere" in heat.blank_reason()
