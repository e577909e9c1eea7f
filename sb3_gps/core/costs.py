"""Quadratic models of a cost about executed trajectories, with Hessians that LQR can use.

    l(z) ~ l(z0) + l_z' (z - z0) + 1/2 (z - z0)' H (z - z0)

averaged over the N samples of a condition. H must be positive semi-definite, or Quu may not be
positive definite: a cost either offers a majoriser itself (``cost.expand``), or its true Hessian
is replaced by the nearest positive semi-definite one (``convexify``).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sb3_gps.core.gaussian import floor_eigenvalues
from sb3_gps.core.types import Gaussian, QuadraticCost, Trajectories


class CostModel(Protocol):
    """A cost that LQR can plan with: its value, and a convex quadratic model of it."""

    def value(self, X: np.ndarray, U: np.ndarray, t: np.ndarray) -> np.ndarray:
        """l(x, u, t), (...,), for x (..., dX), u (..., dU), t (...,)."""

    def expand(
        self, X: np.ndarray, U: np.ndarray, t: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """l, l_z and H at each point, (...,), (..., dZ), (..., dZ, dZ)."""


def convexify(hessian: np.ndarray) -> np.ndarray:
    """The nearest positive semi-definite Hessian: negative curvature is dropped."""
    return floor_eigenvalues(hessian, 0.0)


def expand_cost(cost: CostModel, samples: Trajectories) -> QuadraticCost:
    """The quadratic model of every condition and step, averaged over samples; (M, T, ...)."""
    Z = samples.Z
    t = np.broadcast_to(np.arange(Z.shape[2]), Z.shape[:3])
    value, gradient, hessian = cost.expand(samples.X, samples.U, t)
    Hz = np.einsum("mntij,mntj->mnti", hessian, Z)
    c = value - np.einsum("mnti,mnti->mnt", gradient, Z) + 0.5 * np.einsum("mnti,mnti->mnt", Z, Hz)
    return QuadraticCost(c.mean(axis=1), (gradient - Hz).mean(axis=1), hessian.mean(axis=1))


def trajectory_costs(cost: CostModel, samples: Trajectories) -> np.ndarray:
    """sum_t l of every sample, (M, N)."""
    t = np.broadcast_to(np.arange(samples.X.shape[2]), samples.X.shape[:3])
    return cost.value(samples.X, samples.U, t).sum(axis=-1)


def expected_cost(
    cost: CostModel,
    z: Gaussian,
    dX: int,
    rng: np.random.Generator,
    samples: int = 16,
    max_std: float = 1.0,
) -> np.ndarray:
    """E_p[sum_t l] of the *true* cost under the marginals, by sampling each step, (M,).

    The quadratic model is off by a factor of 8 where the cost has a sharp well: this is not.

    :param z: marginals (M, T, dX+dU)
    :param samples: antithetic pairs are drawn, so an even number
    :param max_std: marginals wider than this (in units of the state) are a fitted loop that is
        unstable, not a prediction; their deviation is clipped
    """
    M, T, dZ = z.mean.shape
    values, vectors = np.linalg.eigh(z.cov)
    root = vectors * np.sqrt(np.clip(values, 0.0, max_std**2))[..., None, :]
    noise = rng.standard_normal((samples // 2, M, T, dZ, 1))
    offset = (root @ noise)[..., 0]
    Z = z.mean + np.concatenate([offset, -offset])
    t = np.broadcast_to(np.arange(T), Z.shape[:-1])
    return cost.value(Z[..., :dX], Z[..., dX:], t).sum(axis=-1).mean(axis=0)
