"""Initial prototypes: the centres of patches that discriminate a class from the others.

Random prototypes are all alike and collapse to one class; these do not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from whylens.plugins._order import ROUNDING

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def fit_whitening(patches: Array, directions: int) -> tuple[Array, Array]:
    """Return mean (K,) and (D, K) directions in which the patches have unit variance.

    Args:
        patches: (N, K).
        directions: D at most; directions of almost no variance are left out.
    """
    mean = patches.mean(0)
    centred = patches - mean
    covariance = (centred.T @ centred).astype(np.float64) / max(1, len(patches) - 1)
    values, vectors = np.linalg.eigh(covariance)
    order = np.argsort(-values, kind="stable")[:directions]
    order = order[values[order] > 1e-5 * values[order[0]]]
    return (
        mean.astype(np.float32),
        (vectors[:, order] / np.sqrt(values[order])).T.astype(np.float32),
    )


def fit_linear_probe(vectors: Array, labels: Labels, classes: int, *, decay: float = 1e-2) -> Array:
    """Return (C, D + 1): a linear probe, class-balanced, its bias in the last column.

    Args:
        vectors: (N, D), about unit variance.
        labels: (N,).
    """
    from scipy.optimize import minimize  # half a second, which only this needs

    x = np.concatenate([vectors, np.ones((len(vectors), 1))], 1).astype(np.float64)
    truth = np.eye(classes)[labels]
    sample_weight = (truth / np.maximum(truth.sum(0), 1)).sum(1)[:, None] / classes

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weight = flat.reshape(classes, -1)
        log_p = log_softmax(x @ weight.T, axis=1)
        error = sample_weight * (np.exp(log_p) - truth)
        value = -(sample_weight * truth * log_p).sum() + decay / 2 * (flat**2).sum()
        return float(value), (error.T @ x).ravel() + decay * flat

    start = np.zeros(classes * x.shape[1])
    fit = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300})
    return np.asarray(fit.x.reshape(classes, -1), np.float32)


def discriminative_patches(white: Array, weights: Array, label: int, share: float = 0.05) -> Array:
    """Return (n, D): the patches of a class's pictures with the largest margin over all others.

    Only patches of at least half the margin of their picture's best: a patch of background that
    leans to a class by chance is no start for a prototype.

    Args:
        white: (N, D, L) whitened patches of the pictures of one class.
        weights: (C, D + 1) a linear probe of the mean patch.
        share: Of the patches of each picture, at most.
    """
    scores = np.einsum("cd,ndl->ncl", weights[:, :-1], white) + weights[:, -1][None, :, None]
    best_other_scores = np.delete(scores, label, axis=1).max(1)
    margin = scores[:, label] - best_other_scores
    count = max(1, round(share * white.shape[2]))
    best = np.argsort(-margin, axis=1, kind="stable")[:, :count]
    rows = np.arange(len(white))[:, None]
    top = margin[rows, best]
    clear = (top > 0) & (top >= 0.5 * top[:, :1])
    patches = white.transpose(0, 2, 1)[rows, best]
    return np.asarray(patches[clear] if clear.any() else patches[:, 0])


def spherical_kmeans(patches: Array, count: int, *, seed: int, rounds: int = 30) -> Array:
    """Return (count, D) unit centres of patches by spherical k-means, seeded far apart.

    Args:
        patches: (N, D).
        count: How many; fewer come back where there are fewer distinct patches.
    """
    unit = patches / np.maximum(np.linalg.norm(patches, axis=1, keepdims=True), 1e-9)
    rng = np.random.default_rng(seed)
    seeds = [int(rng.integers(len(unit)))]
    while len(seeds) < min(count, len(unit)):
        gap = 1 - (unit @ unit[seeds].T).max(1)
        if gap.max() < 1e-6:
            break
        seeds.append(int(rng.choice(len(unit), p=np.maximum(gap, 0) / np.maximum(gap, 0).sum())))
    centres = unit[seeds]
    for _ in range(rounds):
        similarity = unit @ centres.T
        nearest = (similarity >= similarity.max(1, keepdims=True) - ROUNDING).argmax(1)
        sums = np.stack(
            [
                unit[nearest == k].sum(0) if (nearest == k).any() else centres[k]
                for k in range(len(centres))
            ]
        )
        new_centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
        if np.abs(new_centres - centres).max() < 1e-5:
            break
        centres = new_centres
    return np.asarray(centres, np.float32)
