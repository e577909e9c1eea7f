"""A cost that is learned from the rewards, for environments that offer none.

    l(x, u) = (-r_hat(x, u) + w r_bar softplus(odds(x))) / scale

with r_hat a ``SmoothRegression`` on every step that was executed; LQR plans with its derivatives.
It does not depend on t, as rewards do not.

After an early end no reward comes, and often none, or a worse one, for the step that led to it. A
regression on that would have a cliff at the end, of which no quadratic is a model, and be bent by
it where all is well: such steps are left out. Instead, whether a state is an end is learned apart,
as a log-odds, and a state costs what a step was paid on average, r_bar, times -log(1 - P(end)).
This is smooth, it grows with the distance beyond the end, and where staying alive is all that is
paid for, it is all there is. Where a step costs (r_bar < 0), the end is sought, and all rewards are
learned: one of them may say that this end is not to be.

It is also crude: its slope is nowhere zero, and leads away from the ends that were met so far. So
where a step is paid, it counts only as far as the rewards do not tell the ends themselves: w is 1
where states of an end would be paid as well as half of the steps are, and 0 where nearly all steps
are paid more.

Rewards are divided by their deviation in the first trials, so that options in units of cost, such
as ``min_eta``, mean the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch as th
from torch.nn.functional import logsigmoid, softplus

from sb3_gps.autodiff import DifferentiableCost
from sb3_gps.core.types import Trajectories
from sb3_gps.regression import LogisticRegression, SmoothRegression

MARGIN = 0.01  # of the largest reward: what is closer is paid alike
TOLD = 0.05  # share of steps that may be paid no more than an end, where rewards tell the ends
UNLIKE = 0.1  # share of the ends that look too little like one to count
FALSELY = 0.001  # share of other states that may count as ends


class LearnedCost(DifferentiableCost):
    """``CostModel`` of a regression on rewards; ``fit`` before use.

    :param dX: size of the state
    :param dU: of the action
    :param rng: draws the first weights
    """

    def __init__(self, dX: int, dU: int, rng: np.random.Generator) -> None:
        super().__init__(self._cost)
        self.reward = SmoothRegression(dX + dU, 1, rng)
        self.end = LogisticRegression(dX)
        self.scale = 1.0  # rewards in a unit of cost
        self.z, self.rewards = np.empty((0, dX + dU)), np.empty(0)  # of steps
        self.ends = np.empty((0, dX))  # states that ended an episode
        self.untold = 1.0  # w

    def _cost(self, x: th.Tensor, u: th.Tensor, t: th.Tensor) -> th.Tensor:
        cost = -self.reward(th.cat([x, u], dim=1))[:, 0]
        if len(self.ends):
            cost = cost + self.untold * self.rewards.mean() * softplus(self.end(x))
        return cost / self.scale

    def value(self, X: np.ndarray, U: np.ndarray, t: np.ndarray) -> np.ndarray:
        """What a step is expected not to be paid: nothing where the episode has ended.

        It stays within the rewards that were seen. A quadratic goes on for ever: where a plan is
        uncertain, it would promise anything.
        """
        x, u, _ = self._flat(X, U, t)
        with th.no_grad():
            paid = self.reward(th.cat([x, u], dim=1))[:, 0]
            paid = paid.clamp(self.rewards.min(), self.rewards.max())
            if len(self.ends):
                paid = paid * logsigmoid(-self.end(x)).exp()
        return -paid.numpy().reshape(t.shape) / self.scale

    def end_rule(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """What tells whether an episode would be over.

        A state is to look as much like an end as nine of ten that were met; and more than nearly
        all that were acted in, so that these go on where the two are hard to tell apart.

        :return: of states (n, dX), (n,) bool; None: no end is known
        """
        if not len(self.ends):
            return None

        def odds(x: np.ndarray) -> np.ndarray:
            with th.no_grad():
                return self.end(th.from_numpy(x)).numpy()

        met, lived = odds(self.ends), odds(self.z[:, : self.ends.shape[1]])
        least = max(np.quantile(met, UNLIKE), np.quantile(lived, 1.0 - FALSELY))
        return lambda x: odds(x) >= least

    def fit(self, samples: Trajectories, rewards: np.ndarray, rng: np.random.Generator) -> float:
        """Refit to all that was executed, these samples included.

        :param samples: (M, N, T, ...)
        :param rewards: (M, N, T)
        :return: the error on these samples before they were learned from, root mean square
            relative to the rewards' deviation, or to 1 % of them; nan at first
        """
        T, dX = samples.X.shape[2:]
        early = samples.ended_early
        last = early[..., None] & (np.arange(T) == samples.length[..., None] - 1)
        paid = np.concatenate([self.rewards, rewards[samples.running & ~last]])
        typical = paid.mean() if len(paid) else 0.0
        # What is paid for a goal that ends an episode is learned, and all where steps cost.
        cliff = last & (rewards < typical) & (typical > 0)
        used = samples.running & ~cliff
        z, r = samples.Z[used], rewards[used]
        error = float("nan")
        if len(self.z):
            missed = self.reward.predict(z)[:, 0] - r
            # A reward that never changes has no deviation.
            spread = max(r.std(), MARGIN * np.abs(r).max(), 1e-6 * self.scale)
            error = float(np.sqrt(np.square(missed).mean()) / spread)
        else:
            spread = float(r.std())
            self.scale = spread if spread > 1e-6 * np.abs(r).max() else 1.0
        self.z, self.rewards = np.concatenate([self.z, z]), np.concatenate([self.rewards, r])
        self.reward.fit(self.z, self.rewards[:, None], rng)
        # An episode rests in its last state.
        self.ends = np.concatenate([self.ends, samples.X[:, :, -1][early]])
        if len(self.ends):
            known = np.concatenate([self.z[:, :dX], self.ends])
            self.end.fit(known, np.arange(len(known)) >= len(self.z))
            self.untold = self._untold()
        return error

    def _untold(self) -> float:
        """w, by the share of the steps that are not paid clearly more than an end would be."""
        if self.rewards.mean() <= 0:
            return 1.0
        idle = np.zeros((len(self.ends), self.z.shape[1] - self.ends.shape[1]))
        paid = self.reward.predict(np.concatenate([self.ends, idle], axis=1))[:, 0]
        alike = paid + MARGIN * np.abs(self.rewards).max()
        not_more = np.searchsorted(np.sort(self.rewards), alike, side="right") / len(self.rewards)
        return float(np.clip((not_more.mean() - TOLD) / (0.5 - TOLD), 0.0, 1.0))

    def costs(self, rewards: np.ndarray) -> np.ndarray:
        """What trajectories did cost, (M, N): by the rewards themselves, not by their model.

        :param rewards: (M, N, T)
        """
        return -rewards.sum(axis=-1) / self.scale
