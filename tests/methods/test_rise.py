"""RISE: its equations written out, what its masks are, and what its errors promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.networks import GapNet, seeded
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
from whylens.core.targets import Target
from whylens.plugins._random_masks import random_masks
from whylens.plugins.rise import RISE, RISEParams

METHOD = RISE()


def rise(subject, **params):
    return final(METHOD.explain(subject, RISEParams(**params)))


@pytest.mark.parametrize(("axes", "target"), CASES, ids=IDS)
def test_the_map_is_the_mean_score_of_the_masks_that_show_a_place_less_the_mean(axes, target):
    module, x = toy(axes), picture(axes)
    subject = subject_of(module, x, target)
    generator = subject.generator()
    masks = torch.cat([random_masks(16, subject.size, 3, 0.5, generator) for _ in range(4)])
    twin, fill = precise(module), subject.baseline("grey").double()
    with torch.no_grad():
        scores = [
            float(score64(twin(fill + m.double() * (x.double() - fill))[0], target))
            for m in masks[:, None].flatten(0, 1).split(1)
        ]
    weights = masks[:, 0].double().numpy()
    expected = np.tensordot(scores, weights, 1) / weights.sum(0) - np.mean(scores)
    heat = rise(subject, masks=64, cells=3, fill="grey")
    assert difference(heat.values, expected) < 1e-3
    assert heat.signed


def test_masks_are_moved_one_by_one_and_show_each_place_alike_often():
    generator = torch.Generator().manual_seed(0)
    masks = random_masks(4000, (20, 30), 4, 0.3, generator)
    assert masks.min() >= 0
    assert masks.max() <= 1
    shares = masks.mean(0)[0]
    assert float((shares - 0.3).abs().max()) < 0.05
    # Edges of cells lie anywhere: the steps between neighbours are alike in every column.
    steps = (masks[..., 1:] - masks[..., :-1]).abs().mean((0, 1, 2))
    assert float(steps.max() / steps.min()) < 1.2


def test_a_linear_network_is_mapped_by_its_weights():
    module = seeded(LinearNet(12, 12, channels=3))
    with torch.no_grad():
        module.fc.weight.zero_()
        module.fc.weight.view(3, 3, 12, 12)[1, :, 2:6, 7:11] = 1
    subject = subject_of(module, torch.ones(1, 3, 12, 12), Target(1))
    heat = rise(subject, masks=2048, cells=6)
    mask = np.zeros((12, 12), bool)
    mask[2:6, 7:11] = True
    assert heat.values[mask].min() > heat.values[~mask].mean() + 3 * heat.error.max()
    peak = np.unravel_index(heat.values.argmax(), heat.values.shape)
    assert mask[peak]


@pytest.mark.slow
def test_errors_shrink_and_two_seeds_agree_as_foretold():
    subject = subject_of(seeded(GapNet()), noise(1, 3, 16, 24))
    agreed = []
    for masks in (128, 1024, 8192):
        first, second = (rise(replace(subject, seed=s), masks=masks, cells=4) for s in (1, 2))
        correlation = np.corrcoef(first.values.ravel(), second.values.ravel())[0, 1]
        agreed.append(correlation)
        # 16 by 24 places move together: the foretold figure is no sharper than this.
        assert abs(first.diagnostics["expected agreement of seeds"] - correlation) < 0.15
    assert agreed == sorted(agreed)
    assert agreed[-1] > 0.95


@pytest.mark.slow
def test_nineteen_of_twenty_intervals_hold_what_many_masks_find():
    subject = subject_of(seeded(GapNet()), noise(1, 3, 16, 24))
    truth = rise(replace(subject, seed=99), masks=4096, cells=4).values
    is_covered = []
    for seed in range(20):
        heat = rise(replace(subject, seed=seed), masks=128, cells=4)
        is_covered.append(np.abs(heat.values - truth) <= 1.96 * heat.error)
    assert 0.9 < np.mean(is_covered) < 0.98


def test_too_few_masks_are_said():
    subject = subject_of(seeded(GapNet()), noise(1, 3, 16, 24))
    assert "expected to correlate" in rise(subject, masks=64).note
    assert [p.result.note for p in METHOD.explain(subject, RISEParams(masks=64))][:-1] == [""] * 3
