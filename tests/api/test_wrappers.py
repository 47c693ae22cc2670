"""Networks in wrappers, of other kinds of numbers and outputs: the map of the bare network."""

from __future__ import annotations

import copy
import json
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import Normalize

import whylens
from tests.support.networks import GapNet, seeded
from whylens.core.errors import BadArtifact, BadInput

SIZE = (24, 32)
PLAIN = {"size": SIZE, "mean": 0.0, "std": 1.0}
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


@pytest.fixture(scope="module")
def pixels():
    """A noisy photo that goes in as it is."""
    return np.random.default_rng(11).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def net():
    """A toy network that none of the tests may change."""
    return seeded(GapNet())


def grad_cam(net, pixels, **options):
    return whylens.explain(net, pixels, "grad-cam", target=1, **{**PLAIN, **options}).values


class Inside(nn.Module):
    """Calls a network from its own forward, and does something with its output."""

    def __init__(self, net, after=lambda y: y):
        super().__init__()
        self.net = net
        self.after = after

    def forward(self, x):
        return self.after(self.net(x))


class Lightning(Inside):
    """Shaped as a LightningModule is: loss and trainer beside the network."""

    def __init__(self, net):
        super().__init__(net)
        self.loss = nn.CrossEntropyLoss(weight=torch.ones(3))
        self.trainer = (step for step in range(3))  # as a data loader, not to be copied

    def training_step(self, batch, index):
        return self.loss(self(batch[0]), batch[1])


Pair = namedtuple("Pair", "logits aux")


@dataclass
class ModelOutput:
    """As Hugging Face's, with more than the logits."""

    logits: torch.Tensor
    hidden: torch.Tensor


@dataclass(slots=True)
class SlottedOutput:
    """Likewise, without a table of attributes."""

    logits: torch.Tensor
    hidden: torch.Tensor


class SlotsByHand:
    """A single slot, named as one may name a single one."""

    __slots__ = "logits"

    def __init__(self, logits):
        self.logits = logits


WRAPPED = {
    "compiled": torch.compile,
    "data parallel": nn.DataParallel,
    "compiled data parallel": lambda net: torch.compile(nn.DataParallel(net)),
    "lightning": Lightning,
    "lightning around compiled": lambda net: Lightning(torch.compile(net)),
    "wrapped twice": lambda net: Inside(Inside(net)),
    "sequential": lambda net: nn.Sequential(nn.Identity(), net),
    "tuple": lambda net: Inside(net, lambda y: (y, y.sum(1))),
    "loss first": lambda net: Inside(net, lambda y: (y.sum(), y)),
    "named tuple": lambda net: Inside(net, lambda y: Pair(y, y)),
    "dict": lambda net: Inside(net, lambda y: {"loss": y.sum(), "logits": y}),
    "dict by another name": lambda net: Inside(net, lambda y: {"scores": y, "x": y.sum(1)}),
    "model output": lambda net: Inside(net, lambda y: ModelOutput(y, y[:, :2])),
    "dataclass with slots": lambda net: Inside(net, lambda y: SlottedOutput(y, y[:, :2])),
    "one slot": lambda net: Inside(net, SlotsByHand),
    "float16": lambda net: rounded(net, torch.float16),
    "bfloat16": lambda net: rounded(net, torch.bfloat16),
    "float64": lambda net: rounded(net, torch.float64),
}


def rounded(net, kind):
    return copy.deepcopy(net).to(kind)


@pytest.mark.parametrize("name", WRAPPED)
def test_a_wrapper_gives_the_map_of_what_it_wraps(name, net, pixels):
    wrapper = WRAPPED[name](net)
    kinds = {p.dtype for p in wrapper.parameters()}
    tolerance = {"float16": 5e-3, "bfloat16": 5e-2}.get(name, 1e-5)
    expected, actual = grad_cam(net, pixels), grad_cam(wrapper, pixels)
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()
    assert {p.dtype for p in wrapper.parameters()} == kinds


Heads = namedtuple("Heads", "kind breed age")
HEADS = {
    "dict": lambda y: {"kind": y, "breed": y[:, :2], "age": y.sum(1)},
    "named tuple": lambda y: Heads(y, y[:, :2], y.sum(1)),
    "tuple": lambda y: (y, y[:, :2], y.sum(1)),
}


