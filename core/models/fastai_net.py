"""The network that fastai's `vision_learner` builds: a residual network's body under its own head.

Source: fastai 2, `vision/learner.py` (`create_body`, `create_head`) and `layers.py`, at their
defaults. The places in both sequences are fastai's, since they are the tensors' names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PREFIX = "fastai:"
HIDDEN = 512  # width between the head's two linear layers


class ConcatPool(nn.Module):
    """The maximum over all places of (N, C, H, W), then their mean: (N, 2 C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return both."""
        return torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1)


def bodies() -> list[str]:
    """Return the architectures of torchvision that are known as bodies."""
    import torchvision

    return [
        name
        for name in torchvision.models.list_models(module=torchvision.models)
        if name.startswith(("resnet", "resnext", "wide_resnet"))
    ]


def fastai_net(body: str, *, num_classes: int) -> nn.Sequential:
    """Return body and head with random weights.

    Args:
        body: One of `bodies()`.
    """
    import torchvision

    whole = torchvision.models.get_model(body, weights=None)
    width = 2 * whole.fc.in_features
    head = nn.Sequential(
        ConcatPool(),
        nn.Flatten(),
        nn.BatchNorm1d(width),
        nn.Dropout(0.25),
        nn.Linear(width, HIDDEN, bias=False),
        nn.ReLU(),
        nn.BatchNorm1d(HIDDEN),
        nn.Dropout(0.5),
        nn.Linear(HIDDEN, num_classes, bias=False),
    )
    return nn.Sequential(nn.Sequential(*list(whole.children())[:-2]), head)
