"""Linear layers with packed weights: the same numbers, gradients where asked for, nothing lost."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from tests.support.networks import seeded
from tests.support.toys import noise
from whylens.core.speed.folded import PackedLinear, faster, pack, shared_weights
from whylens.core.speed.fx_ops import trace


def frozen_linear(*, bias: bool = True) -> nn.Linear:
    return seeded(nn.Linear(24, 10, bias=bias)).requires_grad_(False)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 24), (3, 197, 24), (2, 5, 7, 24)])
def test_it_gives_what_the_formula_says(bias, shape):
    plain = frozen_linear(bias=bias)
    x = noise(*shape)
    expected = x.double() @ plain.weight.double().T + (plain.bias.double() if bias else 0)
    assert torch.allclose(PackedLinear(plain)(x).double(), expected, atol=1e-5)


def test_rows_that_do_not_lie_together_are_read_rightly():
    plain = frozen_linear()
    x = noise(2, 24, 9, 5).flatten(2).transpose(1, 2)
    assert not x.is_contiguous()
    torch.testing.assert_close(PackedLinear(plain)(x), plain(x))


def test_gradients_pass_through():
    plain, x = frozen_linear(), noise(4, 24).requires_grad_()
    with torch.enable_grad():
        (expected,) = torch.autograd.grad(plain(x).square().sum(), x)
        (actual,) = torch.autograd.grad(PackedLinear(plain)(x).square().sum(), x)
    assert expected.abs().max() > 0
    torch.testing.assert_close(actual, expected)


def test_it_shares_the_weights_keeps_the_state_and_asks_no_chance():
    plain = frozen_linear()
    before = torch.get_rng_state()
    layer = PackedLinear(plain)
    assert torch.equal(torch.get_rng_state(), before)
    assert layer.weight is plain.weight
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert not layer.training


class Mixed(nn.Module):
    """A linear layer to pack, one that still learns, one of another kind, one in 64 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
        self.learning = nn.Linear(6, 6)
        self.other = nn.modules.linear.NonDynamicallyQuantizableLinear(6, 6)
        self.fine = nn.Linear(6, 6).double()
        self.requires_grad_(False)
        self.learning.requires_grad_(True)


def test_only_frozen_plain_layers_of_32_bits_are_packed():
    original = Mixed().eval()
    private = copy.deepcopy(original, shared_weights(original))
    pack(private)
    names = {name for name, part in private.named_modules() if isinstance(part, PackedLinear)}
    assert names == {"inner.0"}
    assert type(original.inner[0]) is nn.Linear


def test_without_the_library_nothing_is_packed(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    private = Mixed().eval()
    pack(private)
    assert not any(isinstance(part, PackedLinear) for part in private.modules())


def test_a_transformer_s_copy_is_packed_agrees_and_can_be_traced():
    network = seeded(timm.create_model("vit_tiny_patch16_224", depth=2)).requires_grad_(False)
    private = faster(network, noise(2, 3, 224, 224))
    layers = [part for part in private.modules() if isinstance(part, PackedLinear)]
    assert len(layers) == 2 * 4 + 1
    x = noise(1, 3, 224, 224, seed=5)
    with torch.no_grad():
        torch.testing.assert_close(private(x), network(x), rtol=1e-4, atol=1e-4)
    calls = {str(node.target) for node in trace(private).graph.nodes if node.op == "call_module"}
    assert {"blocks.0.attn.qkv", "head"} <= calls


def test_weights_that_will_be_packed_are_not_copied(monkeypatch):
    original = seeded(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3))).requires_grad_(False)
    original[1].requires_grad_(True)
    shared = []

    def note(private):
        shared.extend(a.weight is b.weight for a, b in zip(private, original, strict=True))

    monkeypatch.setattr("whylens.core.speed.folded.pack", note)
    faster(original, noise(2, 6))
    assert shared == [True, False]