@pytest.mark.parametrize("kind", HEADS)
def test_one_of_several_outputs_is_explained_by_its_name(kind, net, pixels, tmp_path):
    heads = Inside(net, HEADS[kind])
    keys = (0, 1, 2) if kind == "tuple" else Heads._fields
    expected = grad_cam(net, pixels)
    for key in (keys[0], 0) if kind == "named tuple" else keys[:1]:
        assert np.abs(grad_cam(heads, pixels, output=key) - expected).max() <= 1e-5 * expected.max()
    assert whylens.load_model(heads, **PLAIN, output=keys[1]).labels == ("class 0", "class 1")
    assert whylens.load_model(heads, **PLAIN, labels=("a", "b")).labels == ("a", "b")
    with pytest.raises(BadArtifact) as error:
        whylens.load_model(heads, **PLAIN)
    assert f"{keys[0]!r} (3 scores), {keys[1]!r} (2 scores)" in str(error.value)
    with pytest.raises(BadInput, match=r"no output 'height'. It has: "):
        whylens.load_model(heads, **PLAIN, output="height")
    why = whylens.explain(heads, pixels, "occlusion", **PLAIN, output=keys[2], unit="years")
    x = torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None]
    with torch.no_grad():
        assert why.score == pytest.approx(float(net(x).sum()), rel=1e-5)
    assert str(why.prediction) == f"{keys[2]} {why.score:.4g} years"
    assert why.probability is None
    (path,) = (path for path in why.save(tmp_path) if path.name == "manifest.json")
    content = json.loads(path.read_text())
    assert content["model"]["output"] == keys[2]
    assert f"unit='years', output={keys[2]!r}" in content["command"]


def test_an_output_is_found_behind_a_normalisation(net, pixels):
    class Normalising(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.net = Normalize(MEAN, STD), Inside(net, HEADS["dict"])

        def forward(self, x):
            return self.net(self.norm(x))

    model = whylens.load_model(Normalising(), size=SIZE, output="kind")
    assert model.input_spec.mean == pytest.approx(MEAN, abs=1e-4)
    expected = whylens.explain(net, pixels, "grad-cam", target=1, size=SIZE, mean=MEAN, std=STD)
    actual = whylens.explain(model, pixels, "grad-cam", target=1)
    np.testing.assert_allclose(actual.values, expected.values, atol=1e-4 * expected.values.max())


def test_an_output_that_is_no_scores_and_one_that_is_alone_are_refused_in_words(net, pixels):
    maps = Inside(net, lambda y: {"kind": y, "map": y[:, :, None, None]})
    with pytest.raises(BadInput, match=r"Output 'map' .* target="):
        whylens.load_model(maps, **PLAIN, output="map")
    with pytest.raises(BadInput, match="a single one"):
        whylens.load_model(net, **PLAIN, output="kind")
    why = whylens.explain(
        maps, pixels, "occlusion", target=lambda y: y["map"].sum((1, 2, 3)), **PLAIN
    )
    by_function = whylens.explain(net, pixels, "occlusion", target=lambda y: y.sum(1), **PLAIN)
    np.testing.assert_allclose(why.values, by_function.values, atol=1e-6)
    by_output = whylens.explain(
        maps, pixels, "occlusion", target=lambda y: y.sum(1), output="kind", **PLAIN
    )
    np.testing.assert_allclose(by_output.values, by_function.values, atol=1e-6)


class Plain(nn.Module):
    """A network without methods that say where to cut it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=4)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))


def weight_norm(net):
    return torch.nn.utils.weight_norm(net.conv) and net


def remembering(net):
    """Keep what a hook saw, as part of a graph that cannot be copied."""
    net.conv.register_forward_hook(lambda module, args, out: setattr(module, "seen", out))
    net(torch.rand(1, 3, *SIZE))
    return net


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "kind", [torch.jit.script, torch.fx.symbolic_trace, weight_norm, remembering]
)
def test_networks_that_are_hard_to_copy(kind, pixels):
    expected = whylens.explain(seeded(Plain()), pixels, "occlusion", window=8, target=1, **PLAIN)
    net = kind(seeded(Plain()))
    actual = whylens.explain(net, pixels, "occlusion", window=8, target=1, **PLAIN)
    assert np.abs(actual.values - expected.values).max() <= 1e-5 * np.abs(expected.values).max()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_quantised_network_keeps_the_methods_that_need_nothing(pixels):
    net = torch.ao.quantization.quantize_dynamic(seeded(Plain()), {nn.Linear})
    why = whylens.explain(net, pixels, "occlusion", window=8, target=1, **PLAIN)
    x = torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None]
    assert why.score == pytest.approx(float(net(x)[0, 1]), rel=1e-5)
    with pytest.raises(whylens.NeedsNotMet, match="gradients"):
        grad_cam(net, pixels)


class NormalisesInside(nn.Module):
    """Normalises in its forward."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(STD)[:, None, None])

    def forward(self, x):
        return self.net((x - self.mean) / self.std)


@pytest.mark.parametrize(
    "shell", [lambda n: nn.Sequential(Normalize(MEAN, STD), n), NormalisesInside]
)
def test_a_network_that_normalises_by_itself_is_fed_pixels(shell, net, pixels):
    expected = grad_cam(net, pixels, mean=MEAN, std=STD)
    for options in ({"mean": None, "std": None}, {"mean": 0.0, "std": 1.0}):
        actual = grad_cam(shell(net), pixels, **options)
        assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()
    backbone = whylens.load_model(shell(net), size=SIZE)
    assert np.allclose(backbone.input_spec.mean, MEAN, atol=1e-6)
    assert np.allclose(backbone.input_spec.std, STD, atol=1e-6)


def test_a_shell_that_does_more_than_pass_on_stays(net, pixels):
    doubled_net = Inside(net, lambda y: 2 * y)
    assert np.allclose(grad_cam(doubled_net, pixels), 2 * grad_cam(net, pixels), rtol=1e-4)


def test_scores_that_are_nowhere_are_named(net, pixels):
    for after, words in [
        (lambda y: {"boxes": y[:, :, None]}, "a dict with boxes"),
        (lambda y: "yes", "a str"),
        (lambda y: y[:, :, None].repeat(1, 1, 2), "not class scores"),
    ]:
        with pytest.raises(whylens.CoreError, match=words):
            grad_cam(Inside(net, after), pixels)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_distributed_data_parallel_is_unwrapped(net, pixels, tmp_path):
    expected = grad_cam(net, pixels)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1
    )
    try:
        parallel_net = nn.parallel.DistributedDataParallel(net)
        assert np.array_equal(grad_cam(parallel_net, pixels), expected)
        assert np.array_equal(grad_cam(Lightning(parallel_net), pixels), expected)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "cannot be read.*Run it once"),
        (nn.Conv2d(3, 2, 1).to("meta"), "cannot be read"),
        (3.5, "a name, an nn.Module, a function or .* not a float"),
        (lambda x: x, "not class scores"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), "not class scores"),
        (nn.Linear(7, 3), "takes no input of the size"),
    ],
)
def test_what_is_no_classifier_is_refused_in_words(model, words, pixels):
    with pytest.raises(whylens.CoreError, match=words):
        grad_cam(model, pixels)


