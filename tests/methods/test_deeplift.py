"""DeepLIFT: contributions that add up, for modules, functions and in-place forms, or a refusal."""

from __future__ import annotations

import threading
import warnings
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from tests.support.networks import MlpHeadNet, plain_spec, seeded
from tests.support.quick import some_quick
from tests.support.toys import (
    CASES,
    IDS,
    LinearNet,
    difference,
    final,
    noise,
    picture,
    precise,
    score64,
    subject_of,
    toy,
)
from whylens.core.errors import NeedsNotMet
from whylens.core.models.backbone import wrap
from whylens.core.targets import Target
from whylens.plugins.deeplift import (
    FILLS,
    DeepLift,
    DeepLiftParams,
    RescaleRule,
    apply_rescale_rule,
    completeness_gap,
)

METHOD = DeepLift()
FUNCTIONS = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "tanh-gelu": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": functional.hardswish,
    "softplus": functional.softplus,
    "elu": functional.elu,
    "leaky_relu": functional.leaky_relu,
    "relu6": functional.relu6,
    "mish": functional.mish,
}
MODULES = {
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "silu in place": nn.SiLU(inplace=True),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "hardswish": nn.Hardswish(inplace=True),
    "softplus": nn.Softplus(),
    "elu": nn.ELU(inplace=True),
    "leaky_relu": nn.LeakyReLU(inplace=True),
    "relu6": nn.ReLU6(inplace=True),
    "prelu": nn.PReLU(4),
}
METHODS = {
    "x.relu()": lambda x: x.relu(),
    "x.relu_()": lambda x: x.relu_(),
    "torch.relu_": torch.relu_,
    "relu(inplace)": lambda x: functional.relu(x, inplace=True),
    "x.sigmoid()": lambda x: x.sigmoid(),
    "x.tanh_()": lambda x: x.tanh_(),
    "x.clamp(0, 6)": lambda x: x.clamp(0, 6),
    "x.clamp_min_(0)": lambda x: x.clamp_min_(0),
}
EVERY = {**FUNCTIONS, **METHODS, **{f"module {k}": v for k, v in MODULES.items()}}


def lifted(subject, **params):
    return final(METHOD.explain(subject, DeepLiftParams(**params)))


class Net(nn.Module):
    """Two convolutions and two linear layers with one nonlinearity between all of them."""

    def __init__(self, act, pool=None) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.hidden, self.fc = nn.Linear(4, 6), nn.Linear(6, 3)
        self.act, self.pool = act, pool or (lambda x: x)

    def forward(self, x):
        x = self.pool(self.act(self.one(x)))
        x = self.act(self.two(x))
        x = self.hidden(x.mean((2, 3)))
        # The PReLU has its slopes for four channels; its first stands in for the six here.
        if isinstance(self.act, nn.PReLU):
            return self.fc(functional.prelu(x, self.act.weight[:1]))
        return self.fc(self.act(x))


def loud(module):
    """Return the network with weights that make both signs common, and differences large."""
    module = seeded(module)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                part.weight *= 2
    return module


def subject_for(module, target=None, *, size=(10, 13), seed=5):
    return subject_of(module, 3 * noise(1, 3, *size, seed=seed) - 1, target)


