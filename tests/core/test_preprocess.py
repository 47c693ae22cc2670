"""Inputs and baselines: numbers in pixel space and in the network's own units."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from whylens.core.errors import BadInput
from whylens.core.inputs.photo import photo_of
from whylens.core.inputs.preprocess import (
    baseline,
    denormalize,
    normalize,
    photo_tensor,
    signal_tensor,
)
from whylens.core.inputs.spec import InputSpec


def spec_of(*size, channels=3) -> InputSpec:
    mean = (0.485, 0.456, 0.406, 0.3)[:channels]
    std = (0.229, 0.224, 0.225, 0.5)[:channels]
    return InputSpec(size=size, channels=channels, mean=mean, std=std, crop=1.0)


def random_input(*size, channels=3, seed=5) -> tuple[torch.Tensor, InputSpec]:
    """Return a double input in the network's units, and its input_spec."""
    input_spec = spec_of(*size, channels=channels)
    unit = torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(seed))
    return normalize(unit.double(), input_spec), input_spec


@pytest.mark.parametrize("size", [(50,), (12, 9), (5, 6, 7)], ids=str)
def test_pixel_space_undoes_the_normalisation(size):
    x, input_spec = random_input(*size)
    back = normalize(denormalize(x, input_spec), input_spec)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-12)
    unit = denormalize(x, input_spec)
    assert 0 <= unit.min() < 0.05
    assert 0.95 < unit.max() <= 1


def test_normalisation_is_per_channel():
    unit = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    input_spec = spec_of(1, 1)
    assert normalize(unit, input_spec).abs().max() == 0
    one_up = normalize(unit + torch.tensor(input_spec.std).reshape(1, 3, 1, 1), input_spec)
    torch.testing.assert_close(one_up, torch.ones(1, 3, 1, 1))


@pytest.mark.parametrize("size", [(50,), (12, 9), (5, 6, 7)], ids=str)
@pytest.mark.parametrize(("fill", "value"), [("black", 0.0), ("grey", 0.5)])
def test_black_and_grey_are_meant_in_pixel_space(fill, value, size):
    x, input_spec = random_input(*size)
    expected = x.clone()
    unit = denormalize(baseline(x, input_spec, fill), input_spec)
    assert unit.shape == x.shape
    torch.testing.assert_close(unit, torch.full_like(unit, value), rtol=0, atol=1e-12)
    assert torch.equal(x, expected)
    # In the network's own units black is not zero, which is the mean colour of its training set.
    mean, std = input_spec.mean[0], input_spec.std[0]
    assert baseline(x, input_spec, fill)[0, 0].flatten()[0].item() == pytest.approx(
        (value - mean) / std
    )


@pytest.mark.parametrize("size", [(50,), (12, 9), (5, 6, 7)], ids=str)
def test_mean_is_this_inputs_own_colour(size):
    x, input_spec = random_input(*size)
    unit = denormalize(baseline(x, input_spec, "mean"), input_spec)
    mean_colour = denormalize(x, input_spec).flatten(2).mean(-1)[0]
    for channel in range(3):
        torch.testing.assert_close(
            unit[0, channel], torch.full(size, mean_colour[channel].item(), dtype=torch.float64)
        )
    assert mean_colour.unique().numel() == 3


@pytest.mark.parametrize(
    "size", [(4,), (26,), (227,), (12, 9), (40, 96), (5, 6, 7), (24, 30, 20)], ids=str
)
def test_blur_is_a_gaussian_of_a_tenth_of_the_shorter_side(size):
    x, input_spec = random_input(*size)
    expected = denormalize(x, input_spec)[0].numpy()
    for axis in range(1, expected.ndim):
        sigma = max(1.0, min(size) / 10)
        expected = gaussian_filter1d(expected, sigma, axis=axis, mode="nearest", truncate=3)
    unit = denormalize(baseline(x, input_spec, "blur"), input_spec)[0].numpy()
    np.testing.assert_allclose(unit, expected, rtol=0, atol=1e-10)
    assert unit.std() < denormalize(x, input_spec).std()


def test_blur_leaves_a_constant_input_alone_to_its_edges():
    input_spec = spec_of(40, 40)
    x = normalize(torch.full((1, 3, 40, 40), 0.8), input_spec)
    torch.testing.assert_close(baseline(x, input_spec, "blur"), x, rtol=0, atol=1e-5)


