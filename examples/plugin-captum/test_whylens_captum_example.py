"""The wrapped method against its formula, on a network whose gradient is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from whylens import Heatmap, Subject
from whylens.core.inputs.spec import InputSpec
from whylens.core.models.backbone import wrap
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.targets import Target

from whylens_captum_example import CaptumInputXGradient

MEAN, STD = (0.4, 0.5, 0.3), (0.25, 0.2, 0.3)


class Squares(nn.Module):
    """Class 0 scores a weighted sum of squares of its input, class 1 the opposite."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 3 * 8 * 8).view(1, 3, 8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (self.weight * x**2).sum((1, 2, 3))
        return torch.stack([score, -score], 1)


def subject(target: Target) -> Subject:
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    backbone = wrap(Squares(), input_spec=InputSpec(size=(8, 8), mean=MEAN, std=STD))
    return Subject(ForwardPass(backbone, x), target)


def shares(asked: Subject, sign: float) -> torch.Tensor:
    """Return pixel times derivative, written out: the score is w x^2 with x = (pixel - m) / s."""
    x, weight = asked.x[0].double(), asked.backbone.module.weight[0].double()
    std = torch.tensor(STD, dtype=torch.float64).view(3, 1, 1)
    mean = torch.tensor(MEAN, dtype=torch.float64).view(3, 1, 1)
    return sign * (x * std + mean) * 2 * weight * x / std


@pytest.mark.parametrize(
    ("target", "sign"),
    [(Target(0), 1.0), (Target(1), -1.0), (Target(0, "contrast", 1), 2.0)],
)
@pytest.mark.parametrize("value", ["sum", "magnitude"])
def test_the_map_is_pixel_times_gradient(target: Target, sign: float, value: str) -> None:
    asked, explainer = subject(target), CaptumInputXGradient()
    result = explainer.explain(asked, explainer.Params(value=value))
    assert isinstance(result, Heatmap)
    parts = shares(asked, sign)
    expected = parts.sum(0) if value == "sum" else parts.abs().sum(0)
    assert torch.allclose(torch.tensor(result.values).double(), expected, rtol=1e-4, atol=1e-5)
    assert result.signed == (value == "sum")
