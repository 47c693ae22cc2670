"""Input x Gradient: its formula written out in float64, what it adds up to, and captum's."""

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
from whylens.core.inputs.spec import InputSpec
from whylens.core.targets import Target
from whylens.plugins.input_x_gradient import InputXGradient

METHOD = InputXGradient()


def input_x_gradient(subject):
    return final(METHOD.explain(subject, METHOD.Params()))


def literal(module: nn.Module, x: torch.Tensor, target: Target) -> np.ndarray:
    leaf = x.double().requires_grad_()
    score64(precise(module)(leaf)[0], target).backward()
    values = np.zeros(x.shape[2:])
    for place in np.ndindex(*values.shape):
        for channel in range(x.shape[1]):
            index = (0, channel, *place)
            values[place] += float(leaf.detach()[index]) * float(leaf.grad[index])
    return values


@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_the_map_is_the_formula_place_by_place(axes, target, kind):
    module, x = toy(axes, kind), picture(axes) - 0.4
    heat = input_x_gradient(subject_of(module, x, target))
    assert difference(heat.values, literal(module, x, target)) < 1e-5
    assert heat.signed
    assert heat.unit == f"{target.unit} per {'pixel' if axes == 2 else 'point'}"


def test_a_linear_network_s_score_is_shared_out_but_for_its_bias():
    module, x = seeded(LinearNet(4, 6)), noise(1, 3, 4, 6) - 0.5
    heat = input_x_gradient(subject_of(module, x))
    assert heat.diagnostics["sum of map"] == pytest.approx(
        heat.diagnostics["score"] - float(module.fc.bias[1]), abs=1e-5
    )


def test_a_network_of_relus_without_biases_is_shared_out_whole():
    module = seeded(GapNet())
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    heat = input_x_gradient(subject_of(module, noise(1, 3, 16, 24) - 0.5))
    assert abs(heat.diagnostics["score"]) > 1e-3
    assert heat.diagnostics["sum of map"] == pytest.approx(heat.diagnostics["score"], rel=1e-4)


def test_zero_is_the_network_s_own_so_that_the_mean_colour_gets_nothing():
    # A pixel of the mean colour is fed as zeros; black, which is zero on the photo, is not.
    mean, std = (0.4, 0.5, 0.3), (0.25, 0.2, 0.3)
    input_spec = InputSpec(size=(16, 24), mean=mean, std=std, crop=1.0)
    x = noise(1, 3, 16, 24)
    x[..., 3, 5], x[..., 8, 9] = 0, -torch.tensor(mean) / torch.tensor(std)
    values = input_x_gradient(subject_of(seeded(GapNet()), x, input_spec=input_spec)).values
    assert values[3, 5] == 0
    assert values[8, 9] != 0


def test_it_agrees_with_captum_s():
    peer = pytest.importorskip("captum.attr", reason="captum is not installed")
    module, x = toy(2, MlpHeadNet), picture(2)
    for target in range(3):
        expected = peer.InputXGradient(module).attribute(x.clone().requires_grad_(), target=target)
        heat = input_x_gradient(subject_of(module, x, Target(target)))
        assert difference(heat.values, expected[0].sum(0).detach().numpy()) < 1e-5