@pytest.mark.parametrize("count", [2, 4])
def test_a_batch_of_fixed_size_is_refused_with_the_remedy(net, pixels, count):
    class Fixed(Inside):
        def forward(self, x):
            return self.net(x.view(count, 3, *SIZE))

    with pytest.raises(BadArtifact, match=r"fixes the size of a batch .* dynamic_shapes="):
        grad_cam(Fixed(net), pixels)


@pytest.mark.parametrize("channels", [1, 6])
def test_other_channels_than_three(channels, rng):
    net = seeded(GapNet(channels=channels))
    image = rng.integers(0, 256, (channels, *SIZE), dtype=np.uint8)
    forms = [image, np.moveaxis(image, 0, -1), torch.from_numpy(image)]
    model = whylens.load_model(net, size=SIZE, mean=[0.0] * channels, std=[1.0] * channels)
    maps = [why.values for why in whylens.explain(model, forms, "grad-cam", target=1)]
    x = torch.from_numpy(image / np.float32(255))[None]
    features = net.features(x)
    expected = (features[0] * (net.fc.weight[1] / features[0, 0].numel())[:, None, None]).sum(0)
    for values in maps:
        assert np.allclose(values, expected.relu().detach(), atol=1e-6)
    why = whylens.explain(net, forms[0], "grad-cam", target=1, size=SIZE)
    assert why.values.shape == (12, 16)
    assert why.on_photo().shape == SIZE
    assert why.image().size == SIZE[::-1]


def test_timm_s_own_settings_are_taken(pixels):
    import timm

    from whylens.core.models.load import timm_spec

    net = timm.create_model("test_resnet", pretrained=False, num_classes=3)
    assert whylens.load_model(net).input_spec == timm_spec(net)
    assert whylens.load_model(Lightning(net)).input_spec == timm_spec(net)
    assert whylens.load_model(net, mean=0.5).input_spec.mean == (0.5, 0.5, 0.5)
    grey = timm.create_model("test_resnet", pretrained=False, num_classes=3, in_chans=1)
    assert whylens.load_model(grey, size=64).input_spec.channels == 1


