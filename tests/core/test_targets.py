"""Targets: the explained number is the one that was asked for, and so is its gradient."""

from __future__ import annotations

import pickle

import pytest
import torch

from whylens.core.errors import BadInput, UnknownName
from whylens.core.models.labels import class_index
from whylens.core.targets import Target

TARGETS = [Target(2), Target(1, "probability"), Target(3, "contrast", versus=0)]
IDS = [t.quantity for t in TARGETS]


@pytest.fixture
def logits() -> torch.Tensor:
    generator = torch.Generator().manual_seed(8)
    return torch.randn(5, 4, generator=generator, dtype=torch.float64) * 3


def test_a_logit_is_that_classs_score(logits):
    assert torch.equal(Target(2).score(logits), logits[:, 2])


def test_a_probability_is_the_softmax(logits):
    powers = logits.exp()
    expected = powers[:, 1] / powers.sum(1)
    torch.testing.assert_close(Target(1, "probability").score(logits), expected)
    total = sum(Target(i, "probability").score(logits) for i in range(4))
    torch.testing.assert_close(total, torch.ones(5, dtype=torch.float64))


def test_a_probability_of_huge_logits_is_finite():
    logits = torch.tensor([[1000.0, -1000.0, 999.0]])
    assert Target(0, "probability").score(logits).item() == pytest.approx(0.7310586)


def test_a_contrast_is_one_logit_less_the_other(logits):
    score = Target(3, "contrast", versus=0).score(logits)
    assert torch.equal(score, logits[:, 3] - logits[:, 0])
    assert torch.equal(-score, Target(0, "contrast", versus=3).score(logits))


def test_a_contrast_does_not_see_what_is_added_to_all_logits(logits):
    target = Target(3, "contrast", versus=0)
    torch.testing.assert_close(target.score(logits + 7), target.score(logits))


@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_the_gradient_is_that_of_finite_differences(target, logits):
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(target.score(leaf).sum(), leaf)
    step = 1e-6
    for row in range(5):
        for column in range(4):
            up, down = logits.clone(), logits.clone()
            up[row, column] += step
            down[row, column] -= step
            slope = (target.score(up)[row] - target.score(down)[row]) / (2 * step)
            assert gradient[row, column].item() == pytest.approx(slope.item(), abs=1e-8)
    assert gradient.abs().sum() > 0.1


@pytest.mark.parametrize(
    ("target", "unit"),
    list(zip(TARGETS, ["logit", "probability", "logit difference"], strict=True)),
    ids=IDS,
)
def test_each_quantity_names_its_unit(target, unit):
    assert target.unit == unit


@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_a_target_whose_classes_exist_passes_unchanged(target):
    assert target.check(4) is target
    assert pickle.loads(pickle.dumps(target)) == target
    assert hash(target) == hash(pickle.loads(pickle.dumps(target)))


@pytest.mark.parametrize(
    ("target", "index"),
    [
        (Target(4), 4),
        (Target(-1), -1),
        (Target(0, "contrast", versus=4), 4),
        (Target(0, "contrast", versus=-1), -1),
        (Target(9, "probability"), 9),
    ],
)
def test_a_class_that_does_not_exist_is_named_with_the_range(target, index):
    with pytest.raises(BadInput, match=rf"classes 0 to 3; there is no {index}\."):
        target.check(4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, "margin"), "a logit, a probability or a contrast, not margin"),
        ((0, "contrast"), "needs a second class"),
        ((0, "logit", 1), "needs a second class to compare with, and only a contrast"),
        ((0, "probability", 1), "only a contrast"),
        ((2, "contrast", 2), "two different classes; choose another"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(BadInput, match=message):
        Target(*arguments)


def test_a_word_of_a_label_leads_to_the_label():
    with pytest.raises(UnknownName, match=r"called 'husky'\. Did you mean siberian husky\?"):
        class_index("husky", ("cat", "Siberian husky"))
