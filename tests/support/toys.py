"""What the tests of methods share: questions about toy networks, and their float64 twins."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from tests.support.networks import GapNet, MlpHeadNet, TokenNet, plain_spec, seeded
from whylens.core.models.backbone import Backbone, wrap
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.results import Partial
from whylens.core.subject import Subject
from whylens.core.targets import Target

SIZES = {1: (17,), 2: (10, 13), 3: (5, 6, 7)}
TARGETS = [Target(1), Target(1, "probability"), Target(0, "contrast", 2)]
CASES = [(axes, target) for axes in SIZES for target in TARGETS]
IDS = [f"{axes} axes, {target.quantity}" for axes, target in CASES]


class NhwcNet(nn.Module):
    """Keeps its channels last, as Swin does; mean over positions, then linear."""

    output_fmt = "NHWC"

    def __init__(self, *, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, stride=4)
        self.fc = nn.Linear(width, classes)

    def features(self, x):
        return self.patch(x).relu().movedim(1, -1)

    def head(self, f):
        return self.fc(f.mean((1, 2)))

    def forward(self, x):
        return self.head(self.features(x))


class LinearNet(nn.Module):
    """Scores that are linear in the input; it has no feature map."""

    def __init__(self, *size: int, channels: int = 3, classes: int = 3) -> None:
        super().__init__()
        self.fc = nn.Linear(channels * int(np.prod(size)), classes)

    def forward(self, x):
        return self.fc(x.flatten(1))


NETS = {"gap": GapNet, "mlp": MlpHeadNet, "tokens": TokenNet, "nhwc": NhwcNet}


def attention_net(**changes) -> nn.Module:
    """Return a small vision transformer: 4 x 6 patches behind a class token."""
    import timm

    size = {"img_size": (16, 24), "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    arguments = {**size, "num_classes": 3, **changes}
    return timm.create_model("vit_tiny_patch16_224", pretrained=False, **arguments).eval()


def noise(*shape: int, seed: int = 5) -> torch.Tensor:
    """Return seeded values in [0, 1)."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def subject_of(
    module: nn.Module,
    x: torch.Tensor,
    target: Target | None = None,
    *,
    backbone: Backbone | None = None,
    input_spec=None,
    batch_size: int = 16,
) -> Subject:
    """Return a question about `x`; pixel space is the network's own unless `input_spec` says."""
    input_spec = input_spec or plain_spec(*x.shape[2:], channels=x.shape[1])
    backbone = backbone or wrap(module, input_spec=input_spec)
    return Subject(ForwardPass(backbone, x), target or Target(1), batch_size)


def final(answer):
    """Return the last result of an explainer's answer."""
    if isinstance(answer, Iterator):
        *_, answer = answer
    return answer.result if isinstance(answer, Partial) else answer


def precise(module: nn.Module) -> nn.Module:
    """Return a float64 copy."""
    return copy.deepcopy(module).double()


def score64(logits: torch.Tensor, target: Target) -> torch.Tensor:
    """Return the target score of (C,) logits, written out."""
    if target.quantity == "probability":
        exponents = (logits - logits.max()).exp()
        return exponents[target.index] / exponents.sum()
    if target.quantity == "contrast":
        return logits[target.index] - logits[target.versus]
    return logits[target.index]


def slopes64(module: nn.Module, x: torch.Tensor, target: Target):
    """Return (K, *S) features and their score gradients, float64, by plain autograd."""
    twin = precise(module)
    features = twin.features(x.double()).detach().requires_grad_()
    score64(twin.head(features)[0], target).backward()
    return features.detach()[0].numpy(), features.grad[0].numpy()


def difference(actual, expected) -> float:
    """Return the norm of the difference, relative to the norm of what was wanted, not zero."""
    expected = np.asarray(expected, float)
    size = float(np.linalg.norm(expected))
    assert size > 0, "the reference is zero: the comparison would say nothing"
    return float(np.linalg.norm(np.asarray(actual, float) - expected)) / size


def toy(axes: int, kind=GapNet, **kwargs) -> nn.Module:
    """Return a seeded toy network for that many spatial axes."""
    return seeded(kind(axes=axes, **kwargs))


def picture(axes: int, seed: int = 5) -> torch.Tensor:
    """Return (1, 3, *S) noise that fits `toy(axes)`."""
    return noise(1, 3, *SIZES[axes], seed=seed)