def test_signals_go_to_networks_that_read_them(rng, tmp_path):
    net = seeded(GapNet(axes=1, channels=2))
    signal = rng.normal(size=(2, 40)).astype(np.float32) * 5
    np.save(tmp_path / "signal.npy", signal)
    np.savetxt(tmp_path / "signal.csv", signal, delimiter=",", fmt="%.9g")
    forms = [signal, torch.from_numpy(signal), signal.T, signal[None], tmp_path / "signal.npy",
             tmp_path / "signal.csv"]  # fmt: skip
    model = whylens.load_model(net, size=(40,), mean=[0.0, 0.0])
    answers = whylens.explain(model, forms, "occlusion", target=0)
    for why in answers[1:]:
        assert np.array_equal(why.values, answers[0].values)
    assert answers[0].image().size[0] > 100
    with pytest.raises(whylens.BadInput, match="no photo"):
        answers[0].on_photo()


class ChangesItsInput(Inside):
    """Normalises in place."""

    def forward(self, x):
        x -= 0.3
        x /= 0.2
        return self.net(x)


def own_probabilities(net, pixels):
    x = torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None]
    with torch.no_grad():
        return copy.deepcopy(net).eval()(x)[0].softmax(0).numpy()


def assert_answers_alike(model, net, pixels):
    """Compare what is shown of a photo with what the network gives for it alone."""
    scores = sorted(whylens.predict(model, pixels, top=9), key=lambda score: score.index)
    wanted = own_probabilities(net, pixels)
    assert [score.probability for score in scores] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    "shell",
    [
        ChangesItsInput,
        lambda net: nn.Sequential(nn.Hardtanh(0.2, 0.6, inplace=True), net),
        lambda net: nn.Sequential(nn.LeakyReLU(0.1, inplace=True), net),
        lambda net: Inside(nn.Sequential(nn.Hardtanh(0.2, 0.6, inplace=True), net)),
        lambda net: nn.Sequential(Normalize(MEAN, STD), nn.Sequential(nn.ReLU(inplace=True), net)),
    ],
)
def test_a_step_in_place_on_the_input_is_no_identity(shell, net, pixels):
    model = whylens.load_model(shell(net), **PLAIN)
    assert_answers_alike(model, shell(net), pixels)
    x = torch.rand(2, 3, *SIZE)
    for call in (model.logits, model.fast_logits):
        kept = x.clone()
        call(x)
        assert torch.equal(x, kept)
    assert whylens.explain(model, pixels, "integrated-gradients").values.any()


class Before(nn.Module):
    """Calls a network on something that is made of its input."""

    def __init__(self, net, before):
        super().__init__()
        self.net = net
        self.before = before

    def forward(self, x):
        return self.net(self.before(x))


@pytest.mark.parametrize(
    "before",
    [
        lambda x: x / 255 if x.max() > 1.5 else x,
        lambda x: (x + 1) / 2 if x.min() < 0 else x,
        lambda x: x / x.max(),
        lambda x: (x - x.mean()) / x.std(),
        lambda x: (x - x.min()) / (x.max() - x.min()),
        nn.BatchNorm2d(3, affine=False, track_running_stats=False),
    ],
)
def test_a_wrapper_that_looks_at_its_input_stays(before, net, pixels):
    shell = Before(net, before)
    assert_answers_alike(whylens.load_model(shell, **PLAIN), shell, pixels)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("inside", [True, False])
def test_torchscript_in_a_sequential_answers_as_it_does_itself(inside, pixels):
    net, softmax = seeded(Plain()), nn.Softmax(1)
    scripted = (
        torch.jit.script(nn.Sequential(net, softmax))
        if inside
        else nn.Sequential(torch.jit.script(net), softmax)
    )
    assert_answers_alike(whylens.load_model(scripted, **PLAIN), net, pixels)


