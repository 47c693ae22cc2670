"""A trace's features come from the folded copy, and only where they are the network's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.networks import GapNet, plain_spec, seeded
from tests.support.toys import NETS, noise
from whylens.core.inputs.spec import probe_inputs
from whylens.core.models.backbone import wrap
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.models.load import build
from whylens.core.models.random_weights import randomize_weights
from whylens.core.targets import Target


class InPlaceNet(nn.Module):
    """Convolution, norm, in-place ReLU; `early` cuts before the norm, which the head then applies.

    The head works in place as well: whatever it is handed must not be the features that are kept.
    """

    def __init__(self, *, early: bool = False) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.last, self.norm_last = nn.Conv2d(6, 8, 3, stride=2), nn.BatchNorm2d(8)
        self.act, self.fc = nn.ReLU(inplace=True), nn.Linear(8, 3)
        self.early = early

    def features(self, x):
        x = self.last(self.act(self.norm(self.conv(x))))
        return x if self.early else self.norm_last(x)

    def head(self, f):
        f = self.act(self.norm_last(f) if self.early else f)
        return self.fc(f.mean((2, 3)))

    def forward(self, x):
        return self.head(self.features(x))


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max()) <= 1e-4 * float(expected.abs().max()) > 0


@pytest.mark.parametrize("kind", [*NETS.values(), InPlaceNet])
def test_features_logits_and_gradients_are_those_of_the_network_itself(kind):
    size = (16, 24)
    net = wrap(seeded(kind()), input_spec=plain_spec(*size))
    x = noise(1, 3, *size)
    trace = ForwardPass(net, x)
    with torch.no_grad():
        plain = net.features(x)
    close(trace.features, plain.map)
    assert trace.features.is_contiguous()
    close(trace.logits, net.logits(x))
    leaf = plain.map.clone().requires_grad_()
    score = net.head(type(plain)(leaf, plain.prefix_tokens))[0, 1]
    close(trace.gradients(Target(1)), torch.autograd.grad(score, leaf)[0])
    close(trace.features, plain.map)  # the head has run by now, and backwards as well


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize(("early", "folded"), [(False, True), (True, False)])
def test_where_folding_reaches_across_the_cut_the_plain_features_are_kept(early, folded):
    net = wrap(seeded(InPlaceNet(early=early)), input_spec=plain_spec(16, 24))
    assert norms(net.fast_module) == 0
    calls = []
    handle = net.fast_module.last.register_forward_hook(lambda *_: calls.append(1))
    x = noise(1, 3, 16, 24)
    trace = ForwardPass(net.prepare(), x)
    handle.remove()
    # Once to compare and once to use; or once to compare, and then never again.
    assert len(calls) == (2 if folded else 1)
    with torch.no_grad():
        close(trace.features, net.features(x).map)


def test_a_copy_that_cannot_be_cut_leaves_the_plain_features():
    class OneOfAKind(GapNet):
        def __deepcopy__(self, memo):
            twin = seeded(GapNet())
            twin.load_state_dict(self.state_dict())
            twin.features = None
            twin.forward = self.forward
            return twin

    net = wrap(seeded(OneOfAKind()), input_spec=plain_spec(16, 24))
    assert net.fast_module is not net.module
    x = noise(1, 3, 16, 24)
    close(ForwardPass(net, x).features, net.features(x).map)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet18", {"channels": (16, 24, 32, 48)}),
        # Its norms come before its convolutions.
        ("densenet121", {"block_config": (2, 2, 2, 2), "growth_rate": 8}),
        ("mobilenetv3_small_050", {}),
        ("vit_tiny_patch16_224", {"img_size": [64, 96], "depth": 3, "embed_dim": 48}),
        pytest.param("resnet18", {}, marks=pytest.mark.slow),
        pytest.param("densenet121", {}, marks=pytest.mark.slow),
        pytest.param("vit_tiny_patch16_224", {"img_size": [64, 96]}, marks=pytest.mark.slow),
    ],
)
def test_real_networks_give_the_same_features_folded(name, arguments):
    input_spec = plain_spec(64, 96)
    module = build(name, classes=10, arguments=arguments)
    net = wrap(
        randomize_weights(module, seed=4, probe=probe_inputs(input_spec)), input_spec=input_spec
    )
    x = noise(1, 3, *input_spec.size)
    with torch.no_grad():
        plain, quick = net.features(x), net.fast_features(x)
        close(quick.map, plain.map)
        close(ForwardPass(net, x).logits, net.logits(x))
    assert net.fast_module is not net.module


def test_kept_gradients_are_those_of_the_target_asked_and_cannot_be_spoilt():
    net = wrap(seeded(GapNet()), input_spec=plain_spec(16, 24))
    trace = ForwardPass(net, net.probe_inputs()[:1])
    rows = net.linear.weight / trace.features[0, 0].numel()
    for index in (1, 2, 2, 1, 1):
        actual = trace.gradients(Target(index))
        expected = rows[index][None, :, None, None].expand_as(actual)
        torch.testing.assert_close(actual, expected)
        actual.fill_(7)
