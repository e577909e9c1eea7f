"""Where the teachers' local dynamics come from: a small class each, and no branch elsewhere.

    x' = F_t z + f_t + N(0, Sigma_t),   z = [x; u],   for every condition and step

``fitted`` to the trials by the regression of ``core.fitting`` under one of three priors, which
carry the information, since one trial of a condition has rank zero:

    pooled     moments of all conditions within a window of time
    mixture    a Gaussian mixture over recent transitions (Levine et al. 2016, App. A.3)
    network    the derivatives of a smooth model of all transitions so far

or those of the ``simulator`` itself, where it gives its derivatives.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from sb3_gps.core.fitting import fit_dynamics, pooled_prior, running, transitions
from sb3_gps.core.gaussian import NormalInverseWishart, transpose
from sb3_gps.core.mixture import GaussianMixture, fit_mixture, mixture_prior, number_of_clusters
from sb3_gps.core.types import LinearDynamics, LinearisedTrajectories, Trajectories
from sb3_gps.regression import SmoothRegression

# Deviations of the changes, beyond which an error counts by its size. What is far beyond is likely
# to be a contact; and where all is well, changes are a hundredth of what they are when a pole
# falls: to stand still takes a model that is exact there, and by squares it is about the falls.
HUBER = 0.01
# Deviation of z that the covariance of a network's prior stands for, relative to that of all
# transitions.
SPREAD = 0.1


class DynamicsModel(Protocol):
    """What is learned once an iteration, and the local dynamics that follow from it."""

    def learn(self, recent: Sequence[Trajectories], last: Any, rng: np.random.Generator) -> Any:
        """What an iteration taught, beyond its trajectories; it is saved with the run.

        :param recent: trajectories of recent iterations, the newest last
        :param last: what the last iteration taught; None: this is the first
        """

    def local(self, recent: Sequence[Trajectories], learned: Any) -> LinearDynamics:
        """About the newest trajectories, for every condition, (M, T-1, ...)."""


@dataclass(frozen=True)
class Pooled:
    """Regression under ``pooled_prior``."""

    window: int
    strength: float
    ridge: float
    min_variance: float

    def learn(self, recent: Sequence[Trajectories], last: None, rng: np.random.Generator) -> None:
        """Nothing: the trajectories say it all."""

    def local(self, recent: Sequence[Trajectories], learned: None) -> LinearDynamics:
        """The same prior for all conditions."""
        points = [transitions(samples) for samples in recent]
        valid = running(recent, points[-1].shape[2])
        prior = pooled_prior(points, self.window, self.strength, valid)
        return fit_dynamics(recent[-1], prior, self.ridge, self.min_variance)


@dataclass(frozen=True)
class Mixture:
    """Regression under ``mixture_prior``."""

    ridge: float
    min_variance: float

    def learn(
        self, recent: Sequence[Trajectories], last: Any, rng: np.random.Generator
    ) -> GaussianMixture:
        """The mixture over recent transitions."""
        flat = np.concatenate([transitions(b)[b.running[..., :-1]] for b in recent])
        return fit_mixture(flat, number_of_clusters(len(flat)), rng)

    def local(self, recent: Sequence[Trajectories], learned: GaussianMixture) -> LinearDynamics:
        """A prior of each condition and step."""
        prior = mixture_prior(learned, transitions(recent[-1]))
        return fit_dynamics(recent[-1], prior, self.ridge, self.min_variance)


@dataclass(frozen=True, eq=False)
class ChangeModel:
    """x' - x of all transitions so far."""

    regression: SmoothRegression
    z: np.ndarray  # (n, dZ)
    change: np.ndarray  # (n, dX)
    first: np.ndarray  # (trials, dX) states that trials began in
    ended_early: bool  # whether a trial has, once in the run

    @property
    def dX(self) -> int:
        """Size of the state."""
        return self.change.shape[1]

    def step(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """The next state, (..., dX)."""
        return x + self.regression.predict(np.concatenate([x, u], axis=-1))

    def jacobian(self, Z: np.ndarray) -> np.ndarray:
        """d x' / d z, (..., dX, dZ)."""
        return self.regression.jacobian(Z) + np.eye(self.dX, Z.shape[-1])

    @property
    def spread(self) -> np.ndarray:
        """Deviations of the states that were seen, (dX,)."""
        return self.regression.std.numpy()[: self.dX]

    def reach(self, deviations: float) -> tuple[np.ndarray, np.ndarray]:
        """What counts as a state, in each coordinate: what is near the mean, or was seen.

        Deviations alone would narrow the more trials are alike: where most balance, a pole that
        falls was beyond six of them, and its fall was no loss.

        :param deviations: of the states that were seen, which count as near
        :return: lowest and highest, (dX,) each
        """
        x, mean = self.z[:, : self.dX], self.regression.mean.numpy()[: self.dX]
        away = deviations * self.spread
        states = np.concatenate([x, x + self.change, [mean - away, mean + away]])
        return states.min(axis=0), states.max(axis=0)


@dataclass(frozen=True)
class Network:
    """Regression under a prior whose slope is that of a ``ChangeModel``."""

    strength: float
    ridge: float
    min_variance: float

    def learn(
        self, recent: Sequence[Trajectories], last: ChangeModel | None, rng: np.random.Generator
    ) -> ChangeModel:
        """The model, refitted to the newest trajectories as well."""
        newest = recent[-1]
        valid = newest.running[..., :-1]
        z = newest.Z[..., :-1, :][valid]
        change = np.diff(newest.X, axis=2)[valid]
        first = newest.X[:, :, 0].reshape(-1, newest.X.shape[-1])
        early = bool(newest.ended_early.any())
        if last is None:
            regression = SmoothRegression(z.shape[1], change.shape[1], rng, HUBER)
        else:
            z, change = np.concatenate([last.z, z]), np.concatenate([last.change, change])
            first = np.concatenate([last.first, first])
            early |= last.ended_early
            regression = copy.deepcopy(last.regression)
        regression.fit(z, change, rng)
        return ChangeModel(regression, z, change, first, early)

    def local(self, recent: Sequence[Trajectories], learned: ChangeModel) -> LinearDynamics:
        """Of one trial a condition, the model's own derivatives there; of more, between.

        What the model misses is no noise of the environment, and is not planned with: in an
        unstable loop (InvertedDoublePendulum) it made the KL of any step that matters too large.
        """
        prior = self.prior(recent[-1].Z[..., :-1, :], learned)
        # Scaled as the prior's covariance is. Unscaled, coordinates that vary by hundredths, such
        # as the place of a cart that stands, would decay from step to step.
        ridge = SPREAD**2 * self.ridge
        dynamics = fit_dynamics(recent[-1], prior, ridge, self.min_variance)
        return replace(dynamics, Sigma=noise_floor(dynamics.F, self.min_variance))

    def prior(self, Z: np.ndarray, learned: ChangeModel) -> NormalInverseWishart:
        """
        :param Z: (M, N, T, dZ)
        :return: over [z; x'], (M, T, ...)
        """
        M, _, T, dZ = Z.shape
        dX = learned.dX
        F = learned.jacobian(Z).mean(axis=1)
        after = learned.step(Z[..., :dX], Z[..., dX:])
        S = np.diag(np.square(SPREAD * learned.regression.std.numpy()))
        FS = F @ S
        cov = np.empty((M, T, dZ + dX, dZ + dX))
        cov[..., :dZ, :dZ], cov[..., :dZ, dZ:], cov[..., dZ:, :dZ] = S, transpose(FS), FS
        cov[..., dZ:, dZ:] = FS @ transpose(F)
        return NormalInverseWishart(
            mu0=np.concatenate([Z, after], axis=-1).mean(axis=1),
            Phi=self.strength * cov,
            m=np.ones((M, T)),
            n0=np.full((M, T), self.strength),
        )


@dataclass(frozen=True)
class Simulator:
    """The derivatives that came with the trajectories; no prior, and no trial too many."""

    min_variance: float

    def learn(self, recent: Sequence[Trajectories], last: None, rng: np.random.Generator) -> None:
        """Nothing."""

    def local(self, recent: Sequence[Trajectories], learned: None) -> LinearDynamics:
        """The simulator's derivatives."""
        newest = recent[-1]
        assert isinstance(newest, LinearisedTrajectories)
        return along(newest, newest.jacobian, self.min_variance)


def along(samples: Trajectories, jacobian: np.ndarray, min_variance: float) -> LinearDynamics:
    """The derivatives at every step, as means over the samples of a condition.

    After its end, a sample counts as at its last step. There is no noise but the floor.

    :param jacobian: d x' / d z, (M, N, T, dX, dZ)
    """
    M, N, T = samples.X.shape[:3]
    t = np.minimum(np.arange(T - 1), samples.length[..., None] - 1)
    at = np.arange(M)[:, None, None], np.arange(N)[:, None], t
    slope = jacobian[at]
    f = samples.X[(*at[:2], t + 1)] - np.einsum("mntxz,mntz->mntx", slope, samples.Z[at])
    F = slope.mean(axis=1)
    return LinearDynamics(F, f.mean(axis=1), noise_floor(F, min_variance))


def noise_floor(F: np.ndarray, min_variance: float) -> np.ndarray:
    """The least Sigma of dynamics F (..., dX, dZ), (..., dX, dX)."""
    dX = F.shape[-2]
    return np.broadcast_to(min_variance * np.eye(dX), (*F.shape[:-1], dX)).copy()
