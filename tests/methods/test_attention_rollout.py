"""Attention rollout: its equation written out on real attention, and where it must refuse."""

from __future__ import annotations

import itertools
import re
import threading
from functools import cache
from itertools import product

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import VisionTransformer

from tests.support.networks import GapNet, TokenNet, plain_spec, seeded
from tests.support.quick import some_quick
from tests.support.toys import NhwcNet, attention_net, difference, final, noise, precise, subject_of
from whylens.core.errors import NeedsNotMet
from whylens.core.models.attention import AttentionRecorder
from whylens.core.models.backbone import wrap
from whylens.core.targets import Target
from whylens.plugins.attention_rollout import (
    AttentionRollout,
    AttentionRolloutParams,
    fuse_heads,
    rollout,
)

METHOD = AttentionRollout()
X = noise(1, 3, 16, 24)
# Prefix tokens, and which tokens of the last layer the head reads.
SMALL = {
    "class token": ({}, 1, (0,)),
    "average": ({"class_token": False, "global_pool": "avg"}, 0, tuple(range(24))),
    "registers": ({"reg_tokens": 4}, 5, (0,)),
    "class token, average": ({"global_pool": "avg"}, 1, tuple(range(1, 25))),
}


def small(kind: str) -> nn.Module:
    return seeded(attention_net(**SMALL[kind][0]))


def distilled() -> nn.Module:
    net = timm.create_model(
        "deit_tiny_distilled_patch16_224",
        pretrained=False,
        img_size=64,
        embed_dim=24,
        depth=2,
        num_heads=2,
        num_classes=3,
    )
    return seeded(net)


def literal_attentions(module: nn.Module, x: torch.Tensor) -> list[np.ndarray]:
    """Return (heads, T, T) float64 of every block, from its weights and entrywise."""
    twin = precise(module)
    tokens = twin.norm_pre(twin.patch_drop(twin._pos_embed(twin.patch_embed(x.double()))))
    attentions = []
    for block in twin.blocks:
        part = block.attn
        qkv = part.qkv(block.norm1(tokens))[0].reshape(len(tokens[0]), 3, part.num_heads, -1)
        query, key, _ = (qkv[:, i].permute(1, 0, 2).detach().numpy() for i in range(3))
        attention = np.zeros((part.num_heads, len(tokens[0]), len(tokens[0])))
        for h, i in itertools.product(range(part.num_heads), range(len(tokens[0]))):
            raw = [float(query[h, i] @ k) / query.shape[-1] ** 0.5 for k in key[h]]
            e = np.exp(np.array(raw) - max(raw))
            attention[h, i] = e / e.sum()
        attentions.append(attention)
        tokens = block(tokens)
    return attentions


def literal_rollout(attentions: list[np.ndarray], fusion: str) -> np.ndarray:
    """Return eq. 1 by its recursion, entry by entry."""
    size = attentions[0].shape[-1]
    rolled = np.eye(size)
    for heads in attentions:
        matrix = np.zeros((size, size))
        for i, j in itertools.product(range(size), range(size)):
            among = heads[:, i, j]
            fused_weight = {"mean": among.mean(), "max": among.max(), "min": among.min()}[fusion]
            matrix[i, j] = 0.5 * fused_weight + 0.5 * (i == j)
        for i in range(size):
            matrix[i] /= matrix[i].sum()
        rolled = matrix @ rolled
    return rolled


@cache  # asked about every fusion; to wrap it takes longer than to ask it
def question_about(kind, fused_by_torch):
    """Return a small network and a question about it."""
    module = small(kind)
    for block in module.blocks:
        block.attn.fused_attn = fused_by_torch
    return module, subject_of(module, X)


