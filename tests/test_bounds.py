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
    bounded, wanted, v, step = within_bounds(fit, BOUNDS), wanted_of(fit), fit.samples.U[:, 0], 1e-3
    slope = (executed(wanted + step) - executed(wanted - step)) / (2 * step)
    x, w = rng.normal(size=(M, T, DX)), wanted + rng.normal(size=wanted.shape)
    pairs = (
        (bounded, np.concatenate([x, w], axis=-1)),
        (
            fit,
            np.concatenate([x, v + slope * (w - wanted)], axis=-1),
        ),
    )
    there, here = (
        np.einsum("mtxz,mtz->mtx", fit.dynamics.F, z[:, :-1]) + fit.dynamics.f for fit, z in pairs
    )
    np.testing.assert_allclose(there, here, atol=1e-3)
    there, here = (
        fit.cost.expectation(Gaussian(z, np.zeros((*z.shape, z.shape[-1])))) for fit, z in pairs
    )
    np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-3)


def test_models_after_the_end_of_a_trial_are_those_of_its_middle(fit):
    """Where it rests nothing was wanted, and a reference goes on as in the middle too."""
    length = np.array([[5], [T], [1], [8]])
    samples = replace(fit.samples, length=length)
    bounded, whole = (
        within_bounds(replace(fit, samples=samples), BOUNDS),
        within_bounds(fit, BOUNDS),
    )
    for m, L in enumerate(length[:, 0]):
        for name in ("F", "f"):
            own, free = getattr(bounded.dynamics, name)[m], getattr(whole.dynamics, name)[m]
            np.testing.assert_array_equal(own[:L], free[:L])
            np.testing.assert_array_equal(own[L:], np.broadcast_to(free[L // 2], own[L:].shape))
        for name in ("c", "g", "H"):
            own, free = getattr(bounded.cost, name)[m], getattr(whole.cost, name)[m]
            np.testing.assert_array_equal(own[:L], free[:L])
            np.testing.assert_array_equal(own[L:], np.broadcast_to(free[L // 2], own[L:].shape))
