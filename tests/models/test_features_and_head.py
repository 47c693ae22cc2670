"""Networks cut into features and head: two halves that add up, or a reason in words."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torch.fx.proxy import TraceError

from tests.support.modules import backbone_of, noise
from tests.support.networks import GapNet, MlpHeadNet, TokenNet, plain_spec, seeded
from whylens.core.errors import NeedsNotMet
from whylens.core.models.backbone import Backbone, wrap
from whylens.core.models.layouts import Features, Tokens, as_two_logits
from whylens.core.models.split import find_split
from whylens.core.needs import Need
from whylens.core.speed.fx_ops import trace
from whylens.core.storage.files import parameters_sha256

SPATIAL, POOLED = Need.SPATIAL_FEATURES, Need.POOLED_LINEAR_HEAD


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
    return backbone_of(module, *size)


def test_the_halves_add_up_to_the_whole_for_any_batch(net):
    for count in (1, 3):
        x = noise(count, 3, *net.input_spec.size)
        torch.testing.assert_close(net.head(net.features(x)), net.logits(x))


def test_fast_logits_agree_with_the_network(net):
    x = noise(4, 3, *net.input_spec.size, seed=12)
    torch.testing.assert_close(net.fast_logits(x), net.logits(x), rtol=1e-3, atol=1e-5)


def test_a_graph_is_traced_once_for_all_its_cuts_and_for_copies(monkeypatch):
    traces = []
    monkeypatch.setattr(
        "whylens.core.models.split.trace", lambda module: traces.append(module) or trace(module)
    )
    network, network_copy, x = Sequence2().eval(), Sequence2().eval(), noise(2, 3, 12, 20)
    split = find_split(network, x)
    with torch.no_grad():
        for cut, whole in ((split, network), (split.recut(network_copy), network_copy)):
            torch.testing.assert_close(cut.head(cut.features(x)), whole(x))
    assert traces == [network]


class Remembers(Sequence2):
    """Assigns what it computes to itself, and asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(1.0))

    def forward(self, x):
        self.scale = torch.maximum(self.scale, x.abs().max())
        self.last = super().forward(x)
        return self.last if self.scale > 0 else 0 * self.last


def test_a_trace_that_fails_leaves_a_network_as_it_was():
    network, x = Remembers().eval(), noise(2, 3, 12, 20)
    with pytest.raises(TraceError):
        trace(network)
    assert float(network.scale) == 1
    assert not hasattr(network, "last")
    net = backbone_of(network, 12, 20)
    with torch.no_grad():
        torch.testing.assert_close(net.fast_logits(x), network(x))


def test_gradients_through_the_head_equal_those_of_the_whole_graph(net):
    x = noise(1, 3, *net.input_spec.size)
    with torch.no_grad():
        leaf = net.features(x)
    detached_map = leaf.map.clone().requires_grad_()
    head_gradient = torch.autograd.grad(
        net.head(Features(detached_map, leaf.prefix_tokens))[0, 1], detached_map
    )[0]
    start = x.clone().requires_grad_()
    features = net.features(start)
    score = net.head(features)[0, 1]
    through, at_input = torch.autograd.grad(score, [features.map, start])
    assert float(head_gradient.abs().max()) > 0
    torch.testing.assert_close(head_gradient, through)
    whole = torch.autograd.grad(net.logits(start)[0, 1], start)[0]
    torch.testing.assert_close(at_input, whole)


def test_the_same_cut_can_be_made_again_on_a_copy(net):
    import copy

    twin = copy.deepcopy(net.module)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.1)
    split = net.split.recut(twin)
    x = noise(2, 3, *net.input_spec.size)
    torch.testing.assert_close(as_two_logits(split.head(split.features(x))), as_two_logits(twin(x)))
    assert not torch.allclose(as_two_logits(twin(x)), net.logits(x))