class SharesItsBatch(Plain):
    """Normalises a map over all inputs together."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8, track_running_stats=False)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))


class EachAlone(Inside):
    """Gives a network one input at a time."""

    def forward(self, x):
        return torch.cat([self.net(row) for row in x.split(1)])


def test_an_answer_does_not_depend_on_the_others_in_the_batch(pixels):
    net = seeded(SharesItsBatch())
    model = whylens.load_model(net, **PLAIN)
    assert_answers_alike(model, net, pixels)
    wanted = whylens.explain(EachAlone(net), pixels, "occlusion", window=8, target=1, **PLAIN)
    got = whylens.explain(model, pixels, "occlusion", window=8, target=1)
    assert np.abs(got.values - wanted.values).max() <= 1e-5 * np.abs(wanted.values).max()
    assert any("the others in the batch" in note for note in model.identity.notes)


def test_chance_is_not_taken_for_a_dependence_on_the_batch(net):
    noisy = Inside(net, lambda y: y + 0.1 * torch.rand_like(y))
    assert "random" in " ".join(whylens.load_model(noisy, **PLAIN).identity.notes)
    assert "batch" not in " ".join(whylens.load_model(noisy, **PLAIN).identity.notes)


class Calibrates(Plain):
    """Scales by the largest input so far, in a buffer of its own."""

    def __init__(self, in_place):
        super().__init__()
        self.register_buffer("largest", torch.tensor(0.5))
        self.in_place = in_place

    def forward(self, x):
        largest = torch.maximum(self.largest, x.detach().abs().max())
        if self.in_place:
            self.largest.copy_(largest)
        else:
            self.largest = largest
        return super().forward(x / self.largest)


class CalibratesOnce(Plain):
    """Takes its scale from the first batch that it sees."""

    scale = None

    def forward(self, x):
        if self.scale is None:
            self.scale = x.abs().max()
        return super().forward(x / self.scale)


class Records(Plain):
    """Counts its calls and keeps a map, neither of which it reads."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x):
        self.calls.add_(1)
        self.seen = self.conv(x)
        return self.fc(self.seen.relu().mean((2, 3)))


@pytest.mark.parametrize(
    "make", [lambda: Calibrates(in_place=True), lambda: Calibrates(in_place=False), CalibratesOnce]
)
def test_a_network_that_keeps_state_answers_from_the_one_in_which_it_was_given(make, pixels):
    net = seeded(make())
    model = whylens.load_model(net, **PLAIN)
    for _ in range(2):
        assert_answers_alike(model, net, pixels)
        whylens.explain(model, 255 - pixels, "occlusion", window=8, target=1)
    assert any("changes what it keeps" in note for note in model.identity.notes)
    assert not any("random" in note for note in model.identity.notes)
    assert whylens.explain(model, pixels, "integrated-gradients", target=1).values.any()


def test_a_record_that_no_answer_reads_costs_a_network_nothing(pixels):
    model = whylens.load_model(seeded(Records()), **PLAIN)
    assert not any("keeps" in note for note in model.identity.notes)
    wanted = grad_cam(seeded(Plain()), pixels)
    got = whylens.explain(model, pixels, "grad-cam", target=1).values
    assert np.abs(got - wanted).max() <= 1e-5 * wanted.max()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_network_under_quantisation_aware_training_is_not_random(pixels):
    net = nn.Sequential(torch.ao.quantization.QuantStub(), seeded(Plain())).train()
    net.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    torch.ao.quantization.prepare_qat(net, inplace=True)
    for _ in range(3):
        net(torch.rand(2, 3, *SIZE))
    model = whylens.load_model(net.eval(), **PLAIN)
    assert_answers_alike(model, net, pixels)
    assert not any("random" in note for note in model.identity.notes)


class HooksATensor(Plain):
    """Keeps a gradient, as tutorials on Grad-CAM have it."""

    def forward(self, x):
        features = self.conv(x).relu()
        features.register_hook(self.keep)
        return self.fc(features.mean((2, 3)))

    def keep(self, gradient):
        self.gradient = gradient


class OwnGradient(Plain):
    """Weighs its scores by a gradient that it takes itself."""

    def forward(self, x):
        x = x if x.requires_grad else x.requires_grad_()
        scores = super().forward(x)
        (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
        return scores * (1 + slope.abs().mean((1, 2, 3)))[:, None]


def test_a_hook_on_a_tensor_inside_does_not_matter(pixels):
    model = whylens.load_model(seeded(HooksATensor()), **PLAIN)
    assert_answers_alike(model, seeded(Plain()), pixels)
    wanted = grad_cam(seeded(Plain()), pixels)
    got = whylens.explain(model, pixels, "grad-cam", target=1).values
    assert np.abs(got - wanted).max() <= 1e-5 * wanted.max()
    assert any("needs gradients" in note for note in model.identity.notes)


def test_a_forward_that_takes_a_gradient_is_run_with_them(pixels):
    net = seeded(OwnGradient())
    x = torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None]
    why = whylens.explain(net, pixels, "occlusion", window=8, target=1, **PLAIN)
    assert why.score == pytest.approx(float(net(x)[0, 1].detach()), rel=1e-4)
