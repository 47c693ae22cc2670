"""Windows answered by local work: the same logits as in full, wherever the window lies."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.support.networks import GapNet, plain_spec, seeded
from tests.support.quick import some_quick
from tests.support.toys import noise
from whylens.core.inputs.spec import probe_inputs
from whylens.core.models.backbone import wrap
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.models.load import build
from whylens.core.models.random_weights import randomize_weights
from whylens.core.speed import incremental
from whylens.core.speed.incremental import IncrementalNetwork, fill_boxes, incremental_network
from whylens.core.speed.receptive_field import Kernel, Span, gather_patches, union
from whylens.core.storage.files import parameters_sha256
from whylens.core.subject import Subject
from whylens.core.targets import Target


@pytest.mark.parametrize("seed", range(40))
def test_what_a_kernel_reaches_and_reads_is_what_a_convolution_does(seed):
    draw = random.Random(seed)
    kernel = Kernel(*(draw.randint(*r) for r in ((1, 4), (1, 3), (0, 2), (1, 2))))
    length, size = draw.randint(kernel.extent, 20), draw.randint(1, 6)
    starts = tuple(draw.randint(0, length - min(size, length)) for _ in range(5))
    changed_span = Span(starts, min(size, length))
    x = torch.zeros(5, 1, length)
    for row, start in enumerate(starts):
        x[row, :, start : start + changed_span.length] = 1
    weight = torch.ones(1, 1, kernel.size)
    out = functional.conv1d(x, weight, None, kernel.stride, kernel.padding, kernel.dilation)
    span = kernel.outputs_touching(changed_span, out.shape[-1])
    assert min(span.starts) >= 0
    assert max(span.starts) + span.length <= out.shape[-1]
    widest_span = 1
    for row, start in enumerate(span.starts):
        touched_places = out[row, 0].nonzero()[:, 0].tolist()
        assert set(touched_places) <= set(range(start, start + span.length))
        widest_span = max(
            [widest_span, *(touched_places[-1] - touched_places[0] + 1 for _ in touched_places[:1])]
        )
    assert span.length == widest_span or kernel.dilation > 1, "no larger than the largest needs"
    inputs = kernel.inputs_read(span)
    assert inputs.length == (span.length - 1) * kernel.stride + kernel.extent
    assert inputs.starts[0] == span.starts[0] * kernel.stride - kernel.padding


def test_spans_are_united_within_the_axis():
    spans = [Span((0, 6), 3), Span((1, 5), 2)]
    assert union(spans, 9) == Span((0, 5), 4)
    assert union(spans, 8) == Span((0, 4), 4)


@pytest.mark.parametrize("seed", range(20))
def test_parts_with_patches_are_cut_from_padded_maps_with_patches(seed):
    draw = random.Random(seed)
    size, count = (draw.randint(4, 9), draw.randint(4, 9)), 3

    def span(longest, low, high):
        length = draw.randint(1, longest)
        return Span(tuple(draw.randint(low, high - length) for _ in range(count)), length)

    inner_spans = tuple(span(side, 0, side) for side in size)
    outer_spans = tuple(span(side + 4, -2, side + 2) for side in size)
    clean = noise(1, 5, *size, seed=seed)
    patches = noise(count, 5, *(s.length for s in inner_spans), seed=seed + 100)
    actual = gather_patches(clean, patches, inner_spans, outer_spans, -7.0)
    assert actual.is_contiguous(memory_format=torch.channels_last)
    for i, patch in enumerate(patches):
        (top, start), (rows, columns) = (
            (s.starts[i] for s in inner_spans),
            (s.length for s in inner_spans),
        )
        whole = clean[0].clone()
        whole[:, top : top + rows, start : start + columns] = patch
        whole = functional.pad(whole, (2, 2, 2, 2), value=-7.0)
        (top, start), (rows, columns) = (
            (s.starts[i] + 2 for s in outer_spans),
            (s.length for s in outer_spans),
        )
        assert torch.equal(actual[i], whole[:, top : top + rows, start : start + columns])


class Plain(nn.Module):
    """Every kind of window that is known, then a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)
        self.norm, self.act = nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.wide = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.fc = nn.Linear(8, 3)

    def body(self, x):
        return self.wide(self.pool(self.act(self.norm(self.stem(x))))).relu_()

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))


