"""Plans with actions that are bounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sb3_gps.core.bounds import SOFT, within_bounds
from sb3_gps.core.improvement import Fit, closed_loop
from sb3_gps.core.types import (
    Gaussian,
    LinearDynamics,
    LinearGaussianController,
    QuadraticCost,
    Trajectories,
)

M, T, DX, DU = 4, 12, 3, 2
BOUNDS = LOW, HIGH = np.array([-0.5, -1.0]), np.array([0.5, 2.0])


@pytest.fixture
def fit(rng) -> Fit:
    """Models, exact for what was executed, of trials whose controller wants several times that."""
    F = rng.normal(0.0, 0.5, (M, T - 1, DX, DX + DU))
    f = rng.normal(size=(M, T - 1, DX))
    K, k = rng.normal(size=(M, T, DU, DX)), rng.normal(0.0, 2.0, (M, T, DU))
    C = np.broadcast_to(1e-4 * np.eye(DU), (M, T, DU, DU)).copy()
    controller = LinearGaussianController(K, k, C)
    X, U = rng.normal(size=(M, T, DX)), np.empty((M, T, DU))
    for t in range(T):
        U[:, t] = np.clip(np.einsum("mux,mx->mu", K[:, t], X[:, t]) + k[:, t], *BOUNDS)
        if t < T - 1:
            z = np.concatenate([X[:, t], U[:, t]], axis=-1)
            X[:, t + 1] = np.einsum("mxz,mz->mx", F[:, t], z) + f[:, t]
    root = rng.normal(size=(M, T, DX + DU, DX + DU))
    cost = QuadraticCost(
        rng.normal(size=(M, T)), rng.normal(size=(M, T, DX + DU)), root @ np.swapaxes(root, -1, -2)
    )
    Sigma = np.broadcast_to(1e-6 * np.eye(DX), (M, T - 1, DX, DX)).copy()
    start = Gaussian(X[:, 0], np.broadcast_to(1e-6 * np.eye(DX), (M, DX, DX)).copy())
    samples = Trajectories(X[:, None], U[:, None])
    return Fit(controller, samples, LinearDynamics(F, f, Sigma), cost, start, np.zeros(M))


def wanted_of(fit: Fit) -> np.ndarray:
    return fit.controller.mean(fit.samples.X[:, 0])


def executed(w: np.ndarray) -> np.ndarray:
    """E[clip(w + e)] by quadrature, e as soft as a bound."""
    e = np.linspace(-8.0, 8.0, 20_001)
    weight = np.exp(-0.5 * e**2)
    noise = SOFT * 0.5 * (HIGH - LOW) * e[:, None]
    clipped = np.clip(w[..., None, :] + noise, LOW, HIGH)
    return np.einsum("e,...eu->...u", weight / weight.sum(), clipped)


def test_the_plan_of_a_controller_that_wants_too_much_is_its_trial(fit):
    wanted = wanted_of(fit)
    assert 0.2 < ((wanted < LOW) | (wanted > HIGH)).mean() < 0.9
    X = fit.samples.X[:, 0]
    bounded = within_bounds(fit, BOUNDS)
    np.testing.assert_allclose(
        closed_loop(bounded, fit.controller).mean[..., :DX], X, rtol=1e-9, atol=1e-9
    )
    assert np.abs(closed_loop(fit, fit.controller).mean[..., :DX] - X).max() > 1.0


def test_a_change_of_what_is_wanted_counts_as_far_as_it_is_executed(fit):
    """The derivatives, by finite differences of the expected action."""
    wanted, step = wanted_of(fit), 1e-3
    slope = (executed(wanted + step) - executed(wanted - step)) / (2 * step)
    assert slope.min() < 0.01 and slope.max() > 0.99
    bounded = within_bounds(fit, BOUNDS)
    expected = fit.dynamics.F[..., DX:] * slope[:, :-1, None]
    np.testing.assert_allclose(bounded.dynamics.F[..., DX:], expected, atol=1e-4)
    np.testing.assert_array_equal(bounded.dynamics.F[..., :DX], fit.dynamics.F[..., :DX])


def test_models_are_those_of_what_is_executed(fit, rng):
    """At any state and wanted action, cost and next state are those of v + s (w' - w)."""
    bounded, wanted, v = within_bounds(fit, BOUNDS), wanted_of(fit), fit.samples.U[:, 0]
    x, w = rng.normal(size=(M, T, DX)), wanted + rng.normal(size=wanted.shape)
    deviation = 1e-12 * np.eye(DX + DU)
    # The slope, from how the next state answers to the first action and to the second.
    F, Fb = fit.dynamics.F[..., DX:], bounded.dynamics.F[..., DX:]
    slope = np.einsum("mtxu,mtxu->mtu", F, Fb) / np.einsum("mtxu,mtxu->mtu", F, F)
    u = v[:, :-1] + slope * (w - wanted)[:, :-1]

    def at(fit: Fit, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = np.concatenate([x[:, :-1], action], axis=-1)
        known = Gaussian(z, np.broadcast_to(deviation, (*z.shape, z.shape[-1])))
        cost = QuadraticCost(*(a[:, :-1] for a in (fit.cost.c, fit.cost.g, fit.cost.H)))
        after = np.einsum("mtxz,mtz->mtx", fit.dynamics.F, z) + fit.dynamics.f
        return after, cost.expectation(known)

    for there, here in zip(at(bounded, w[:, :-1]), at(fit, u), strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-8, atol=1e-8)


def test_after_the_end_of_a_trial_nothing_changes(fit):
    """It rests there with actions of zero, whatever its controller wants."""
    length = np.array([[5], [T], [1], [8]])
    samples = replace(fit.samples, length=length)
    bounded = within_bounds(replace(fit, samples=samples), BOUNDS)
    over = ~samples.running[:, 0]
    for name in ("F", "f"):
        changed, as_it_was = getattr(bounded.dynamics, name), getattr(fit.dynamics, name)
        np.testing.assert_array_equal(changed[over[:, :-1]], as_it_was[over[:, :-1]])
    np.testing.assert_array_equal(bounded.cost.H[over], fit.cost.H[over])
    assert not np.allclose(bounded.dynamics.F[0, :5], fit.dynamics.F[0, :5])
