"""Names, checkpoints, splits, probes, folding and layouts, checked by numbers."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.support.networks import GapNet, MlpHeadNet, TokenNet, plain_spec, seeded
from whylens.core.errors import (
    BadArtifact,
    NeedsNotMet,
    NotAllowed,
    UnknownName,
    WeightsUnavailable,
)
from whylens.core.inputs.spec import probe_inputs
from whylens.core.models.backbone import MOST_FACTS, Backbone, wrap
from whylens.core.models.checkpoints import (
    MANIFEST,
    WEIGHTS,
    checkpoint_folders,
    read_manifest,
    read_weights,
    write_checkpoint,
)
from whylens.core.models.footprint import footprint
from whylens.core.models.heads import gradient_problem, linear_head
from whylens.core.models.hub import call_with_deadline
from whylens.core.models.labels import class_index, imagenet_1k, labels_of
from whylens.core.models.layouts import (
    ChannelsFirst,
    ChannelsLast,
    Features,
    Tokens,
    as_two_logits,
    layout_of,
    proportional,
)
from whylens.core.models.load import build, from_folder, load
from whylens.core.models.model_names import (
    parse_model_name,
    timm_architectures,
    timm_names,
)
from whylens.core.models.public_models import check_public_model
from whylens.core.models.random_weights import randomize_weights
from whylens.core.models.split import find_split
from whylens.core.needs import Need
from whylens.core.speed import faster
from whylens.core.speed.fx_ops import trace
from whylens.core.storage import files
from whylens.core.storage.files import file_sha256, parameters_sha256, write_atomically

SPATIAL, POOLED = Need.SPATIAL_FEATURES, Need.POOLED_LINEAR_HEAD


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def wrapped(module: nn.Module, *size: int, channels: int = 3) -> Backbone:
    return wrap(seeded(module), input_spec=plain_spec(*size, channels=channels))


class Bare(nn.Module):
    """Stands for a network of which nothing is known but these attributes."""

    def __init__(self, **attributes) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)


# --- layouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "shape", "expected"),
    [
        (ChannelsFirst(), (2, 5, 3, 4), (2, 5, 3, 4)),
        (ChannelsFirst(), (2, 5, 7), (2, 5, 7)),
        (ChannelsLast(), (2, 3, 4, 5), (2, 5, 3, 4)),
        (ChannelsLast(), (2, 2, 3, 4, 5), (2, 5, 2, 3, 4)),
        (Tokens(0, (3, 4)), (2, 12, 5), (2, 5, 3, 4)),
        (Tokens(1, (3, 4)), (2, 13, 5), (2, 5, 3, 4)),
        (Tokens(5, (3, 4)), (2, 17, 5), (2, 5, 3, 4)),
        (Tokens(2, (7,)), (2, 9, 5), (2, 5, 7)),
    ],
)
def test_a_layout_read_and_written_is_the_same_tensor(layout, shape, expected):
    raw = noise(*shape)
    features = layout.read(raw)
    assert tuple(features.map.shape) == expected
    kept = features.map.clone()
    written = layout.write(features)
    assert torch.equal(written, raw)
    written += 1
    assert torch.equal(features.map, kept), "a head that works in place changed the map"


def test_tokens_are_placed_row_by_row_behind_the_prefix():
    tokens = torch.arange(2.0 + 12).reshape(1, 14, 1)
    features = Tokens(2, (3, 4)).read(tokens)
    assert features.map[0, 0].tolist() == [[2, 3, 4, 5], [6, 7, 8, 9], [10, 11, 12, 13]]
    assert features.prefix_tokens.flatten().tolist() == [0, 1]


def test_prefix_tokens_of_one_input_serve_a_whole_batch():
    one = Tokens(1, (2, 2)).read(noise(1, 5, 3))
    many = Features(one.map.expand(4, -1, -1, -1), one.prefix_tokens)
    assert Tokens(1, (2, 2)).write(many).shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("shape", "size", "attributes", "expected"),
    [
        ((1, 8, 4, 6), (64, 96), {}, ChannelsFirst()),
        ((1, 4, 6, 8), (64, 96), {"output_fmt": "NHWC"}, ChannelsLast()),
        ((1, 4, 4, 8), (64, 64), {"num_features": 8}, ChannelsLast()),
        ((1, 4, 6, 300), (64, 96), {}, ChannelsLast()),  # 6 x 300 is no map of 64 x 96
        ((1, 24, 8), (64, 96), {}, Tokens(0, (4, 6))),
        ((1, 25, 8), (64, 96), {"num_prefix_tokens": 1}, Tokens(1, (4, 6))),
        ((1, 26, 8), (64, 96), {}, Tokens(2, (4, 6))),
        ((1, 29, 8), (64, 96), {"num_prefix_tokens": 5}, Tokens(5, (4, 6))),
        # Class-attention networks say one prefix token, but add it only later.
        ((1, 24, 8), (64, 96), {"num_prefix_tokens": 1}, Tokens(0, (4, 6))),
        ((1, 8, 9), (40,), {}, ChannelsFirst()),
        ((1, 10, 8), (40,), {"num_prefix_tokens": 1}, Tokens(1, (9,))),
    ],
)
def test_the_layout_is_told_from_shapes_and_from_what_the_network_says(
    shape, size, attributes, expected
):
    assert layout_of(torch.zeros(shape), size, Bare(**attributes)) == expected


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ([torch.zeros(1, 2, 3, 3)], "several tensors"),
        (torch.zeros(1, 8), "no positions left"),
        (torch.zeros(1, 31, 8), "31 tokens do not form a grid"),
    ],
)
def test_features_without_places_are_refused_in_words(raw, words):
    with pytest.raises(NeedsNotMet, match=words):
        layout_of(raw, (64, 64), Bare())


def test_a_grid_is_proportional_give_or_take_a_cell():
    assert proportional((7, 7), (224, 224))
    assert proportional((8, 5), (299, 200))
    assert not proportional((1, 768), (224, 224))
    assert not proportional((300, 300), (224, 224))


# --- tokens and locality -----------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize("cell", [(0, 0), (1, 4), (3, 5)])
def test_a_changed_patch_changes_its_own_cell_and_no_other(prefix, cell):
    net = wrapped(TokenNet(grid=(4, 6), prefix=prefix), 16, 24)
    x = noise(1, 3, 16, 24)
    touched = x.clone()
    row, column = cell
    touched[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
    change = (net.features(touched).map - net.features(x).map).abs().sum(1)[0]
    assert tuple(change.shape) == (4, 6)
    assert change[cell] > 0
    change[cell] = 0
    assert float(change.abs().max()) == 0


def test_a_mixing_network_changes_most_where_the_input_changed():
    import timm

    net = wrapped(timm.create_model("test_vit", num_classes=5, img_size=(64, 96)), 64, 96)
    x = noise(1, 3, 64, 96)
    for row, column in [(0, 0), (2, 5), (3, 1)]:
        touched = x.clone()
        touched[..., 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += 2
        change = (net.features(touched).map - net.features(x).map).abs().sum(1)[0]
        assert tuple(change.shape) == (4, 6)
        assert divmod(int(change.argmax()), 6) == (row, column)


# --- splits ------------------------------------------------------------------------------------


class Sequence2(nn.Module):
    """Neither features() nor head(): only its graph can be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1)
        )
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.body(x).relu().mean((2, 3)))


