"""Seeded random weights under which every layer of a network is alive.

May touch torch only; used for the labelled untrained network and by tests of architectures.
"""

from __future__ import annotations

import torch
from torch import nn


def randomise(module: nn.Module, *, seed: int) -> nn.Module:
    """Return `module` with every parameter and batch-norm statistic drawn anew, in place.

    Fresh weights of some families are zeros or ones and make wrong code look right; these are not.

    Args:
        module: Any network.
        seed: Seed of the private generator; the global one is untouched.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator).to(like)

    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                fan_in = max(1, parameter[0].numel())
                parameter.copy_(noise(parameter) * fan_in**-0.5)
            elif name.endswith("weight"):
                parameter.copy_(1 + 0.1 * noise(parameter))
            else:
                parameter.copy_(0.05 * noise(parameter))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.1 * noise(buffer))
            elif name.endswith("running_var"):
                buffer.copy_(1 + 0.2 * noise(buffer).abs())
    return module
