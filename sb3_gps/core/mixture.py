"""Gaussian mixture over recent transitions, and the prior that it gives to every local regression.

    p(v) = sum_k pi_k N(v; mu_k, S_k),   v = [x; u; x'] (or [x; u] for the student)

fitted by expectation maximisation. The prior of a step is the mixture's moments weighted by the
responsibilities of that step's samples. Source: Levine et al. 2016, App. A.3. EM stops on the
*relative* change of the log-likelihood, which also works when that is negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from sb3_gps.core.gaussian import NormalInverseWishart
from sb3_gps.core.types import Record


@dataclass(frozen=True, eq=False)
class GaussianMixture(Record):
    """sum_k weight_k N(mean_k, cov_k)."""

    log_weight: np.ndarray  # (K,)
    mean: np.ndarray  # (K, d)
    cov: np.ndarray  # (K, d, d)

    def log_joint(self, points: np.ndarray) -> np.ndarray:
        """log pi_k + log N(v_n; mu_k, S_k), (n, K)."""
        n, d = points.shape
        out = np.empty((n, len(self.log_weight)))
        for j, (mean, cov) in enumerate(zip(self.mean, self.cov, strict=True)):
            factor = np.linalg.cholesky(cov)
            white = solve_triangular(factor, (points - mean).T, lower=True, check_finite=False)
            half_log_det = np.log(np.diagonal(factor)).sum()
            out[:, j] = -0.5 * (white**2).sum(axis=0) - half_log_det
        return out + self.log_weight - 0.5 * d * np.log(2.0 * np.pi)

    def responsibilities(self, points: np.ndarray) -> np.ndarray:
        """p(k | v_n), (n, K)."""
        joint = self.log_joint(points)
        return np.exp(joint - logsumexp(joint, axis=1, keepdims=True))


def number_of_clusters(n: int) -> int:
    """clip(n / 40, 2, 20), the reference implementation's rule."""
    return int(np.clip(n // 40, 2, 20))


def fit_mixture(
    points: np.ndarray,
    clusters: int,
    rng: np.random.Generator,
    ridge: float = 1e-6,
    tolerance: float = 1e-4,
    max_iterations: int = 50,
) -> GaussianMixture:
    """EM from hard assignments to random points that are far apart.

    :param points: (n, d)
    :param clusters: K
    :param ridge: added to every covariance's diagonal
    :param tolerance: relative change of the mean log-likelihood at which EM stops
    """
    n, d = points.shape
    scale = points.std(axis=0) + np.sqrt(ridge)
    centres = _spread_out(points / scale, clusters, rng)
    distance = np.stack(
        [(((points - points[c]) / scale) ** 2).sum(axis=1) for c in centres], axis=1
    )
    R = np.eye(clusters)[distance.argmin(axis=1)]
    previous = -np.inf
    for _ in range(max_iterations):
        mass = R.sum(axis=0) + 1e-12
        mean = (R.T @ points) / mass[:, None]
        cov = np.empty((clusters, d, d))
        for j in range(clusters):
            # In many dimensions nearly every responsibility is 0: leave those points out.
            own = R[:, j] > 1e-12
            centred = points[own] - mean[j]
            # The ridge keeps a cluster of few points regular.
            cov[j] = (centred.T @ (R[own, j, None] * centred)) / mass[j] + ridge * np.eye(d)
        mixture = GaussianMixture(np.log(mass / n), mean, cov)
        joint = mixture.log_joint(points)
        total = logsumexp(joint, axis=1, keepdims=True)
        R = np.exp(joint - total)
        likelihood = float(total.mean())
        if abs(likelihood - previous) < tolerance * max(1.0, abs(likelihood)):
            break
        previous = likelihood
    return mixture


def _spread_out(points: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """Indices by k-means++ seeding: each new one drawn by its squared distance to the others."""
    chosen = [int(rng.integers(len(points)))]
    nearest = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    for _ in range(count - 1):
        if not nearest.any():  # fewer distinct points than clusters
            chosen.append(int(rng.integers(len(points))))
            continue
        chosen.append(int(rng.choice(len(points), p=nearest / nearest.sum())))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return chosen


def mixture_prior(
    mixture: GaussianMixture, points: np.ndarray, strength: float = 1.0
) -> NormalInverseWishart:
    """The prior of every condition and step, by the responsibilities of its own samples.

    mu0 = sum_k w_k mu_k;  Phi = n0 (sum_k w_k S_k + w_k (mu_k - mu0)(mu_k - mu0)').

    :param points: the samples, (M, N, T, d)
    :param strength: n0 and m, in pseudo-samples; 1 as in the paper
    :return: over (M, T, d)
    """
    M, N, T, d = points.shape
    w = mixture.responsibilities(points.reshape(-1, d)).reshape(M, N, T, -1).mean(axis=1)
    mu0 = w @ mixture.mean
    second = mixture.cov + mixture.mean[:, :, None] * mixture.mean[:, None, :]
    cov = np.tensordot(w, second, axes=1) - mu0[..., :, None] * mu0[..., None, :]
    return NormalInverseWishart(
        mu0=mu0,
        Phi=strength * cov,
        m=np.full((M, T), strength),
        n0=np.full((M, T), strength),
    )
