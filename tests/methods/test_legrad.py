"""LeGrad: its formula in float64 with the attention written out, and by finite differences."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import timm
import torch
from torch import nn

from tests.methods.test_attention_rollout import SMALL, Gazing, distilled, small
from tests.support.networks import TokenNet, seeded
from tests.support.quick import some_quick
from tests.support.toys import TARGETS, difference, final, noise, precise, score64, subject_of
from whylens.core.errors import NeedsNotMet
from whylens.core.targets import Target
from whylens.plugins.legrad import LeGrad, LeGradParams, mean_positive_gradient

METHOD = LeGrad()
X = noise(1, 3, 16, 24)


def legrad(subject, **params):
    return final(METHOD.explain(subject, LeGradParams(**params)))


def after(block: nn.Module, tokens: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """Return (1, T, K): a block's output under a given attention (heads, T, T)."""
    part = block.attn
    width = tokens.shape[-1]
    value = part.qkv(block.norm1(tokens))[0, :, 2 * width :]
    value = value.reshape(len(value), part.num_heads, -1).permute(1, 0, 2)
    mixed_values = (attention @ value).permute(1, 0, 2).reshape(1, -1, width)
    tokens = tokens + block.ls1(part.proj(mixed_values))
    return tokens + block.ls2(block.mlp(block.norm2(tokens)))