class LiteralNet:
    """The rescale rule by hand for `Net`: every layer's multipliers as a float64 matrix."""

    def __init__(self, module, act) -> None:
        self.net, self.act = precise(module), act

    def multipliers(self, x, start, row):
        """Return (3, H, W): multipliers of the input's difference, from the last layer back."""
        net, act = self.net, self.act
        shape = x.shape
        with torch.no_grad():
            pre = [(net.one(x), net.one(start))]
            pre.append(tuple(net.two(act(v)) for v in pre[0]))
            pre.append(tuple(net.hidden(act(v).mean((2, 3))) for v in pre[1]))
        ratio = [self.slope(*p) for p in pre]
        back = net.fc.weight[row].detach() * ratio[2][0]  # (6,)
        back = back @ net.hidden.weight.detach()  # (4,)
        places = shape[2] * shape[3]
        field = (back[:, None, None] / places).expand(4, *shape[2:]) * ratio[1][0]
        field = self.conv_back(field, net.two) * ratio[0][0]
        return self.conv_back(field, net.one)

    def slope(self, v, w):
        slopes = torch.empty_like(v).flatten()
        for i, (a, b) in enumerate(zip(v.flatten(), w.flatten(), strict=True)):
            assert a != b, "this input does not test the quotient"
            slopes[i] = (self.act(a) - self.act(b)) / (a - b)
        return slopes.view_as(v)

    @staticmethod
    def conv_back(field, conv):
        """Return the transpose of a padded 3 x 3 convolution, one output place at a time."""
        k, rows, columns = field.shape
        padded = torch.zeros(conv.in_channels, rows + 2, columns + 2, dtype=field.dtype)
        for r in range(rows):
            for c in range(columns):
                for out in range(k):
                    window = field[out, r, c] * conv.weight[out].detach()
                    padded[:, r : r + 3, c : c + 3] += window
        return padded[:, 1:-1, 1:-1]


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "softplus"])
def test_the_map_is_the_paper_s_chain_of_quotients_layer_by_layer(name):
    act = FUNCTIONS[name]
    module = loud(Net(act))
    subject = subject_for(module, Target(2), size=(6, 7))
    x = subject.x.double()
    start = torch.zeros_like(x)
    expected = LiteralNet(module, act).multipliers(x, start, 2) * (x - start)[0]
    assert difference(lifted(subject).values, expected.sum(0).numpy()) < 1e-5


@cache  # asked about three targets; to wrap it takes longer than to ask it
def every(name):
    """Return a question about a network with this nonlinearity, and its float64 copy."""
    module = loud(Net(EVERY[name]))
    return subject_for(module), precise(module)


@pytest.mark.parametrize(
    ("name", "target"),
    # What is asked about changes with the form.
    some_quick(
        product(EVERY, [Target(1), Target(1, "probability"), Target(0, "contrast", 2)]),
        lambda number, _: number // 3 % 3 == number % 3,
    ),
)
def test_contributions_add_up_for_every_form_of_every_nonlinearity(name, target):
    subject, twin = every(name)
    subject = replace(subject, target=target)
    heat = lifted(subject)
    with torch.no_grad():
        ends = [
            score64(twin(v.double())[0], target) for v in (subject.x, torch.zeros_like(subject.x))
        ]
    change = float(ends[0] - ends[1])
    total = float(heat.values.astype(float).sum())
    assert abs(total - change) < 1e-4 * abs(change)
    assert heat.diagnostics["score change"] == pytest.approx(change, rel=1e-4)
    assert heat.diagnostics["completeness gap"] < 1e-4
    # The plain gradient does not add up: the rule is what does.
    plain = (subject.input_gradients(subject.x) * subject.x).sum()
    if name not in ("module prelu", "leaky_relu", "module leaky_relu"):
        assert abs(float(plain) - change) > 1e-3 * abs(change)


@pytest.mark.parametrize("name", ["relu", "silu", "sigmoid"])
def test_module_function_method_and_in_place_are_one(name):
    ways = [FUNCTIONS[name], MODULES[name]]
    ways += [getattr(torch.Tensor, name)] if hasattr(torch.Tensor, name) else []
    ways += [getattr(torch.Tensor, f"{name}_")] if hasattr(torch.Tensor, name) else []
    ways += [MODULES[f"{name} in place"]] if f"{name} in place" in MODULES else []
    assert len(ways) >= 3
    first, *variants = (lifted(subject_for(loud(Net(way)))).values for way in ways)
    assert all(np.array_equal(first, values) for values in variants)


