"""Tiny networks whose every score is known in closed form."""

from __future__ import annotations

import torch
from torch import nn


class GapNet(nn.Module):
    """Convolution, ReLU, average, linear: everything about it is known in closed form."""

    def __init__(
        self, *, axes: int = 2, channels: int = 3, width: int = 4, classes: int = 3
    ) -> None:
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
        self.axes = axes
        self.conv = conv(channels, width, 3, stride=2, padding=1)
        self.fc = nn.Linear(width, classes)

    def features(self, x):
        return self.conv(x).relu()

    def head(self, f):
        return self.fc(f.flatten(2).mean(-1))

    def forward(self, x):
        return self.head(self.features(x))


class MlpHeadNet(GapNet):
    """The same trunk under a head that is not linear."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.hidden = nn.Linear(self.fc.in_features, 6)
        self.fc = nn.Linear(6, self.fc.out_features)

    def head(self, f):
        return self.fc(torch.nn.functional.gelu(self.hidden(f.flatten(2).mean(-1))))


class TokenNet(nn.Module):
    """Patches as tokens behind `prefix` extra ones; mean over patches, then linear."""

    def __init__(self, *, grid=(4, 6), prefix: int = 2, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        self.num_prefix_tokens = prefix
        self.patch = nn.Conv2d(3, width, 4, stride=4)
        self.extra = nn.Parameter(torch.zeros(1, prefix, width))
        self.fc = nn.Linear(width, classes)

    def features(self, x):
        patches = self.patch(x).relu().flatten(2).transpose(1, 2)
        return torch.cat([self.extra.expand(len(x), -1, -1), patches], 1)

    def head(self, tokens):
        return self.fc(tokens[:, self.num_prefix_tokens :].mean(1))

    def forward(self, x):
        return self.head(self.features(x))


def seeded(module: nn.Module, seed: int = 3) -> nn.Module:
    """Return `module` with seeded random weights, in eval mode."""
    from whylens.core.models.random_weights import randomize_weights

    return randomize_weights(module, seed=seed).eval()


def plain_spec(*size: int, channels: int = 3):
    """Return an `InputSpec` without normalisation."""
    from whylens.core.inputs.spec import InputSpec

    return InputSpec(
        size=size, channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels, crop=1.0
    )
