"""Regressions against numpy's least squares, and the limits of the prior."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sb3_gps.core.fitting import (
    fit_dynamics,
    held_out_error,
    linearize_policy,
    pooled_prior,
    transitions,
)
from sb3_gps.core.gaussian import NormalInverseWishart, condition
from sb3_gps.core.types import Gaussian, LinearDynamics, Trajectories


@pytest.fixture
def prior(make_pd, rng):
    """Generic, for dX = 4, dU = 2 and T = 6, and at odds with any data."""
    return NormalInverseWishart(
        mu0=rng.standard_normal((1, 5, 10)),
        Phi=10.0 * make_pd(rng, 1, 5, 10),
        m=np.ones((1, 5)),
        n0=np.full((1, 5), 10.0),
    )


def test_transitions_are_aligned(make_problem, roll_out, rng):
    problem = make_problem()
    samples = roll_out(problem, 3, rng, process_noise=False)
    points = transitions(samples)
    assert points.shape == (3, 3, 5, 4 + 2 + 4)
    F, f = problem.dynamics.F, problem.dynamics.f
    predicted = np.einsum("mtxz,mntz->mntx", F, points[..., :6]) + f[:, None]
    assert_allclose(points[..., 6:], predicted, atol=1e-12)


def test_many_samples_recover_the_dynamics(make_problem, roll_out, rng):
    problem, N = make_problem(M=2), 4000
    true = problem.dynamics
    samples = roll_out(problem, N, rng)
    fitted = fit_dynamics(samples, None, ridge=1e-12)
    for m in range(2):
        for t in range(5):
            S = np.cov(samples.Z[m, :, t].T, bias=True)
            variance = np.outer(np.diag(true.Sigma[m, t]), np.diag(np.linalg.inv(S))) / N
            assert (abs(fitted.F[m, t] - true.F[m, t]) < 5.0 * np.sqrt(variance)).all()
            # Each entry of a sample covariance has the variance (S_ii S_jj + S_ij^2) / N.
            D = np.diag(true.Sigma[m, t])
            spread = np.sqrt((np.outer(D, D) + true.Sigma[m, t] ** 2) / N)
            assert (abs(fitted.Sigma[m, t] - true.Sigma[m, t]) < 5.0 * spread + 10.0 / N).all()


def test_without_a_prior_it_is_least_squares(make_problem, roll_out, rng):
    samples = roll_out(make_problem(), 30, rng)
    fitted = fit_dynamics(samples, None, ridge=0.0, min_variance=0.0)
    for m in range(3):
        for t in range(5):
            A = np.column_stack([samples.Z[m, :, t], np.ones(30)])
            y = samples.X[m, :, t + 1]
            W = np.linalg.lstsq(A, y, rcond=None)[0]
            assert_allclose(fitted.F[m, t], W[:-1].T, rtol=1e-8, atol=1e-8)
            assert_allclose(fitted.f[m, t], W[-1], rtol=1e-8, atol=1e-8)
            residual = y - A @ W
            assert_allclose(fitted.Sigma[m, t], residual.T @ residual / 30, rtol=1e-8, atol=1e-10)


def test_infinite_data_forget_the_prior(make_problem, roll_out, rng, prior):
    problem = make_problem()
    influence = []
    for N in (200, 2000, 20_000):
        samples = roll_out(problem, N, rng)
        with_prior, without = fit_dynamics(samples, prior), fit_dynamics(samples, None)
        influence.append(abs(with_prior.F - without.F).max())
    assert influence[1] < influence[0] / 5.0  # of order 1 / N
    assert influence[2] < influence[1] / 7.0


def test_a_huge_n0_returns_the_prior(make_problem, roll_out, rng, prior):
    scale = 1e9
    strong = NormalInverseWishart(prior.mu0, scale * prior.Phi, prior.m, scale * prior.n0)
    fitted = fit_dynamics(roll_out(make_problem(), 5, rng), strong, ridge=0.0)
    F, _, Sigma = condition(Gaussian(prior.mu0, prior.Phi / prior.n0[..., None, None]), 6, 0.0)
    assert_allclose(fitted.F, np.broadcast_to(F, fitted.F.shape), rtol=1e-6, atol=1e-6)
    assert_allclose(fitted.Sigma, np.broadcast_to(Sigma, fitted.Sigma.shape), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("with_prior", [True, False])
def test_one_sample_lies_on_its_model(make_problem, roll_out, rng, prior, with_prior):
    samples = roll_out(make_problem(), 1, rng)
    fitted = fit_dynamics(samples, prior if with_prior else None)
    predicted = (fitted.F @ samples.Z[:, 0, :-1, :, None])[..., 0] + fitted.f
    assert_allclose(predicted, samples.X[:, 0, 1:], atol=1e-10)


def arm_like(rng, M, N, T, dX=26, dU=7, noise=1e-3):
    """A linear system in 33 dimensions, the last ten states being functions of the others."""
    free = dX - 10
    A = np.eye(free) + 0.1 * rng.standard_normal((free, free)) / np.sqrt(free)
    B, G = 0.1 * rng.standard_normal((free, dU)), rng.standard_normal((10, free))
    X, U = np.zeros((M, N, T, free)), 0.3 * rng.standard_normal((M, N, T, dU))
    X[:, :, 0] = rng.standard_normal((M, 1, free)) + 0.01 * rng.standard_normal((M, N, free))
    for t in range(T - 1):
        X[:, :, t + 1] = X[:, :, t] @ A.T + U[:, :, t] @ B.T
        X[:, :, t + 1] += noise * rng.standard_normal((M, N, free))
    return Trajectories(np.concatenate([X, X @ G.T], axis=-1), U)


def test_five_samples_in_33_dimensions(rng):
    """Rank-deficient data and redundant coordinates, as on an arm: only the prior helps."""
    both = arm_like(rng, M=9, N=7, T=20)
    samples = Trajectories(both.X[:, :5], both.U[:, :5])
    unseen = Trajectories(both.X[:, 5:], both.U[:, 5:])
    fitted = fit_dynamics(samples, pooled_prior([transitions(samples)]))
    for array in (fitted.F, fitted.f, fitted.Sigma):
        assert np.isfinite(array).all()
    assert np.linalg.eigvalsh(fitted.Sigma).min() >= 1e-8 * (1 - 1e-6)
    assert abs(fitted.F).max() < 5.0  # collinear coordinates share the weight, without blowing up
    error = held_out_error(fitted, unseen).mean()
    assert error < 0.1
    assert error < 0.3 * held_out_error(fit_dynamics(samples, None), unseen).mean()


def test_copied_coordinates_do_not_matter(make_problem, roll_out, rng):
    samples = roll_out(make_problem(), 50, rng)
    twice = Trajectories(np.concatenate([samples.X, samples.X], axis=-1), samples.U)
    one, two = fit_dynamics(samples, None), fit_dynamics(twice, None)
    assert_allclose(two.F[:, :, :4, :4] + two.F[:, :, :4, 4:8], one.F[..., :4], atol=1e-4)
    assert_allclose(two.F[:, :, :4, 8:], one.F[..., 4:], atol=1e-4)
    assert np.isfinite(two.F).all()


@pytest.mark.parametrize("window", [0, 2, 100])
def test_pooled_prior_equals_brute_force(rng, window):
    T, d = 9, 3
    offset = 100.0 * rng.standard_normal(d)  # far from zero, where moments lose digits
    history = [rng.standard_normal((3, n, T, d)) * [1.0, 0.1, 5.0] + offset for n in (1, 4)]
    prior = pooled_prior(history, window, strength=7.0)
    assert prior.mu0.shape == (1, T, d)
    for t in range(T):
        steps = slice(max(0, t - window), t + window + 1)
        pool = np.concatenate([points[:, :, steps].reshape(-1, d) for points in history])
        assert_allclose(prior.mu0[0, t], pool.mean(axis=0))
        assert_allclose(prior.Phi[0, t], 7.0 * np.cov(pool.T, bias=True), atol=1e-10)
        assert prior.n0[0, t] == 7.0


def test_linearisation_of_a_linear_policy_is_exact(
    make_problem, make_controller, roll_out, make_pd, rng
):
    problem = make_problem()
    policy = make_controller(rng, 3, 6, 4, 2)
    X = roll_out(problem, 20, rng).X
    covariance = make_pd(rng, 2)
    fitted = linearize_policy(X, policy[:, None].mean(X), covariance, None, ridge=1e-12)
    assert_allclose(fitted.K, policy.K, atol=1e-6)
    assert_allclose(fitted.k, policy.k, atol=1e-6)
    assert_allclose(fitted.C, np.broadcast_to(covariance, fitted.C.shape), atol=1e-6)


def test_linearisation_adds_what_is_not_linear(make_problem, roll_out, make_pd, rng):
    X = roll_out(make_problem(), 40, rng).X
    covariance = make_pd(rng, 2)
    actions = np.sin(3.0 * X[..., :2])
    extra = linearize_policy(X, actions, covariance, None).C - covariance
    assert (np.linalg.eigvalsh(extra)[..., 0] > 0.0).all()


def test_held_out_error(make_problem, roll_out, rng):
    problem = make_problem()
    exact = roll_out(problem, 4, rng, process_noise=False)
    assert_allclose(held_out_error(problem.dynamics, exact), 0.0, atol=1e-12)
    # A model that says "nothing moves" misses the whole change.
    still = LinearDynamics(
        np.tile(np.eye(4, 6), (3, 5, 1, 1)), np.zeros((3, 5, 4)), problem.dynamics.Sigma
    )
    error = held_out_error(still, exact)
    assert error.shape == (3, 5)
    square = (np.diff(exact.X, axis=2) ** 2).mean(axis=(1, 3))
    assert_allclose(error, np.sqrt(square / square.mean(axis=1, keepdims=True)))
