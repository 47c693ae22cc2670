"""What the tests of metrics share: networks that add up weighted pixels, and what explains them."""

from __future__ import annotations

from dataclasses import replace

import torch

from tests.support.toys import LinearNet, noise, subject_of
from whylens.core.evaluation.metric import Case
from whylens.core.evaluation.randomised_weights import randomised_subjects
from whylens.core.results import Heatmap
from whylens.core.subject import Subject
from whylens.core.targets import Target


def linear(*weights: torch.Tensor) -> LinearNet:
    """Return a network whose class i adds up the one channel's pixels times `weights[i]`, (*S)."""
    module = LinearNet(*weights[0].shape, channels=1, classes=len(weights))
    with torch.no_grad():
        module.fc.weight.copy_(torch.stack([w.flatten() for w in weights]))
        module.fc.bias.zero_()
    return module


def weights_of(*size: int, seed: int) -> torch.Tensor:
    """Return (*size) seeded weights of both signs."""
    return noise(*size, seed=seed) - 0.5


def contributions(subject: Subject) -> Heatmap:
    """Return what each pixel adds to the score of a linear network: its weight times itself."""
    values = (subject.input_gradients(subject.x) * subject.x)[0].sum(0)
    return Heatmap(values.numpy(), subject.unit, signed=True)


def linear_case(*size: int, x: torch.Tensor | None = None, seed: int = 0) -> Case:
    """Return the exact map of a linear network of three classes, about class 1."""
    size = size or (6, 8)
    module = linear(*(weights_of(*size, seed=10 + i) for i in range(3)))
    x = noise(1, 1, *size, seed=4) if x is None else x
    subject = replace(subject_of(module, x, Target(1)), seed=seed)
    return Case(subject, contributions(subject), contributions, randomised_subjects(subject))


def random_map(subject: Subject, *, seed: int = 0) -> Heatmap:
    """Return a map of independent values."""
    return Heatmap(noise(*subject.size, seed=seed).numpy(), "nothing")
