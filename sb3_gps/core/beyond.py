"""What a trial leads to: its last cost counts for the steps that would follow.

    l_T(z) + sum_{i=1..n} l(z_i),   z_i = [x_i; K x_i + k],   x_1 = F z + f,   x_{i+1} = F z_i + f

A plan that is cut gains nothing from its last steps: whether a pole that is up there goes on to
fall does not matter to it. With the models of the last transition repeated (F, f, and the l, K, k
of the step that it starts from), what follows is a quadratic in closed form (policy evaluation).

Those are good near there only. So they are repeated as long as the trial itself would stay
among the states that were seen, and a deviation from it has not grown out of all proportion: the
costs of a loop that diverges would be those of what is never reached.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sb3_gps.core.gaussian import symmetrize, transpose
from sb3_gps.core.improvement import Fit
from sb3_gps.core.types import LinearGaussianController, QuadraticCost, map_arrays, put, where

GROWN = 10.0  # times a deviation, in units of the states' spread


def with_what_follows(
    fit: Fit,
    follower: LinearGaussianController,
    steps: int,
    reach: tuple[np.ndarray, np.ndarray],
    spread: np.ndarray,
) -> Fit:
    """The same models, with what follows in the cost of the last step of trials that lasted.

    :param fit: of one trial a condition
    :param follower: who acts in what follows, by steps of the trial, (M, T, ...)
    :param steps: that follow, at most
    :param reach: lowest and highest state that a trial may come to, (dX,) each
    :param spread: of the states, (dX,), > 0
    """
    x, (low, high) = fit.samples.X[:, 0, -1], reach
    F, f = fit.dynamics.F[:, -1], fit.dynamics.f[:, -1]
    M, dX, _ = F.shape
    # Of the closed loop: z = S x + s, x' = A x + a, and the cost of a step as a function of x.
    S = np.concatenate([np.broadcast_to(np.eye(dX), (M, dX, dX)), follower.K[:, -2]], axis=1)
    s = np.concatenate([np.zeros((M, dX)), follower.k[:, -2]], axis=1)
    A, a = F @ S, _times(F, s) + f
    step = _of(_at(fit.cost, -2), S, s)
    value = step.scaled(0.0)
    deviation = np.broadcast_to(np.diag(spread), A.shape)
    going = ~fit.samples.ended_early[:, 0]
    for _ in range(steps):
        x, deviation = _times(A, x) + a, A @ deviation
        grown = np.abs(deviation / spread[:, None]).max(axis=(1, 2))
        going = going & ((low <= x) & (x <= high)).all(axis=1) & (grown < GROWN)
        if not going.any():
            break
        # What has stopped must not overflow.
        x, deviation = x * going[:, None], deviation * going[:, None, None]
        value = where(going, step + _of(value, A, a), value)
    last = _at(fit.cost, -1) + _of(value, F, f)
    return replace(fit, cost=put(fit.cost, np.s_[:, -1], last))


def _at(cost: QuadraticCost, t: int) -> QuadraticCost:
    return map_arrays(lambda array: array[:, t], cost)


def _times(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return np.einsum("mij,mj->mi", matrix, vector)


def _of(cost: QuadraticCost, A: np.ndarray, a: np.ndarray) -> QuadraticCost:
    """l(A y + a) as a function of y."""
    pull = _times(cost.H, a)
    c = cost.c + np.einsum("mi,mi->m", cost.g + 0.5 * pull, a)
    g = _times(transpose(A), cost.g + pull)
    return QuadraticCost(c, g, symmetrize(transpose(A) @ cost.H @ A))