SPLITTABLE = {
    "gap": (GapNet(), (12, 20)),
    "gap in 1-d": (GapNet(axes=1), (40,)),
    "gap in 3-d": (GapNet(axes=3), (8, 6, 10)),
    "mlp head": (MlpHeadNet(), (12, 20)),
    "tokens": (TokenNet(), (16, 24)),
    "graph": (Sequence2(), (12, 20)),
    "one logit": (GapNet(classes=1), (12, 20)),
}


@pytest.fixture(params=SPLITTABLE, scope="module")
def net(request) -> Backbone:
    module, size = SPLITTABLE[request.param]
    return wrapped(module, *size)


def test_the_halves_add_up_to_the_whole_for_any_batch(net):
    for count in (1, 3):
        x = noise(count, 3, *net.input_spec.size)
        torch.testing.assert_close(net.head(net.features(x)), net.logits(x))


def test_a_graph_is_traced_once_for_all_its_cuts_and_anew_for_a_copy(monkeypatch):
    traced = []
    monkeypatch.setattr(
        "whylens.core.models.split.trace", lambda module: traced.append(module) or trace(module)
    )
    network, copied, x = Sequence2().eval(), Sequence2().eval(), noise(2, 3, 12, 20)
    split = find_split(network, x)
    assert traced == [network]
    with torch.no_grad():
        for cut, whole in ((split, network), (split.recut(copied), copied)):
            torch.testing.assert_close(cut.head(cut.features(x)), whole(x))
    assert traced == [network, copied]


def test_gradients_through_the_head_equal_those_of_the_whole_graph(net):
    x = noise(1, 3, *net.input_spec.size)
    with torch.no_grad():
        leaf = net.features(x)
    detached = leaf.map.clone().requires_grad_()
    alone = torch.autograd.grad(net.head(Features(detached, leaf.prefix_tokens))[0, 1], detached)[0]
    start = x.clone().requires_grad_()
    features = net.features(start)
    score = net.head(features)[0, 1]
    through, at_input = torch.autograd.grad(score, [features.map, start])
    assert float(alone.abs().max()) > 0
    torch.testing.assert_close(alone, through)
    whole = torch.autograd.grad(net.logits(start)[0, 1], start)[0]
    torch.testing.assert_close(at_input, whole)


def test_the_same_cut_can_be_made_again_on_a_copy(net):
    import copy

    twin = copy.deepcopy(net.module)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.1)
    again = net.split.recut(twin)
    x = noise(2, 3, *net.input_spec.size)
    torch.testing.assert_close(as_two_logits(again.head(again.features(x))), as_two_logits(twin(x)))
    assert not torch.allclose(as_two_logits(twin(x)), net.logits(x))


def test_the_graph_is_cut_after_its_last_map():
    net = wrapped(Sequence2(), 12, 20)
    x = noise(1, 3, 12, 20)
    torch.testing.assert_close(net.features(x).map, net.module.body(x).relu())
    assert net.linear is not None