class Pools(Plain):
    """Max pooling up to a partial window; means with and without padding; no padding at all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, (3, 5), stride=(1, 2), padding=(0, 1), bias=False)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.mean, self.even = nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(2, 1)

    def body(self, x):
        return self.even(self.mean(super().body(x)))


class Branches(Plain):
    """A residual in place, a concatenation, a constant per channel, shapes that are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 5, padding=2)
        self.down = nn.Conv2d(16, 8, 1, stride=2)
        self.gain = nn.Parameter(torch.ones(8, 1, 1))

    def body(self, x):
        x = super().body(x)
        y = self.two(x) * self.gain
        y += self.one(x)
        y = functional.silu(y, inplace=True)
        return self.down(torch.cat([x, y], 1)) * (1 / x.shape[1])


class Gated(Branches):
    """A gate looks at the whole map half way."""

    def body(self, x):
        x = super().body(x)
        return self.one(x * x.mean((2, 3), keepdim=True).sigmoid())


class Shuffled(Plain):
    """Rearranges places in a way that is not known: from there on all is computed in full."""

    def body(self, x):
        return super().body(x).flip(2).roll(1, 3)


class Patterned(Plain):
    """Weighs places by where they are."""

    def body(self, x):
        x = super().body(x)
        return x * torch.linspace(0, 1, x.shape[3])


class PadsByItself(nn.Conv2d):
    """Pads by what the input's size asks for, the odd cell behind, as TensorFlow's networks do."""

    def forward(self, x):
        sides = []
        for axis in (3, 2):
            stride, length = self.stride[axis - 2], x.shape[axis]
            reach = (self.kernel_size[axis - 2] - 1) * self.dilation[axis - 2] + 1
            pad = max(0, (math.ceil(length / stride) - 1) * stride + reach - length)
            sides += [pad // 2, pad - pad // 2]
        return self._conv_forward(functional.pad(x, sides), self.weight, self.bias)


class Padded(Plain):
    """Convolutions of each channel by itself, clamped; padding by name and by the input's size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = PadsByItself(3, 8, 3, stride=2, bias=False)
        self.each = PadsByItself(8, 8, 5, stride=(2, 1), groups=8)
        self.named, self.clamp = nn.Conv2d(8, 8, (5, 3), padding="same"), nn.ReLU6()

    def body(self, x):
        x = self.act(self.norm(self.stem(x)))
        return self.clamp(self.named(self.clamp(self.each(x))))


class Mirrored(Plain):
    """Pads with what lies at the edge: no zeros, so it is run in full from there on."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")


KINDS = [Plain, Pools, Branches, Gated, Shuffled, Padded]


