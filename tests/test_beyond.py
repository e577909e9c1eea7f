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
    where,
)

M, T, DX, DU = 3, 5, 3, 2
ANYWHERE = np.full(DX, -1e9), np.full(DX, 1e9)
SPREAD = np.array([1.0, 0.5, 2.0])


def make_fit(rng: np.random.Generator, growth: float) -> Fit:
    """Of trials whose closed loop has this spectral radius at the last step."""
    F = rng.normal(size=(M, T - 1, DX, DX + DU))
    K = rng.normal(0.0, 0.3, (M, T, DU, DX))
    A = F[:, -1, :, :DX] + F[:, -1, :, DX:] @ K[:, -2]
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


def cost_of(cost: QuadraticCost, m: int, z: np.ndarray, t: int = -1) -> float:
    return cost.c[m, t] + cost.g[m, t] @ z + 0.5 * z @ cost.H[m, t] @ z


def rolled_on(fit: Fit, m: int, z: np.ndarray, steps: int) -> float:
    total = cost_of(fit.cost, m, z)
    for _ in range(steps):
        x = fit.dynamics.F[m, -1] @ z + fit.dynamics.f[m, -1]
        z = np.concatenate([x, fit.controller.K[m, -2] @ x + fit.controller.k[m, -2]])
        total += cost_of(fit.cost, m, z, -2)
    return total


def assert_counts(before: Fit, after: Fit, steps: list[int], rng: np.random.Generator) -> None:
    for m in range(M):
        for z in rng.normal(size=(4, DX + DU)):
            expected = rolled_on(before, m, z, steps[m])
            np.testing.assert_allclose(cost_of(after.cost, m, z), expected, rtol=1e-9)


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_the_last_cost_is_that_of_rolling_on(rng, steps):
    fit = make_fit(rng, growth=0.8)
    after = with_what_follows(fit, fit.controller, steps, ANYWHERE, np.ones(DX))
    assert_counts(fit, after, [steps] * M, rng)
    np.testing.assert_array_equal(after.cost.H[:, :-1], fit.cost.H[:, :-1])
    np.testing.assert_array_equal(after.cost.g[:, :-1], fit.cost.g[:, :-1])
    np.testing.assert_array_equal(after.cost.c[:, :-1], fit.cost.c[:, :-1])


def test_it_is_convex_where_the_cost_is(rng):
    fit = make_fit(rng, growth=0.95)
    after = with_what_follows(fit, fit.controller, 50, ANYWHERE, np.ones(DX))
    assert np.linalg.eigvalsh(after.cost.H).min() > 0.0


def test_a_loop_that_diverges_is_rolled_on_while_deviations_are_small(rng):
    fit = make_fit(rng, growth=1.7)
    steps = []
    for m in range(M):
        A = fit.dynamics.F[m, -1, :, :DX]
        A = A + fit.dynamics.F[m, -1, :, DX:] @ fit.controller.K[m, -2]
        power = A.copy()
        steps.append(0)
        while np.abs(power * SPREAD / SPREAD[:, None]).max() < GROWN:
            steps[-1] += 1
            power = A @ power
    assert 0 < max(steps) < 100
    after = with_what_follows(fit, fit.controller, 100_000, ANYWHERE, SPREAD)
    assert_counts(fit, after, steps, rng)


def test_a_trial_is_rolled_on_as_long_as_it_stays_where_states_are(rng):
    """From its last state, up or down."""
    fit = make_fit(rng, growth=0.9)
    fit.samples.X[:, 0, -1] = [[1.0, 1.0, 1.0], [40.0, -60.0, 20.0], [-30.0, 10.0, 70.0]]
    for low, high in (([-1e9] * DX, [50.0] * DX), ([-50.0] * DX, [1e9] * DX)):
        steps = []
        for m in range(M):
            x, steps_of_m = fit.samples.X[m, 0, -1], 0
            while steps_of_m < 6:
                z = np.concatenate([x, fit.controller.K[m, -2] @ x + fit.controller.k[m, -2]])
                x = fit.dynamics.F[m, -1] @ z + fit.dynamics.f[m, -1]
                if not ((np.array(low) <= x) & (x <= high)).all():
                    break
                steps_of_m += 1
            steps.append(steps_of_m)
        assert min(steps) < 6
        reach = np.array(low), np.array(high)
        after = with_what_follows(fit, fit.controller, 6, reach, np.full(DX, 1.0))
        assert_counts(fit, after, steps, rng)


def test_what_diverges_does_not_overflow_while_others_go_on(rng):
    fit = where(np.array([True, False, True]), make_fit(rng, 0.5), make_fit(rng, 3.0))
    after = with_what_follows(fit, fit.controller, 3000, ANYWHERE, np.ones(DX))
    assert np.isfinite(after.cost.H).all() and np.isfinite(after.cost.g).all()


def test_a_trial_that_ended_leads_nowhere(rng):
    fit = make_fit(rng, growth=0.8)
    fit = replace(fit, samples=replace(fit.samples, length=np.array([[T], [T - 1], [1]])))
    after = with_what_follows(fit, fit.controller, 4, ANYWHERE, np.ones(DX))
    assert_counts(fit, after, [4, 0, 0], rng)
