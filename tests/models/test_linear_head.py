"""A pooled linear head is found by numbers; every other is refused with the reason."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.support.modules import noise
from tests.support.networks import seeded
from whylens.core.errors import NeedsNotMet
from whylens.core.models.heads import linear_head
from whylens.core.models.layouts import Features


def head_probe(head, *, shape=(2, 4, 3, 5)):
    return linear_head(lambda f: head(f.map), Features(noise(*shape).relu()))


def test_a_pooled_linear_head_gives_its_exact_weights():
    fc = seeded(nn.Linear(4, 3))
    probe = head_probe(lambda f: fc(f.mean((2, 3))))
    torch.testing.assert_close(probe.weight, fc.weight.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(probe.bias, fc.bias.detach(), rtol=1e-4, atol=1e-6)


def test_an_affine_norm_before_the_average_is_still_a_linear_head():
    fc, norm = seeded(nn.Linear(4, 3)), seeded(nn.BatchNorm2d(4))
    probe = head_probe(lambda f: fc(norm(f).mean((2, 3))))
    x = noise(5, 4, 3, 5, seed=8)
    expected = fc(norm(x).mean((2, 3)))
    torch.testing.assert_close(x.mean((2, 3)) @ probe.weight.T + probe.bias, expected)


def test_many_channels_are_asked_in_pieces():
    fc = seeded(nn.Linear(150, 3))
    probe = head_probe(lambda f: fc(f.mean((2, 3))), shape=(1, 150, 2, 2))
    torch.testing.assert_close(probe.weight, fc.weight.detach(), rtol=1e-4, atol=1e-6)


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
        probe = head_probe(lambda f, fc=fc: fc(f.mean((2, 3))))
        torch.testing.assert_close(probe.weight, fc.weight.detach(), rtol=1e-3, atol=scale * 1e-4)
