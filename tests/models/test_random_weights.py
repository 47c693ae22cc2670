"""Random weights depend on their seed alone, and keep a network alive."""

from __future__ import annotations

import torch
from torch import nn

from tests.support.modules import Foldable, noise
from tests.support.networks import seeded
from whylens.core.models.load import load
from whylens.core.models.random_weights import randomize_weights
from whylens.core.storage.files import parameters_sha256


def test_random_weights_depend_on_the_seed_alone():
    state = torch.get_rng_state()
    first, second = seeded(Foldable(), 1), seeded(Foldable(), 1)
    assert parameters_sha256(first) == parameters_sha256(second)
    assert parameters_sha256(first) != parameters_sha256(seeded(Foldable(), 2))
    torch.rand(3)  # were the global generator used, the next would differ
    assert parameters_sha256(first) == parameters_sha256(seeded(Foldable(), 1))
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


def test_the_untrained_network_says_so_and_is_alive():
    net = load("untrained:test_resnet")
    assert not net.identity.trained
    assert "Untrained" in net.identity.notes[0]
    assert len(net.labels) == 1000
    logits = net.logits(net.probe_inputs())
    assert float((logits[0] - logits[1]).abs().max()) > 0.05 * float(logits.abs().max())
    assert load("untrained:test_resnet").identity.digest == net.identity.digest
