"""Networks that change what they are given, each run on a copy of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class OwnInput(nn.Module):
    """A network that works in place on its input, and is given a copy."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        """Return what it gives; `x` stays as it is."""
        return self.network(x.clone())


def answer_of(network: nn.Module, x: Tensor) -> tuple[nn.Module, Any]:
    """Return a network that leaves its input as it is, and what it gives for `x`, unchanged, too.

    Args:
        network: Any; it comes back itself where it does so already.
        x: (N, C, *S).
    """
    given = x.clone()
    version = given._version  # an in-place step counts also where it happens to change nothing
    with torch.no_grad():
        output = network(given)
    touched = given._version != version or not torch.equal(given, x)
    return (OwnInput(network).eval() if touched else network), output
