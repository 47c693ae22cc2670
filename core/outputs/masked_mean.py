"""Means of what was measured under random masks, place by place, with their standard errors.

Sums are kept, never samples, so memory does not grow with their number.
"""

from __future__ import annotations

import torch
from torch import Tensor


class MaskedMeans:
    """What a place scores on average when it is shown, less what is scored on average.

    With masks m_i and scores v_i it estimates a(p) = sum_i m_i(p) v_i / sum_i m_i(p) - mean(v):
    divided by the masks' realised sum, and with the mean score as control variate, without which
    a constant added to all scores would look like evidence everywhere.
    """

    def __init__(self, size: tuple[int, ...]) -> None:
        """Start with nothing measured."""
        self.count = 0
        self._scores = self._squares = 0.0
        # Sums over samples of m, m v, m v^2, m^2, m^2 v, m^2 v^2.
        self._sums = torch.zeros(6, *size, dtype=torch.float64)

    def add(self, masks: Tensor, scores: Tensor) -> None:
        """Take in measurements.

        Args:
            masks: (n, 1, *S) in [0, 1].
            scores: (n,) what was scored under each.
        """
        mask = masks[:, 0].double().cpu()
        score = scores.double().cpu()
        self.count += len(score)
        self._scores += float(score.sum())
        self._squares += float((score**2).sum())
        powers = torch.stack([torch.ones_like(score), score, score**2])
        self._sums[:3] += torch.tensordot(powers, mask, dims=1)
        self._sums[3:] += torch.tensordot(powers, mask**2, dims=1)

    def values(self) -> Tensor:
        """Return (*S) float64 estimates; 0 where no mask ever showed the place."""
        times, scored = self._sums[0], self._sums[1]
        is_seen = times > 0
        mean = self._scores / max(1, self.count)
        return torch.where(is_seen, scored / times.clamp_min(1e-12) - mean, 0.0)

    def errors(self) -> Tensor:
        """Return (*S) float64 standard errors, by the samples' residuals; 0 where unseen.

        The estimate is linear in the scores but for its two means; sample i moves it by
        r_i = m_i (v_i - A) / sum(m) - (v_i - mean) / n, where A is the mean of scores under the
        mask, and the error is the root of sum(r_i^2).
        """
        if self.count < 2:
            return torch.zeros(self._sums.shape[1:], dtype=torch.float64)
        m, mv, mvv, mm, mmv, mmvv = self._sums
        n, mean = self.count, self._scores / self.count
        whole = m.clamp_min(1e-12)
        under = mv / whole
        own = (mmvv - 2 * under * mmv + under**2 * mm) / whole**2
        cross_term = (mvv - under * mv) / (whole * n)
        overall = (self._squares - n * mean**2) / n**2
        squared = (own - 2 * cross_term + overall).clamp_min(0)
        return torch.where(m > 0, squared.sqrt(), 0.0)


def expected_agreement(values: Tensor, errors: Tensor) -> float:
    """Return the correlation to expect between this map and that of another seed, 0 to 1.

    What varies between places is the map's own variance plus that of its errors; two seeds share
    the former only.

    Args:
        values: (*S) estimates.
        errors: (*S) their standard errors.
    """
    spread = float(values.double().var(correction=0))
    if spread <= 0:
        return 0.0
    return max(0.0, 1 - float((errors.double() ** 2).mean()) / spread)
