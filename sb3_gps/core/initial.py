"""Controllers to start from, before anything is known of the dynamics."""

from __future__ import annotations

import numpy as np

from sb3_gps.core.types import LinearGaussianController


def pd_controller(
    x0: np.ndarray,
    positions: np.ndarray,
    velocities: np.ndarray,
    T: int,
    dU: int,
    kp: float,
    kd: float,
    std: float,
) -> LinearGaussianController:
    """u = -kp (q - q_0) - kd qd + noise: hold the initial posture.

    :param x0: initial states, (M, dX)
    :param positions: indices in x of the coordinates that actions 0 .. push, (n,), n <= dU
    :param velocities: indices in x of their velocities, (n,)
    :param kp: action per unit of position
    :param kd: action per unit of velocity
    :param std: standard deviation of the action noise
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
        C=np.tile(std**2 * np.eye(dU), (M, T, 1, 1)),
    )


def random_controller(M: int, T: int, dX: int, dU: int, std: float) -> LinearGaussianController:
    """u ~ N(0, std^2): for tasks whose state says nothing of what an action pushes."""
    nowhere = np.zeros(0, dtype=int)
    return pd_controller(np.zeros((M, dX)), nowhere, nowhere, T, dU, 0.0, 0.0, std)
