"""Means under random masks: sums against samples kept, and errors against repeats."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.toys import difference
from whylens.core.outputs.masked_mean import MaskedMeans, expected_agreement
from whylens.core.results import Heatmap


def random_masks(count, size=(3, 4), seed=0):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(count, 1, *size, generator=generator)
    return masks, torch.randn(count, generator=generator) + 2 * masks[:, 0, 1, 2]


@pytest.mark.parametrize("pieces", [[50], [20, 30], [1] * 50])
def test_sums_give_what_the_samples_give(pieces):
    masks, scores = random_masks(50)
    means = MaskedMeans((3, 4))
    for mask, score in zip(masks.split(pieces), scores.split(pieces), strict=True):
        means.add(mask, score)
    m, v = masks[:, 0].double().numpy(), scores.double().numpy()
    values, errors = np.zeros((3, 4)), np.zeros((3, 4))
    for row in range(3):
        for column in range(4):
            under = (m[:, row, column] * v).sum() / m[:, row, column].sum()
            values[row, column] = under - v.mean()
            influence = (
                m[:, row, column] * (v - under) / m[:, row, column].sum() - (v - v.mean()) / 50
            )
            errors[row, column] = np.sqrt((influence**2).sum())
    assert difference(means.values(), values) < 1e-12
    assert difference(means.errors(), errors) < 1e-12


def test_the_errors_are_those_seen_over_many_repeats():
    values, errors = [], []
    for seed in range(300):
        means = MaskedMeans((3, 4))
        means.add(*random_masks(200, seed=seed))
        values.append(means.values().numpy())
        errors.append(means.errors().numpy())
    ratio = np.mean(errors, axis=0) / np.std(values, axis=0)
    assert 0.85 < ratio.min() <= ratio.max() < 1.15


def test_a_constant_added_to_all_scores_is_no_evidence():
    masks, scores = random_masks(40)
    plain_means, raised_means = MaskedMeans((3, 4)), MaskedMeans((3, 4))
    plain_means.add(masks, scores)
    raised_means.add(masks, scores + 1000)
    assert difference(raised_means.values(), plain_means.values()) < 1e-4


def test_a_place_never_shown_says_nothing():
    means = MaskedMeans((2,))
    means.add(torch.tensor([[[1.0, 0.0]], [[0.5, 0.0]]]), torch.tensor([1.0, 3.0]))
    assert means.values()[1] == 0
    assert means.errors()[1] == 0


def test_the_expected_agreement_of_seeds_is_their_correlation():
    generator = np.random.default_rng(1)
    truth = generator.normal(size=4000)
    seeds = [truth + generator.normal(scale=0.5, size=4000) for _ in range(2)]
    expected = np.corrcoef(*seeds)[0, 1]
    actual = expected_agreement(torch.tensor(seeds[0]), torch.full((4000,), 0.5))
    assert abs(actual - expected) < 0.02
    assert expected_agreement(torch.ones(5), torch.zeros(5)) == 0


def test_what_does_not_differ_from_zero_can_be_hidden():
    heat = Heatmap([1.0, 1.0, -1.0, 0.1], "x", True, error=[0.5, 0.52, 0.1, 0.0])
    assert heat.significant().values.tolist() == [1, 0, -1, np.float32(0.1)]
    assert np.array_equal(heat.significant().error, heat.error)
    plain = Heatmap([1.0, 2.0], "x")
    assert plain.significant() is plain


@pytest.mark.parametrize("error", [[1.0], [1.0, -1.0], [1.0, float("nan")]])
def test_an_error_that_is_none_is_refused(error):
    from whylens.core.errors import BadInput

    with pytest.raises(BadInput, match="standard error"):
        Heatmap([1.0, 2.0], "x", error=error)
