"""A regression that predicts unmeasured scores and knows how far it can be wrong.

Gaussian process over feature vectors, with a linear trend in their mean; length scale and noise are
chosen by likelihood. Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, eqs.
2.41, 2.42, 5.8 and 5.12.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
_NOISES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True, slots=True)
class Surrogate:
    """What a fit says about every item, measured ones included.

    Attributes:
        mean: (K,) float64.
        covariance: (K, K) float64, already widened where the fit was found overconfident.
        overconfidence: Mean squared standardised leave-one-out error of the control items; 1 is
            calibrated, more is overconfident.
    """

    mean: Tensor
    covariance: Tensor
    overconfidence: float

    def draws(self, scores: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Return (K, count) joint draws of all scores; measured ones stay as they are.

        Args:
            scores: (K,) float64, NaN where not measured.
        """
        drawn = scores[:, None].repeat(1, count)
        rest = scores.isnan().nonzero()[:, 0]
        block = self.covariance[rest][:, rest]
        # Rounding can leave the block barely indefinite; this much is far below the noise.
        block.diagonal().add_(1e-8 * block.diagonal().mean() + 1e-12)
        root = torch.linalg.cholesky_ex(block).L
        noise = torch.randn(len(rest), count, generator=generator, dtype=torch.float64)
        drawn[rest] = self.mean[rest, None] + root @ noise.to(root)
        return drawn


def squared_distances(features: Tensor) -> Tensor:
    """Return (K, K) squared distances in units of their median.

    Args:
        features: (K, D) float64.
    """
    distances = torch.cdist(features, features).square()
    scaled: Tensor = distances / distances.median().clamp_min(1e-12)
    return scaled


def fitted(distances: Tensor, trend: Tensor, scores: Tensor, control: Tensor) -> Surrogate:
    """Return a fit to the measured scores.

    Args:
        distances: (K, K) from `squared_distances`.
        trend: (K, P) float64 columns of the linear trend, a constant among them.
        scores: (K,) float64, NaN where not measured.
        control: Indices of measured items that were chosen at random: only these tell how far
            off the fit is on the others, since the rest were chosen for what it said.
    """
    known = (~scores.isnan()).nonzero()[:, 0]
    among, count = distances[known][:, known], len(known)
    level = float(scores[known].var()) * 1e-8 + 1e-12
    eye = torch.eye(count, dtype=distances.dtype, device=distances.device)
    best: tuple[float, float, float, Tensor, Tensor, Tensor] | None = None
    for length in _LENGTHS:
        similar = (among / (-2 * length**2)).exp()
        for noise in _NOISES:
            root = torch.linalg.cholesky(similar + noise * eye)
            white = _solved(root, torch.cat([scores[known, None], trend[known]], 1))
            beta = torch.linalg.lstsq(white[:, 1:], white[:, :1]).solution
            error = white[:, :1] - white[:, 1:] @ beta
            scale = error.square().mean() + level
            fit = float(-0.5 * count * scale.log() - root.diagonal().log().sum())
            if best is None or fit > best[0]:
                best = (fit, length, noise, scale, root, beta)
    assert best is not None  # noqa: S101 - the grids above are not empty
    _, length, noise, scale, root, beta = best
    across = _solved(root, (distances[known] / (-2 * length**2)).exp())
    error = _solved(root, scores[known, None] - trend[known] @ beta)
    mean = (trend @ beta + across.T @ error)[:, 0]
    covariance = (distances / (-2 * length**2)).exp_()
    covariance.diagonal().add_(noise)
    covariance.sub_(across.T @ across).mul_(scale)
    inverse = torch.cholesky_inverse(root)
    # eq. 5.12: leaving one out costs no second fit.
    left_out = (inverse @ (scores[known, None] - trend[known] @ beta))[:, 0].square()
    standardised = left_out / inverse.diagonal() / scale
    chosen = torch.isin(known, control)
    overconfidence = float(standardised[chosen].mean())
    return Surrogate(mean, covariance.mul_(max(1.0, overconfidence)), overconfidence)


def _solved(root: Tensor, right: Tensor) -> Tensor:
    solved: Tensor = torch.linalg.solve_triangular(root, right, upper=False)
    return solved


def rank_agreement(one: Tensor, others: Tensor) -> Tensor:
    """Return (N,): Spearman correlation of `one` with every column of `others`; ties share ranks.

    Args:
        one: (P,).
        others: (P, N).
    """
    first = _ranks(one)
    found = []
    for column in others.T:
        second = _ranks(column)
        size = float(first.norm() * second.norm())
        # Two flat maps agree; a flat one and another that is not share nothing.
        flat = float(not first.any() and not second.any())
        found.append(float(first @ second) / size if size > 0 else flat)
    return torch.tensor(found, dtype=torch.float64)


def _ranks(values: Tensor) -> Tensor:
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    middle = counts.cumsum(0).double() - counts.double() / 2
    ranks = middle[place]
    centred: Tensor = ranks - ranks.mean()
    return centred
