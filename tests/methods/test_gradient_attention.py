"""Gradient-weighted attention: its rules written out in float64, and what they leave out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch import nn

from tests.methods.test_attention_rollout import SMALL, distilled, small
from tests.methods.test_legrad import after, question_about
from tests.support.networks import TokenNet, seeded
from tests.support.toys import TARGETS, difference, final, noise, precise, score64, subject_of
from whylens.core.errors import NeedsNotMet
from whylens.core.targets import Target
from whylens.plugins.gradient_attention import GradientAttention, relevance

METHOD = GradientAttention()
X = noise(1, 3, 16, 24)


def gradient_attention(subject):
    return final(METHOD.explain(subject, METHOD.Params()))


def forward(module: nn.Module, x: torch.Tensor, shifts: list[torch.Tensor | float]):
    """Return logits and every block's attention, float64, with something added to each of these."""
    tokens, layers = module.norm_pre(module._pos_embed(module.patch_embed(x.double()))), []
    for block, shift in zip(module.blocks, shifts, strict=True):
        part, width = block.attn, tokens.shape[-1]
        qkv = part.qkv(block.norm1(tokens))[0].reshape(len(tokens[0]), 3, part.num_heads, -1)
        query, key = (qkv[:, i].permute(1, 0, 2) for i in range(2))
        raw = query @ key.transpose(1, 2) * (width // part.num_heads) ** -0.5
        layers.append(raw.softmax(-1) + shift)
        tokens = after(block, tokens, layers[-1])
    return module.forward_head(module.norm(tokens))[0], [layer.detach() for layer in layers]


def attention_and_slopes(module: nn.Module, x: torch.Tensor, target: Target):
    """Return (heads, T, T) of every block, and the score's derivative with respect to it."""
    twin = precise(module)
    _, layers = forward(twin, x, [0.0] * len(twin.blocks))
    shifts = [torch.zeros_like(layer, requires_grad=True) for layer in layers]
    score64(forward(twin, x, shifts)[0], target).backward()
    return [layer.numpy() for layer in layers], [shift.grad.numpy() for shift in shifts]


def literal(module: nn.Module, x: torch.Tensor, target: Target, prefix: int, readers) -> np.ndarray:
    """Return (places,) by eqs. 5 and 6, entry by entry, without a token's share in itself."""
    flow = None
    for heads, slopes in zip(*attention_and_slopes(module, x, target), strict=True):
        count, size, _ = heads.shape
        flow = np.eye(size) if flow is None else flow
        matrix = np.zeros((size, size))
        for i, j in itertools.product(range(size), range(size)):
            matrix[i, j] = (
                sum(max(slopes[h, i, j] * heads[h, i, j], 0) for h in range(count)) / count
            )
        flow = flow + matrix @ flow
    return (flow - np.eye(size))[list(readers)].mean(0)[prefix:]


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("target", TARGETS, ids=[t.quantity for t in TARGETS])
def test_the_map_is_the_paper_s_rules(kind, target):
    (module, subject), (_, prefix, readers) = question_about(kind), SMALL[kind]
    heat = gradient_attention(replace(subject, target=target))
    expected = literal(module, X, target, prefix, readers).reshape(4, 6)
    assert difference(heat.values, expected) < 1e-4
    assert (heat.signed, heat.values.min() >= 0, heat.diagnostics["layers"]) == (False, True, 2)


@pytest.mark.parametrize(
    "make", [distilled, pytest.param("vit_tiny_patch16_224", marks=pytest.mark.slow)]
)
def test_full_networks_of_timm_are_explained(make):
    net = make() if callable(make) else timm.create_model(make, pretrained=False, img_size=64)
    x, readers = noise(1, 3, 64, 64), (0, 1) if callable(make) else (0,)
    heat = gradient_attention(subject_of(seeded(net), x, Target(2)))
    expected = literal(net, x, Target(2), net.num_prefix_tokens, readers).reshape(4, 4)
    assert difference(heat.values, expected) < 1e-3


def test_the_gradients_are_what_moving_the_attention_of_any_layer_does_to_the_network_s_score():
    module = small("class token")
    attention = subject_of(module, X, Target(2)).attention(gradients=True)
    twin = precise(module)
    for layer, place in ((0, (0, 7, 3)), (0, (1, 0, 20)), (1, (1, 0, 7))):
        ends = []
        for step in (1e-5, -1e-5):
            shifts = [torch.zeros(2, 25, 25, dtype=torch.float64) for _ in twin.blocks]
            shifts[layer][place] = step
            ends.append(float(forward(twin, X, shifts)[0][2].detach()))
        slope = (ends[0] - ends[1]) / 2e-5
        assert float(attention.gradients[layer][place]) == pytest.approx(slope, rel=2e-3, abs=1e-6)


def test_gradients_are_taken_where_asked_for_only_and_nothing_keeps_a_graph():
    subject = subject_of(small("registers"), X)
    assert subject.attention().gradients == ()
    attention = subject.attention(gradients=True)
    assert not any(t.requires_grad for t in (*attention.layers, *attention.gradients))
    for layer, plain in zip(attention.layers, subject.attention().layers, strict=True):
        assert torch.equal(layer, plain)


def test_what_speaks_against_is_left_out_before_heads_are_averaged():
    layers = [torch.tensor([[[0.5, 0.5], [0.2, 0.8]], [[0.1, 0.9], [0.4, 0.6]]])]
    gradients = [torch.tensor([[[2.0, -4.0], [0, 0]], [[-1.0, 1.0], [0, 0]]])]
    assert np.allclose(relevance(layers, gradients), [[0.5, 0.45], [0, 0]], atol=1e-7)


def test_two_classes_have_two_maps_and_a_silent_class_none():
    for kind in ("class token", "average"):
        module = small(kind)
        with torch.no_grad():
            module.head.weight[1] = 0
        maps = [gradient_attention(subject_of(module, X, Target(c))).values for c in range(3)]
        assert difference(maps[0], maps[2]) > 0.1
        assert not maps[1].any()


def test_a_network_without_attention_is_refused():
    subject = subject_of(seeded(TokenNet()), X)
    assert "no attention between tokens" in METHOD.why_not(subject.backbone)
    with pytest.raises(NeedsNotMet, match="no attention between tokens"):
        gradient_attention(subject)
