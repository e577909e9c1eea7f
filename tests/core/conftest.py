"""Generic random problems: no zeros, no identities, nothing symmetric that need not be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from sb3_gps.core.types import (
    Gaussian,
    LinearDynamics,
    LinearGaussianController,
    QuadraticCost,
    Record,
    Trajectories,
)


def random_pd(rng: np.random.Generator, *shape: int, low: float = 0.3) -> np.ndarray:
    """Positive definite matrices (..., d, d) with generic off-diagonals."""
    A = rng.standard_normal((*shape, shape[-1]))
    return A @ np.swapaxes(A, -1, -2) / shape[-1] + low * np.eye(shape[-1])


def random_controller(
    rng: np.random.Generator, M: int, T: int, dX: int, dU: int
) -> LinearGaussianController:
    return LinearGaussianController(
        K=0.3 * rng.standard_normal((M, T, dU, dX)),
        k=rng.standard_normal((M, T, dU)),
        C=random_pd(rng, M, T, dU),
    )


@dataclass(frozen=True, eq=False)
class Problem(Record):
    """Everything that the KL-constrained step is given."""

    dynamics: LinearDynamics
    cost: QuadraticCost
    reference: LinearGaussianController
    initial_state: Gaussian


def random_problem(
    M: int = 3, T: int = 6, dX: int = 4, dU: int = 2, seed: int = 0, scale: float = 1.0
) -> Problem:
    """A time-varying problem whose cost, of any scale, has cross terms of x and u."""
    rng = np.random.default_rng(seed)
    dZ = dX + dU
    F = rng.standard_normal((M, T - 1, dX, dZ)) / np.sqrt(dX)
    return Problem(
        dynamics=LinearDynamics(
            F=F,
            f=0.3 * rng.standard_normal((M, T - 1, dX)),
            Sigma=0.1 * random_pd(rng, M, T - 1, dX),
        ),
        cost=QuadraticCost(
            c=rng.standard_normal((M, T)),
            g=rng.standard_normal((M, T, dZ)),
            H=random_pd(rng, M, T, dZ),
        ).scaled(scale),
        reference=random_controller(rng, M, T, dX, dU),
        initial_state=Gaussian(rng.standard_normal((M, dX)), 0.2 * random_pd(rng, M, dX)),
    )


def random_rollouts(
    problem: Problem, N: int, rng: np.random.Generator, process_noise: bool = True
) -> Trajectories:
    """Samples of the reference in the problem's own dynamics."""
    dynamics, p, x0 = problem.dynamics, problem.reference, problem.initial_state
    M, T, dU, dX = p.K.shape

    def noise(cov: np.ndarray) -> np.ndarray:  # (M, d, d) -> (M, N, d)
        root = np.linalg.cholesky(cov)
        return rng.standard_normal((M, N, cov.shape[-1])) @ np.swapaxes(root, -1, -2)

    X, U = np.zeros((M, N, T, dX)), np.zeros((M, N, T, dU))
    X[:, :, 0] = x0.mean[:, None] + noise(x0.cov)
    for t in range(T):
        U[:, :, t] = (
            X[:, :, t] @ np.swapaxes(p.K[:, t], -1, -2) + p.k[:, None, t] + noise(p.C[:, t])
        )
        if t < T - 1:
            Z = np.concatenate([X[:, :, t], U[:, :, t]], axis=-1)
            X[:, :, t + 1] = Z @ np.swapaxes(dynamics.F[:, t], -1, -2) + dynamics.f[:, None, t]
            if process_noise:
                X[:, :, t + 1] += noise(dynamics.Sigma[:, t])
    return Trajectories(X, U)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def make_problem() -> Callable[..., Problem]:
    return random_problem


@pytest.fixture
def make_pd() -> Callable[..., np.ndarray]:
    return random_pd


@pytest.fixture
def make_controller() -> Callable[..., LinearGaussianController]:
    return random_controller


@pytest.fixture
def roll_out() -> Callable[..., Trajectories]:
    return random_rollouts
