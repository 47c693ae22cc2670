"""Figures of a classifier from its logits, each a plain function of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, softmax

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
BINS = 15


@dataclass(frozen=True, slots=True)
class PerClass:
    """Figures of each class.

    Attributes:
        precision: (C,) share of the pictures called so that are so; 0 where none is called so.
        recall: (C,) share of the class that is recognised; 0 where it has no pictures.
        f1: (C,) harmonic mean of both; 0 where both are.
        support: (C,) pictures of the class.
    """

    precision: Floats
    recall: Floats
    f1: Floats
    support: Ints


def confusion(truth: Ints, predicted: Ints, classes: int) -> Ints:
    """Return (C, C) counts: row the true class, column the predicted one.

    Args:
        truth: (N,).
        predicted: (N,).
    """
    flat = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def per_class(counts: Ints) -> PerClass:
    """Return precision, recall, F1 and support.

    Args:
        counts: As `confusion` gives them.
    """
    right = np.diag(counts).astype(np.float64)
    predicted_counts, support = counts.sum(0), counts.sum(1)
    precision = right / np.maximum(predicted_counts, 1)
    recall = right / np.maximum(support, 1)
    both = precision + recall
    f1 = np.where(both > 0, 2 * precision * recall / np.where(both > 0, both, 1.0), 0.0)
    return PerClass(precision, recall, f1, support)


def probabilities(logits: Floats, temperature: float = 1.0) -> Floats:
    """Return (N, C) softmax of logits divided by a temperature.

    Args:
        logits: (N, C).
        temperature: Above 1 for less confidence.
    """
    shares: Floats = softmax(logits / temperature, axis=1)
    return shares


def negative_log_likelihood(logits: Floats, truth: Ints, temperature: float = 1.0) -> float:
    """Return the mean of -log p(true class), in nats.

    Args:
        logits: (N, C).
        truth: (N,).
        temperature: As in `probabilities`.
    """
    logs = log_softmax(logits / temperature, axis=1)
    return float(-logs[np.arange(len(truth)), truth].mean())


def calibration_error(shares: Floats, truth: Ints, *, bins: int = BINS) -> float:
    """Return the expected calibration error of the predicted class.

    The mean over equal bins of confidence, each weighted by its pictures, of the distance between
    confidence and accuracy. Bins are open below and closed above.

    Args:
        shares: (N, C) probabilities.
        truth: (N,).

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    confidence = shares.max(1)
    right = (shares.argmax(1) == truth).astype(np.float64)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))


def best_temperature(logits: Floats, truth: Ints) -> float:
    """Return the temperature that minimises the negative log likelihood, from 0.05 to 20.

    The likelihood is concave in 1 / temperature, so its slope has one root at most.

    Args:
        logits: (N, C).
        truth: (N,).
    """
    from scipy.optimize import root_scalar  # half a second, which only this needs

    rows = np.arange(len(truth))

    def slope(inverse: float) -> float:
        shares = probabilities(logits, 1 / inverse)
        return float(((shares * logits).sum(1) - logits[rows, truth]).mean())

    low, high = 1 / 20, 20.0
    if slope(low) >= 0:
        return 1 / low
    if slope(high) <= 0:
        return 1 / high
    return 1 / float(root_scalar(slope, bracket=(low, high), xtol=1e-14).root)
