"""The first filters of a network whiten what it is fed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.support.pictures import SLIM
from whylens.core.errors import BadInput
from whylens.core.train.data_init import whiten, whitening_filters
from whylens.core.train.network import RandomState, build_network
from whylens.core.train.pictures import Frames
from whylens.core.train.recipe import Recipe, read_recipe

RECIPE = Recipe(backbone="resnet18", arguments=SLIM, size=32, whiten=True)
FLOOR = 5e-4


def rough_pictures(count: int, side: int) -> torch.Tensor:
    """Noise whose neighbours are alike and whose colours go together, as in photos."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(count, 3, side, side, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)
    return smooth + 0.5 * smooth.mean(1, keepdim=True)


def patches_of(pictures: torch.Tensor, side: int) -> np.ndarray:
    """(P, C * side * side) float64: patches side by side, in the order of the weights."""
    images = pictures.double().numpy()
    rows = [
        picture[:, top : top + side, left : left + side].ravel()
        for picture in images
        for top in range(0, images.shape[2] - side + 1, side)
        for left in range(0, images.shape[3] - side + 1, side)
    ]
    return np.stack(rows)


@pytest.mark.parametrize(("count", "side"), [(24, 3), (12, 2), (200, 2), (7, 3)])
def test_what_the_filters_give_is_uncorrelated_and_of_variance_one(count, side):
    pictures = rough_pictures(200, 24)
    filters = whitening_filters(pictures, count, side)
    half = min(count // 2, 3 * side * side)
    assert filters.shape == (2 * half, 3, side, side)
    assert torch.equal(filters[half:], -filters[:half])
    patches = patches_of(pictures, side)
    outputs = (patches - patches.mean(0)) @ filters[:half].reshape(half, -1).double().numpy().T
    covariance = outputs.T @ outputs / len(outputs)
    variances = np.sort(np.linalg.eigvalsh(np.cov(patches.T, bias=True)))[::-1][:half]
    expected = np.diag(variances / (variances + FLOOR))
    assert np.abs(covariance - expected).max() < 1e-4
    assert expected.diagonal().min() > 0.5  # the floor is not all there is


def test_a_network_begins_with_them_and_the_rest_of_it_stays():
    network = build_network(RECIPE, 2, RandomState(0))
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    pictures = (rough_pictures(40, 32) * 255 / 1.5).byte()
    pixels = pictures.permute(0, 2, 3, 1).contiguous().numpy()
    frames = Frames(None, tuple(range(40)), network.input_spec, pixels)
    whiten(network, frames, RECIPE)
    after = network.module.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == [
        "conv1.weight"
    ]
    mean = torch.tensor(network.input_spec.mean)[:, None, None]
    std = torch.tensor(network.input_spec.std)[:, None, None]
    expected = whitening_filters((pictures / 255.0 - mean) / std, len(after["conv1.weight"]), 7)
    assert torch.allclose(
        after["conv1.weight"], expected, rtol=1e-3, atol=1e-3 * expected.abs().max()
    )


def test_what_cannot_be_whitened_is_refused(tmp_path):
    network = build_network(RECIPE, 2, RandomState(0))
    frames = Frames(None, (0,), network.input_spec, np.zeros((1, 32, 32, 3), np.uint8))
    without = dataclasses.replace(network, module=torch.nn.Flatten())
    with pytest.raises(BadInput, match="does not begin with filters"):
        whiten(without, frames, RECIPE)
    path = tmp_path / "recipe.json"
    path.write_text('{"backbone": "resnet18", "whiten": true, "weights": "pretrained"}')
    with pytest.raises(BadInput, match="would overwrite"):
        read_recipe(path)
