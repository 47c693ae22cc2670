"""What maps show where there is nothing to see; where they point is tested by conformance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import GapNet, plain_spec, seeded
from tests.contract import (
    HOME,
    REGISTRY,
    UNFITTED,
    engine,
    every_unfitted,
    final,
    params,
    refusal,
    values,
)
from whylens.core.engine import Engine
from whylens.core.errors import NeedsNotMet
from whylens.core.explanation import Question
from whylens.core.models.backbone import wrap
from whylens.core.results import Heatmap


def _dead(module: nn.Module, channels) -> nn.Module:
    with torch.no_grad():
        module.conv.weight[channels] = 0
        module.conv.bias[channels] = -1
    return module


def _silent(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        module.fc.weight[1] = 0  # the class does not depend on the input
    return module


def _one_cell(module: nn.Module) -> nn.Module:
    module.conv = nn.Conv2d(3, 4, (16, 24))
    return seeded(module)


DEGENERATE = {
    "black photo": (lambda: seeded(GapNet()), 0),
    "white photo": (lambda: seeded(GapNet()), 255),
    "grey photo": (lambda: seeded(GapNet()), 127),
    "zero gradient": (lambda: _silent(seeded(GapNet())), None),
    "zero gradient of a black photo": (lambda: _silent(seeded(GapNet())), 0),
    "dead channel": (lambda: _dead(seeded(GapNet()), [1]), None),
    "dead channels": (lambda: _dead(seeded(GapNet()), [0, 1, 2, 3]), None),
    "single position": (lambda: _one_cell(GapNet()), None),
}


@every_unfitted
@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("quantity", ["logit", "probability", "contrast"])
def test_degenerate_input_gives_a_finite_map_a_reason_or_a_typed_refusal(method, case, quantity):
    make, colour = DEGENERATE[case]
    backbone = wrap(make(), spec=plain_spec(16, 24))
    page = Engine(REGISTRY, loader=lambda name, progress: backbone)
    pixels = np.full((33, 47, 3), colour or 0, np.uint8)
    if colour is None:
        pixels = np.random.default_rng(1).integers(0, 256, pixels.shape, dtype=np.uint8)
    question = Question("toy", pixels, target=1, quantity=quantity)
    if refusal(method, backbone):
        assert case in ("dead channels", "single position") or HOME[method] != "gap"
        with pytest.raises(NeedsNotMet, match="is not available on"):
            final(page, question, method)
        return
    answer = final(page, question, method)
    assert np.isfinite(values(answer)).all()
    if isinstance(answer.result, Heatmap):
        assert all(np.isfinite(v) for v in answer.result.diagnostics.values())
        spread = float(np.ptp(answer.result.values))
        # What is flat, or only rounding, is said to be blank; what is not is not.
        assert bool(answer.reason) == (spread <= 1e-6 * np.abs(answer.result.values).max())
        # Whether a class is chosen is a matter of the others as well, which do have gradients.
        others = method in ("score-cam", "contrastive")
        hears = not (others or REGISTRY.explainers[method].class_blind)
        if case.startswith("zero gradient") and quantity == "logit" and hears:
            assert not answer.result.values.any()


@pytest.mark.parametrize(
    ("method", "given"),
    [("occlusion", {"fill": "black"}), ("integrated-gradients", {"baseline": "black"})],
)
def test_rounding_is_not_painted_on_a_photo_in_which_nothing_can_change(method, given):
    question = Question("toy", np.zeros((33, 47, 3), np.uint8), target=1)
    *_, answer = engine("gap", batch_size=3).explain(question, method, {**params(method), **given})
    assert "zero everywhere" in answer.reason


def test_every_method_is_under_contract():
    assert len(UNFITTED) >= 6