def boxes_of(size, window) -> list:
    """Return windows at every corner and edge, and at odd places between."""
    height, width = (min(w, n) for w, n in zip(window, size, strict=True))
    rows = sorted({0, 1, (size[0] - height) // 2, (size[0] - height) // 3 * 2, size[0] - height})
    columns = sorted({0, 3, (size[1] - width) // 2, size[1] - width})
    return [(slice(r, r + height), slice(c, c + width)) for r in rows for c in columns]


def compare(network, module, x, fill, boxes) -> None:
    actual = network.start(x).logits(boxes, fill)
    with torch.no_grad():
        expected = module(fill_boxes(x, fill, boxes))
        plain_logits = module(x)
    assert actual.shape == expected.shape
    assert float((expected - plain_logits).abs().min(0).values.max()) > 0, (
        "no window changes anything"
    )
    assert float((actual - expected).abs().max()) <= 1e-4 * float(expected.abs().max())


@pytest.fixture
def always(monkeypatch):
    """Local work is done whether or not it saves any."""
    monkeypatch.setattr(incremental, "WORTHWHILE", 2.0)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    ("kind", "size", "window"),
    # The window changes with the network and the size.
    some_quick(
        product(KINDS, [(64, 96), (61, 87)], [(8, 8), (5, 17), (30, 9)]),
        lambda number, _: number // 3 % 3 == number % 3,
    ),
)
def test_logits_equal_those_of_the_covered_inputs(kind, size, window):
    module = seeded(kind()).requires_grad_(False)
    x, fill = noise(1, 3, *size), noise(1, 3, *size, seed=8)
    before = parameters_sha256(module)
    network = IncrementalNetwork(module, x)
    boxes = boxes_of(size, window)
    assert len(network.plan(incremental._region(boxes))) >= 5
    compare(network, module, x, fill, boxes)
    for piece in (boxes[:1], boxes[-1:], boxes[3:6]):
        compare(network, module, x, fill, piece)
    assert parameters_sha256(module) == before
    assert module.act.inplace, "the network's own modules stay as they were"


@pytest.mark.parametrize(
    ("kind", "partly"),
    [(Branches, True), (Padded, True), (Gated, False), (Shuffled, False), (Mirrored, False)],
)
def test_local_work_ends_where_a_whole_map_is_looked_at(kind, partly):
    module, x = seeded(kind()), noise(1, 3, 128, 128)
    network = IncrementalNetwork(module, x)
    plan = network.plan(incremental._region([(slice(8, 16), slice(40, 48))]))
    last = [node for node in network.graph.graph.nodes if len(network.shapes.get(node, ())) == 4]
    in_part = [node for node in last if node in plan]
    assert in_part
    assert (last[-1] in plan) is partly


def test_the_work_left_shrinks_with_the_window_and_too_much_is_refused():
    module, x = seeded(Plain()), noise(1, 3, 128, 128)
    network = IncrementalNetwork(module, x)
    shares = []
    for side in (8, 32, 96, 128):
        box = (slice(0, side), slice(0, side))
        shares.append(network.work_left(network.plan(incremental._region([box]))))
        answer = network.start(x).logits([box], noise(1, 3, 128, 128, seed=8))
        assert (answer is None) is (shares[-1] > incremental.WORTHWHILE)
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.2
    assert shares[-1] == 1


class Undone(Plain):
    """Reads a map again after it was changed in place: written anew, that would be lost."""

    def body(self, x):
        x = self.stem(x)
        y = x * 1
        x.sub_(0.1).relu_()
        return self.pool(x + y)


class Fork(Plain):
    def body(self, x):
        return super().body(x) if x.sum() > 0 else x


@pytest.mark.parametrize("kind", [Undone, Fork])
def test_a_local_form_that_disagrees_or_cannot_be_made_is_not_used(kind):
    module = seeded(kind()).requires_grad_(False)
    probe = probe_inputs(plain_spec(96, 96))
    assert incremental_network(seeded(Plain()), seeded(Plain()), probe) is not None
    assert incremental_network(module, module, probe) is None


def test_a_map_weighed_by_place_is_computed_in_full_from_there_on():
    module, x = seeded(Patterned()), noise(1, 3, 128, 128)
    network = IncrementalNetwork(module, x)
    compare(network, module, x, noise(1, 3, 128, 128, seed=8), boxes_of((128, 128), (8, 8)))


@pytest.mark.parametrize("axes", [1, 3])
def test_inputs_of_other_dimensions_have_no_local_form(axes):
    module = seeded(GapNet(axes=axes))
    probe = probe_inputs(plain_spec(*(16,) * axes))
    assert incremental_network(module, module, probe) is None


def incremental_form(net) -> IncrementalNetwork | None:
    return incremental_network(net.fast_module, net.module, net.probe_inputs())


def short_vgg() -> nn.Module:
    import torchvision

    module = torchvision.models.vgg11_bn(weights=None)
    module.classifier = nn.Linear(512 * 49, 10)  # the real one weighs 0.5 GB and sees one position
    return module.eval()


FULL_SIZE = ("resnet18", "resnet50", "regnetx_002", "densenet121", "vgg11_bn", "mobilenetv2_050")
NARROW_RESNET = {"channels": (16, 24, 32, 48)}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        pytest.param("resnet18", NARROW_RESNET, marks=pytest.mark.slow),
        ("tf_efficientnet_lite0", {}),
        *(pytest.param(n, {}, marks=pytest.mark.slow) for n in FULL_SIZE),
    ],
)
def test_real_networks_answer_windows_locally(name, arguments):
    input_spec = plain_spec(160, 128)
    module = short_vgg() if name == "vgg11_bn" else build(name, classes=10, arguments=arguments)
    net = wrap(
        randomize_weights(module, seed=4, probe=probe_inputs(input_spec)), input_spec=input_spec
    )
    network = incremental_form(net)
    assert network is not None
    x, fill = noise(1, 3, *input_spec.size), torch.zeros(1, 3, *input_spec.size)
    boxes = boxes_of(input_spec.size, (16, 16))[::4]
    compare(network, net.module, x, fill, boxes)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.module.modules())


