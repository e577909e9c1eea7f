"""Time-varying linear-Gaussian models from few samples: dynamics and the linearised student.

Both are the regression y_t = F_t z_t + f_t + N(0, Sigma_t) under a normal-inverse-Wishart prior
over [z; y] for every time step: z = [x; u], y = x' for the dynamics, z = x, y = u for the student.
Source: Levine et al. 2016, App. A.3.

The prior carries the information: with one sample a condition the likelihood has rank zero. Two
priors are offered, ``pooled_prior`` here and ``mixture.mixture_prior``; both take the joint points
of recent iterations and return a prior for every condition and step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sb3_gps.core.gaussian import (
    NormalInverseWishart,
    condition,
    floor_eigenvalues,
    niw_covariance,
    transpose,
)
from sb3_gps.core.types import LinearDynamics, LinearGaussianController, Trajectories


def transitions(samples: Trajectories) -> np.ndarray:
    """Joint points [x; u; x'] of trajectories, (M, N, T-1, 2 dX + dU)."""
    return np.concatenate([samples.Z[..., :-1, :], samples.X[..., 1:, :]], axis=-1)


def running(history: Sequence[Trajectories], steps: int) -> list[np.ndarray] | None:
    """Which of the first ``steps`` belong to running episodes, (M, N, steps) bool; None: all."""
    masks = [samples.running[..., :steps] for samples in history]
    return None if all(mask.all() for mask in masks) else masks


def pooled_prior(
    history: list[np.ndarray],
    window: int = 6,
    strength: float = 10.0,
    valid: list[np.ndarray] | None = None,
) -> NormalInverseWishart:
    """A prior for every step from all conditions and recent iterations, within a time window.

    Neighbouring steps and conditions obey the same physics, so their pooled moments are the prior
    of each; only the window keeps it local. A step that fewer than 2 d points are near, since
    episodes ended before it, has the prior of the last that enough were near.

    :param history: joint points of each recent iteration, (M, N, T, d) each
    :param window: steps to either side that are pooled
    :param strength: n0, pseudo-samples of the prior covariance
    :param valid: which of the points count, (M, N, T) bool each; None: all
    :return: over (1, T, d): the same for all conditions
    """
    T, d = history[0].shape[-2:]
    count, first, second = np.zeros(T), np.zeros((T, d)), np.zeros((T, d, d))
    centre = history[-1].mean(axis=(0, 1, 2))  # moments about it lose no digits
    for i, points in enumerate(history):
        per_step = np.moveaxis(points.reshape(-1, T, d), 1, 0) - centre  # (T, M N, d)
        if valid is None:
            count += per_step.shape[1]
        else:
            counted = valid[i].reshape(-1, T).T
            count += counted.sum(axis=1)
            per_step = counted[..., None] * per_step
        first += per_step.sum(axis=1)
        second += transpose(per_step) @ per_step
    totals = [_window_sum(moment, window) for moment in (count, first, second)]
    if valid is not None:
        enough = np.where(totals[0] >= 2 * d, np.arange(T), 0)
        last = np.maximum.accumulate(enough)
        totals = [total[last] for total in totals]
    n = totals[0]
    mean = totals[1] / n[:, None]
    cov = totals[2] / n[:, None, None] - mean[:, :, None] * mean[:, None, :]
    return NormalInverseWishart(
        mu0=(mean + centre)[None],
        Phi=strength * cov[None],
        m=np.ones((1, T)),
        n0=np.full((1, T), strength),
    )


def _window_sum(values: np.ndarray, window: int) -> np.ndarray:
    """Sum over the leading axis within +-window, shorter at the ends."""
    T = len(values)
    cumulative = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    t = np.arange(T)
    return cumulative[np.minimum(t + window + 1, T)] - cumulative[np.maximum(t - window, 0)]


def _regress(
    points: np.ndarray,
    d_in: int,
    prior: NormalInverseWishart | None,
    ridge: float,
    floor: float,
    valid: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    counted = None if valid is None else np.moveaxis(valid, 1, 2)
    joint = niw_covariance(np.moveaxis(points, 1, 2), prior, counted)  # reduces N
    F, f, Sigma = condition(joint, d_in, ridge)
    return F, f, floor_eigenvalues(Sigma, floor)


def fit_dynamics(
    samples: Trajectories,
    prior: NormalInverseWishart | None,
    ridge: float = 1e-6,
    min_variance: float = 1e-8,
) -> LinearDynamics:
    """``p(x'|x, u)`` of every condition and step from its samples under a prior.

    :param samples: (M, N, T, ...); what follows the end of an episode does not count
    :param prior: over [x; u; x'] at T-1 steps
    :param ridge: added to the diagonal of the covariance of z
    :param min_variance: floor of the eigenvalues of Sigma
    """
    points, dZ = transitions(samples), samples.Z.shape[-1]
    valid = running([samples], points.shape[2])
    newest = None if valid is None else valid[-1]
    return LinearDynamics(*_regress(points, dZ, prior, ridge, min_variance, newest))


def linearize_policy(
    X: np.ndarray,
    actions: np.ndarray,
    covariance: np.ndarray,
    prior: NormalInverseWishart | None,
    ridge: float = 1e-6,
    valid: np.ndarray | None = None,
) -> LinearGaussianController:
    """The student as pi(u_t|x_t) = N(K x + k, C) about each condition's samples.

    C is the student's own covariance plus what the linear model does not explain.

    :param X: states, (M, N, T, dX)
    :param actions: the student's mean actions there, (M, N, T, dU)
    :param covariance: of the student, (dU, dU), positive definite
    :param prior: over [x; u] at T steps
    :param valid: which of the states count, (M, N, T) bool; None: all
    """
    points = np.concatenate([X, actions], axis=-1)
    fitted = LinearGaussianController(*_regress(points, X.shape[-1], prior, ridge, 0.0, valid))
    return replace(fitted, C=fitted.C + covariance)


def held_out_error(dynamics: LinearDynamics, samples: Trajectories) -> np.ndarray:
    """One-step error on samples that the model has not seen, relative to the change of the state.

    :return: (M, T-1): ``|x' - F z - f| / |x' - x|``, root mean squares over samples and dimensions,
        the change's over all steps too, so that a step at rest does not divide by zero; 0 where
        all episodes have ended
    """
    predicted = (
        np.einsum("mtxz,mntz->mntx", dynamics.F, samples.Z[..., :-1, :]) + dynamics.f[:, None]
    )
    change = samples.X[..., 1:, :] - samples.X[..., :-1, :]
    error = samples.running[..., :-1, None] * (samples.X[..., 1:, :] - predicted)
    scale = np.sqrt((change**2).mean(axis=(1, 3)).mean(axis=-1, keepdims=True))
    return np.sqrt((error**2).mean(axis=(1, 3))) / np.maximum(scale, 1e-12)