def test_the_graph_is_cut_after_its_last_map():
    net = backbone_of(Sequence2(), 12, 20)
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
    net = backbone_of(Reshaped(), 12, 20)
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
    net = backbone_of(module, 16, 24)
    x = noise(1, 3, 16, 24)
    tokens = module.patch(x).flatten(2).transpose(1, 2)
    tokens = torch.cat([module.cls, tokens], 1)
    block_input = module.blocks[1](module.blocks[0](tokens))
    torch.testing.assert_close(Tokens(1, (4, 6)).write(net.features(x)), block_input)
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
    net = backbone_of(ClassTokenNet(), 16, 24)
    inputs = [noise(1, 3, 16, 24, seed=s) for s in range(4)]
    with torch.no_grad():
        expected = [net.features(x).map for x in inputs]
    matches: dict[int, list[bool]] = {}

    def work(i: int) -> None:
        with torch.no_grad():
            equal = [torch.equal(net.features(inputs[i]).map, expected[i]) for _ in range(20)]
        matches[i] = equal

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(all(matches[i]) for i in range(4))


def test_tracing_one_network_does_not_disturb_another_that_is_running():
    # torch.fx swaps nn.Module.__call__ for everybody while it traces.
    run_net, traced_net = (
        seeded(Sequence2()),
        seeded(nn.Sequential(*[nn.Tanh() for _ in range(300)])),
    )
    x = noise(1, 3, 12, 20)
    with torch.no_grad():
        expected = run_net(x)
    stop, faults, rounds = threading.Event(), [], []

    def run() -> None:
        while not stop.is_set():
            try:
                with torch.no_grad():
                    outcome = torch.equal(run_net(x), expected)
            except Exception as fault:  # noqa: BLE001 - any is the bug
                outcome = repr(fault)
            rounds.append(1)
            if outcome is not True:
                faults.append(outcome)

    from whylens.core.speed.fx_ops import trace

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(8):
        assert len(trace(traced_net).graph.nodes) == 302
    stop.set()
    thread.join()
    assert rounds
    assert faults == []


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
    net = backbone_of(Unruly(), 12, 20)
    assert net.split is None
    assert "do not add up" in net.unmet[SPATIAL]
    assert "no feature map to pool" in net.unmet[POOLED]
    with pytest.raises(NeedsNotMet, match="Unruly has no feature map to look at: its two halves"):
        net.features(noise(1, 3, 12, 20))


def test_why_a_need_is_unmet_reads_as_a_sentence():
    net = backbone_of(Unruly(), 12, 20)
    reason = net.why_not(frozenset({SPATIAL}))
    assert reason.startswith("needs a feature map with positions")
    assert reason.endswith("whole network.")
    assert net.why_not(frozenset({Need.GRADIENTS})) is None
    for debug in ("Error", "node", "graph", "_"):
        assert debug not in reason


class OneCorner(GapNet):
    """Reads one position, as where a class token is taken for a patch."""

    def head(self, f):
        return self.fc(f[:, :, 0, 0])


def test_a_score_read_from_one_position_alone_is_refused_in_words():
    net = backbone_of(OneCorner(), 12, 20)
    assert "from a single position" in net.unmet[SPATIAL]


class Pooled(GapNet):
    """Its map has one position left."""

    def features(self, x):
        return self.conv(x).relu().mean((2, 3), keepdim=True)


def test_a_map_with_one_position_is_no_map():
    class Untraceable(Pooled):
        def forward(self, x):
            return super().forward(x) if float(x.detach().sum()) < 1e9 else x

    net = backbone_of(Untraceable(), 12, 20)
    assert net.unmet[SPATIAL] == "its last feature map has a single position"
    assert net.features(noise(1, 3, 12, 20)).map.shape == (1, 4, 1, 1)  # fit for comparing images


def test_where_the_offered_map_has_one_position_an_earlier_one_is_found_in_the_graph():
    net = backbone_of(Pooled(), 12, 20)
    assert SPATIAL not in net.unmet
    assert net.features(noise(1, 3, 12, 20)).map.shape == (1, 4, 6, 10)


class Constant(GapNet):
    def head(self, f):
        return self.fc(torch.zeros(len(f), 4)) + 0 * f.sum()


def test_a_score_that_ignores_the_map_is_refused_in_words():
    net = backbone_of(Constant(), 12, 20)
    assert "not read from the positions" in net.unmet[SPATIAL]
    assert "zero everywhere" in net.unmet[Need.GRADIENTS]