class Aliased(nn.Module):
    """Writes into a tensor that it reads again afterwards, through a view as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        y = self.conv(x)
        y[:, :2].tanh_()
        y = y + 0
        functional.silu(y[:, 1:], inplace=True)
        z = y.tanh() + y
        y.mul_(2)
        return self.fc((z + y).mean((2, 3)))


def test_values_written_in_place_are_seen_by_whoever_reads_them_later():
    module = loud(Aliased())
    subject = subject_for(module)
    heat = lifted(subject, baseline="grey")
    before = subject.x.clone()
    with torch.no_grad():
        ends = [module(v.clone())[0, 1] for v in (subject.x, subject.baseline("grey"))]
    change = float(ends[0] - ends[1])
    assert float(heat.values.astype(float).sum()) == pytest.approx(change, rel=1e-4)
    assert torch.equal(subject.x, before)


@pytest.mark.parametrize("baseline", ["black", "grey", "mean", "blur"])
def test_on_a_linear_network_each_pixel_gets_weight_times_difference(baseline):
    module = seeded(LinearNet(6, 9))
    subject = subject_of(module, noise(1, 3, 6, 9), Target(2))
    weight = module.fc.weight[2].detach().double().reshape(3, 6, 9)
    step = (subject.x - subject.baseline(baseline))[0].double()
    heat = lifted(subject, baseline=baseline)
    assert difference(heat.values, (weight * step).sum(0).numpy()) < 1e-5


@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_it_adds_up_on_signals_pictures_and_volumes(axes, target):
    module = toy(axes, MlpHeadNet)
    subject = subject_of(module, picture(axes), target)
    heat = lifted(subject)
    assert heat.values.shape == subject.size
    assert heat.diagnostics["completeness gap"] < 1e-3
    assert float(heat.values.sum()) == pytest.approx(heat.diagnostics["score change"], rel=1e-3)


POOLINGS = {
    "2 x 2": nn.MaxPool2d(2),
    "overlapping": nn.MaxPool2d(3, stride=2, padding=1),
    "ceiling": lambda x: functional.max_pool2d(x, 3, 2, ceil_mode=True),
    "torch": lambda x: torch.max_pool2d(x, 2),
    "adaptive": nn.AdaptiveMaxPool2d((3, 4)),
    "with indices": lambda x: functional.max_pool2d(x, 3, 1, return_indices=True)[0],
}


@pytest.mark.parametrize("pool", POOLINGS)
def test_contributions_add_up_through_max_pools(pool):
    heat = lifted(subject_for(loud(Net(functional.relu, POOLINGS[pool])), Target(0)))
    assert heat.diagnostics["completeness gap"] < 1e-4
    assert abs(heat.diagnostics["score change"]) > 0.1


def test_a_max_pool_of_one_window_by_hand():
    class Largest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(1))

        def forward(self, x):
            top = functional.max_pool1d(x * self.one, 3).flatten(1)
            return torch.cat([top, -top], 1)

    # Input 5 3 1, baseline 1 4 1: 5 - 4 = 1 to the first place over a
    # difference of 4; from 4 to 4, nothing, to the second.
    inputs = torch.tensor([[[5.0, 3.0, 1.0]], [[1.0, 4.0, 1.0]]], requires_grad=True)
    with RescaleRule():
        out = Largest()(inputs)
    (grad,) = torch.autograd.grad(out[0, 0], inputs)
    assert torch.allclose(grad[0, 0], torch.tensor([0.25, 0.0, 0.0]))
    # The other way round: 4 - 5 = -1 to the place where the baseline had its maximum.
    with RescaleRule():
        out = Largest()(inputs.flip(0))
    (grad,) = torch.autograd.grad(out[0, 0], inputs)
    assert torch.allclose(grad[1, 0], torch.tensor([0.25, 0.0, 0.0]))


def test_a_baseline_that_is_even_has_the_input_s_winner():
    inputs = torch.tensor([[[1.0, 3.0, 2.0]], [[4.0, 4.0, 4.0]]], requires_grad=True)
    with RescaleRule():
        out = functional.max_pool1d(inputs, 3)
    (grad,) = torch.autograd.grad(out[0, 0, 0], inputs)
    assert torch.allclose(grad[0, 0], torch.tensor([0.0, 1.0, 0.0]))


@pytest.mark.parametrize("pool", [None, nn.MaxPool2d(2)])
@pytest.mark.parametrize("target", [0, 1, 2])
def test_it_is_captum_s_on_modules_that_captum_covers(pool, target):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        captum = pytest.importorskip("captum.attr", reason="the peer captum is not installed")

    class Modules(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(
                nn.Conv2d(3, 6, 3),
                nn.ReLU(),
                nn.Conv2d(6, 6, 1),
                pool or nn.Identity(),
                nn.Conv2d(6, 5, 3),
                nn.Tanh(),
            )
            self.top = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))

        def forward(self, x):
            return self.top(self.trunk(x).mean((2, 3)))

    module = loud(Modules())
    subject = subject_for(module, Target(target), size=(12, 14))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = subject.x.clone().requires_grad_()
        # Not an even baseline: there captum leaves the winners of pools to rounding. Nor a pool
        # next to a ReLU: there captum 0.9 loses one of the two rules, see below.
        reference = captum.DeepLift(module).attribute(x, subject.baseline("blur"), target=target)
        starts = torch.cat([subject.baseline(fill) for fill in FILLS])
        several = captum.DeepLiftShap(module).attribute(x, starts, target=target)
    heat = lifted(subject, baseline="blur")
    assert difference(heat.values, reference.detach()[0].sum(0).numpy()) < 1e-5
    if pool is None:
        heat = lifted(subject, baseline="all four")
        assert difference(heat.values, several.detach()[0].sum(0).numpy()) < 1e-5


def test_several_baselines_are_averaged_and_still_add_up():
    subject = subject_for(loud(Net(nn.functional.relu)))
    singles = [lifted(subject, baseline=fill) for fill in FILLS]
    heat = lifted(subject, baseline="all four")
    assert difference(heat.values, np.mean([e.values for e in singles], axis=0)) < 1e-5
    change = np.mean([e.diagnostics["score change"] for e in singles])
    assert heat.diagnostics["score change"] == pytest.approx(change, rel=1e-5)
    assert heat.values.sum(dtype=float) == pytest.approx(change, rel=1e-3)


def test_captum_does_not_add_up_on_a_pool_after_a_relu_and_this_does():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        captum = pytest.importorskip("captum.attr", reason="the peer captum is not installed")

    class Modules(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2))
            self.fc = nn.Linear(6, 3)

        def forward(self, x):
            return self.fc(self.trunk(x).mean((2, 3)))

    module = loud(Modules())
    subject = subject_for(module)
    start = subject.baseline("blur")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = subject.x.clone().requires_grad_()
        reference = captum.DeepLift(module).attribute(x, start, target=1).detach()
    with torch.no_grad():
        change = float((module(subject.x) - module(start))[0, 1])
    assert abs(float(reference.sum()) - change) > 0.01 * abs(change)
    heat = lifted(subject, baseline="blur")
    assert float(heat.values.astype(float).sum()) == pytest.approx(change, rel=1e-4)


def test_captum_does_not_add_up_on_functional_relus_and_this_does():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        captum = pytest.importorskip("captum.attr", reason="the peer captum is not installed")
    module = loud(Net(functional.relu))
    subject = subject_for(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = subject.x.clone().requires_grad_()
        reference = captum.DeepLift(module).attribute(x, torch.zeros_like(x), target=1)
    heat = lifted(subject)
    change = heat.diagnostics["score change"]
    assert abs(float(reference.detach().sum()) - change) > 1e-3 * abs(change)
    assert heat.diagnostics["completeness gap"] < 1e-4


class Gated(nn.Module):
    """Squeeze and excite: one activation times another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        x = self.conv(x).relu()
        gate = 4 * (3 * self.gate(x.mean((2, 3)))).sigmoid()
        return self.fc((x * gate[..., None, None]).mean((2, 3)))


