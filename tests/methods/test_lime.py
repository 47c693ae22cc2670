"""LIME: the weighted regression written out, its errors, and what it says of its own fit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

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
from whylens.core.targets import Target
from whylens.plugins._segments import segments
from whylens.plugins.lime import LIME, LIMEParams, fit_linear_surrogate, locality, random_samples

METHOD = LIME()


def explained(subject, **params):
    return final(METHOD.explain(subject, LIMEParams(**params)))


def regions_of(subject, **params) -> np.ndarray:
    options = LIMEParams(**params)
    return segments(subject, options.segments, options.regions).numpy()


def smooth(*size: int) -> torch.Tensor:
    """Return a picture that changes slowly, as photos do."""
    coarse = noise(1, 3, *(n // 8 for n in size))
    return nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)


def solved(rows, scores, weights, ridge):
    """Return intercept and coefficients by least squares on rows scaled and stacked."""
    wide = [[math.sqrt(w) * v for v in (1.0, *row)] for row, w in zip(rows, weights, strict=True)]
    right = [math.sqrt(w) * y for y, w in zip(scores, weights, strict=True)]
    for i in range(len(rows[0])):
        wide.append([0.0] * (i + 1) + [math.sqrt(ridge)] + [0.0] * (len(rows[0]) - i - 1))
        right.append(0.0)
    return np.linalg.lstsq(np.array(wide), np.array(right), rcond=None)[0]


def literal(module, x, target, labels, samples, ridge=1e-3):
    """Return map, errors, R^2 and held-out R^2, sample by sample, black fill, seed 0."""
    twin, x, regions = precise(module), x.double(), int(labels.max()) + 1
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 2, (samples, regions), generator=generator).tolist()
    rows[0] = [1] * regions
    scores, weights = [], []
    for row in rows:
        masked_x = x.clone()
        for region, present in enumerate(row):
            if not present:
                masked_x[..., torch.from_numpy(labels == region)] = 0
        with torch.no_grad():
            scores.append(float(score64(twin(masked_x)[0], target)))
        full_row = [1.0] * regions
        length = math.sqrt(sum(row)) * math.sqrt(regions)
        cosine = sum(a * b for a, b in zip(row, full_row, strict=True)) / length if length else 0.0
        weights.append(math.sqrt(math.exp(-((1 - cosine) ** 2) / 0.25**2)))
    coefficients = solved(rows, scores, weights, ridge)
    weight, score = np.array(weights), np.array(scores)
    design = np.hstack([np.ones((samples, 1)), np.array(rows, float)])
    bread = np.linalg.inv(
        design.T @ np.diag(weight) @ design + ridge * np.diag([0.0] + [1.0] * regions)
    )
    meat, over, under = np.zeros_like(bread), 0.0, 0.0
    for i in range(samples):
        fold = [j for j in range(samples) if j != i]
        without = solved([rows[j] for j in fold], score[fold], weight[fold], ridge)
        residual = score[i] - design[i] @ without
        meat += (weight[i] * residual) ** 2 * np.outer(design[i], design[i])
        over += weight[i] * residual**2
        under += weight[i] * (score[i] - np.average(score[fold], weights=weight[fold])) ** 2
    errors = np.sqrt(np.diag(bread @ meat @ bread))
    residual_sum = weight @ (score - design @ coefficients) ** 2
    spread = weight @ (score - np.average(score, weights=weight)) ** 2
    return coefficients[1:][labels], errors[1:][labels], 1 - residual_sum / spread, 1 - over / under


@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_map_errors_and_fit_are_those_of_the_regression_sample_by_sample(axes, target, kind):
    module, x = toy(axes, kind), picture(axes)
    subject, options = subject_of(module, x, target), {"segments": 8, "samples": 50}
    heat = explained(subject, fill="black", **options)
    labels = regions_of(subject, **options)
    assert labels.max() >= 1
    values, errors, fit, held_out = literal(module, x, target, labels, 50)
    assert difference(heat.values, values) < 1e-4
    assert difference(heat.error, errors) < 1e-3
    assert heat.diagnostics["surrogate R2"] == pytest.approx(fit, rel=1e-3)
    assert heat.diagnostics["held-out R2"] == pytest.approx(held_out, rel=1e-3)
    assert heat.signed
    assert heat.unit == target.unit


class RegionMean(nn.Module):
    """The score is the mean of one region."""

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(mask.float() / mask.sum())

    def forward(self, x):
        value = (x.mean(1) * self.weight).flatten(1).sum(1)
        return torch.stack([-value, value], 1)


@pytest.mark.parametrize("cut", [pytest.param("superpixels", marks=pytest.mark.slow), "boxes"])
def test_a_network_that_reads_one_region_peaks_on_it_whichever_it_is(cut):
    x, options = 0.2 + smooth(32, 48), {"segments": 12, "samples": 200, "regions": cut}
    labels = regions_of(subject_of(LinearNet(32, 48), x), **options)
    assert labels.max() >= 7
    for region in range(labels.max() + 1):
        mask = torch.from_numpy(labels == region)
        heat = explained(subject_of(RegionMean(mask), x), fill="black", **options)
        light = float(x.mean(1)[0][mask].mean())
        assert heat.values[mask] == pytest.approx(light, rel=1e-3)
        assert np.abs(heat.values[~mask]).max() < 1e-3 * light


@pytest.mark.parametrize("fill", ["black", "grey", "blur", "segment mean"])
def test_on_a_linear_network_coefficients_are_the_exact_effects_of_the_regions(fill):
    # Normalised in the network, filled in pixel space: both must meet.
    input_spec = InputSpec(size=(32, 48), mean=(0.4, 0.5, 0.1), std=(0.2, 0.3, 0.25), crop=1.0)
    mean, std = (torch.tensor(v)[:, None, None] for v in (input_spec.mean, input_spec.std))
    unit, module = noise(1, 3, 32, 48), seeded(LinearNet(32, 48))
    subject = subject_of(module, (unit - mean) / std, Target(0), input_spec=input_spec)
    heat = explained(subject, segments=12, fill=fill, samples=300)
    labels = torch.from_numpy(regions_of(subject, segments=12))
    weight = module.fc.weight[0].detach().view(3, 32, 48)
    empty = {"black": 0 * unit, "grey": 0 * unit + 0.5}.get(fill)
    if fill == "blur":
        empty = subject.baseline("blur") * std + mean
    if fill == "segment mean":
        empty = torch.zeros_like(unit)
        for region in labels.unique():
            mask = labels == region
            empty[..., mask] = unit[..., mask].mean(-1, keepdim=True)
    effect = (weight * (unit - empty)[0] / std).sum(0).double()
    expected = np.zeros((32, 48))
    for region in labels.unique():
        expected[labels == region] = float(effect[labels == region].sum())
    # Rounding of the scores, and the ridge's pull of RIDGE over the samples' weight.
    assert difference(heat.values, expected) < 2e-4
    assert heat.diagnostics["held-out R2"] > 0.9999
    assert heat.note == ""


def test_perturbing_normalised_pixels_is_perturbing_rgb_and_normalising():
    input_spec = InputSpec(size=(16, 24), mean=(0.4, 0.5, 0.1), std=(0.2, 0.3, 0.25), crop=1.0)
    mean, std = (torch.tensor(v)[:, None, None] for v in (input_spec.mean, input_spec.std))
    module, unit = seeded(MlpHeadNet()), noise(1, 3, 16, 24)

    class TakesRgb(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = module

        def forward(self, x):
            return self.net((x - mean) / std)

    normalised_subject = subject_of(module, (unit - mean) / std, input_spec=input_spec)
    rgb_subject = subject_of(TakesRgb(), unit)
    for fill in ("segment mean", "grey", "black", "blur"):
        first, second = (
            explained(s, segments=24, samples=100, fill=fill)
            for s in (normalised_subject, rgb_subject)
        )
        assert difference(first.values, second.values) < 1e-3


class Parity(nn.Module):
    """+1 or -1, flipped by every quarter of the picture that is black: nothing adds up."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x):
        quarters = nn.functional.adaptive_max_pool2d(x.amax(1, keepdim=True), (2, 2)).flatten(1)
        value = self.gain * (1 - 2 * (quarters > 0).float()).prod(1)
        return torch.stack([-value, value], 1)


