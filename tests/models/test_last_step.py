"""What a network does last, read off its graph."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.networks import seeded
from tests.support.toys import noise
from whylens.core.models.last_step import last_step


def ending(*steps: nn.Module) -> nn.Module:
    return seeded(nn.Sequential(nn.Conv2d(3, 4, 3), *steps)).eval()


FLAT = (nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Joined(nn.Module):
    """Two heads side by side."""

    def __init__(self, *heads: nn.Module) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, x):
        return torch.cat([head(x) for head in self.heads], 1)


@pytest.mark.parametrize(
    ("network", "step"),
    [
        (ending(nn.ReLU(), *FLAT, nn.Linear(4, 3)), "linear"),
        (ending(*FLAT), "linear"),
        (ending(nn.ReLU(), *FLAT), "positive"),  # as SqueezeNet ends
        (ending(*FLAT, nn.Linear(4, 3), nn.Softplus()), "positive"),
        (ending(*FLAT, nn.Sigmoid()), "sigmoid"),
        (ending(nn.Sigmoid(), *FLAT), ""),  # a mean of sigmoids is none
        (ending(*FLAT, nn.LogSigmoid()), "log sigmoid"),
        (ending(*FLAT, nn.Tanh()), "tanh"),
        (ending(*FLAT, nn.GELU()), ""),
        (Joined(ending(nn.ReLU(), *FLAT), ending(nn.ReLU(), *FLAT)), "positive"),
        (Joined(ending(*FLAT, nn.Sigmoid()), ending(*FLAT, nn.Sigmoid())), "sigmoid"),
        (Joined(ending(*FLAT, nn.Sigmoid()), ending(*FLAT, nn.Tanh())), ""),
    ],
)
def test_it_is_what_the_graph_ends_with(network, step):
    assert last_step(network, noise(2, 3, 8, 9)) == step


def test_of_what_gives_no_gradient_nothing_is_known():
    assert last_step(lambda x: x.detach().flatten(1), noise(2, 3, 8, 9)) == ""
