"""The shaped cost of bringing the points of a held object to their targets.

    l(x, u, t) = r(t) [ w_l2 s + w_log log(1 + s / alpha) + w_v |qd|^2 ] + w_u |u|^2

s is the mean over the three points of their weighted squared distance to their targets, in m^2:
s = 1/3 sum_i ( lateral (ahead dx_i^2 + dy_i^2) + dz_i^2 ). The quadratic term hauls from afar; the
log term, whose slope in s grows towards the target, is what makes an insertion exact. It is
log(s + alpha) less its value at the target, so that the cost is zero where the task is done.
r(t) grows linearly from `ramp` to 1 over the episode and is doubled at the last step.

Form: Levine et al. 2016, App. B. The weights are ours, found on this arm: with their alpha = 1e-5
the gains become so stiff that the torques saturate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# The state x (32): joint angles (7, rad), joint velocities (7, rad/s), three points of the held
# object relative to their targets (9, m), the velocities of these points (9, m/s).
ANGLES, VELOCITIES = slice(0, 7), slice(7, 14)
POINTS, POINT_VELOCITIES = slice(14, 23), slice(23, 32)
STATE_DIM, ACTION_DIM = 32, 7


@dataclass(frozen=True)
class PointCost:
    """The cost l(x, u, t) of the module's formula, on batches of torch tensors or numpy arrays.

    :param w_l2: weight of the squared distance (1/m^2)
    :param w_log: weight of the log term
    :param alpha: squared distance below which the log term is nearly quadratic (m^2)
    :param w_v: weight of the squared joint velocities (s^2/rad^2)
    :param w_u: weight of the squared action
    :param lateral: weight of the squared errors in x and y relative to that in z
    :param ahead: weight of the squared error in x relative to that in y
    :param ramp: r(0), between 0 and 1
    :param horizon: T, the steps of an episode
    """

    w_l2: float = 1.0
    w_log: float = 0.5
    alpha: float = 1e-3
    w_v: float = 1e-2
    w_u: float = 0.1
    lateral: float = 1.0
    ahead: float = 1.0
    ramp: float = 0.1
    horizon: int = 100

    def __post_init__(self) -> None:
        for name in ("w_l2", "w_log", "w_v", "w_u", "lateral", "ahead"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not self.alpha > 0:
            raise ValueError(f"alpha must be above 0 (m^2), got {self.alpha}; try 1e-3")
        if not 0 <= self.ramp <= 1:
            raise ValueError(f"ramp must lie in [0, 1], got {self.ramp}; try 0.1")
        if not self.horizon >= 2:
            raise ValueError(f"horizon must be at least 2 steps, got {self.horizon}; try 100")

    def __call__(self, x: Any, u: Any, t: Any) -> Any:
        """l (...), in the library and the precision of the arguments.

        :param x: states (..., 32)
        :param u: actions (..., 7)
        :param t: time steps (...), from 0
        """
        s, qd = self._squared_distance(x), x[..., VELOCITIES]
        bracket = self.w_l2 * s + self.w_log * _log1p(s / self.alpha) + self.w_v * (qd * qd).sum(-1)
        return self._ramped(bracket, t) + self.w_u * (u * u).sum(-1)

    def expand(
        self, x: np.ndarray, u: np.ndarray, t: np.ndarray | int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A quadratic in z = [x; u] that touches the cost at (x, u) and lies above it everywhere.

        Its Hessian differs from the cost's in the log term alone. log is concave, so with s0 at the
        point of expansion, log(s + alpha) <= log(s0 + alpha) + (s - s0) / (s0 + alpha) for every
        s >= 0, with equality and equal slope at s0. The right-hand side is a quadratic of z, since
        s is, with the positive semidefinite Hessian s'' / (s0 + alpha); all other terms of the cost
        are quadratics already. The cost's own Hessian is negative along the direction of the error
        wherever s > alpha, and would leave Quu indefinite.

        :param x: states (..., 32), float64
        :param u: actions (..., 7)
        :param t: time steps (...)
        :return: value (...), gradient (..., 39), Hessian (..., 39, 39)
        """
        x, u, t = np.asarray(x, np.float64), np.asarray(u, np.float64), np.asarray(t)
        z = np.concatenate([x, u], axis=-1)
        ramp = self._ramped(np.ones(z.shape[:-1]), t)[..., None]
        s = self._squared_distance(x)[..., None]
        # Every term is a sum of squares of z, so the Hessian is diagonal and the gradient is H z.
        diagonal = np.zeros_like(z)
        weight = np.tile([self.lateral * self.ahead, self.lateral, 1.0], 3) / 3
        diagonal[..., POINTS] = 2 * ramp * (self.w_l2 + self.w_log / (s + self.alpha)) * weight
        diagonal[..., VELOCITIES] = 2 * ramp * self.w_v
        diagonal[..., STATE_DIM:] = 2 * self.w_u
        hessian = np.zeros((*z.shape, z.shape[-1]))
        index = np.arange(z.shape[-1])
        hessian[..., index, index] = diagonal
        return np.asarray(self(x, u, t)), diagonal * z, hessian

    def _squared_distance(self, x: Any) -> Any:
        square = x[..., POINTS] * x[..., POINTS]
        lateral = (self.ahead * square[..., 0::3] + square[..., 1::3]).sum(-1)
        return (self.lateral * lateral + square[..., 2::3].sum(-1)) / 3

    def _ramped(self, c: Any, t: Any) -> Any:
        # c * t rather than a ramp of its own: an integer tensor t then takes the precision of c.
        slope = (1 - self.ramp) / (self.horizon - 1)
        return (self.ramp * c + slope * (c * t)) * (1 + (t >= self.horizon - 1))


def _log1p(a: Any) -> Any:
    """A function in numpy, a method in torch, which is not imported here."""
    return np.log1p(a) if isinstance(a, np.ndarray | np.floating) else a.log1p()