def test_a_surrogate_that_explains_little_is_said_to():
    subject = subject_of(Parity(), 0.5 + smooth(16, 24))
    options = {"segments": 4, "regions": "boxes", "fill": "black", "samples": 300}
    heat = explained(subject, **options)
    assert heat.diagnostics["surrogate R2"] < 0.5
    assert heat.diagnostics["held-out R2"] < 0.5
    assert "explains " in heat.note
    assert "not additive in these regions" in heat.note
    fair = explained(subject_of(seeded(GapNet()), 0.5 + smooth(16, 24)), **options)
    assert fair.diagnostics["surrogate R2"] > 0.9
    assert fair.note == ""


def test_more_regions_than_samples_fit_anything_and_are_not_believed():
    scores = torch.randn(50, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    coalitions = random_samples(50, 80, torch.Generator().manual_seed(1))
    fit = fit_linear_surrogate(coalitions, scores, locality(coalitions))
    assert fit.fit > 0.99
    assert fit.held_out < 0.1


def test_the_regression_is_scikit_learn_s():
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    coalitions = random_samples(120, 9, torch.Generator().manual_seed(4))
    scores = torch.randn(120, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    weights = locality(coalitions)
    actual = fit_linear_surrogate(coalitions, scores, weights, ridge=1.0)
    reference = linear.Ridge(alpha=1.0).fit(
        coalitions.numpy(), scores.numpy(), sample_weight=weights
    )
    assert actual.coefficients.numpy() == pytest.approx(reference.coef_, rel=1e-9)
    assert actual.intercept == pytest.approx(reference.intercept_, rel=1e-9)
    score = reference.score(coalitions.numpy(), scores.numpy(), sample_weight=weights.numpy())
    assert actual.fit == pytest.approx(score, rel=1e-9)


def test_weights_fall_with_the_cosine_distance_from_the_whole_picture():
    coalitions = torch.tensor([[1.0] * 4, [1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    expected = [math.exp(-((1 - math.sqrt(k / 4)) ** 2) / (2 * 0.25**2)) for k in (4, 3, 1, 0)]
    assert locality(coalitions).tolist() == pytest.approx(expected)


def test_standard_errors_are_the_scatter_from_seed_to_seed():
    game = torch.randn(2**8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    powers = 2 ** torch.arange(8).double()
    coefficients, errors = [], []
    for seed in range(300):
        coalitions = random_samples(200, 8, torch.Generator().manual_seed(seed))
        fit = fit_linear_surrogate(
            coalitions, game[(coalitions @ powers).long()], locality(coalitions)
        )
        coefficients.append(fit.coefficients)
        errors.append(fit.errors)
    scatter = torch.stack(coefficients).std(0)
    expected = torch.stack(errors).square().mean(0).sqrt()
    assert (expected / scatter - 1).abs().max() < 0.2


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


def test_parts_come_nearer_to_the_end_and_say_how_many_samples_they_rest_on():
    subject = subject_of(seeded(MlpHeadNet()), smooth(32, 48))
    parts = list(METHOD.explain(subject, LIMEParams(segments=12, samples=800)))
    assert [p.fraction for p in parts] == pytest.approx([(i + 1) / 50 for i in range(50)])
    counts = [p.result.diagnostics["samples"] for p in parts]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (16, 800)
    ends = parts[-1].result
    distances = [difference(p.result.values, ends.values) for p in (parts[1], parts[9])]
    assert distances[0] > 2 * distances[1] > 0
    assert not any(p.result.note for p in parts[:-1])


@pytest.mark.parametrize("fill", ["black", "blur", "segment mean"])
def test_hiding_black_with_black_shows_nothing_rather_than_rounding(fill):
    module = seeded(MlpHeadNet())
    heat = explained(subject_of(module, torch.zeros(1, 3, 32, 48)), fill=fill, samples=100)
    assert not heat.values.any()
    assert heat.diagnostics["surrogate R2"] == heat.diagnostics["held-out R2"] == 1
    assert "zero everywhere" in heat.blank_reason()