class Attending(nn.Module):
    """Softmax of products, times values."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.qkv, self.fc = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 18), nn.Linear(6, 3)

    def forward(self, x):
        q, k, v = self.qkv(self.patch(x).flatten(2).mT).chunk(3, -1)
        return self.fc(functional.scaled_dot_product_attention(q, k, v).mean(1))


class Normed(nn.Module):
    """Divides by the input's own spread."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 6, 3), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x).relu().mean((2, 3))))


class Handmade(nn.Module):
    """SiLU written out as a product."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, 3)

    def forward(self, x):
        x = self.conv(x)
        return self.fc((x * x.sigmoid()).mean((2, 3)))


@pytest.mark.parametrize("kind", [Gated, Attending, Normed, Handmade])
def test_products_of_activations_are_refused_with_the_gap_and_the_remedy(kind):
    subject = subject_for(loud(kind()))
    with pytest.raises(NeedsNotMet, match=r"miss \d+ % of the score's .*Use Integrated Gradients"):
        lifted(subject)


class Shuffled(nn.Module):
    """Puts its tokens before its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.fc = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 3)

    def forward(self, x):
        tokens = self.patch(x).flatten(2).permute(2, 0, 1)
        return self.fc(tokens.relu().mean(0))


@pytest.mark.parametrize("size", [(12, 12), (8, 12)])
def test_a_batch_that_is_not_first_is_refused(size):
    with pytest.raises(NeedsNotMet, match="Use Integrated Gradients instead"):
        lifted(subject_for(loud(Shuffled()), size=size))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("resnet10t", 0, 1e-3),
        pytest.param("mobilenetv2_035", 0, 1e-3, marks=pytest.mark.slow),
    ],
)
def test_gaps_of_real_architectures(name, low, high):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = timm.create_model(name, pretrained=False, num_classes=10)
    backbone = wrap(module, input_spec=plain_spec(64, 64))
    gap = lifted(subject_of(module, noise(1, 3, 64, 64), backbone=backbone)).diagnostics
    print(f"{name}: completeness gap {gap['completeness gap']:.2g}")  # noqa: T201
    assert low <= gap["completeness gap"] < high


