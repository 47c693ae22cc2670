"""Saliency: its formula written out in float64, by finite differences, and beside captum's."""

from __future__ import annotations

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
from whylens.core.targets import Target
from whylens.plugins.saliency import Saliency

METHOD = Saliency()


def saliency(subject):
    return final(METHOD.explain(subject, METHOD.Params()))


def literal(module: nn.Module, x: torch.Tensor, target: Target) -> np.ndarray:
    leaf = x.double().requires_grad_()
    score64(precise(module)(leaf)[0], target).backward()
    gradient = leaf.grad[0].numpy()
    values = np.zeros(gradient.shape[1:])
    for place in np.ndindex(*values.shape):
        for channel in range(len(gradient)):
            values[place] = max(values[place], abs(gradient[channel][place]))
    return values


@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_the_map_is_the_paper_s_formula_place_by_place(axes, target, kind):
    module, x = toy(axes, kind), picture(axes)
    heat = saliency(subject_of(module, x, target))
    assert difference(heat.values, literal(module, x, target)) < 1e-5
    assert (heat.signed, heat.unit) == (False, f"{target.unit} per network unit, without its sign")


def test_the_map_is_what_moving_a_channel_of_a_pixel_does():
    module, x = toy(2, MlpHeadNet), picture(2).double()
    heat, twin = saliency(subject_of(module, picture(2))), precise(module)
    for row, column in ((0, 0), (4, 7), (9, 12)):
        slopes = []
        for channel in range(3):
            step = torch.zeros_like(x)
            step[0, channel, row, column] = 1e-6
            slopes.append(float((twin(x + step) - twin(x - step))[0, 1]) / 2e-6)
        assert heat.values[row, column] == pytest.approx(max(map(abs, slopes)), rel=1e-3)


def test_on_a_linear_network_it_is_the_weights_whatever_the_picture_and_the_sign():
    module = seeded(LinearNet(4, 6))
    weights = module.fc.weight[1].view(3, 4, 6).abs().amax(0).detach().numpy()
    for x in (noise(1, 3, 4, 6), torch.zeros(1, 3, 4, 6)):
        assert difference(saliency(subject_of(module, x)).values, weights) < 1e-6
    with torch.no_grad():
        module.fc.weight[1] *= -1
    assert difference(saliency(subject_of(module, x)).values, weights) < 1e-6


def test_it_agrees_with_captum_s():
    peer = pytest.importorskip("captum.attr", reason="captum is not installed")
    module, x = toy(2, MlpHeadNet), picture(2)
    for target in range(3):
        expected = peer.Saliency(module).attribute(x.clone().requires_grad_(), target=target)
        heat = saliency(subject_of(module, x, Target(target)))
        assert difference(heat.values, expected[0].amax(0).detach().numpy()) < 1e-5
