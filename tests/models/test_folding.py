"""Norms folded into convolutions: the same scores, the original untouched, or no folded copy."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.modules import Foldable, noise
from tests.support.networks import seeded
from whylens.core.speed import faster


def norms_left(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize(("trap", "count"), [(False, 0), (True, 1)])
def test_the_folded_copy_computes_the_same_with_fewer_norms(trap, count):
    module = seeded(Foldable(trap=trap)).requires_grad_(False)
    folded = faster(module, noise(2, 3, 12, 20))
    assert folded is not module
    assert norms_left(folded) == count
    x = noise(5, 3, 12, 20, seed=9)
    torch.testing.assert_close(folded(x), module(x), rtol=1e-4, atol=1e-5)
    assert norms_left(module) == 3


def test_folding_leaves_the_original_untouched():
    module = seeded(Foldable()).requires_grad_(False)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    strides = [p.stride() for p in module.parameters()]
    faster(module, noise(2, 3, 12, 20))
    after = module.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert [p.stride() for p in module.parameters()] == strides
    for part in module.modules():
        assert not part.training
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
    assert not any(p.requires_grad or p.grad is not None for p in module.parameters())


class Fickle(Foldable):
    """Notices that its norm was taken away, and answers differently."""

    def forward(self, x):
        return super().forward(x) + (0 if isinstance(self.bn_a, nn.BatchNorm2d) else 1)


class NoCopies(Foldable):
    def __deepcopy__(self, memo):
        raise RuntimeError("one of a kind")


@pytest.mark.parametrize("kind", [Fickle, NoCopies])
def test_a_folded_copy_that_disagrees_or_cannot_be_made_is_not_used(kind):
    module = seeded(kind()).requires_grad_(False)
    assert faster(module, noise(2, 3, 12, 20)) is module


class Twice(nn.Module):
    """One convolution, used twice: with a norm after each use, or after the first alone."""

    def __init__(self, *, norms: int) -> None:
        super().__init__()
        self.conv, self.first = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.second = nn.BatchNorm2d(3) if norms == 2 else nn.Tanh()

    def forward(self, x):
        return self.second(self.conv(self.first(self.conv(x)))).mean((2, 3))


@pytest.mark.parametrize("norms", [1, 2])
def test_a_convolution_used_twice_is_not_folded(norms):
    module = seeded(Twice(norms=norms)).requires_grad_(False)
    folded = faster(module, noise(2, 3, 8, 8))
    assert folded is not module, "nothing to fold is no reason to refuse the copy"
    assert norms_left(folded) == norms
    torch.testing.assert_close(folded(noise(2, 3, 8, 8)), module(noise(2, 3, 8, 8)))


def test_three_dimensional_convolutions_do_not_prevent_folding():
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flat, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.deep = nn.Conv3d(1, 1, 1)

        def forward(self, x):
            return self.deep(self.norm(self.flat(x))[:, None])[:, 0].mean((2, 3))

    module = seeded(Mixed()).requires_grad_(False)
    folded = faster(module, noise(2, 3, 8, 8))
    assert folded is not module
    assert norms_left(folded) == 0
