"""Any module as a frozen network: its name, its labels, its scores, and what does not classify."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.support.modules import backbone_of, noise
from tests.support.networks import GapNet, plain_spec, seeded
from whylens.core.errors import BadArtifact
from whylens.core.inputs.spec import probe_inputs
from whylens.core.models.backbone import MOST_FACTS, wrap
from whylens.core.models.heads import gradient_problem
from whylens.core.storage.files import parameters_sha256


class Several(GapNet):
    def forward(self, x):
        return super().forward(x), x


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
    net = backbone_of(GapNet(classes=1), 12, 20)
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


def test_a_network_that_works_in_place_on_its_input_leaves_it_and_has_gradients():
    module = nn.Sequential(nn.ReLU(inplace=True), seeded(GapNet()))
    x = noise(2, 3, 12, 20)
    wanted = module(x.clone())
    net, kept = wrap(module, input_spec=plain_spec(12, 20)), x.clone()
    torch.testing.assert_close(net.logits(x), wanted)
    assert torch.equal(x, kept)
    assert net.unmet == {}


def test_gradients_are_tried_out():
    x = noise(2, 3, 8, 8)
    assert gradient_problem(lambda v: v.flatten(1)[:, :4], x) is None
    assert "cuts" in gradient_problem(lambda v: v.detach().flatten(1), x)
    assert "zero" in gradient_problem(lambda v: v.flatten(1) * 0, x)
    assert "finite" in gradient_problem(lambda v: (v * 0).sqrt().flatten(1), x)
    assert gradient_problem(lambda v: v.mul_(2).flatten(1)[:, :4], x) is None
    reentrant = partial(checkpoint, lambda v: 2 * v.flatten(1), use_reentrant=True)
    assert "use_reentrant" in gradient_problem(reentrant, x)
