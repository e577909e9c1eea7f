"""A cost that is learned from the rewards, for environments that offer none.

    l(x, u) = -r_hat(x, u) / scale

with r_hat a ``SmoothRegression`` on every step that was executed; LQR plans with its derivatives.
It does not depend on t, as rewards do not.

Rewards are divided by their deviation in the first trials, so that options in units of cost, such
as ``min_eta``, mean the same everywhere.
"""

from __future__ import annotations

import numpy as np
import torch as th

from sb3_gps.autodiff import DifferentiableCost
from sb3_gps.core.types import Trajectories
from sb3_gps.regression import SmoothRegression


class LearnedCost(DifferentiableCost):
    """``CostModel`` of a regression on rewards; ``fit`` before use.

    :param dX: size of the state
    :param dU: of the action
    :param rng: draws the first weights
    """

    def __init__(self, dX: int, dU: int, rng: np.random.Generator) -> None:
        super().__init__(self._cost)
        self.reward = SmoothRegression(dX + dU, 1, rng)
        self.scale = 1.0  # rewards in a unit of cost
        self.z, self.rewards = np.empty((0, dX + dU)), np.empty(0)

    def _cost(self, x: th.Tensor, u: th.Tensor, t: th.Tensor) -> th.Tensor:
        return -self.reward(th.cat([x, u], dim=1))[:, 0] / self.scale

    def value(self, X: np.ndarray, U: np.ndarray, t: np.ndarray) -> np.ndarray:
        """As its base's, but within the rewards that were seen.

        A quadratic goes on for ever: where a plan is uncertain, it would promise anything.
        """
        best, worst = -self.rewards.max() / self.scale, -self.rewards.min() / self.scale
        return np.clip(super().value(X, U, t), best, worst)

    def fit(self, samples: Trajectories, rewards: np.ndarray, rng: np.random.Generator) -> float:
        """Refit to all that was executed, these samples included.

        After an early end no reward comes: the last state is learned to be worth nothing.

        :param samples: (M, N, T, ...)
        :param rewards: (M, N, T)
        :return: the error on these samples before they were learned from, root mean square
            relative to the rewards' deviation; nan at first
        """
        known = np.arange(samples.X.shape[2]) <= samples.length[..., None]  # one step after the end
        z, r = samples.Z[known], rewards[known]
        error = float("nan")
        if len(self.z):
            missed = self.reward.predict(z)[:, 0] - r
            error = float(np.sqrt(np.square(missed).mean()) / max(r.std(), 1e-6 * self.scale))
        else:
            spread = float(rewards.std())
            self.scale = spread if spread > 1e-6 * np.abs(rewards).max() else 1.0
        self.z, self.rewards = np.concatenate([self.z, z]), np.concatenate([self.rewards, r])
        self.reward.fit(self.z, self.rewards[:, None], rng)
        return error

    def costs(self, rewards: np.ndarray) -> np.ndarray:
        """What trajectories did cost, (M, N): by the rewards themselves, not by their model.

        :param rewards: (M, N, T)
        """
        return -rewards.sum(axis=-1) / self.scale
