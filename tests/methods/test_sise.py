"""SISE: written out for one network, and the cases in which the reference code breaks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import plain_spec, seeded
from tests.support.toys import difference, final, noise, precise
from whylens.core.models.backbone import wrap
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.subject import Subject
from whylens.core.targets import Target
from whylens.plugins.sise import SISE, SISEParams, fuse_stages, positive_channels

METHOD = SISE()


class TwoStages(nn.Module):
    """A fine and a coarse feature map, then a mean and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 4, stride=2, padding=1)
        self.second = nn.Conv2d(6, 8, 4, stride=2, padding=1)
        self.fc = nn.Linear(8, 3)

    def features(self, x):
        return self.second(self.first(x).relu())

    def head(self, f):
        return self.fc(f.relu().mean((2, 3)))

    def forward(self, x):
        return self.head(self.features(x))


@pytest.fixture
def subject():
    module = seeded(TwoStages(), 5)
    with torch.no_grad():
        module.fc.weight *= 20  # scores as far apart as a trained network's
    return Subject(
        ForwardPass(wrap(module, spec=plain_spec(16, 24)), noise(1, 3, 16, 24)), Target(1), 3
    )


def otsu(values: np.ndarray) -> float:
    """Return the middle of the lowest gap that parts the values best, to a millionth.

    The cases are such that no cut lies so near to that millionth that rounding could decide.
    """
    ordered = np.sort(values, axis=None)
    between = {}
    for cut in range(1, len(ordered)):
        low, high = ordered[:cut], ordered[cut:]
        if high[0] - low[-1] > 1e-5:
            between[cut] = len(low) * len(high) * (high.mean() - low.mean()) ** 2
    missed = {cut: 1 - variance / max(between.values()) for cut, variance in between.items()}
    assert not any(8e-7 < share < 1.2e-6 for share in missed.values())
    cut = min(cut for cut, share in missed.items() if share <= 1e-6)
    return (ordered[cut - 1] + ordered[cut]) / 2


def literal(module, x, fill, target, most) -> np.ndarray:
    module, x, fill = precise(module), x.double(), fill.double()
    base = float(module(fill)[0, target])
    fused = None
    for number in (1, 2):
        first = module.first(x).detach()
        maps = first if number == 1 else module.second(first.relu()).detach()
        leaf = maps.clone().requires_grad_()
        later = module.head(module.second(leaf.relu()) if number == 1 else leaf)
        slope = torch.autograd.grad(later[0, target], leaf)[0][0].mean((1, 2))
        chosen = [k for k in slope.argsort(descending=True).tolist() if slope[k] > 0][:most]
        stage = np.zeros((16, 24))
        for k in chosen:
            large = nn.functional.interpolate(
                maps[:, [k]], size=(16, 24), mode="bilinear", align_corners=False
            )
            mask = (large - large.min()) / (large.max() - large.min())
            rise = float(module(fill + mask * (x - fill))[0, target]) - base
            stage += max(rise, 0) * mask[0, 0].detach().numpy()
        stage /= stage.max() if stage.max() > 0 else 1
        if fused is None:
            fused = stage
        else:
            fused = (fused + stage) * (stage > otsu(stage))
            fused /= fused.max() if fused.max() > 0 else 1
    return fused


@pytest.mark.parametrize("most", [8, 16])
@pytest.mark.parametrize("target", [0, 1, 2])
def test_the_map_is_the_paper_s_written_out(subject, most, target):
    backbone = subject.backbone
    assert [stage.path for stage in backbone.stages] == ["first", "second"]
    subject = Subject(subject.forward_pass, Target(target), 3)
    fill = subject.baseline("grey")
    with torch.enable_grad():
        wanted = literal(backbone.module, subject.x, fill, target, most)
    heat = final(METHOD.explain(subject, SISEParams(masks=most, fill="grey")))
    assert wanted.any()
    assert difference(heat.values, wanted) < 1e-3
    assert not heat.signed


def test_where_all_gradients_are_negative_nothing_speaks():
    features = noise(1, 5, 4, 6)
    assert positive_channels(-noise(1, 5, 4, 6), features, 8) == []
    slopes = noise(1, 5, 4, 6) - 0.5
    order = positive_channels(slopes, features, 8)
    means = slopes[0].mean((1, 2))
    assert order == sorted((k for k in range(5) if means[k] > 0), key=lambda k: -float(means[k]))


def test_a_map_of_one_value_has_no_threshold():
    ones, zeros = torch.ones(3, 4), torch.zeros(3, 4)
    assert torch.equal(fuse_stages(ones, ones), ones)
    assert torch.equal(fuse_stages(ones, zeros), zeros)


def test_a_constant_channel_is_no_mask():
    features = noise(1, 3, 4, 6)
    features[0, 1] = 0.7
    assert 1 not in positive_channels(torch.ones(1, 3, 4, 6), features, 8)
