"""Score-CAM: masks, scores and weights written out; channels that hide nothing count nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from tests.support.networks import GapNet, MlpHeadNet, TokenNet, seeded
from tests.support.toys import (
    CASES,
    IDS,
    difference,
    final,
    noise,
    picture,
    precise,
    score64,
    subject_of,
    toy,
)
from whylens.core.targets import Target
from whylens.plugins._arrays import unit_masks, varying_channels
from whylens.plugins.score_cam import ScoreCAM, channel_weights

METHOD = ScoreCAM()
EXACT = {"mode": "exact"} if "mode" in METHOD.Params.model_fields else {}


def score_cam(subject, **params):
    return final(METHOD.explain(subject, METHOD.Params(**EXACT, **params)))


def enlarged(line: np.ndarray, size: int) -> np.ndarray:
    """Return one axis resized linearly between cell centres (half pixels), edges continued."""
    values = np.zeros(size)
    for i in range(size):
        at = (i + 0.5) * len(line) / size - 0.5
        low = int(np.floor(at))
        low_index, high_index = (min(max(n, 0), len(line) - 1) for n in (low, low + 1))
        values[i] = (1 - (at - low)) * line[low_index] + (at - low) * line[high_index]
    return values


def literal_mask(channel: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    for axis, length in enumerate(size):
        channel = np.apply_along_axis(enlarged, axis, channel, length)
    return (channel - channel.min()) / (channel.max() - channel.min())


def literal(module, x, target, weighting="softmax", fill=None) -> np.ndarray:
    """Return eqs. 4 to 7: one picture at a time, one channel at a time."""
    twin = precise(module)
    x = x.double()
    empty = x.flatten(2).mean(-1)[(...,) + (None,) * (x.ndim - 2)] if fill is None else fill
    empty = empty.expand_as(x)

    def probability(picture):
        logits = twin(picture)[0].detach()
        quantity = Target(target.index, "probability") if weighting == "probability" else target
        return float(score64(logits, quantity))

    features = twin.features(x)[0].detach().numpy()
    scores = []
    for channel in features:
        if channel.max() == channel.min():
            scores.append(None)
            continue
        mask = torch.from_numpy(literal_mask(channel, tuple(x.shape[2:])))
        scores.append(probability(mask * x + (1 - mask) * empty))
    alive = [s for s in scores if s is not None]
    floor = probability(empty)
    values = np.zeros(features.shape[1:])
    for place in itertools.product(*map(range, values.shape)):
        for score, channel in zip(scores, features, strict=True):
            if score is None:
                continue
            if weighting == "softmax":
                weight = np.exp(score - floor) / sum(np.exp(s - floor) for s in alive)
            elif weighting == "increase":
                weight = max(score - floor, 0)
            else:
                weight = score
            values[place] += weight * channel[place]
    return np.maximum(values, 0)


@pytest.mark.parametrize("kind", [GapNet, MlpHeadNet])
@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_the_map_is_the_paper_s_algorithm_channel_by_channel(axes, target, kind):
    module, x = toy(axes, kind), picture(axes)
    heat = score_cam(subject_of(module, x, target))
    expected = literal(module, x, target)
    assert heat.values.shape == expected.shape
    assert difference(heat.values, expected) < 1e-5
    assert not heat.signed


@pytest.mark.parametrize("weighting", ["softmax", "increase", "probability"])
def test_each_weighting_is_what_its_name_says(weighting):
    module, x = seeded(MlpHeadNet()), noise(1, 3, 12, 18)
    with torch.no_grad():
        module.fc.weight *= 20  # so that the three weightings differ
    target = Target(int(module(x)[0].argmax()))
    heat = score_cam(subject_of(module, x, target), weighting=weighting)
    assert difference(heat.values, literal(module, x, target, weighting)) < 1e-4
    for other_weighting in {"softmax", "increase", "probability"} - {weighting}:
        assert difference(heat.values, literal(module, x, target, other_weighting)) > 0.01


@pytest.mark.parametrize(("fill", "value"), [("black", 0.0), ("grey", 0.5)])
def test_hidden_places_show_the_fill_in_pixel_space(fill, value):
    module, x = toy(2), picture(2)
    expected = literal(module, x, Target(1), fill=torch.tensor(value, dtype=torch.float64))
    assert difference(score_cam(subject_of(module, x), fill=fill).values, expected) < 1e-5


def test_the_weights_written_out():
    scores = torch.tensor([1.0, -torch.inf, 3.0, -2.0], dtype=torch.float64)
    rises = np.exp([0.0, -np.inf, 2.0, -3.0])
    assert channel_weights(scores, 1.0, "softmax").tolist() == pytest.approx(rises / rises.sum())
    assert channel_weights(scores, 0.5, "increase").tolist() == [0.5, 0.0, 2.5, 0.0]
    assert channel_weights(scores, 9.0, "probability").tolist() == [1.0, 0.0, 3.0, -2.0]


class Float64Net(GapNet):
    """Computes in float64 whatever it is fed: a small rise over the floor keeps its digits."""

    def features(self, x):
        return super().features(x.double())


@pytest.mark.parametrize("weighting", ["softmax", "increase", "probability"])
def test_a_constant_channel_weighs_nothing(weighting):
    module, x = seeded(Float64Net()).double(), noise(1, 3, 12, 18).double()
    with torch.no_grad():
        module.conv.weight[2] = 0
        module.conv.bias[2] = 5.0  # constant, large and positive: any weight would show
        module.fc.weight *= 20
        module.fc.weight[:, 2] = 0
    heat = score_cam(subject_of(module, x), weighting=weighting)
    assert heat.diagnostics["constant channels"] == 1
    assert difference(heat.values, literal(module, x, Target(1), weighting)) < 1e-6


def test_where_all_channels_are_constant_the_map_is_blank_and_says_so():
    module = seeded(GapNet())
    with torch.no_grad():
        module.conv.weight[:, :, 0] = module.conv.weight[:, :, :, 0] = 0  # reads no padding
    x = torch.full((1, 3, 12, 18), 0.5)
    heat = score_cam(subject_of(module, x))
    assert heat.diagnostics["constant channels"] == 4
    assert not heat.values.any()
    assert heat.blank_reason()


def test_constant_channels_are_told_at_any_scale():
    maps = noise(1, 3, 4, 5)
    maps[0, 1] = 0.3
    maps[0, 2] = 0
    for scale in (1e-20, 1e-6, 1.0, 1e6):
        assert varying_channels(maps * scale).tolist() == [0]


@pytest.mark.parametrize("size", [(9, 14), (8, 12), (5, 31)])
def test_masks_are_aligned_by_half_pixels_and_reach_from_0_to_1(size):
    maps = noise(1, 2, 4, 6)
    masks = unit_masks(maps, size)[0].numpy()
    for k in range(2):
        expected = literal_mask(maps[0, k].double().numpy(), size)
        assert np.abs(masks[k] - expected).max() < 1e-5
        assert (masks[k].min(), masks[k].max()) == (0, 1)


def test_a_mask_s_bright_spot_lies_at_the_middle_of_its_cell():
    maps = torch.zeros(1, 1, 4, 6)
    maps[0, 0, 1, 4] = 1
    mask = unit_masks(maps, (32, 48))[0, 0].double()
    rows, columns = torch.arange(32) + 0.5, torch.arange(48) + 0.5
    assert float((mask.sum(1) * rows).sum() / mask.sum()) == pytest.approx(1.5 * 8)
    assert float((mask.sum(0) * columns).sum() / mask.sum()) == pytest.approx(4.5 * 8)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 64])
def test_the_answer_does_not_depend_on_the_batch_size(batch_size):
    module, x = seeded(TokenNet(width=20)), noise(1, 3, 16, 24)
    expected = score_cam(subject_of(module, x, batch_size=16)).values
    actual = score_cam(subject_of(module, x, batch_size=batch_size)).values
    assert difference(actual, expected) < 1e-5


def test_every_part_is_the_answer_of_the_channels_asked_so_far():
    module, x = seeded(TokenNet(width=20)), noise(1, 3, 16, 24)
    parts = list(METHOD.explain(subject_of(module, x, batch_size=3), METHOD.Params(**EXACT)))
    fractions = [p.fraction for p in parts]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert all(np.isfinite(p.result.values).all() for p in parts)


@pytest.mark.parametrize("weighting", ["softmax", "increase"])
def test_a_negative_logit_does_not_flip_the_map(weighting):
    module, x = seeded(MlpHeadNet()), noise(1, 3, 12, 18)
    before = score_cam(subject_of(module, x), weighting=weighting).values
    with torch.no_grad():
        module.fc.bias -= 10
    after = subject_of(module, x)
    assert after.score < -5
    assert difference(score_cam(after, weighting=weighting).values, before) < 1e-3


@pytest.mark.parametrize("bias", [-3.0, 3.0])
def test_a_head_with_one_output_explains_the_side_that_it_predicts(bias):
    module, x = seeded(MlpHeadNet(classes=1)), noise(1, 3, 12, 18)
    with torch.no_grad():
        module.fc.bias.fill_(bias)
        module.fc.weight *= 20
    side = int(subject_of(module, x).forward_pass.logits[0].argmax())

    class TwoSided(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = module

        def features(self, x):
            return self.net.features(x)

        def forward(self, x):
            half = self.net(x) / 2
            return torch.cat([-half, half], 1)

    expected = literal(TwoSided(), x, Target(side))
    assert difference(score_cam(subject_of(module, x, Target(side))).values, expected) < 1e-5
