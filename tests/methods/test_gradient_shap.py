"""Gradient SHAP: expected gradients over stated baselines, complete up to a stated error."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

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
from whylens.plugins.gradient_shap import (
    FILLS,
    GradientShap,
    GradientShapParams,
    relative_residual,
    visit_order,
)
from whylens.plugins.integrated_gradients import IntegratedGradients, IntegratedGradientsParams

METHOD = GradientShap()
KINDS = ("fills", "noise")
SPECS = {
    axes: InputSpec(size=picture(axes).shape[2:], mean=(0.4, 0.5, 0.1), std=(0.2, 0.3, 0.25))
    for axes in (1, 2, 3)
}


def expected(subject, **params):
    return final(METHOD.explain(subject, GradientShapParams(**params)))


def draws(subject, *, baselines, share, samples):
    """Yield (baseline, place on the path) in the order of the draws, in float64."""
    input_spec, generator = (
        subject.backbone.input_spec,
        torch.Generator().manual_seed(subject.seed),
    )
    x = subject.x[0].double().numpy()
    pixels = np.stack([x[c] * input_spec.std[c] + input_spec.mean[c] for c in range(len(x))])
    for kind, (low, high) in visit_order(samples // 2, baselines):
        places = low + (high - low) * torch.rand(2, generator=generator, dtype=torch.float64)
        make = torch.rand if baselines == "noise" else torch.randn
        grains = make((2, *x.shape), generator=generator).double().numpy()
        for place, grain in zip(places.tolist(), grains, strict=True):
            start = np.empty_like(x)
            for c in range(len(x)):
                span = pixels if x.ndim == 3 else pixels[c]
                lowest, highest = span.min(), span.max()
                if baselines == "noise":
                    if x.ndim == 3:
                        lowest, highest = min(lowest, 0), max(highest, 1)
                    unit = lowest + (highest - lowest) * grain[c]
                    start[c] = (unit - input_spec.mean[c]) / input_spec.std[c]
                else:
                    fill = subject.baseline(FILLS[kind])[0, c].double().numpy()
                    start[c] = fill + share * (highest - lowest) * grain[c] / input_spec.std[c]
            yield start, place


def literal(module, subject, **options):
    """Return map, standard error and mean change: one sample at a time, in float64."""
    twin, x = precise(module), subject.x[0].double().numpy()
    values, changes = [], []
    with torch.no_grad():
        score = float(score64(twin(subject.x.double())[0], subject.target))
    for start, place in draws(subject, **options):
        leaf = torch.tensor(start + place * (x - start))[None].requires_grad_()
        score64(twin(leaf)[0], subject.target).backward()
        values.append(((x - start) * leaf.grad[0].numpy()).sum(0))
        with torch.no_grad():
            start_score = float(score64(twin(torch.tensor(start)[None])[0], subject.target))
        changes.append(score - start_score)
    values = np.stack(values)
    variance = np.zeros(values.shape[1:])
    for first, second in zip(values[::2], values[1::2], strict=True):
        # The mean of two has half the variance, and two values estimate that by (a - b)^2 / 2.
        variance += (first - second) ** 2 / 2 / 2
    return values.mean(0), np.sqrt(variance) / (len(values) // 2), float(np.mean(changes))


@pytest.mark.parametrize("baselines", KINDS)
@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_map_error_and_change_are_the_expectation_sample_by_sample(axes, target, baselines):
    module = toy(axes, MlpHeadNet)
    subject = subject_of(module, picture(axes), target, input_spec=SPECS[axes])
    heat = expected(subject, baselines=baselines, samples=16, noise=0.2)
    literal_map, error, change = literal(
        module, subject, baselines=baselines, share=0.2, samples=16
    )  # fmt: skip
    assert difference(heat.values, literal_map) < 2e-5
    assert difference(heat.error, error) < 2e-5
    assert heat.diagnostics["score change"] == pytest.approx(change, rel=1e-4)
    gap = abs(literal_map.sum() - change) / abs(change)
    assert heat.diagnostics["completeness gap"] == pytest.approx(gap, abs=1e-4)
    assert heat.signed


@pytest.mark.parametrize("samples", [16, 64])
def test_on_a_linear_network_each_pixel_gets_weight_times_mean_change(samples):
    module, x = seeded(LinearNet(6, 9)), noise(1, 3, 6, 9)
    subject = subject_of(module, x, Target(2))
    heat = expected(subject, samples=samples, noise=0)
    weight = module.fc.weight[2].detach().double().reshape(3, 6, 9)
    start = torch.cat([subject.baseline(f) for f in FILLS]).double().mean(0)
    assert difference(heat.values, (weight * (x[0].double() - start)).sum(0).numpy()) < 1e-5
    assert heat.diagnostics["completeness gap"] < 1e-4
    # Within a pair all is alike: one fill, and on a line every place of the path.
    assert float(heat.error.max()) < 1e-6 * float(np.abs(heat.values).max())


def test_without_noise_it_is_the_mean_of_integrated_gradients_from_the_four_fills():
    subject = subject_of(toy(2, MlpHeadNet), picture(2))
    exact = IntegratedGradientsParams
    maps = [
        final(
            IntegratedGradients().explain(
                subject, exact(baseline=fill, steps=128, max_steps=128, rule="gauss-legendre")
            )
        ).values
        for fill in FILLS
    ]
    heat = expected(subject, noise=0, samples=1024)
    assert difference(heat.values, np.mean(maps, axis=0)) < 0.005


@pytest.mark.parametrize("baselines", [pytest.param("fills", marks=pytest.mark.slow), "noise"])
def test_it_adds_up_to_the_score_s_mean_change_within_the_stated_error(baselines):
    subject = subject_of(toy(2, MlpHeadNet), picture(2))
    heats = [expected(replace(subject, seed=s), baselines=baselines, samples=64) for s in range(40)]
    gaps = np.array([h.diagnostics["completeness gap"] for h in heats])
    errors = np.array([h.diagnostics["gap's standard error"] for h in heats])
    assert (errors > 0).all()
    assert np.sqrt((gaps**2).mean() / (errors**2).mean()) == pytest.approx(1, abs=0.35)
    long_run = expected(subject, baselines=baselines, samples=1024)
    assert long_run.diagnostics["completeness gap"] < 0.02
    assert not long_run.note


@pytest.mark.slow
@pytest.mark.parametrize("baselines", ["fills", "noise"])
def test_the_stated_error_is_the_spread_between_seeds(baselines):
    subject = subject_of(toy(2, MlpHeadNet), picture(2))
    heats = [
        expected(replace(subject, seed=s), baselines=baselines, samples=16) for s in range(150)
    ]
    spread = np.std([h.values for h in heats], axis=0, ddof=1)
    errors = np.sqrt(np.mean([h.error.astype(float) ** 2 for h in heats], axis=0))
    assert np.median(errors / spread) == pytest.approx(1, abs=0.05)
    assert np.allclose(errors / spread, 1, atol=0.35)


def test_strata_make_it_steadier_than_plain_draws():
    module, subject = toy(2, MlpHeadNet), subject_of(toy(2, MlpHeadNet), picture(2))
    twin, x = precise(module), subject.x.double()
    fills = torch.cat([subject.baseline(f) for f in FILLS]).double()
    generator, plain_maps = torch.Generator().manual_seed(0), []
    for _ in range(40):
        fill_indices = torch.randint(4, (32,), generator=generator)
        start = fills[fill_indices]
        place = torch.rand(32, generator=generator, dtype=torch.float64).view(-1, 1, 1, 1)
        leaf = (start + place * (x - start)).requires_grad_()
        twin(leaf)[:, 1].sum().backward()
        plain_maps.append(((x - start) * leaf.grad).sum(1).mean(0).numpy())
    stratified_maps = [
        expected(replace(subject, seed=s), samples=32, noise=0).values for s in range(40)
    ]
    assert np.std(stratified_maps, axis=0).mean() < 0.5 * np.std(plain_maps, axis=0).mean()


@pytest.mark.slow
def test_seeds_agree_better_with_more_samples():
    subject, correlations = subject_of(toy(2, MlpHeadNet), picture(2)), []
    for samples in (16, 128, 1024):
        maps = [
            expected(replace(subject, seed=s), samples=samples).values.ravel() for s in range(4)
        ]
        correlations.append(float(np.corrcoef(maps)[np.triu_indices(4, 1)].mean()))
    print("seed-to-seed correlation at 16, 128, 1024 samples:", np.round(correlations, 4))  # noqa: T201
    assert correlations == sorted(correlations)
    assert correlations[-1] > 0.99


@pytest.mark.parametrize("baselines", KINDS)
def test_pairs_cover_the_path_and_the_fills_evenly(baselines):
    visits = list(visit_order(32, baselines))
    assert len(visits) == 32
    for kind in range(4 if baselines == "fills" else 1):
        stretches = sorted(s for k, s in visits if k == kind)
        assert stretches[0][0] == 0
        assert stretches[-1][1] == 1
        assert all(a[1] == b[0] for a, b in itertools.pairwise(stretches))
        assert len(stretches) == (8 if baselines == "fills" else 32)


@pytest.mark.parametrize("baselines", KINDS)
@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_the_answer_does_not_depend_on_the_batch_size(baselines, batch_size):
    subject = subject_of(toy(2, MlpHeadNet), picture(2))
    reference = expected(subject, baselines=baselines, samples=32)
    actual = expected(replace(subject, batch_size=batch_size), baselines=baselines, samples=32)
    assert difference(actual.values, reference.values) < 1e-5
    assert difference(actual.error, reference.error) < 1e-5


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_no_more_inputs_than_asked_for_go_into_a_pass(batch_size):
    largest = 0

    class Watched(MlpHeadNet):
        def forward(self, x):
            nonlocal largest
            largest = max(largest, len(x))
            return super().forward(x)

    subject = subject_of(seeded(Watched()), picture(2), batch_size=batch_size)
    largest = 0
    expected(subject, samples=32)
    assert 0 < largest <= batch_size


def test_parts_have_the_size_of_the_whole_and_fractions_end_at_1():
    subject = subject_of(toy(2, MlpHeadNet), picture(2), batch_size=8)
    parts = list(METHOD.explain(subject, GradientShapParams(samples=32)))
    assert [p.fraction for p in parts] == [0.25, 0.5, 0.75, 1]
    last = parts[-1].result.values
    assert all(difference(p.result.values, last) < 0.5 for p in parts)


def test_a_gap_above_5_percent_is_said():
    subject = subject_of(toy(2, MlpHeadNet), picture(2), Target(0, "contrast", 1))
    heats = [expected(replace(subject, seed=s), samples=16, noise=0.5) for s in range(20)]
    gaps = [h.diagnostics["completeness gap"] for h in heats]
    assert min(gaps) < 0.05 < max(gaps)
    for heat, gap in zip(heats, gaps, strict=True):
        assert (f"{100 * gap:.0f} %" in heat.note) == (gap >= 0.05)


def test_a_gap_is_relative_and_rounding_is_no_gap():
    assert relative_residual(-0.1, 1.0, 1e-6) == pytest.approx(0.1)
    assert relative_residual(5e-7, 0.0, 1e-6) == 0
    assert relative_residual(2.1, -1.0, 1e-6) == pytest.approx(2.1)


def test_a_class_that_nothing_changes_gets_nothing():
    module = seeded(GapNet())
    with torch.no_grad():
        module.fc.weight[1] = 0
    heat = expected(subject_of(module, picture(2)))
    assert not heat.values.any()
    assert heat.diagnostics["completeness gap"] == 0