class Reshaped(nn.Module):
    """After the average comes a tensor with the axes of a map, but with no places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 4)

    def forward(self, x):
        pooled = self.conv(x).relu().mean((2, 3))
        return self.fc(pooled.reshape(-1, 2, 1, 8).tanh().flatten(1))


def test_a_tensor_that_only_has_the_axes_of_a_map_is_passed_over():
    net = wrapped(Reshaped(), 12, 20)
    assert net.features(noise(1, 3, 12, 20)).map.shape == (1, 16, 12, 20)


class ClassTokenNet(nn.Module):
    """A transformer in small that reads its class token alone, as timm writes them."""

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.num_prefix_tokens = 1
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.cls = nn.Parameter(torch.zeros(1, 1, 8))
        self.blocks = nn.Sequential(*[Block() for _ in range(depth)])
        self.fc = nn.Linear(8, 3)

    def forward_features(self, x):
        patches = self.patch(x).flatten(2).transpose(1, 2)
        return self.blocks(torch.cat([self.cls.expand(len(x), -1, -1), patches], 1))

    def forward_head(self, tokens):
        return self.fc(tokens[:, 0])

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, tokens):
        return tokens + self.mix(tokens, tokens, tokens, need_weights=False)[0]


def test_where_a_class_token_is_read_the_map_is_what_enters_the_last_block():
    module = ClassTokenNet()
    net = wrapped(module, 16, 24)
    x = noise(1, 3, 16, 24)
    tokens = module.patch(x).flatten(2).transpose(1, 2)
    tokens = torch.cat([module.cls, tokens], 1)
    entering = module.blocks[1](module.blocks[0](tokens))
    torch.testing.assert_close(Tokens(1, (4, 6)).write(net.features(x)), entering)
    leaf = net.features(x).map.detach().requires_grad_()
    score = net.head(Features(leaf, net.features(x).prefix_tokens))[0, 0]
    assert float(torch.autograd.grad(score, leaf)[0].abs().max()) > 0
    assert "average" in net.unmet[POOLED]


def test_cutting_around_the_last_block_leaves_the_network_as_it_was():
    module = ClassTokenNet()
    blocks, before = list(module.blocks), parameters_sha256(seeded(module))
    net = wrap(module, input_spec=plain_spec(16, 24))
    net.head(net.features(noise(2, 3, 16, 24)))
    assert [id(b) for b in module.blocks] == [id(b) for b in blocks]
    assert parameters_sha256(module) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_one_split_serves_several_threads():
    net = wrapped(ClassTokenNet(), 16, 24)
    inputs = [noise(1, 3, 16, 24, seed=s) for s in range(4)]
    with torch.no_grad():
        expected = [net.features(x).map for x in inputs]
    found: dict[int, list[bool]] = {}

    def work(i: int) -> None:
        with torch.no_grad():
            same = [torch.equal(net.features(inputs[i]).map, expected[i]) for _ in range(20)]
        found[i] = same

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(all(found[i]) for i in range(4))


def test_tracing_one_network_does_not_disturb_another_that_is_running():
    # torch.fx swaps nn.Module.__call__ for everybody while it traces.
    running, other = seeded(Sequence2()), seeded(nn.Sequential(*[nn.Tanh() for _ in range(300)]))
    x = noise(1, 3, 12, 20)
    with torch.no_grad():
        expected = running(x)
    stop, faults, rounds = threading.Event(), [], []

    def run() -> None:
        while not stop.is_set():
            try:
                with torch.no_grad():
                    same = torch.equal(running(x), expected)
            except Exception as fault:  # noqa: BLE001 - any is the bug
                same = repr(fault)
            rounds.append(1)
            if same is not True:
                faults.append(same)

    from whylens.core.speed.fx_ops import trace

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(8):
        assert len(trace(other).graph.nodes) == 302
    stop.set()
    thread.join()
    assert rounds
    assert faults == []


class Several(GapNet):
    def forward(self, x):
        return super().forward(x), x


class Unruly(GapNet):
    """Has a branch on values, so no graph, and halves that do not add up."""

    def features(self, x):
        return self.conv(x)

    def head(self, f):
        return self.fc(f.flatten(2).mean(-1))

    def forward(self, x):
        if float(x.detach().sum()) > 1e9:
            return self.head(x)
        return self.fc(self.conv(x).relu().flatten(2).mean(-1))


def test_halves_that_do_not_add_up_are_refused_in_words():
    net = wrapped(Unruly(), 12, 20)
    assert net.split is None
    assert "do not add up" in net.unmet[SPATIAL]
    assert "no feature map to pool" in net.unmet[POOLED]
    with pytest.raises(NeedsNotMet, match="Unruly has no feature map to look at: its two halves"):
        net.features(noise(1, 3, 12, 20))


def test_why_a_need_is_unmet_reads_as_a_sentence():
    net = wrapped(Unruly(), 12, 20)
    said = net.why_not(frozenset({SPATIAL}))
    assert said.startswith("needs a feature map with positions")
    assert said.endswith("whole network.")
    assert net.why_not(frozenset({Need.GRADIENTS})) is None
    for debug in ("Error", "node", "graph", "_"):
        assert debug not in said


class OneCorner(GapNet):
    """Reads one position, as where a class token is taken for a patch."""

    def head(self, f):
        return self.fc(f[:, :, 0, 0])


def test_a_score_read_from_one_position_alone_is_refused_in_words():
    net = wrapped(OneCorner(), 12, 20)
    assert "from a single position" in net.unmet[SPATIAL]


class Pooled(GapNet):
    """Its map has one position left."""

    def features(self, x):
        return self.conv(x).relu().mean((2, 3), keepdim=True)


def test_a_map_with_one_position_is_no_map():
    class Untraceable(Pooled):
        def forward(self, x):
            return super().forward(x) if float(x.detach().sum()) < 1e9 else x

    net = wrapped(Untraceable(), 12, 20)
    assert net.unmet[SPATIAL] == "its last feature map has a single position"
    assert net.features(noise(1, 3, 12, 20)).map.shape == (1, 4, 1, 1)  # fit for comparing images


def test_where_the_offered_map_has_one_position_an_earlier_one_is_found_in_the_graph():
    net = wrapped(Pooled(), 12, 20)
    assert SPATIAL not in net.unmet
    assert net.features(noise(1, 3, 12, 20)).map.shape == (1, 4, 6, 10)


class Constant(GapNet):
    def head(self, f):
        return self.fc(torch.zeros(len(f), 4)) + 0 * f.sum()


def test_a_score_that_ignores_the_map_is_refused_in_words():
    net = wrapped(Constant(), 12, 20)
    assert "not read from the positions" in net.unmet[SPATIAL]
    assert "zero everywhere" in net.unmet[Need.GRADIENTS]


# --- any module, and what comes out -------------------------------------------------------------


def test_any_module_is_frozen_and_named_by_its_class_and_parameters():
    module = seeded(GapNet()).train()
    net = wrap(module, input_spec=plain_spec(12, 20))
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    assert net.name == "GapNet"
    assert net.identity.digest == parameters_sha256(module)
    assert net.labels == ("class 0", "class 1", "class 2")
    assert not net.unmet


def test_what_is_found_out_once_of_a_network_is_bounded():
    backbone, found_out = wrap(seeded(GapNet()), input_spec=plain_spec(8, 8)), []

    def fact(number: int) -> int:
        return backbone.once(f"fact {number}", lambda _: found_out.append(number) or number)

    # As the parameters of visitors make them: the first is in use all the time.
    for number in range(2 * MOST_FACTS):
        assert [fact(0), fact(number)] == [0, number]
    assert found_out == list(range(2 * MOST_FACTS))
    assert fact(1) == 1
    assert found_out[-1] == 1


def test_one_logit_becomes_two_sides_of_the_same_probability():
    net = wrapped(GapNet(classes=1), 12, 20)
    x = noise(3, 3, 12, 20)
    z = net.module(x)[:, 0]
    logits = net.logits(x)
    assert logits.shape == (3, 2)
    torch.testing.assert_close(logits.softmax(-1)[:, 1], torch.sigmoid(z))
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], z)
    torch.testing.assert_close(net.fast_logits(x), logits)
    torch.testing.assert_close(net.linear.weight[1], net.module.fc.weight[0] / 2)
    torch.testing.assert_close(net.linear.weight[0], -net.module.fc.weight[0] / 2)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Conv2d(3, 4, 1), "not class scores"),
        (nn.Conv2d(5, 4, 1), "cannot take inputs of 3 channels and size 12 x 20"),
        (Several(), "several outputs"),
    ],
)
def test_what_does_not_classify_is_refused_in_words(module, words):
    with pytest.raises(BadArtifact, match=words):
        wrap(module, input_spec=plain_spec(12, 20))


def test_a_wrong_number_of_labels_is_refused():
    with pytest.raises(BadArtifact, match="3 classes but 2 labels"):
        wrap(seeded(GapNet()), input_spec=plain_spec(12, 20), labels=("a", "b"))


def test_probe_inputs_are_the_same_every_time_and_vary_within():
    input_spec = plain_spec(33, 50)
    x = probe_inputs(input_spec)
    assert torch.equal(x, probe_inputs(input_spec))
    assert tuple(x.shape) == (2, 3, 33, 50)
    assert not torch.equal(x[0], x[1])
    assert float(x.flatten(2).std(-1).min()) > 0.3


def test_gradients_are_tried_out():
    x = noise(2, 3, 8, 8)
    assert gradient_problem(lambda v: v.flatten(1)[:, :4], x) is None
    assert "cuts" in gradient_problem(lambda v: v.detach().flatten(1), x)
    assert "zero" in gradient_problem(lambda v: v.flatten(1) * 0, x)
    assert "finite" in gradient_problem(lambda v: (v * 0).sqrt().flatten(1), x)


# --- heads --------------------------------------------------------------------------------------


def head_probe(head, *, shape=(2, 4, 3, 5)):
    return linear_head(lambda f: head(f.map), Features(noise(*shape).relu()))


def test_a_pooled_linear_head_gives_its_exact_weights():
    fc = seeded(nn.Linear(4, 3))
    found = head_probe(lambda f: fc(f.mean((2, 3))))
    torch.testing.assert_close(found.weight, fc.weight.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.bias, fc.bias.detach(), rtol=1e-4, atol=1e-6)


def test_an_affine_norm_before_the_average_is_still_a_linear_head():
    fc, norm = seeded(nn.Linear(4, 3)), seeded(nn.BatchNorm2d(4))
    found = head_probe(lambda f: fc(norm(f).mean((2, 3))))
    x = noise(5, 4, 3, 5, seed=8)
    expected = fc(norm(x).mean((2, 3)))
    torch.testing.assert_close(x.mean((2, 3)) @ found.weight.T + found.bias, expected)


def test_many_channels_are_asked_in_pieces():
    fc = seeded(nn.Linear(150, 3))
    found = head_probe(lambda f: fc(f.mean((2, 3))), shape=(1, 150, 2, 2))
    torch.testing.assert_close(found.weight, fc.weight.detach(), rtol=1e-4, atol=1e-6)


FC, HIDDEN, OUT = (seeded(nn.Linear(i, o)) for i, o in ((4, 3), (4, 16), (16, 3)))
NOT_POOLED_LINEAR = {
    "layer norm": (lambda f: FC(functional.layer_norm(f.mean((2, 3)), (4,))), "not linear"),
    "relu": (lambda f: OUT(HIDDEN(f.mean((2, 3))).relu()), "not linear"),
    "relu that passes everything seen": (lambda f: FC((f.mean((2, 3)) + 1).relu()), "not linear"),
    "gelu": (lambda f: OUT(functional.gelu(HIDDEN(f.mean((2, 3))))), "not linear"),
    "hard swish": (lambda f: OUT(functional.hardswish(HIDDEN(f.mean((2, 3))))), "not linear"),
    "max": (lambda f: FC(f.amax((2, 3))), "not an average"),
    "average of max and mean": (lambda f: FC(f.amax((2, 3)) + f.mean((2, 3))), "not an average"),
    "relu before the average": (lambda f: FC((f - 0.5).relu().mean((2, 3))), "not an average"),
    "one position": (lambda f: FC(f[:, :, 1, 1]), "not an average"),
    "weighted average": (
        lambda f: FC((f * torch.linspace(0.9, 1.1, 5)).mean((2, 3))),
        "not an average",
    ),
    "zero": (lambda f: 0 * FC(f.mean((2, 3))) + 1, "cannot tell"),
}


@pytest.mark.parametrize("kind", NOT_POOLED_LINEAR)
def test_other_heads_are_refused_with_the_reason(kind):
    head, words = NOT_POOLED_LINEAR[kind]
    with pytest.raises(NeedsNotMet, match=words):
        head_probe(head)


def test_the_verdict_on_a_head_rests_on_numbers_whatever_its_scale():
    for scale in (1e-4, 1.0, 1e5):
        fc = seeded(nn.Linear(4, 3))
        with torch.no_grad():
            fc.weight *= scale
        found = head_probe(lambda f, fc=fc: fc(f.mean((2, 3))))
        torch.testing.assert_close(found.weight, fc.weight.detach(), rtol=1e-3, atol=scale * 1e-4)


# --- folding -------------------------------------------------------------------------------------


class Foldable(nn.Module):
    """Convolutions and norms in the ways that networks have them, and one trap."""

    def __init__(self, *, trap: bool = False) -> None:
        super().__init__()
        self.a, self.bn_a = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.b, self.bn_b = nn.Conv2d(6, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6)
        self.c, self.bn_c = nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8, affine=False)
        self.fc = nn.Linear(8, 3)
        self.trap = trap

    def forward(self, x):
        x = self.bn_a(self.a(x)).relu_()
        y = self.b(x)
        # The trap: what the norm reads is also read by something else, so it must not be folded.
        x = self.bn_b(y) + (y if self.trap else x)
        return self.fc(self.bn_c(self.c(x)).relu().mean((2, 3)))


def norms_left(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize(("trap", "left"), [(False, 0), (True, 1)])
def test_the_folded_copy_computes_the_same_with_fewer_norms(trap, left):
    module = seeded(Foldable(trap=trap)).requires_grad_(False)
    folded = faster(module, noise(2, 3, 12, 20))
    assert folded is not module
    assert norms_left(folded) == left
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


def test_fast_logits_agree_with_the_network(net):
    x = noise(4, 3, *net.input_spec.size, seed=12)
    torch.testing.assert_close(net.fast_logits(x), net.logits(x), rtol=1e-3, atol=1e-5)


# --- random weights -------------------------------------------------------------------------------


def test_random_weights_depend_on_the_seed_alone():
    state = torch.get_rng_state()
    one, two = seeded(Foldable(), 1), seeded(Foldable(), 1)
    assert parameters_sha256(one) == parameters_sha256(two)
    assert parameters_sha256(one) != parameters_sha256(seeded(Foldable(), 2))
    torch.rand(3)  # were the global generator used, the next would differ
    assert parameters_sha256(one) == parameters_sha256(seeded(Foldable(), 1))
    torch.set_rng_state(state)


def test_with_a_probe_the_signal_neither_dies_nor_explodes():
    layers: list[nn.Module] = []
    for _ in range(40):
        layers += [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    deep = nn.Sequential(*layers).train()
    x = noise(2, 8, 16, 16)
    for factor in (0.01, 100.0):
        randomize_weights(deep, seed=1, probe=x * factor)
        assert deep.training, "the mode must be put back"
        assert all(part.momentum == 0.1 for part in deep if isinstance(part, nn.BatchNorm2d))
        with torch.no_grad():
            out = deep.eval()(x * factor)
        deep.train()
        assert 0.1 < float(out.std()) < 10
        assert float((out[0] - out[1]).abs().max()) > 0.1


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("resnet18.a1_in1k", "timm", "resnet18.a1_in1k"),
        ("resnet18", "timm", "resnet18"),
        ("torchvision:resnet18", "torchvision", "resnet18"),
        ("untrained:resnet18", "untrained", "resnet18"),
        ("hf:Owner/vit-base.v2", "hub", "Owner/vit-base.v2"),
        ("My-Net.v2", "checkpoint", "My-Net.v2"),
    ],
)
def test_a_name_is_taken_apart(text, kind, name):
    found = parse_model_name(text, ["My-Net.v2"])
    assert (found.kind, found.name) == (kind, name)
    assert str(found) == text


def test_a_local_checkpoint_goes_before_a_network_of_the_same_name():
    assert parse_model_name("resnet18", ["resnet18"]).kind == "checkpoint"


@pytest.mark.parametrize(
    ("text", "close"),
    [
        ("resnet18.a1_in1", "resnet18.a1_in1k"),
        ("convnext_tinyy.fb_in1k", "convnext_tiny.fb_in1k"),
        ("torchvision:resnet19", "resnet18"),
        ("untrained:resnet_18", "resnet18"),
        ("my_cats_and_doggs", "my_cats_and_dogs"),
    ],
)
def test_an_unknown_name_offers_close_ones(text, close):
    with pytest.raises(UnknownName, match=f"Did you mean .*{close}"):
        parse_model_name(text, ["my_cats_and_dogs"])


NEVER = [
    "local-dir:/etc",
    "hf-hub:acme/evil",
    "hf_hub:acme/evil",
    "hf:acme",
    "hf:../etc",
    "hf:/etc/passwd",
    "hf:acme/net/file",
    "hf:acmé/net",
    "hf:acme/a..b",
    "hf:acme/net.git",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\weights",
    "acme/net",
    "https://example.com/x",
    "resnet18\0",
    "resnet18\n",
    "r" * 5000,
    "ResNet18",
    "résnet18",
    "",
    ".",
    "..",
    "resnet18.a1_in1k.more",
    "local-dir:" + "x" * 5000,
]


@pytest.mark.parametrize("text", NEVER, ids=[repr(t[:20]) for t in NEVER])
def test_paths_and_addresses_never_reach_a_library(text, monkeypatch):
    def touched(*args, **kwargs):
        raise AssertionError("a library saw the name")

    import timm

    assert timm_names() | timm_architectures()  # listed once, before
    monkeypatch.setattr(timm, "create_model", touched)
    monkeypatch.setattr(timm, "list_models", touched)
    monkeypatch.setattr(timm, "is_model", touched)
    asks = [parse_model_name, lambda t: check_public_model(t, []), load]
    for ask in asks[:2] if text.startswith(("hf-hub:", "hf_hub:")) else asks:
        with pytest.raises(NotAllowed, match="is not a model name") as caught:
            ask(text)
        said = str(caught.value)
        assert len(said) < 400
        assert said.isprintable()


@pytest.mark.parametrize("text", ["torchvision:../x", "untrained:" + "x" * 5000, "torchvision:"])
def test_a_path_behind_a_prefix_is_only_an_unknown_name(text):
    with pytest.raises(UnknownName, match="There is no model called") as caught:
        parse_model_name(text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "name",
    [
        "untrained:vit_giant_patch14_224",
        pytest.param("eva02_enormous_patch14_clip_224", marks=pytest.mark.slow),
    ],
)
def test_a_network_too_large_is_refused_without_allocating_it(name, monkeypatch):
    import timm

    made, create = [], timm.create_model

    def watched(*args, **kwargs):
        made.append(torch.empty(0).device.type)
        return create(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", watched)
    footprint.cache_clear()
    with pytest.raises(NotAllowed, match=r"has \d{4} million parameters; .* up to 100 million"):
        check_public_model(name, [])
    assert made == ["meta"], "weights were allocated"


def test_the_size_of_a_network_is_counted_without_its_weights():
    import timm

    expected = sum(p.numel() for p in timm.create_model("test_resnet").parameters())
    assert footprint("test_resnet.r160_in1k").parameters == expected
    assert check_public_model("test_resnet", [], limit=expected).name == "test_resnet"
    with pytest.raises(NotAllowed, match="Choose a smaller model"):
        check_public_model("test_resnet", [], limit=expected - 1)


def test_the_page_loads_local_checkpoints_but_not_torchvision():
    assert check_public_model("mine", ["mine"]).kind == "checkpoint"
    with pytest.raises(NotAllowed, match="timm models and local checkpoints only"):
        check_public_model("torchvision:resnet18", [])


# --- labels ---------------------------------------------------------------------------------------


def test_imagenet_labels_are_in_the_usual_order():
    labels = imagenet_1k()
    assert len(labels) == 1000
    assert (labels[0], labels[281], labels[999]) == ("tench", "tabby", "toilet tissue")


def test_a_class_is_meant_by_index_or_by_name():
    labels = ("Cat", "dog", "7")
    assert class_index(" cat ", labels) == 0
    assert class_index("1", labels) == 1
    assert class_index("7", labels) == 2  # no such index, but such a label
    with pytest.raises(UnknownName, match="Did you mean dog"):
        class_index("dgo", labels)


def test_labels_that_travel_with_a_network_are_read():
    assert labels_of(Bare(pretrained_cfg={"label_names": ["a", "b"]})) == ("a", "b")


# --- digests --------------------------------------------------------------------------------------


def test_the_digest_of_parameters_sees_names_shapes_types_and_values():
    def digest(**tensors):
        module = nn.Module()
        for name, value in tensors.items():
            module.register_buffer(name, value)
        return parameters_sha256(module)

    ones = torch.ones(2, 3)
    kinds = [
        digest(a=ones),
        digest(b=ones),
        digest(a=torch.ones(3, 2)),
        digest(a=ones.double()),
        digest(a=ones * 2),
        digest(a=ones, b=ones),
        digest(a=torch.tensor(1.0)),
    ]
    assert len(set(kinds)) == len(kinds)
    assert digest(a=ones.T.contiguous().T) == digest(a=ones)


def test_waiting_ends_in_time_and_passes_errors_on():
    assert call_with_deadline(1, lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        call_with_deadline(1, lambda: 1 / 0)
    hold, began = threading.Event(), time.monotonic()
    with pytest.raises(TimeoutError, match="no answer within"):
        call_with_deadline(0.2, hold.wait)
    assert time.monotonic() - began < 1
    hold.set()


# --- checkpoints ----------------------------------------------------------------------------------


DESCRIPTION = {
    "architecture": "test_resnet",
    "input_size": [32, 48],
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
    "labels": ["cat", "dog", "owl"],
    "licence": "CC0",
    "note": "For tests.",
}


@pytest.fixture(scope="module")
def weights():
    return seeded(build("test_resnet", classes=3)).state_dict()


@pytest.fixture
def folder(tmp_path, weights):
    write_checkpoint(tmp_path / "owls", weights, DESCRIPTION)
    return tmp_path / "owls"


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "torchvision:squeezenet1_0"])
def test_weights_that_come_from_a_file_are_not_drawn_first(tmp_path, name):
    small = {"img_size": [32, 48]} if name == "test_vit" else {}
    whole = seeded(build(name, classes=3, arguments=small))
    description = {**DESCRIPTION, "architecture": name, "arguments": small}
    write_checkpoint(tmp_path / "m", whole.state_dict(), description)
    state = torch.get_rng_state()
    net = from_folder(tmp_path / "m")
    assert torch.equal(torch.get_rng_state(), state), "nobody else's random numbers change"
    x = noise(1, 3, 32, 48)
    torch.testing.assert_close(net.logits(x), whole(x).detach())


def test_a_manifest_may_narrow_its_architecture(tmp_path):
    narrow = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}
    state = seeded(build("resnet18", classes=3, arguments=narrow)).state_dict()
    write_checkpoint(
        tmp_path / "thin", state, {**DESCRIPTION, "architecture": "resnet18", "arguments": narrow}
    )
    net = from_folder(tmp_path / "thin")
    assert net.linear is not None
    assert net.linear.weight.shape == (3, 16)
    edit(tmp_path / "thin", arguments={"no_such_option": 1})
    with pytest.raises(BadArtifact, match="cannot be built"):
        from_folder(tmp_path / "thin")


def edit(folder, **changes) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}))


def test_a_checkpoint_comes_back_as_it_was_written(folder, weights):
    net = from_folder(folder)
    state = net.module.state_dict()
    assert all(torch.equal(state[k], weights[k]) for k in weights)
    assert net.labels == ("cat", "dog", "owl")
    assert net.input_spec.size == (32, 48)
    assert net.identity.digest == file_sha256(folder / WEIGHTS)
    assert net.identity.licence == "CC0"
    assert net.identity.trained
    assert net.identity.notes == ("For tests.",)
    torch.testing.assert_close(
        net.head(net.features(net.probe_inputs())), net.logits(net.probe_inputs())
    )


def test_a_checkpoint_is_found_in_the_folders_of_the_environment_and_loads_by_name(
    folder, monkeypatch
):
    inner = folder.parent  # a folder of checkpoints; the second entry is a checkpoint itself
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", os.pathsep.join([str(inner), str(folder), "/none"]))
    assert checkpoint_folders(root=inner / "nothing-here") == {"owls": folder}
    assert load("owls").identity.source == "local checkpoint"
    monkeypatch.delenv("WHYLENS_CHECKPOINTS")
    with pytest.raises((UnknownName, NotAllowed)):
        load("owls")


def test_folders_with_odd_names_or_half_a_checkpoint_are_passed_over(folder, weights):
    root = folder.parent
    write_checkpoint(root / ".hidden", weights, DESCRIPTION)
    (root / "half").mkdir()
    (root / "half" / MANIFEST).write_text("{}")
    assert set(checkpoint_folders(root=root)) == {"owls"}


def test_of_two_checkpoints_of_one_name_the_first_is_used(folder, weights, tmp_path, monkeypatch):
    other = tmp_path / "elsewhere" / "owls"
    write_checkpoint(other, weights, DESCRIPTION)
    monkeypatch.setenv("WHYLENS_CHECKPOINTS", str(other.parent))
    assert checkpoint_folders(root=folder.parent)["owls"] == folder


def test_weights_with_another_hash_are_refused(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(BadArtifact, match=r"owls/model.safetensors is damaged or was replaced"):
        from_folder(folder)


def test_missing_and_surplus_weights_are_refused(folder, weights, tmp_path):
    some = {k: v for k, v in weights.items() if k != "fc.bias"}
    write_checkpoint(folder, some, DESCRIPTION)
    with pytest.raises(BadArtifact, match=r"do not fit test_resnet: .*fc\.bias"):
        from_folder(folder)
    write_checkpoint(folder, {**weights, "more": torch.zeros(1)}, DESCRIPTION)
    with pytest.raises(BadArtifact, match=r"do not fit test_resnet: .*more"):
        from_folder(folder)


def test_a_number_of_labels_that_the_weights_do_not_have_is_refused(folder):
    edit(folder, labels=["cat", "dog"])
    with pytest.raises(BadArtifact, match="do not fit test_resnet"):
        from_folder(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"surprise": 1}, "wrong at 'surprise'"),
        ({"sha256": "abc"}, "wrong at 'sha256'"),
        ({"input_size": "big"}, "wrong at 'input_size'"),
        ({"input_size": []}, "wrong at 'size'"),
        ({"input_size": [0, 32]}, "must be positive"),
        ({"mean": [0.5]}, "one value per channel"),
        ({"std": [0.2, 0.2, 0]}, "must be positive"),
        ({"crop": 3}, "wrong at 'crop'"),
        ({"interpolation": "magic"}, "wrong at 'interpolation'"),
        ({"labels": "imagenet-22k"}, "labels must be a list, or 'imagenet-1k'"),
        ({"architecture": "local-dir:/etc"}, "no known architecture"),
        ({"architecture": "hf-hub:acme/evil"}, "no known architecture"),
        ({"architecture": "resnet_none"}, "no known architecture.*Did you mean"),
        ({"architecture": "torchvision:resnet_none"}, "no known architecture"),
        ({"architecture": "resnet18"}, "do not fit resnet18"),
    ],
    ids=str,
)
def test_a_manifest_that_says_something_impossible_is_refused_in_words(folder, changes, words):
    edit(folder, **changes)
    with pytest.raises(BadArtifact, match=words):
        from_folder(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b'{"a": 1}'])
def test_a_manifest_that_cannot_be_read_is_refused_in_words(folder, content):
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(BadArtifact, match=r"owls/model\.json is wrong"):
        read_manifest(folder)


def test_missing_files_are_refused_in_words_without_telling_the_path(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(BadArtifact, match=r"owls/model.safetensors cannot be read: No such") as one:
        from_folder(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(BadArtifact, match=r"owls/model.json cannot be read: No such") as two:
        from_folder(folder)
    for caught in (one, two):
        assert str(folder.parent) not in str(caught.value)


def test_what_is_no_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(BadArtifact, match="is not a safetensors file"):
        read_weights(path, sha256=None)


def test_tied_weights_can_be_written(tmp_path):
    shared = torch.arange(4.0)
    write_checkpoint(tmp_path, {"a": shared, "b": shared, "c": shared[1:]}, DESCRIPTION)
    found = read_weights(tmp_path / WEIGHTS, sha256=read_manifest(tmp_path).sha256)
    assert found["c"].tolist() == [1, 2, 3]
    assert torch.equal(found["a"], found["b"])


def test_a_write_that_is_cut_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def power_cut(_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(os, "fsync", power_cut)
    with pytest.raises(OSError, match="the disk is gone"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_checkpoint_cut_between_its_two_files_is_the_old_one(folder, weights, monkeypatch):
    before, write = from_folder(folder).identity.digest, files.write_atomically
    changed = {k: v + 1 if v.is_floating_point() else v for k, v in weights.items()}

    def only_weights(path, content):
        if path.name == MANIFEST:
            raise KeyboardInterrupt
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomically", only_weights)
        with pytest.raises(KeyboardInterrupt):
            write_checkpoint(folder, changed, DESCRIPTION)
    assert from_folder(folder).identity.digest == before
    write_checkpoint(folder, changed, DESCRIPTION)
    assert from_folder(folder).identity.digest != before


def test_a_checkpoint_that_cannot_be_described_leaves_the_old_one_whole(folder, weights):
    before = from_folder(folder).identity.digest
    with pytest.raises(ValueError, match="input_size"):
        write_checkpoint(folder, weights, {**DESCRIPTION, "input_size": "large"})
    assert from_folder(folder).identity.digest == before


def test_the_untrained_network_says_so_and_is_alive():
    net = load("untrained:test_resnet")
    assert not net.identity.trained
    assert "Untrained" in net.identity.notes[0]
    assert len(net.labels) == 1000
    logits = net.logits(net.probe_inputs())
    assert float((logits[0] - logits[1]).abs().max()) > 0.05 * float(logits.abs().max())
    assert load("untrained:test_resnet").identity.digest == net.identity.digest


def test_pretrained_weights_that_are_not_here_are_refused_offline():
    with pytest.raises(WeightsUnavailable, match=r"HF_HUB_OFFLINE is set\. Choose a local"):
        load("test_byobnet.r160_in1k")


def test_a_network_without_weights_on_the_hub_is_refused_in_words():
    with pytest.raises(WeightsUnavailable, match="Choose a name with a tag"):
        load("gcvit_xxtiny.in1k")


# --- torchvision ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "grid", "channels", "linear"),
    [
        ("squeezenet1_0", (3, 5), 512, False),
        pytest.param("resnet18", (2, 3), 512, True, marks=pytest.mark.slow),
        ("shufflenet_v2_x0_5", (2, 3), 1024, True),
        pytest.param("mobilenet_v2", (2, 3), 1280, True, marks=pytest.mark.slow),
        pytest.param("densenet121", (2, 3), 1024, True, marks=pytest.mark.slow),
        pytest.param("googlenet", (2, 3), 1024, True, marks=pytest.mark.slow),
        pytest.param("convnext_tiny", (2, 3), 768, False, marks=pytest.mark.slow),
        pytest.param("swin_t", (2, 3), 768, True, marks=pytest.mark.slow),
        pytest.param("mobilenet_v3_small", (2, 3), 576, False, marks=pytest.mark.slow),
    ],
)
def test_torchvision_networks_are_cut_at_their_last_map(name, grid, channels, linear):
    net = wrapped(build(f"torchvision:{name}", classes=4), 64, 96)
    x = noise(3, 3, 64, 96)
    features = net.features(x)
    assert tuple(features.map.shape) == (3, channels, *grid)
    torch.testing.assert_close(net.head(features), net.logits(x), rtol=1e-3, atol=1e-5)
    assert (net.linear is not None) is linear
    if linear:
        pooled = features.map.mean((2, 3)) @ net.linear.weight.T + net.linear.bias
        torch.testing.assert_close(pooled, net.logits(x), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_vision_transformer_of_torchvision_is_cut_before_its_last_block():
    net = wrapped(build("torchvision:vit_b_16", classes=4), 224, 224)
    x = noise(1, 3, 224, 224)
    features = net.features(x)
    assert tuple(features.map.shape) == (1, 768, 14, 14)
    assert features.prefix_tokens.shape == (1, 1, 768)
    torch.testing.assert_close(net.head(features), net.logits(x), rtol=1e-3, atol=1e-5)


def put_torchvision_file(tmp_path, monkeypatch, name: str, state: dict) -> None:
    """Put weights where torchvision keeps them, under a name that carries their hash."""
    import torchvision

    kept = io.BytesIO()
    torch.save(state, kept)
    digest = hashlib.sha256(kept.getvalue()).hexdigest()[:8]
    place = tmp_path / "checkpoints" / f"{name}-{digest}.pth"
    place.parent.mkdir()
    place.write_bytes(kept.getvalue())
    real = torchvision.models.get_model_weights(name).DEFAULT
    stand_in = SimpleNamespace(
        url=f"https://download.example/{place.name}",
        meta=real.meta,
        transforms=real.transforms,
        name="DEFAULT",
    )
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        torchvision.models, "get_model_weights", lambda _: SimpleNamespace(DEFAULT=stand_in)
    )


def test_a_torchvision_name_loads_its_file_and_its_preprocessing(tmp_path, monkeypatch):
    module = seeded(build("torchvision:squeezenet1_1", classes=1000))
    put_torchvision_file(tmp_path, monkeypatch, "squeezenet1_1", module.state_dict())
    net = load("torchvision:squeezenet1_1")
    x = net.probe_inputs()
    torch.testing.assert_close(net.logits(x), module(x))
    assert net.input_spec.size == (224, 224)
    assert net.input_spec.crop == pytest.approx(224 / 256)
    assert net.labels[281] == "tabby"


def test_torchvision_files_with_missing_weights_are_refused(tmp_path, monkeypatch):
    state = build("torchvision:squeezenet1_1", classes=1000).state_dict()
    state.pop("classifier.1.bias")
    put_torchvision_file(tmp_path, monkeypatch, "squeezenet1_1", state)
    with pytest.raises(BadArtifact, match="torchvision:squeezenet1_1 do not fit it"):
        load("torchvision:squeezenet1_1")


def test_a_damaged_torchvision_file_is_refused_and_deleted(tmp_path, monkeypatch):
    put_torchvision_file(tmp_path, monkeypatch, "squeezenet1_1", {})
    (path,) = (tmp_path / "checkpoints").iterdir()
    path.write_bytes(b"something else")
    with pytest.raises(BadArtifact, match="arrived damaged and was deleted"):
        load("torchvision:squeezenet1_1")
    assert not path.exists()


@pytest.mark.slow
def test_the_old_names_in_torchvisions_densenet_files_are_understood(tmp_path, monkeypatch):
    module = seeded(build("torchvision:densenet121", classes=1000))
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", k): v
        for k, v in module.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    put_torchvision_file(tmp_path, monkeypatch, "densenet121", old)
    net = load("torchvision:densenet121")
    assert parameters_sha256(net.module) == parameters_sha256(module)
