"""SmoothGrad: the mean of gradients over noisy copies, and how sure it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

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
from whylens.core.inputs.photo import photo_of
from whylens.core.inputs.preprocess import photo_tensor
from whylens.core.inputs.spec import InputSpec
from whylens.core.subject import ForwardPass, Subject
from whylens.core.targets import Target
from whylens.plugins.smoothgrad import SmoothGrad, SmoothGradParams, expected_agreement

METHOD = SmoothGrad()
VALUES = ("gradient", "gradient x input", "magnitude")


def smooth(subject, **params):
    return final(METHOD.explain(subject, SmoothGradParams(**params)))


def literal(module, x, target, input_spec, *, share, samples, value, seed=0):
    """Return the map and its standard error, one noisy copy and one place at a time."""
    twin, generator = precise(module), torch.Generator().manual_seed(seed)
    mean, std = np.array(input_spec.mean), np.array(input_spec.std)
    x64 = x[0].double().numpy()
    pixels = np.stack([x64[c] * std[c] + mean[c] for c in range(len(std))])
    grads = []
    for _ in range(samples):
        normal_noise = torch.randn(x.shape, generator=generator)[0].double().numpy()
        noisy_pixels = np.empty_like(pixels)
        for c in range(len(std)):
            span = pixels if pixels.ndim == 3 else pixels[c]
            sigma = share * (span.max() - span.min())
            noisy_pixels[c] = (pixels[c] + sigma * normal_noise[c] - mean[c]) / std[c]
        leaf = torch.tensor(noisy_pixels)[None].requires_grad_()
        score64(twin(leaf)[0], target).backward()
        grads.append(leaf.grad[0].numpy())
    grads = np.stack(grads)
    values, error = np.zeros(x.shape[2:]), np.zeros(x.shape[2:])
    for place in np.ndindex(*values.shape):
        slopes = grads[(slice(None), slice(None), *place)]
        if value == "magnitude":
            values[place] = np.sqrt((slopes.mean(0) ** 2).sum())
            error[place] = np.sqrt(slopes.var(0, ddof=1).sum() / samples)
            continue
        if value == "gradient x input":
            slopes = slopes / std * pixels[(slice(None), *place)]
        sums = slopes.sum(1)
        values[place] = sums.mean()
        error[place] = np.sqrt(sums.var(ddof=1) / samples)
    return values, error


SPECS = {
    axes: InputSpec(size=picture(axes).shape[2:], mean=(0.4, 0.5, 0.1), std=(0.2, 0.3, 0.25))
    for axes in (1, 2, 3)
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_map_and_error_are_the_paper_s_mean_over_noisy_copies(axes, target, value):
    module, x, input_spec = toy(axes, MlpHeadNet), picture(axes), SPECS[axes]
    subject = subject_of(module, x, target, input_spec=input_spec)
    heat = smooth(subject, samples=8, noise=0.2, value=value)
    expected, error = literal(module, x, target, input_spec, share=0.2, samples=8, value=value)
    assert difference(heat.values, expected) < 2e-5
    assert difference(heat.error, error) < 2e-5
    assert heat.signed == (value != "magnitude")


@pytest.mark.parametrize("samples", [4, 64])
def test_on_a_linear_network_any_noise_gives_the_weights_without_error(samples):
    module, x = seeded(LinearNet(6, 9)), noise(1, 3, 6, 9)
    heat = smooth(subject_of(module, x, Target(2)), samples=samples)
    weight = module.fc.weight[2].detach().double().reshape(3, 6, 9)
    assert difference(heat.values, weight.sum(0).numpy()) < 1e-6
    assert float(heat.error.max()) < 1e-7
    assert heat.diagnostics["expected agreement of seeds"] == pytest.approx(1)
    assert not heat.note
    product = smooth(subject_of(module, x, Target(2)), value="gradient x input")
    assert difference(product.values, (weight * x[0].double()).sum(0).numpy()) < 1e-6


def test_without_noise_it_is_the_plain_gradient_in_one_pass():
    module, x = seeded(MlpHeadNet()), noise(1, 3, 10, 13)
    subject = subject_of(module, x)
    (part,) = METHOD.explain(subject, SmoothGradParams(noise=0))
    assert difference(part.result.values, subject.input_gradients(x)[0].sum(0).numpy()) < 1e-6
    assert part.result.diagnostics["samples"] == 1
    assert part.result.error is None


def test_an_input_of_one_colour_has_no_range_and_so_no_noise():
    heat = smooth(subject_of(seeded(GapNet()), torch.full((1, 3, 10, 13), 0.4)))
    assert heat.diagnostics["samples"] == 1


def test_the_channels_of_a_signal_have_noise_of_their_own_size():
    x = noise(1, 3, 17) * torch.tensor([1.0, 100.0, 1e4]).view(1, 3, 1)
    input_spec = InputSpec(size=(17,), mean=(0.0, 1.0, 2.0), std=(1.0, 50.0, 2e4))
    module = toy(1, MlpHeadNet)
    heat = smooth(subject_of(module, x, input_spec=input_spec), samples=8)
    expected, _ = literal(module, x, Target(1), input_spec, share=0.15, samples=8, value="gradient")
    assert difference(heat.values, expected) < 2e-5


def maps_of_seeds(subject, seeds, **params):
    heats = [smooth(replace(subject, seed=s), **params) for s in range(seeds)]
    table = np.corrcoef([h.values.ravel() for h in heats])
    between = table[np.triu_indices(seeds, 1)].mean()
    return heats, float(between)


def test_the_stated_error_is_the_spread_between_seeds():
    subject = subject_of(toy(2, MlpHeadNet), picture(2))
    heats, _ = maps_of_seeds(subject, 200, samples=16, noise=0.3)
    spread = np.std([h.values for h in heats], axis=0, ddof=1)
    expected = np.sqrt(np.mean([h.error.astype(float) ** 2 for h in heats], axis=0))
    loud = spread > 0.1 * spread.max()
    assert loud.any()
    assert np.allclose(expected[loud] / spread[loud], 1, atol=0.25)
    assert np.median(expected[loud] / spread[loud]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("copies", [64, pytest.param(256, marks=pytest.mark.slow)])
def test_the_stated_correlation_is_the_one_between_seeds_and_rises_with_the_samples(copies):
    subject = subject_of(toy(2, MlpHeadNet, width=8), picture(2))
    correlations = []
    for samples in (4, 16, 64, 256)[: 3 if copies == 64 else 4]:
        heats, between = maps_of_seeds(subject, 24, samples=samples, noise=0.3)
        expected = np.mean([h.diagnostics["expected agreement of seeds"] for h in heats])
        # What noise does to all places alike is in the errors, but no correlation can see it.
        assert between - 0.05 < expected < between + 0.01
        correlations.append(between)
    print(  # noqa: T201
        "seed-to-seed correlation from 4 copies on, each four times as many:",
        np.round(correlations, 4),
    )
    assert correlations == sorted(correlations)
    assert correlations[2] > 0.97
    assert copies == 64 or correlations[3] > 0.99


def test_a_correlation_below_0_99_is_said():
    subject = subject_of(toy(2, MlpHeadNet, width=8), picture(2))
    heat = smooth(subject, samples=4, noise=0.5)
    agreement = heat.diagnostics["expected agreement of seeds"]
    assert agreement < 0.99
    assert f"{agreement:.2f}" in heat.note


def test_correlation_of_seeds_from_values_and_errors():
    values = torch.tensor([0.0, 2.0])
    assert expected_agreement(values, torch.zeros(2)) == 1
    assert expected_agreement(values, torch.full((2,), 0.5)) == pytest.approx(0.75)
    assert expected_agreement(values, torch.full((2,), 5.0)) == 0
    assert expected_agreement(torch.ones(2), torch.zeros(2)) == 0


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_the_answer_does_not_depend_on_the_batch_size(value, batch_size):
    subject = subject_of(toy(2, MlpHeadNet), picture(2))
    expected = smooth(subject, value=value, samples=20)
    actual = smooth(replace(subject, batch_size=batch_size), value=value, samples=20)
    assert difference(actual.values, expected.values) < 1e-5
    assert difference(actual.error, expected.error) < 1e-4


def test_parts_have_the_size_of_the_whole_and_fractions_end_at_1():
    subject = subject_of(toy(2, MlpHeadNet), picture(2), batch_size=8)
    parts = list(METHOD.explain(subject, SmoothGradParams(samples=32)))
    assert [p.fraction for p in parts] == [0.25, 0.5, 0.75, 1]
    last = parts[-1].result.values
    assert all(difference(p.result.values, last) < 0.5 for p in parts)


@pytest.mark.slow
def test_how_well_seeds_agree_on_a_real_network(squeezenet, shared):
    pixels = np.asarray(Image.open(shared / "photos" / "dog_and_cat.png").convert("RGB"))
    x, _ = photo_tensor(photo_of(pixels), squeezenet.input_spec)
    trace = ForwardPass(squeezenet, x)
    subject = Subject(trace, Target(int(trace.logits.argmax())))
    heats, between = maps_of_seeds(subject, 2)
    expected = np.mean([h.diagnostics["expected agreement of seeds"] for h in heats])
    print(f"SqueezeNet at 64 copies: {between:.3f} between seeds, {expected:.3f} stated")  # noqa: T201
    assert expected == pytest.approx(between, abs=0.05)
