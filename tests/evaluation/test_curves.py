"""Deletion and insertion: exactly k places at each step, ties by chance, areas as written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from tests.conftest import GapNet, seeded
from tests.support.toys import LinearNet, difference, noise, subject_of
from whylens.core.evaluation.curves import faithfulness
from whylens.core.evaluation.ordering import on_input, ranked
from whylens.core.results import Heatmap
from whylens.core.targets import Target


def linear(weights: torch.Tensor) -> LinearNet:
    """Return a network that adds up the pixels of its only channel, weighted."""
    module = LinearNet(*weights.shape, channels=1, classes=2)
    with torch.no_grad():
        module.fc.weight.zero_()
        module.fc.bias.zero_()
        module.fc.weight[1] = weights.flatten()
    return module


@pytest.mark.parametrize("mode", ["deletion", "insertion"])
def test_the_curve_is_that_of_one_place_after_another(mode):
    weights = noise(3, 4) * 4
    x = torch.ones(1, 1, 3, 4)
    subject = subject_of(linear(weights), x, Target(1))
    curve = faithfulness(
        subject, Heatmap(weights.numpy(), "x"), torch.zeros_like(x), mode, steps=12
    )
    order = weights.flatten().argsort(descending=True)
    wanted = []
    for count in range(13):
        some = weights.flatten()[order[:count]].sum()
        logit = float(some if mode == "insertion" else weights.sum() - some)
        wanted.append(1 / (1 + np.exp(-logit)))
    assert difference(curve.probabilities, wanted) < 1e-6
    assert curve.shares == pytest.approx([k / 12 for k in range(13)])
    area = sum((a + b) / 24 for a, b in itertools.pairwise(wanted))
    assert curve.area == pytest.approx(area, rel=1e-6)


def test_a_map_that_is_mostly_zero_still_loses_exactly_k_places_at_each_step():
    seen = []

    class Counting(LinearNet):
        def forward(self, x):
            seen.append(x.flatten(1).ne(0).sum(1))
            return super().forward(x)

    module = seeded(Counting(5, 8, channels=1))
    x = torch.ones(1, 1, 5, 8)
    subject = subject_of(module, x)
    values = np.zeros((5, 8), np.float32)
    values[0, :3] = 1
    seen.clear()
    faithfulness(subject, Heatmap(values, "x"), torch.zeros_like(x), "deletion", steps=8, draws=1)
    left = torch.cat(seen).tolist()
    assert left[-9:] == [40 - 5 * k for k in range(9)]


def test_equal_values_come_in_every_order_and_others_never_do():
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor([0.0, 2.0, 0.0, 1.0, 0.0])
    orders = {tuple(ranked(values, generator).tolist()) for _ in range(200)}
    assert {order[:2] for order in orders} == {(1, 3)}
    assert len(orders) == 6


def test_a_random_map_is_as_good_as_chance():
    weights = torch.ones(6, 8)
    x = torch.ones(1, 1, 6, 8)
    subject = subject_of(linear(weights * 0.2), x, Target(1))
    values = noise(6, 8, seed=3).numpy()
    one = faithfulness(subject, Heatmap(values, "x"), torch.zeros_like(x), "deletion")
    other = faithfulness(subject, Heatmap(1 - values, "x"), torch.zeros_like(x), "deletion")
    assert one.area == pytest.approx(other.area, abs=1e-6)


def test_the_strongest_first_falls_faster_than_the_weakest_first():
    module = seeded(GapNet())
    x = noise(1, 3, 16, 24)
    subject = subject_of(module, x, Target(1))
    gradient = subject.input_gradients(x)[0].mul(x[0]).sum(0).numpy()
    fill = torch.zeros_like(x)
    good = faithfulness(subject, Heatmap(gradient, "x", True), fill, "deletion").area
    bad = faithfulness(subject, Heatmap(-gradient, "x", True), fill, "deletion").area
    assert good < bad


def test_a_coarse_map_is_read_between_its_cells():
    assert on_input(Heatmap([0.0, 1.0], "x"), (4,)).tolist() == [0, 0.25, 0.75, 1]
