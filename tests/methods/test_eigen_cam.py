"""Eigen-CAM: power iteration instead of a library's decomposition, and its sign."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.networks import GapNet, MlpHeadNet
from tests.support.toys import SIZES, difference, final, noise, picture, slopes64, subject_of, toy
from whylens.core.targets import Target
from whylens.plugins.eigen_cam import EigenCAM, principal_map

METHOD = EigenCAM()


def literal(features: np.ndarray) -> np.ndarray:
    """Return the projection on the direction found by power iteration."""
    columns = features.reshape(len(features), -1).T
    direction = np.ones(columns.shape[1])
    for _ in range(5000):
        direction = columns.T @ (columns @ direction)
        direction /= np.linalg.norm(direction)
    values = (columns @ direction).reshape(features.shape[1:])
    return values if values.sum() >= 0 else -values


@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
@pytest.mark.parametrize("axes", SIZES)
def test_the_map_is_the_projection_on_the_first_principal_direction(axes, kind):
    module, x = toy(axes, kind), picture(axes)
    features, _ = slopes64(module, x, Target(1))
    heat = final(METHOD.explain(subject_of(module, x), METHOD.Params()))
    assert difference(heat.values, literal(features)) < 1e-4
    share = (literal(features) ** 2).sum() / (features**2).sum()
    assert abs(heat.diagnostics["share of activity"] - share) < 1e-5


def test_the_sign_makes_the_sum_of_the_map_not_negative():
    features = noise(1, 5, 4, 6) - 0.2
    values, _ = principal_map(features)
    mirrored, _ = principal_map(-features)
    assert float(values.sum()) > 0
    assert float(mirrored.sum()) > 0
    assert difference(values, mirrored) < 1e-9


def test_one_lit_cell_is_all_of_it():
    features = torch.zeros(1, 3, 4, 5)
    features[0, :, 2, 3] = torch.tensor([1.0, 2.0, 2.0])
    values, share = principal_map(features)
    assert abs(float(values[2, 3]) - 3) < 1e-6
    assert float(values.abs().sum()) - float(values[2, 3].abs()) < 1e-6
    assert abs(share - 1) < 1e-9


def test_a_dead_layer_gives_a_blank_map_and_no_nan():
    values, share = principal_map(torch.zeros(1, 3, 2, 2))
    assert not values.any()
    assert share == 0