@pytest.mark.parametrize(
    ("kind", "fused_by_torch", "fusion"),
    # How heads are fused changes with the network.
    some_quick(
        product(SMALL, [True, False], ["mean", "max", "min"]),
        lambda number, _: number // 3 % 3 == number % 3,
    ),
)
def test_the_map_is_the_paper_s_equation(kind, fusion, fused_by_torch):
    (module, subject), (_, prefix, readers) = question_about(kind, fused_by_torch), SMALL[kind]
    layout = subject.backbone.attention_layout
    assert (layout.prefix, layout.grid, layout.readers) == (prefix, (4, 6), readers)
    heat = final(METHOD.explain(subject, AttentionRolloutParams(fusion=fusion)))
    rows = literal_rollout(literal_attentions(module, X), fusion)[list(readers)]
    expected = rows.mean(0)[prefix:].reshape(4, 6)
    assert difference(heat.values, expected) < 1e-5
    assert heat.diagnostics["share of all places"] == pytest.approx(expected.sum(), abs=1e-5)


def test_a_distilled_network_is_read_from_both_of_its_tokens():
    module = distilled()
    x = noise(1, 3, 64, 64)
    subject = subject_of(module, x)
    assert subject.backbone.attention_layout.readers == (0, 1)
    heat = final(METHOD.explain(subject, AttentionRolloutParams()))
    expected = literal_rollout(literal_attentions(module, x), "mean")[:2].mean(0)[2:].reshape(4, 4)
    assert difference(heat.values, expected) < 1e-5


@pytest.mark.slow
def test_a_full_size_network_of_timm_is_understood():
    net = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=64)
    subject = subject_of(seeded(net), noise(1, 3, 64, 64))
    heat = final(METHOD.explain(subject, AttentionRolloutParams()))
    assert (heat.values.shape, heat.diagnostics["layers"]) == ((4, 4), 12)
    assert 0 < heat.diagnostics["share of all places"] < 1


def test_nothing_flows_where_nobody_attends_and_rows_stay_shares(rng):
    heads = torch.softmax(torch.from_numpy(rng.normal(size=(3, 2, 7, 7))), -1)
    heads[:, :, :, 4] = 0  # nobody attends to token 4
    heads[:, :, 4, :] = 1 / 7
    layers = [fuse_heads(h / h.sum(-1, keepdim=True), "mean") for h in heads]
    flow = rollout(layers)
    assert torch.allclose(flow.sum(-1), torch.ones(7, dtype=torch.float64))
    rows = [i for i in range(7) if i != 4]
    assert not flow[rows, 4].any()
    assert flow[4, 4] > 0


def test_the_last_layer_is_multiplied_from_the_left():
    first, second = torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    # Token 0 takes half of token 1 in the first layer; in the second token 1 takes half of 0.
    assert rollout([first, second]).tolist() == [[0.5, 0.5], [0.25, 0.75]]


class Gazing(nn.Module):
    """One layer in which all tokens attend to the brightest patch; mean of tokens, then linear."""

    num_prefix_tokens = 0

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def features(self, x):
        tokens = functional.avg_pool2d(x, 4).flatten(2).transpose(1, 2)
        key = (40 * tokens.mean(-1, keepdim=True))[:, None]
        output = functional.scaled_dot_product_attention(torch.ones_like(key), key, tokens[:, None])
        return tokens + output[:, 0]

    def head(self, tokens):
        return self.fc(tokens.mean(1))

    def forward(self, x):
        return self.head(self.features(x))


@pytest.mark.parametrize("spot", [(0, 0), (1, 4), (3, 5)])
def test_a_network_that_attends_to_one_patch_is_shown_that_patch(spot):
    x = 0.2 * X
    x[:, :, 4 * spot[0] : 4 * spot[0] + 4, 4 * spot[1] : 4 * spot[1] + 4] = 1
    heat = final(METHOD.explain(subject_of(seeded(Gazing()), x), AttentionRolloutParams()))
    assert np.unravel_index(heat.values.argmax(), (4, 6)) == spot
    assert heat.values[spot] > 0.5


