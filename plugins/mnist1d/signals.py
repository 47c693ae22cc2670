"""MNIST-1D, made here: signals of 40 values in which one of ten shapes hides, and where it hides.

The ten templates and the steps are those of Greydanus and Kobak 2020, Scaling Down Deep Learning
with MNIST-1D; the draws are our own, since theirs come from the global generator. What the
published set does not tell, the place of the shape, is told here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

LENGTH = 40
LABELS = tuple(str(digit) for digit in range(10))
TRAIN, TEST = 4_000, 1_000
_PADDING, _SCALE, _SHIFT, _SHEAR = (36, 60), 0.4, 48, 0.75
_SMOOTH_NOISE, _NOISE = 0.25, 0.02
_TEMPLATES = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)


@dataclass(frozen=True, slots=True)
class Signals:
    """Labelled signals.

    Attributes:
        values: (N, 1, 40) float32.
        labels: (N,) int64.
        shape: (N, 40) bool: where the digit's shape lies.
    """

    values: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    shape: npt.NDArray[np.bool_]


def mnist1d(count: int, seed: int) -> Signals:
    """Return signals, as many of each digit, in a seeded order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % len(LABELS))
    samples = [_sample(template, rng) for template in (templates()[k] for k in labels)]
    values = np.stack([signal for signal, _ in samples])[:, None]
    return Signals(values.astype(np.float32), labels, np.stack([where for _, where in samples]))


def templates() -> npt.NDArray[np.float64]:
    """Return (10, 12): the shapes, whitened, each from 0 to 0."""
    shapes = np.array(_TEMPLATES)
    shapes = (shapes - shapes.mean(1, keepdims=True)) / shapes.std(1, keepdims=True)
    shifted: npt.NDArray[np.float64] = (shapes - shapes[:, :1]) / 6
    return shifted


def _sample(
    template: npt.NDArray[np.float64], rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    long = len(template) + _PADDING[1]
    padding = np.zeros(rng.integers(_PADDING[0], _PADDING[1] + 1))
    signal = _resample(np.concatenate([template, padding]), long)
    where = _resample(np.concatenate([np.ones(len(template)), padding]), long)
    signal = signal * (1 + _SCALE * (rng.random() - 0.5))
    shift = rng.integers(_SHIFT)
    signal, where = np.roll(signal, shift), np.roll(where, shift)
    smooth = gaussian_filter1d(_SMOOTH_NOISE * rng.standard_normal(long), 2)
    signal = np.where(where > 0, signal, smooth) + _NOISE * rng.standard_normal(long)
    signal = signal - _SHEAR * (rng.random() - 0.5) * np.linspace(-0.5, 0.5, long)
    return _resample(signal, LENGTH), _resample(where, LENGTH) > 0.5


def _resample(signal: npt.NDArray[np.float64], length: int) -> npt.NDArray[np.float64]:
    return np.interp(np.linspace(0, 1, length), np.linspace(0, 1, len(signal)), signal)