def literal_layers(module: nn.Module, x: torch.Tensor):
    """Yield, for every block, its input, its attention, and a function from attention to logits."""
    twin = precise(module)
    tokens = twin.norm_pre(twin._pos_embed(twin.patch_embed(x.double())))
    for block in twin.blocks:
        part, width = block.attn, tokens.shape[-1]
        qkv = part.qkv(block.norm1(tokens))[0].reshape(len(tokens[0]), 3, part.num_heads, -1)
        query, key = (qkv[:, i].permute(1, 0, 2) for i in range(2))
        attention = (query @ key.transpose(1, 2) * (width // part.num_heads) ** -0.5).softmax(-1)

        def logits(attention_in, pooling, block=block, tokens=tokens):
            out = after(block, tokens, attention_in)
            if pooling == "all tokens":
                out = out.mean(1, keepdim=True) + 0 * out
            return twin.forward_head(twin.norm(out))[0]

        yield attention.detach(), logits
        tokens = after(block, tokens, attention)


def literal(module: nn.Module, x: torch.Tensor, target: Target, pooling: str, prefix: int):
    """Return (T - P,) the paper's map, head by head and row by row."""
    total, layers = None, 0
    for attention, logits in literal_layers(module, x):
        leaf = attention.clone().requires_grad_()
        score64(logits(leaf, pooling), target).backward()
        heads, size, _ = leaf.shape
        row_sum = np.zeros(size)
        for h in range(heads):
            for i in range(size):
                row_sum += np.maximum(leaf.grad[h, i].numpy(), 0)
        total = row_sum / (heads * size) + (0 if total is None else total)
        layers += 1
    return (total / layers)[prefix:]


@cache  # asked about every target; to wrap it takes longer than to ask it
def question_about(kind):
    """Return a small network and a question about it."""
    module = small(kind)
    return module, subject_of(module, X)


@pytest.mark.parametrize(
    ("kind", "pooling", "target"),
    # What is asked about changes with the network.
    some_quick(
        product(SMALL, ["all tokens", "network"], TARGETS),
        lambda number, _: number // 3 % 3 == number % 3,
    ),
)
def test_the_map_is_the_paper_s_formula(kind, pooling, target):
    module, subject = question_about(kind)
    heat = legrad(replace(subject, target=target), pooling=pooling)
    expected = literal(module, X, target, pooling, SMALL[kind][1]).reshape(4, 6)
    assert difference(heat.values, expected) < 1e-4
    assert heat.values.min() >= 0
    assert heat.unit == f"{target.unit} per unit of attention"


@pytest.mark.parametrize("pooling", ["all tokens", "network"])
def test_the_gradients_are_what_moving_the_attention_does(pooling):
    module = small("class token")
    subject = subject_of(module, X, Target(2))
    actual = subject.attention_gradients(pooling)
    steps = [(0, 0, 3), (1, 0, 20), (1, 7, 7)]
    for gradient, (attention, logits) in zip(actual, literal_layers(module, X), strict=True):
        for place in steps:
            ends = []
            for step in (1e-5, -1e-5):
                changed_attention = attention.clone()
                changed_attention[place] += step
                ends.append(float(logits(changed_attention, pooling)[2].detach()))
            slope = (ends[0] - ends[1]) / 2e-5
            assert float(gradient[place]) == pytest.approx(slope, rel=2e-3, abs=1e-6)


def test_the_last_layer_is_scored_as_the_network_scores_it():
    module = small("registers")
    *_, (attention, logits) = literal_layers(module, X)
    whole = precise(module)(X.double())[0]
    assert torch.allclose(logits(attention, "network"), whole, atol=1e-9)


def test_only_the_tokens_that_the_head_reads_have_a_slope_where_the_network_pools():
    subject = subject_of(small("class token"), X)
    by_class_token = subject.attention_gradients("network")[-1]
    assert by_class_token[:, 0].abs().max() > 0
    assert not by_class_token[:, 1:].any()
    assert (subject.attention_gradients("all tokens")[-1].abs().amax((0, 2)) > 0).all()


def test_fewer_layers_are_the_last_ones():
    module, target = small("average"), Target(1)
    last = legrad(subject_of(module, X, target), layers=1)
    full = legrad(subject_of(module, X, target))
    assert (last.diagnostics["layers"], full.diagnostics["layers"]) == (1, 2)
    (*_, (attention, logits)) = literal_layers(module, X)
    leaf = attention.requires_grad_()
    logits(leaf, "all tokens")[1].backward()
    expected = leaf.grad.relu().mean((0, 1)).reshape(4, 6).numpy()
    assert difference(last.values, expected) < 1e-4
    assert difference(full.values, expected) > 1e-2


def test_what_speaks_against_does_not_cancel_what_speaks_for():
    gradients = [torch.tensor([[[1.0, -3.0], [2.0, 0.0]]]), torch.tensor([[[-1.0, 4.0], [0, 0]]])]
    assert mean_positive_gradient(gradients).tolist() == [0.75, 1.0]


def test_two_classes_have_two_maps_and_a_silent_class_none():
    module = small("class token")
    with torch.no_grad():
        module.head.weight[1] = 0
    maps = [legrad(subject_of(module, X, Target(c))).values for c in range(3)]
    assert difference(maps[0], maps[2]) > 0.1
    assert not maps[1].any()


@pytest.mark.parametrize(
    "make", [distilled, pytest.param("vit_tiny_patch16_224", marks=pytest.mark.slow)]
)
def test_full_networks_of_timm_are_explained(make):
    net = make() if callable(make) else timm.create_model(make, pretrained=False, img_size=64)
    subject = subject_of(seeded(net), noise(1, 3, 64, 64), Target(2))
    heat = legrad(subject)
    expected = literal(net, noise(1, 3, 64, 64), Target(2), "all tokens", net.num_prefix_tokens)
    assert difference(heat.values, expected.reshape(4, 4)) < 1e-3


@pytest.mark.parametrize(
    ("make", "reason"),
    [(TokenNet, "no attention between tokens"), (Gazing, "layers cannot be scored one by one")],
)
def test_a_network_whose_layers_cannot_be_scored_is_refused(make, reason):
    subject = subject_of(seeded(make()), X)
    assert reason in METHOD.why_not(subject.backbone)
    with pytest.raises(NeedsNotMet, match=reason):
        METHOD.explain(subject, LeGradParams())
