"""Controllers to start from, before anything is known of the dynamics."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_discrete_are

from sb3_gps.core.types import LinearGaussianController


def pd_controller(
    x0: np.ndarray,
    positions: np.ndarray,
    velocities: np.ndarray,
    T: int,
    dU: int,
    kp: float,
    kd: float,
    std: np.ndarray | float,
) -> LinearGaussianController:
    """u = -kp (q - q_0) - kd qd + noise: hold the initial posture.

    :param x0: initial states, (M, dX)
    :param positions: indices in x of the coordinates that actions 0 .. push, (n,), n <= dU
    :param velocities: indices in x of their velocities, (n,)
    :param kp: action per unit of position
    :param kd: action per unit of velocity
    :param std: standard deviation of the action noise, (dU,) or one for all
    """
    M, dX = x0.shape
    K = np.zeros((dU, dX))
    rows = np.arange(len(positions))
    K[rows, positions] = -kp
    K[rows, velocities] = -kd
    k = -np.einsum("ux,mx->mu", np.where(np.isin(np.arange(dX), positions), K, 0.0), x0)
    return LinearGaussianController(
        K=np.tile(K, (M, T, 1, 1)),
        k=np.tile(k[:, None], (1, T, 1)),
        C=np.tile(np.square(std) * np.eye(dU), (M, T, 1, 1)),
    )


def double_integrator_gains(dt: float, position_weight: float = 1.0) -> tuple[float, float]:
    """The gains kp, kd of the stationary LQR of a unit mass: a posture held before it is known.

    min sum_t position_weight q^2 + u^2   s.t.  q' = q + dt v + dt^2/2 u,  v' = v + dt u

    :param dt: s a step, > 0
    """
    A, B = np.array([[1.0, dt], [0.0, 1.0]]), np.array([[0.5 * dt**2], [dt]])
    P = solve_discrete_are(A, B, np.diag([position_weight, 0.0]), np.eye(1))
    kp, kd = np.linalg.solve(np.eye(1) + B.T @ P @ B, B.T @ P @ A)[0]
    return float(kp), float(kd)


def random_controller(
    M: int,
    T: int,
    dX: int,
    dU: int,
    std: np.ndarray | float,
    middle: np.ndarray | float = 0.0,
) -> LinearGaussianController:
    """u ~ N(middle, std^2): for tasks whose state says nothing of what an action pushes.

    :param std: (dU,), or one for all, and so is the middle
    """
    return LinearGaussianController(
        K=np.zeros((M, T, dU, dX)),
        k=np.broadcast_to(middle, (M, T, dU)).copy(),
        C=np.tile(np.square(std) * np.eye(dU), (M, T, 1, 1)),
    )