def test_the_gap_of_squeeze_and_excite_is_measured_and_stated():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = timm.create_model("test_efficientnet", pretrained=False, num_classes=10)
    backbone = wrap(module, input_spec=plain_spec(64, 64))
    subject = subject_of(module, noise(1, 3, 64, 64), backbone=backbone)
    heat = lifted(subject)
    gap = heat.diagnostics["completeness gap"]
    print(f"test_efficientnet: completeness gap {gap:.2g}")  # noqa: T201
    # With random weights the gates hardly move; where they do, see the refusals above.
    assert 0.005 < gap <= 0.05


def test_units_that_do_not_differ_take_the_gradient():
    inputs = torch.tensor([[2.0, -1.0, 1.0], [2.0, -1.0, 1.0 - 1e-7]], requires_grad=True)
    (grad,) = torch.autograd.grad(apply_rescale_rule(inputs, torch.tanh)[0].sum(), inputs)
    expected = 1 - torch.tanh(torch.tensor([2.0, -1.0, 1.0])) ** 2
    assert torch.allclose(grad[0], expected, rtol=1e-5)
    assert not grad[1].any()
    small = torch.tensor([[1e-9, 1e-9], [-1e-9, -3e-9]], requires_grad=True)
    (grad,) = torch.autograd.grad(apply_rescale_rule(small, torch.relu)[0].sum(), small)
    assert torch.allclose(grad[0], torch.tensor([0.5, 0.25]))
    (grad,) = torch.autograd.grad(apply_rescale_rule(small, torch.sigmoid)[0].sum(), small)
    assert torch.allclose(grad[0], torch.tensor([0.25, 0.25]))


def test_an_input_that_is_its_own_baseline_has_nothing_to_share_out():
    heat = lifted(subject_of(loud(Net(torch.relu)), torch.zeros(1, 3, 10, 13)))
    assert not heat.values.any()
    assert heat.diagnostics["completeness gap"] == 0


def test_other_threads_and_later_calls_are_not_touched():
    module = loud(Net(functional.gelu))
    x = noise(2, 3, 10, 13)

    def plain() -> torch.Tensor:
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(module(leaf)[0, 1], leaf)[0]

    expected, thread_gradients = plain(), []
    with RescaleRule():
        thread = threading.Thread(target=lambda: thread_gradients.append(plain()))
        thread.start()
        thread.join()
        ruled = plain()
    assert torch.equal(thread_gradients[0], expected)
    assert torch.equal(plain(), expected)
    assert difference(ruled[:1], expected[:1].numpy()) > 1e-3


def test_eight_threads_get_the_answers_that_one_gets():
    nets = [loud(Net(functional.relu, nn.MaxPool2d(2))), loud(Net(nn.SiLU(inplace=True)))]
    subjects = [subject_for(nets[i % 2], Target(i % 3), seed=i) for i in range(8)]
    expected = [lifted(s).values for s in subjects]
    maps: list[list[np.ndarray]] = [[] for _ in subjects]

    def work(i: int) -> None:
        for _ in range(3):
            maps[i].append(lifted(subjects[i]).values)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for values, right in zip(maps, expected, strict=True):
        assert len(values) == 3
        assert all(np.array_equal(v, right) for v in values)


def test_a_gap_is_relative_and_rounding_is_no_gap():
    assert completeness_gap(0.9, 1.0, 1e-6) == pytest.approx(0.1)
    assert completeness_gap(5e-7, 0.0, 1e-6) == 0
    assert completeness_gap(1.0, 0.0, 1e-6) == pytest.approx(1e6)
