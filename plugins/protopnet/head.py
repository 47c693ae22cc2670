"""The head: multinomial logistic regression on similarities, convex and sparse.

A prototype's weight for its own class is never negative, and its weights for others are penalised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

TOLERANCE = 1e-6
FOLDS = 5
# Penalties tried, strongest first: each warm-starts the next.
PENALTIES = (0.1, 0.03, 0.01, 0.003, 0.001)


@dataclass(frozen=True, slots=True)
class Head:
    """Class score = weight @ similarities + bias.

    Attributes:
        weight: (C, M).
        bias: (C,).
        penalty: Of the L1 norm, when it was solved.
    """

    weight: Array
    bias: Array
    penalty: float

    def scores(self, similarities: Array) -> Array:
        """Return (N, C) class scores of (N, M) similarities."""
        scores: Array = similarities @ self.weight.T + self.bias
        return scores

    def accuracy(self, similarities: Array, labels: Labels) -> float:
        """Return the share of pictures whose class comes first."""
        return float((self.scores(similarities).argmax(1) == labels).mean())


def solve_head(
    similarities: Array,
    labels: Labels,
    owner: Labels,
    classes: int,
    penalty: float,
    *,
    start: Head | None = None,
    steps: int = 4000,
) -> Head:
    """Return the head that minimises class-balanced cross-entropy + penalty * |weights|.

    Own-class weights are >= 0. Solved by FISTA with restarts in coordinates of unit variance,
    until no step moves the weights by more than 1e-6 of their size.

    Args:
        similarities: (N, M).
        labels: (N,).
        owner: (M,) class of each prototype.
        penalty: Weight of the L1 norm, per unit of standard deviation.
    """
    centre, spread = similarities.mean(0), similarities.std(0) + 1e-9
    x = (similarities - centre) / spread
    truth = np.eye(classes)[labels]
    counts = np.maximum(truth.sum(0), 1)
    sample_weight = (
        (truth / counts).sum(1)[:, None] * len(labels) / max((truth.sum(0) > 0).sum(), 1)
    )
    sample_weight /= len(labels)
    own = owner[None, :] == np.arange(classes)[:, None]
    lipschitz = 0.5 * float(np.linalg.norm(x.T @ (sample_weight * x), 2)) + 0.5
    weight = np.zeros((classes, x.shape[1]))
    bias = np.zeros(classes)
    if start is not None:
        weight = start.weight * spread
        bias = start.bias + start.weight @ centre
    ahead, ahead_bias, momentum = weight, bias, 1.0
    for _ in range(steps):
        error = sample_weight * (softmax(x @ ahead.T + ahead_bias, axis=1) - truth)
        descent_point = ahead - error.T @ x / lipschitz
        soft_threshold = np.sign(descent_point) * np.maximum(
            np.abs(descent_point) - penalty / lipschitz, 0
        )
        new = np.where(own, np.maximum(soft_threshold, 0), soft_threshold)
        new_bias = ahead_bias - error.sum(0) / lipschitz
        # Momentum that points uphill is dropped: convergence is then linear.
        uphill = ((ahead - new) * (new - weight)).sum() > 0
        next_momentum = 1.0 if uphill else (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        push = 0.0 if uphill else (momentum - 1) / next_momentum
        step = max(np.abs(new - weight).max(), np.abs(new_bias - bias).max())
        ahead, ahead_bias = new + push * (new - weight), new_bias + push * (new_bias - bias)
        weight, bias, momentum = new, new_bias, next_momentum
        if step <= TOLERANCE * max(1.0, float(np.abs(weight).max())):
            break
    raw = weight / spread
    return Head(raw, bias - raw @ centre, penalty)


def choose_penalty(
    similarities: Array, labels: Labels, owner: Labels, classes: int, *, seed: int
) -> float:
    """Return the strongest penalty whose cross-validated accuracy is within one standard error.

    Args:
        similarities: (N, M).
        labels: (N,).
        owner: (M,).
    """
    rng = np.random.default_rng(seed)
    fold = np.empty(len(labels), np.int64)
    for c in range(classes):  # folds are stratified
        members = rng.permutation(np.flatnonzero(labels == c))
        fold[members] = np.arange(len(members)) % FOLDS
    rates = np.zeros((len(PENALTIES), FOLDS))
    for k in range(FOLDS):
        fit, test = fold != k, fold == k
        head = None
        for row, penalty in enumerate(PENALTIES):
            head = solve_head(
                similarities[fit], labels[fit], owner, classes, penalty, start=head, steps=300
            )
            rates[row, k] = head.accuracy(similarities[test], labels[test]) if test.any() else 0
    means = rates.mean(1)
    best = int(means.argmax())
    limit = means[best] - rates[best].std(ddof=1) / FOLDS**0.5
    return PENALTIES[int(np.flatnonzero(means >= limit)[0])]
