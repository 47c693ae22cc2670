"""Gaussian process regression of scores over feature vectors, with a linear trend in the mean.

Length scale and noise are chosen by likelihood. Source: Rasmussen and Williams 2006, Gaussian
Processes for Machine Learning, eqs. 2.41, 2.42, 5.8 and 5.12.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
_NOISES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True, slots=True)
class GaussianProcess:
    """The posterior over the scores of all items, measured ones included.

    Attributes:
        mean: (K,) float64.
        covariance: (K, K) float64, already widened where the fit is overconfident.
        overconfidence: Mean squared standardised leave-one-out error of the control items; 1 is
            calibrated, more is overconfident.
    """

    mean: Tensor
    covariance: Tensor
    overconfidence: float

    def sample(self, scores: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Return (K, count) joint samples of all scores; measured ones stay as they are.

        Args:
            scores: (K,) float64, NaN where not measured.
        """
        samples = scores[:, None].repeat(1, count)
        unmeasured = scores.isnan().nonzero()[:, 0]
        block = self.covariance[unmeasured][:, unmeasured]
        # Rounding can leave the block barely indefinite; this much is far below the noise.
        block.diagonal().add_(1e-8 * block.diagonal().mean() + 1e-12)
        root = torch.linalg.cholesky_ex(block).L
        noise = torch.randn(len(unmeasured), count, generator=generator, dtype=torch.float64)
        samples[unmeasured] = self.mean[unmeasured, None] + root @ noise.to(root)
        return samples


def squared_distances(features: Tensor) -> Tensor:
    """Return (K, K) squared distances in units of their median.

    Args:
        features: (K, D) float64.
    """
    distances = torch.cdist(features, features).square()
    scaled: Tensor = distances / distances.median().clamp_min(1e-12)
    return scaled


def fit_gaussian_process(
    distances: Tensor, trend: Tensor, scores: Tensor, control: Tensor
) -> GaussianProcess:
    """Return the posterior of the most likely length scale and noise.

    Args:
        distances: (K, K) from `squared_distances`.
        trend: (K, P) float64 columns of the linear trend, a constant among them.
        scores: (K,) float64, NaN where not measured.
        control: Indices of measured items that were chosen at random: only these tell how far
            off the fit is on the others, since the rest were chosen for what it predicted.
    """
    observations = (~scores.isnan()).nonzero()[:, 0]
    known_distances, count = distances[observations][:, observations], len(observations)
    level = float(scores[observations].var()) * 1e-8 + 1e-12
    eye = torch.eye(count, dtype=distances.dtype, device=distances.device)
    best: tuple[float, float, float, Tensor, Tensor, Tensor] | None = None
    for length in _LENGTHS:
        kernel = (known_distances / (-2 * length**2)).exp()
        for noise in _NOISES:
            root = torch.linalg.cholesky(kernel + noise * eye)
            white = _solve_lower(
                root, torch.cat([scores[observations, None], trend[observations]], 1)
            )
            beta = torch.linalg.lstsq(white[:, 1:], white[:, :1]).solution
            error = white[:, :1] - white[:, 1:] @ beta
            scale = error.square().mean() + level
            fit = float(-0.5 * count * scale.log() - root.diagonal().log().sum())
            if best is None or fit > best[0]:
                best = (fit, length, noise, scale, root, beta)
    assert best is not None  # noqa: S101 - the grids above are not empty
    _, length, noise, scale, root, beta = best
    cross = _solve_lower(root, (distances[observations] / (-2 * length**2)).exp())
    error = _solve_lower(root, scores[observations, None] - trend[observations] @ beta)
    mean = (trend @ beta + cross.T @ error)[:, 0]
    covariance = (distances / (-2 * length**2)).exp_()
    covariance.diagonal().add_(noise)
    covariance.sub_(cross.T @ cross).mul_(scale)
    inverse = torch.cholesky_inverse(root)
    # eq. 5.12: leaving one out costs no second fit.
    left_out = (inverse @ (scores[observations, None] - trend[observations] @ beta))[:, 0].square()
    standardised = left_out / inverse.diagonal() / scale
    overconfidence = float(standardised[torch.isin(observations, control)].mean())
    return GaussianProcess(mean, covariance.mul_(max(1.0, overconfidence)), overconfidence)


def _solve_lower(root: Tensor, right: Tensor) -> Tensor:
    solution: Tensor = torch.linalg.solve_triangular(root, right, upper=False)
    return solution


def rank_correlation(reference: Tensor, columns: Tensor) -> Tensor:
    """Return (N,): Spearman correlation of (P,) values with each of (P, N) columns.

    Ties share ranks. Two flat maps agree; a flat one and another that is not share nothing.
    """
    first = _centred_ranks(reference)
    correlations = []
    for column in columns.T:
        second = _centred_ranks(column)
        size = float(first.norm() * second.norm())
        flat = float(not first.any() and not second.any())
        correlations.append(float(first @ second) / size if size > 0 else flat)
    return torch.tensor(correlations, dtype=torch.float64)


def _centred_ranks(values: Tensor) -> Tensor:
    from scipy.stats import rankdata  # a second to import, which only this needs

    ranks = torch.from_numpy(rankdata(values.cpu().numpy()))
    return ranks - ranks.mean()
