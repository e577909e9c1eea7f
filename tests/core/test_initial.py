"""Starting controllers hold the initial posture."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose

from sb3_gps.core.initial import double_integrator_gains, pd_controller, random_controller


def test_pd_controller_pulls_back_to_the_start(rng):
    M, T, dX, dU = 3, 4, 7, 2
    positions, velocities = np.array([4, 1]), np.array([0, 5])
    x0 = rng.standard_normal((M, dX))
    x0[:, velocities] = 0.0
    p = pd_controller(x0, positions, velocities, T, dU, kp=2.0, kd=0.3, std=0.5)
    assert p.K.shape == (M, T, dU, dX)
    assert_allclose(p.mean(np.repeat(x0[:, None], T, axis=1)), 0.0, atol=1e-12)
    X = rng.standard_normal((M, T, dX))
    expected = -2.0 * (X[..., positions] - x0[:, None, positions]) - 0.3 * X[..., velocities]
    assert_allclose(p.mean(X), expected)
    assert_allclose(p.C, np.broadcast_to(0.25 * np.eye(dU), (M, T, dU, dU)))


def test_actions_without_a_position_are_free(rng):
    """Fewer positions than actions: the others are noise only."""
    p = pd_controller(
        rng.standard_normal((2, 5)), np.array([3]), np.array([4]), 2, 3, kp=1.0, kd=1.0, std=0.1
    )
    assert (p.K[:, :, 1:] == 0.0).all()
    assert (p.k[:, :, 1:] == 0.0).all()


def test_random_controller_ignores_the_state():
    p = random_controller(2, 3, 5, 2, std=0.5)
    assert p.K.shape == (2, 3, 2, 5)
    assert (p.K == 0.0).all()
    assert (p.k == 0.0).all()
    assert_allclose(p.C[1, 2], 0.25 * np.eye(2))


def test_double_integrator_gains_are_those_of_the_long_horizon_lqr():
    dt, T = 0.05, 1500
    A, B = np.array([[1.0, dt], [0.0, 1.0]]), np.array([[0.5 * dt**2], [dt]])
    V = np.zeros((2, 2))
    for _ in range(T):  # plain value iteration, an independent form
        gain = np.linalg.solve(np.eye(1) + B.T @ V @ B, B.T @ V @ A)
        V = np.diag([2.0, 0.0]) + A.T @ V @ (A - B @ gain)
    assert_allclose(double_integrator_gains(dt, position_weight=2.0), gain[0], rtol=1e-6)
