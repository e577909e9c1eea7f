"""Symmetric helpers, the normal-inverse-Wishart estimate and conditioning."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from sb3_gps.core.gaussian import (
    NormalInverseWishart,
    condition,
    floor_eigenvalues,
    is_positive_definite,
    log_det,
    niw_covariance,
    symmetrize,
    transpose,
)
from sb3_gps.core.types import Gaussian


def test_positive_definite_is_decided_matrix_by_matrix(make_pd, rng):
    A = make_pd(rng, 6, 3)
    assert is_positive_definite(A).all()
    A[1] = -A[1]
    A[2] -= 1.1 * np.linalg.eigvalsh(A[2])[0] * np.eye(3)  # one eigenvalue just below zero
    A[3, 0, 0] = np.nan
    A[4, 1, 2] = A[4, 2, 1] = np.inf
    assert is_positive_definite(A).tolist() == [True, False, False, False, False, True]


def test_log_det_equals_numpy(make_pd, rng):
    A = make_pd(rng, 4, 2, 3)
    assert_allclose(log_det(A), np.linalg.slogdet(A)[1])


def test_floor_leaves_larger_eigenvalues_alone(make_pd, rng):
    A = make_pd(rng, 5, 3, low=0.3)
    assert_array_equal(floor_eigenvalues(A, 0.1), symmetrize(A))


def test_floor_is_the_nearest_matrix(rng):
    A = symmetrize(rng.standard_normal((4, 4)))
    B = floor_eigenvalues(A, 0.2)
    assert np.linalg.eigvalsh(B)[0] >= 0.2 - 1e-12
    assert_array_equal(B, B.T)
    distance = np.linalg.norm(B - A)
    for _ in range(200):  # other matrices above the floor are farther away
        other = floor_eigenvalues(B + 0.1 * symmetrize(rng.standard_normal((4, 4))), 0.2)
        assert np.linalg.norm(other - A) > distance


def test_niw_equals_the_formula(make_pd, rng):
    points = rng.standard_normal((2, 7, 3))
    prior = NormalInverseWishart(
        mu0=rng.standard_normal((2, 3)),
        Phi=make_pd(rng, 2, 3),
        m=np.array([0.5, 4.0]),
        n0=np.array([2.0, 11.0]),
    )
    estimate = niw_covariance(points, prior)
    for b in range(2):
        N, m, n0 = 7, prior.m[b], prior.n0[b]
        offset = points[b].mean(axis=0) - prior.mu0[b]
        S = np.cov(points[b].T, bias=True)
        expected = (N * S + prior.Phi[b] + N * m / (N + m) * np.outer(offset, offset)) / (N + n0)
        assert_allclose(estimate.mean[b], points[b].mean(axis=0))
        assert_allclose(estimate.cov[b], expected)


def test_niw_without_a_prior_is_the_sample_covariance(rng):
    points = rng.standard_normal((2, 7, 3))
    for b in range(2):
        assert_allclose(niw_covariance(points, None).cov[b], np.cov(points[b].T, bias=True))


def test_niw_leaves_the_prior_alone(make_pd, rng):
    prior = NormalInverseWishart(np.zeros(3), make_pd(rng, 3), np.ones(()), np.ones(()))
    Phi = prior.Phi.copy()
    niw_covariance(rng.standard_normal((1, 3)), prior)
    assert_array_equal(prior.Phi, Phi)


def test_condition_inverts_the_construction_of_a_joint(make_pd, rng):
    """z ~ N(m, S), y = F z + f + noise: the joint's moments give F, f and the noise back."""
    m, S = rng.standard_normal((2, 4)), make_pd(rng, 2, 4)
    F, f, Sigma = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3)), make_pd(rng, 2, 3)
    FS = F @ S
    joint = Gaussian(
        np.concatenate([m, (F @ m[..., None])[..., 0] + f], axis=-1),
        np.block([[S, transpose(FS)], [FS, FS @ transpose(F) + Sigma]]),
    )
    for found, expected in zip(condition(joint, 4, ridge=0.0), (F, f, Sigma), strict=True):
        assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


def test_condition_stays_semi_definite_under_any_ridge(rng):
    A = rng.standard_normal((6, 3))  # of rank 3: y is a function of z
    joint = Gaussian(rng.standard_normal(6), A @ A.T)
    for ridge in (1e-9, 1e-6, 1e-2, 1.0):
        _, _, Sigma = condition(joint, 4, ridge)
        assert np.linalg.eigvalsh(Sigma)[0] > -1e-10
