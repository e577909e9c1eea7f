"""Gaussians: symmetric solves, the normal-inverse-Wishart estimate, and conditioning.

One helper for each idea, so that regularisation and symmetry are decided in one place.
Source of the estimate: Levine et al. 2016, App. A.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sb3_gps.core.types import Gaussian, Record


def transpose(A: np.ndarray) -> np.ndarray:
    """A' of the last two axes."""
    return np.swapaxes(A, -1, -2)


def symmetrize(A: np.ndarray) -> np.ndarray:
    """(A + A') / 2 over the last two axes."""
    return 0.5 * (A + transpose(A))


def is_positive_definite(A: np.ndarray) -> np.ndarray:
    """Whether each symmetric matrix of the batch has a Cholesky factor, (...,) bool."""
    finite = np.isfinite(A).all(axis=(-1, -2))
    try:
        np.linalg.cholesky(A)
        return finite
    except np.linalg.LinAlgError:
        # One bad matrix fails the whole batch: look at them one by one, which is rare.
        safe = np.where(finite[..., None, None], A, 0.0)
        return finite & (np.linalg.eigvalsh(safe)[..., 0] > 0.0)


def log_det(A: np.ndarray) -> np.ndarray:
    """``log |A|`` of positive definite matrices, (...,)."""
    factor = np.linalg.cholesky(A)
    return 2.0 * np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)


def floor_eigenvalues(A: np.ndarray, floor: float) -> np.ndarray:
    """The nearest symmetric matrix (Frobenius) whose eigenvalues are at least ``floor``."""
    values, vectors = np.linalg.eigh(symmetrize(A))
    if values.min(initial=np.inf) >= floor:
        return symmetrize(A)
    return symmetrize((vectors * np.maximum(values, floor)[..., None, :]) @ transpose(vectors))


def floor_deviations(A: np.ndarray, std: np.ndarray | float) -> np.ndarray:
    """The nearest covariance, in units of std, that deviates by at least std in every direction.

    :param std: (d,), or one for all
    """
    unit = np.outer(*2 * [np.broadcast_to(std, A.shape[-1])])
    return unit * floor_eigenvalues(A / unit, 1.0)


@dataclass(frozen=True, eq=False)
class NormalInverseWishart(Record):
    """Prior on (mean, covariance): mean ~ N(mu0, cov / m), cov ~ IW(Phi, n0)."""

    mu0: np.ndarray  # (..., d)
    Phi: np.ndarray  # (..., d, d) scatter, n0 times the prior covariance
    m: np.ndarray  # (...) pseudo-samples of the mean
    n0: np.ndarray  # (...) pseudo-samples of the covariance


def niw_covariance(
    points: np.ndarray, prior: NormalInverseWishart | None, valid: np.ndarray | None = None
) -> Gaussian:
    """The sample mean and the MAP covariance of points under a prior.

    Sigma = (N S + Phi + N m / (N + m) (xbar - mu0)(xbar - mu0)') / (N + n0). The mean returned is
    the sample's, as in the reference implementation: local models must pass through their data.

    :param points: (..., N, d); the axis N is reduced
    :param prior: over (..., d), or None for the maximum likelihood estimate
    :param valid: which of the points count, (..., N) bool, with a prior; None: all. Where none
        does, the estimate is the prior's
    """
    if valid is None:
        N = np.asarray(points.shape[-2])
        mean = points.mean(axis=-2)
        centred = points - mean[..., None, :]
    else:
        assert prior is not None
        N = np.asarray(valid.sum(axis=-1))
        total = (valid[..., None] * points).sum(axis=-2)
        mean = np.where((N > 0)[..., None], total / np.maximum(N, 1)[..., None], prior.mu0)
        centred = valid[..., None] * (points - mean[..., None, :])
    scatter = transpose(centred) @ centred
    if prior is None:
        return Gaussian(mean, scatter / N)
    offset = np.sqrt(N * prior.m / (N + prior.m))[..., None] * (mean - prior.mu0)
    cov = scatter + prior.Phi
    cov += offset[..., :, None] * offset[..., None, :]  # in place: M T d^2 numbers are many
    cov /= (N + prior.n0)[..., None, None]
    return Gaussian(mean, cov)


def condition(
    joint: Gaussian, d_in: int, ridge: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y | z of a joint Gaussian over [z; y], as y = F z + f + N(0, Sigma).

    :param joint: over (..., d_in + d_out)
    :param d_in: size of z
    :param ridge: added to the diagonal of the covariance of z. Physical states have redundant
        coordinates (points that follow from joint angles): a ridge of 1e-4 already ruins the
        regression of metres, 1e-6 does not.
    :return: F (..., d_out, d_in), f (..., d_out), Sigma (..., d_out, d_out), symmetric
    """
    Szz, Szy = joint.cov[..., :d_in, :d_in], joint.cov[..., :d_in, d_in:]
    F = transpose(np.linalg.solve(Szz + ridge * np.eye(d_in), Szy))
    f = joint.mean[..., d_in:] - np.einsum("...yz,...z->...y", F, joint.mean[..., :d_in])
    # The Joseph form stays positive semi-definite whatever the ridge.
    FS = F @ Szy
    Sigma = joint.cov[..., d_in:, d_in:] - FS - transpose(FS) + F @ Szz @ transpose(F)
    return F, f, symmetrize(Sigma)