def test_an_unknown_fill_is_refused():
    x, input_spec = random_input(8, 8)
    with pytest.raises(BadInput, match="black, grey, mean or blur, not 'pink'"):
        baseline(x, input_spec, "pink")


def test_a_photo_arrives_channels_first_in_the_networks_units(rng):
    pixels = rng.integers(0, 256, (14, 10, 3), dtype=np.uint8)
    input_spec = spec_of(14, 10)
    x, view = photo_tensor(photo_of(pixels), input_spec)
    expected = (pixels / 255.0 - np.array(input_spec.mean)) / np.array(input_spec.std)
    assert x.shape == (1, 3, 14, 10)
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)
    assert view.original == (10, 14)


def test_a_network_with_one_channel_gets_the_luminance(rng):
    pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    input_spec = spec_of(16, 16, channels=1)
    x, _ = photo_tensor(photo_of(pixels), input_spec)
    luminance = pixels @ np.array([0.299, 0.587, 0.114])
    assert x.shape == (1, 1, 16, 16)
    np.testing.assert_allclose(denormalize(x, input_spec)[0, 0].numpy() * 255, luminance, atol=0.6)


def test_padding_of_a_border_is_nothing_in_the_networks_units():
    input_spec = spec_of(40, 40).model_copy(update={"crop_mode": "border"})
    photo = photo_of(np.asarray(Image.new("RGB", (40, 20), "white")))
    x, view = photo_tensor(photo, input_spec)
    assert view.visible_box == (0, 0, 40, 20)
    # The colour is rounded to whole levels: half of one over the smallest deviation.
    assert x[:, :, :10].abs().max() <= 0.5 / 255 / min(input_spec.std)
    assert x[:, :, 10:30].min() > 2


@pytest.mark.parametrize("input_spec", [spec_of(64), spec_of(8, 8, 8), spec_of(16, 16, channels=4)])
def test_a_network_that_takes_no_photos_says_so(input_spec):
    with pytest.raises(BadInput, match="does not take photos; choose another"):
        photo_tensor(photo_of(np.zeros((16, 16, 3), np.uint8)), input_spec)


@pytest.mark.parametrize(
    ("shape", "size", "channels"),
    [((64,), (64,), 1), ((1, 64), (64,), 1), ((2, 64), (64,), 2), ((4, 5, 6), (4, 5, 6), 1),
     ((3, 4, 5, 6), (4, 5, 6), 3)],
)  # fmt: skip
def test_signals_and_volumes_are_normalised_per_channel(shape, size, channels, rng):
    input_spec = spec_of(*size, channels=channels)
    signal = rng.normal(size=shape).astype(np.float32)
    x = signal_tensor(signal, input_spec)
    assert x.shape == (1, channels, *size)
    flat = signal.reshape(channels, -1)
    expected = (flat - np.array(input_spec.mean)[:, None]) / np.array(input_spec.std)[:, None]
    np.testing.assert_allclose(x.flatten(2)[0].numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_signal_with_gaps_is_refused(value):
    signal = np.zeros(64, np.float32)
    signal[13] = value
    with pytest.raises(BadInput, match="holds NaN or infinite values; remove them"):
        signal_tensor(signal, spec_of(64, channels=1))


@pytest.mark.parametrize("shape", [(63,), (2, 64), (64, 2), (1, 1, 64), ()])
def test_a_signal_of_another_shape_is_told_the_right_one(shape):
    with pytest.raises(BadInput, match=r"this network wants \(1, 64\)\. Cut or resample it"):
        signal_tensor(np.zeros(shape, np.float32), spec_of(64, channels=1))


@pytest.mark.parametrize("shape", [(65,), (1, 65), (65, 1)])
def test_a_class_beside_a_signal_is_pointed_out(shape):
    with pytest.raises(BadInput, match="may be a class or a row's number: take that out"):
        signal_tensor(np.ones(shape, np.float32), spec_of(64, channels=1))


NO_NUMBERS = {"ragged": [[1, 2], [3]], "words": "abc", "objects": [None, object()]}


@pytest.mark.parametrize("signal", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_a_signal_without_numbers_is_refused(signal):
    with pytest.raises(BadInput, match="not a table of numbers"):
        signal_tensor(signal, spec_of(2, channels=1))


def test_the_tensor_of_a_signal_is_a_copy():
    signal = np.zeros(8, np.float32)
    x = signal_tensor(signal, spec_of(8, channels=1))
    before = x.clone()
    signal[:] = 9
    assert torch.equal(x, before)
