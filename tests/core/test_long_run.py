"""The core's loop, repeated far beyond convergence, where covariances want to shrink to nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sb3_gps.core.exploration import smooth_noise
from sb3_gps.core.fitting import fit_dynamics, pooled_prior, transitions
from sb3_gps.core.gaussian import floor_eigenvalues
from sb3_gps.core.initial import pd_controller
from sb3_gps.core.lqr import kl_constrained_lqr
from sb3_gps.core.mixture import fit_mixture, mixture_prior
from sb3_gps.core.types import Gaussian, QuadraticCost, Trajectories

M, N, T, DX, DU = 2, 3, 15, 4, 2
MIN_VARIANCE = 1e-4


def execute(p, x0, rng):
    """Two point masses with process noise, 0.1 s a step."""
    X, U = np.zeros((M, N, T, DX)), np.zeros((M, N, T, DU))
    noise = smooth_noise(U.shape, 1.0, rng)
    X[:, :, 0] = x0[:, None] + 0.01 * rng.standard_normal((M, N, DX))
    root = np.linalg.cholesky(p.C)
    for t in range(T):
        U[:, :, t] = p[:, None].mean(X)[:, :, t] + np.einsum(
            "muv,mnv->mnu", root[:, t], noise[:, :, t]
        )
        if t < T - 1:
            q, v = X[:, :, t, :2], X[:, :, t, 2:]
            X[:, :, t + 1] = np.concatenate([q + 0.1 * v, 0.9 * v + U[:, :, t]], axis=-1)
            X[:, :, t + 1] += 1e-3 * rng.standard_normal((M, N, DX))
    return Trajectories(X, U)


def reach(target):
    """|q - target|^2 + 0.1 |v|^2 + 0.01 |u|^2."""
    H = np.diag([2.0, 2.0, 0.2, 0.2, 0.02, 0.02])
    g = -H @ np.concatenate([target, np.zeros(4)])
    return QuadraticCost(
        np.full((M, T), target @ target), np.tile(g, (M, T, 1)), np.tile(H, (M, T, 1, 1))
    )


@pytest.mark.parametrize("prior", ["pooled", "mixture"])
def test_sixty_improvements_stay_finite(rng, prior):
    x0 = np.array([[0.5, -0.5, 0.0, 0.0], [-0.5, 0.3, 0.0, 0.0]])
    cost = reach(np.array([1.0, 0.7]))
    p = pd_controller(x0, np.array([0, 1]), np.array([2, 3]), T, DU, 0.1, 0.1, 0.3)
    initial_state = Gaussian(x0, np.tile(1e-4 * np.eye(DX), (M, 1, 1)))
    history, eta, costs = [], np.ones(M), []
    for _ in range(60):
        samples = execute(p, x0, rng)
        Z = samples.Z
        value = cost.c[:, None] + (cost.g[:, None] * Z).sum(-1)
        value += 0.5 * (Z * (cost.H[:, None] @ Z[..., None])[..., 0]).sum(-1)
        costs.append(value.sum(axis=-1).mean())
        points = transitions(samples)
        history = [*history, points][-4:]
        if prior == "pooled":
            model_prior = pooled_prior(history)
        else:
            flat = np.concatenate([h.reshape(-1, h.shape[-1]) for h in history])
            model_prior = mixture_prior(fit_mixture(flat, 3, rng), points)
        dynamics = fit_dynamics(samples, model_prior)
        result = kl_constrained_lqr(dynamics, cost, p, initial_state, np.full(M, 1.0 * T), eta=eta)
        eta = result.eta
        assert np.isfinite(result.kl).all()
        assert (result.kl.sum(axis=-1) < 1.1 * T).all()
        p = replace(result.controller, C=floor_eigenvalues(result.controller.C, MIN_VARIANCE))
        for array in (p.K, p.k, p.C, dynamics.F, dynamics.Sigma):
            assert np.isfinite(array).all()
        assert np.linalg.eigvalsh(p.C).min() > 0.99 * MIN_VARIANCE
    # Converged early, and as good at the end: nothing breaks late.
    assert np.mean(costs[10:15]) < 0.5 * costs[0]
    assert max(costs[15:]) < 1.3 * np.mean(costs[10:15])