@pytest.mark.parametrize(
    ("mask", "options"),
    [
        (None, {}),
        (None, {"scale": 0.3}),
        (None, {"is_causal": True}),
        ("bool", {}),
        ("float", {"scale": 2.0}),
        (None, {"enable_gqa": True}),
    ],
    ids=str,
)
def test_the_attention_written_out_is_torch_s_own(mask, options):
    query = noise(2, 4, 5, 6, seed=1)
    heads = 2 if options.get("enable_gqa") else 4
    key, value = noise(2, heads, 5, 6, seed=2), noise(2, heads, 5, 6, seed=3)
    masks = {"bool": noise(5, 5) > 0.3, "float": noise(5, 5), None: None}
    if mask == "bool":
        masks["bool"][:, 0] = True
    arguments = {"attn_mask": masks[mask], **options}
    expected = functional.scaled_dot_product_attention(query, key, value, **arguments)
    with AttentionRecorder() as recorder:
        actual = functional.scaled_dot_product_attention(query, key, value, **arguments)
    assert torch.allclose(actual, expected, atol=1e-6)
    (attention,) = recorder.recorded
    assert torch.allclose(attention.sum(-1), torch.ones(2, 4, 5))


def test_a_recorder_hears_its_own_thread_only():
    recording, finished = threading.Event(), threading.Event()

    def attend() -> None:
        recording.wait(10)
        functional.scaled_dot_product_attention(*[noise(1, 1, 3, 2)] * 3)
        finished.set()

    thread = threading.Thread(target=attend)
    thread.start()
    with AttentionRecorder() as recorder:
        recording.set()
        assert finished.wait(10)
        assert recorder.recorded == []
        functional.scaled_dot_product_attention(*[noise(1, 1, 3, 2)] * 3)
    thread.join()
    assert len(recorder.recorded) == 1
    functional.scaled_dot_product_attention(*[noise(1, 1, 3, 2)] * 3)
    assert len(recorder.recorded) == 1


def test_what_is_recorded_carries_the_gradient_of_the_score():
    module = small("class token")
    with torch.enable_grad(), AttentionRecorder() as recorder:
        score = module(X)[0, 1]
    for slope in torch.autograd.grad(score, recorder.recorded):
        assert slope.abs().max() > 0
    assert all(p.grad is None and not p.requires_grad for p in wrap(
        module, input_spec=plain_spec(16, 24)).module.parameters())  # fmt: skip


def timm_net(name: str, **options) -> nn.Module:
    return seeded(timm.create_model(name, pretrained=False, num_classes=3, **options))


SWIN = {"img_size": 64, "window_size": 2, "embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2)}
CAIT = {"img_size": 64, "embed_dim": 24, "depth": 2, "num_heads": 2}


def torchvision_net() -> nn.Module:
    size = {"image_size": 16, "patch_size": 4, "num_layers": 2, "num_heads": 2}
    return VisionTransformer(**size, hidden_dim=16, mlp_dim=32, num_classes=3)


@pytest.mark.parametrize(
    ("make", "size", "reason"),
    [
        (GapNet, 16, "no attention between tokens was seen"),
        (TokenNet, 16, "no attention between tokens was seen"),
        (NhwcNet, 16, "no attention between tokens was seen"),
        (lambda: timm_net("swin_tiny_patch4_window7_224", **SWIN), 64, "windows of 4 tokens"),
        (lambda: timm_net("cait_xxs24_224", **CAIT), 64, r"do not all attend .*16 x 16, 1 x 17"),
        (torchvision_net, (16, 16), "inside torch's MultiheadAttention"),
    ],
    ids=["gap", "tokens", "nhwc", "swin", "cait", "torchvision"],
)
def test_a_network_whose_attention_says_nothing_about_places_is_refused(make, size, reason):
    shape = size if isinstance(size, tuple) else (size, 24 if size == 16 else size)
    subject = subject_of(seeded(make()), noise(1, 3, *shape))
    assert re.search(reason, METHOD.why_not(subject.backbone))
    with pytest.raises(NeedsNotMet, match=reason):
        METHOD.explain(subject, AttentionRolloutParams())


def test_every_class_and_quantity_has_the_same_map():
    module = small("registers")
    maps = [
        final(METHOD.explain(subject_of(module, X, target), AttentionRolloutParams())).values
        for target in (Target(0), Target(2, "probability"), Target(1, "contrast", 0))
    ]
    assert np.array_equal(maps[0], maps[1])
    assert np.array_equal(maps[0], maps[2])
    assert METHOD.class_blind
