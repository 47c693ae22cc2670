"""What the tests of networks share: bare modules, their inputs, and how they are wrapped."""

from __future__ import annotations

import torch
from torch import nn

from tests.support.networks import plain_spec, seeded
from whylens.core.models.backbone import Backbone, wrap


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def backbone_of(module: nn.Module, *size: int, channels: int = 3) -> Backbone:
    return wrap(seeded(module), input_spec=plain_spec(*size, channels=channels))


class Bare(nn.Module):
    """Stands for a network of which nothing is known but these attributes."""

    def __init__(self, **attributes) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)


class Foldable(nn.Module):
    """Convolutions and norms in the ways that networks have them, and one trap."""

    def __init__(self, *, trap: bool = False) -> None:
        super().__init__()
        self.a, self.bn_a = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.b, self.bn_b = nn.Conv2d(6, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6)
        self.c, self.bn_c = nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8, affine=False)
        self.fc = nn.Linear(8, 3)
        self.trap = trap

    def forward(self, x):
        x = self.bn_a(self.a(x)).relu_()
        y = self.b(x)
        # The trap: what the norm reads is also read by something else, so it must not be folded.
        x = self.bn_b(y) + (y if self.trap else x)
        return self.fc(self.bn_c(self.c(x)).relu().mean((2, 3)))