@pytest.mark.parametrize(
    ("name", "side", "arguments"),
    [
        ("convnext_atto", 64, {"dims": (8, 12, 16, 24), "depths": (1, 1, 1, 1)}),
        ("vit_tiny_patch16_224", 64, {"img_size": 64, "depth": 3, "embed_dim": 48}),
        pytest.param("regnety_002", 128, {}, marks=pytest.mark.slow),
        pytest.param("convnext_atto", 128, {}, marks=pytest.mark.slow),
        pytest.param("vit_tiny_patch16_224", 128, {"img_size": 128}, marks=pytest.mark.slow),
    ],
)
def test_networks_that_look_at_all_of_a_map_early_are_run_in_full(name, side, arguments):
    input_spec = plain_spec(side, side)
    module = build(name, classes=10, arguments=arguments)
    net = wrap(
        randomize_weights(module, seed=4, probe=probe_inputs(input_spec)), input_spec=input_spec
    )
    assert incremental_form(net) is None
    x, fill = noise(1, 3, side, side), torch.zeros(1, 3, side, side)
    boxes = boxes_of((side, side), (side // 4, side // 4))[:3]
    actual = net.occluded_logits(x, fill)(boxes)
    with torch.no_grad():
        expected = net.logits(fill_boxes(x, fill, boxes))
    assert float((actual - expected).abs().max()) <= 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize(
    ("batch_size", "classes"),
    some_quick(product([1, 3, 50], [1, 3]), lambda number, _: number in (1, 2, 5)),
)
def test_a_subject_scores_windows_in_bounded_pieces(batch_size, classes):
    module = seeded(Plain())
    module.fc = seeded(nn.Linear(8, classes))
    net = wrap(module, input_spec=plain_spec(96, 128))
    x, fill = noise(1, 3, 96, 128), torch.zeros(1, 3, 96, 128)
    subject = Subject(ForwardPass(net, x), Target(1, "probability"), batch_size)
    boxes = boxes_of((96, 128), (8, 8))
    pieces = list(subject.window_scores(boxes, fill))
    assert incremental_form(net) is not None
    assert [len(p) for p in pieces[:-1]] == [batch_size] * (len(pieces) - 1)
    expected = subject.scores(fill_boxes(x, fill, boxes))
    torch.testing.assert_close(torch.cat(pieces), expected, rtol=1e-4, atol=1e-6)
    assert not torch.cat(pieces).requires_grad


def test_windows_of_several_sizes_are_run_in_full():
    net = wrap(seeded(Plain()), input_spec=plain_spec(96, 128))
    x, fill = noise(1, 3, 96, 128), torch.zeros(1, 3, 96, 128)
    boxes = [(slice(0, 8), slice(0, 8)), (slice(0, 9), slice(4, 12))]
    assert incremental_form(net).start(x).logits(boxes, fill) is None
    torch.testing.assert_close(
        net.occluded_logits(x, fill)(boxes), net.logits(fill_boxes(x, fill, boxes))
    )
