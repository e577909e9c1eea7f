"""What a trial leads to, against rolling it on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sb3_gps.core.beyond import GROWN, with_what_follows
from sb3_gps.core.improvement import Fit
from sb3_gps.core.types import (
    Gaussian,
    LinearDynamics,
    LinearGaussianController,
    QuadraticCost,
    Trajectories,
)

M, T, DX, DU = 3, 5, 3, 2
ANYWHERE = np.full(DX, -1e9), np.full(DX, 1e9)
SPREAD = np.array([1.0, 0.5, 2.0])


def make_fit(rng: np.random.Generator, growth: float) -> Fit:
    """Of trials whose closed loop has this spectral radius at the last step."""
    F = rng.normal(size=(M, T - 1, DX, DX + DU))
    K = rng.normal(0.0, 0.3, (M, T, DU, DX))
    A = F[:, -1, :, :DX] + F[:, -1, :, DX:] @ K[:, -1]
    radius = np.abs(np.linalg.eigvals(A)).max(axis=1)
    F[:, -1] *= growth / radius[:, None, None]
    f, k = rng.normal(size=(M, T - 1, DX)), rng.normal(size=(M, T, DU))
    root = rng.normal(size=(M, T, DX + DU, DX + DU))
    H = root @ np.swapaxes(root, -1, -2)
    C = np.broadcast_to(np.eye(DU), (M, T, DU, DU))
    Sigma = np.broadcast_to(np.eye(DX), (M, T - 1, DX, DX))
    X, U = rng.normal(size=(M, 1, T, DX)), rng.normal(size=(M, 1, T, DU))
    return Fit(
        LinearGaussianController(K, k, C),
        Trajectories(X, U),
        LinearDynamics(F, f, Sigma),
        QuadraticCost(rng.normal(size=(M, T)), rng.normal(size=(M, T, DX + DU)), H),
        Gaussian(X[:, 0, 0], np.broadcast_to(np.eye(DX), (M, DX, DX))),
        np.zeros(M),
    )


def cost_of(cost: QuadraticCost, m: int, z: np.ndarray) -> float:
    return cost.c[m, -1] + cost.g[m, -1] @ z + 0.5 * z @ cost.H[m, -1] @ z


def rolled_on(fit: Fit, m: int, z: np.ndarray, steps: int) -> float:
    total = cost_of(fit.cost, m, z)
    for _ in range(steps):
        x = fit.dynamics.F[m, -1] @ z + fit.dynamics.f[m, -1]
        z = np.concatenate([x, fit.controller.K[m, -1] @ x + fit.controller.k[m, -1]])
        total += cost_of(fit.cost, m, z)
    return total


def assert_counts(before: Fit, after: Fit, steps: list[int], rng: np.random.Generator) -> None:
    for m in range(M):
        for z in rng.normal(size=(4, DX + DU)):
            expected = rolled_on(before, m, z, steps[m])
            np.testing.assert_allclose(cost_of(after.cost, m, z), expected, rtol=1e-9)


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_the_last_cost_is_that_of_rolling_on(rng, steps):
    fit = make_fit(rng, growth=0.8)
    after = with_what_follows(fit, steps, ANYWHERE, np.ones(DX))
    assert_counts(fit, after, [steps] * M, rng)
    np.testing.assert_array_equal(after.cost.H[:, :-1], fit.cost.H[:, :-1])
    np.testing.assert_array_equal(after.cost.g[:, :-1], fit.cost.g[:, :-1])
    np.testing.assert_array_equal(after.cost.c[:, :-1], fit.cost.c[:, :-1])


def test_it_is_convex_where_the_cost_is(rng):
    after = with_what_follows(make_fit(rng, growth=0.95), 50, ANYWHERE, np.ones(DX))
    assert np.linalg.eigvalsh(after.cost.H).min() > 0.0


def test_a_loop_that_diverges_is_rolled_on_while_deviations_are_small(rng):
    fit = make_fit(rng, growth=1.7)
    steps = []
    for m in range(M):
        A = fit.dynamics.F[m, -1, :, :DX]
        A = A + fit.dynamics.F[m, -1, :, DX:] @ fit.controller.K[m, -1]
        power = A.copy()
        steps.append(0)
        while np.abs(power * SPREAD / SPREAD[:, None]).max() < GROWN:
            steps[-1] += 1
            power = A @ power
    assert 0 < max(steps) < 100
    after = with_what_follows(fit, 100_000, ANYWHERE, SPREAD)
    assert_counts(fit, after, steps, rng)


def test_a_trial_is_rolled_on_as_long_as_it_stays_where_states_are(rng):
    fit = make_fit(rng, growth=0.9)
    far = fit.dynamics.f.copy()
    far[:, -1] = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 500.0]]  # the third leaves at once
    quiet = replace(fit.controller, k=np.zeros_like(fit.controller.k))
    fit = replace(fit, dynamics=replace(fit.dynamics, f=far), controller=quiet)
    after = with_what_follows(fit, 6, (np.full(DX, -100.0), np.full(DX, 100.0)), np.ones(DX))
    assert_counts(fit, after, [6, 6, 0], rng)


def test_a_trial_that_ended_leads_nowhere(rng):
    fit = make_fit(rng, growth=0.8)
    fit = replace(fit, samples=replace(fit.samples, length=np.array([[T], [T - 1], [1]])))
    after = with_what_follows(fit, 4, ANYWHERE, np.ones(DX))
    assert_counts(fit, after, [4, 0, 0], rng)
