"""EM and the moments that it hands on as a prior."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from sb3_gps.core.mixture import (
    GaussianMixture,
    fit_mixture,
    mixture_prior,
    number_of_clusters,
)


@pytest.fixture
def mixture(make_pd, rng):
    weight = rng.uniform(0.5, 1.5, 3)
    return GaussianMixture(
        np.log(weight / weight.sum()), 2.0 * rng.standard_normal((3, 2)), make_pd(rng, 3, 2)
    )


def draw(mixture, n, rng):
    k = rng.choice(len(mixture.mean), size=n, p=np.exp(mixture.log_weight))
    root = np.linalg.cholesky(mixture.cov)
    return mixture.mean[k] + np.einsum("nij,nj->ni", root[k], rng.standard_normal((n, 2)))


def log_likelihood(mixture, points):
    return logsumexp(mixture.log_joint(points), axis=1).mean()


def test_log_joint_equals_scipy(mixture, rng):
    points = rng.standard_normal((5, 2))
    for k in range(3):
        density = multivariate_normal(mixture.mean[k], mixture.cov[k])
        expected = mixture.log_weight[k] + density.logpdf(points)
        assert_allclose(mixture.log_joint(points)[:, k], expected)


def test_responsibilities_sum_to_one_even_far_away(mixture):
    R = mixture.responsibilities(np.array([[0.0, 0.0], [1e4, -1e4]]))
    assert_allclose(R.sum(axis=1), 1.0)


def test_em_increases_the_likelihood(mixture, rng):
    points = draw(mixture, 300, rng)
    steps = [
        log_likelihood(
            fit_mixture(points, 4, np.random.default_rng(1), 1e-9, 0.0, max_iterations=n), points
        )
        for n in range(1, 15)
    ]
    assert (np.diff(steps) > -1e-9).all()
    assert steps[-1] > steps[0] + 0.01


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_em_stops_whatever_the_sign_of_the_likelihood(mixture, rng, monkeypatch, scale):
    points = scale * draw(mixture, 300, rng)
    calls = []
    original = GaussianMixture.log_joint
    monkeypatch.setattr(
        GaussianMixture, "log_joint", lambda self, p: calls.append(1) or original(self, p)
    )
    fit_mixture(points, 3, np.random.default_rng(1), ridge=1e-12, max_iterations=500)
    assert len(calls) < 100


def test_separate_clusters_are_found(make_pd, rng):
    centres = np.array([[0.0, 0.0], [30.0, 0.0], [0.0, 30.0]])
    truth = GaussianMixture(np.log([0.2, 0.3, 0.5]), centres, make_pd(rng, 3, 2))
    n = 3000
    found = fit_mixture(draw(truth, n, rng), 3, rng)
    order = [int(abs(found.mean - centre).sum(axis=1).argmin()) for centre in centres]
    assert sorted(order) == [0, 1, 2]
    weight = np.exp(truth.log_weight)
    error = np.exp(found.log_weight)[order] - weight
    assert (abs(error) < 5.0 * np.sqrt(weight * (1.0 - weight) / n)).all()
    deviation = np.sqrt(np.diagonal(truth.cov, axis1=1, axis2=2) / (n * weight[:, None]))
    assert (abs(found.mean[order] - centres) < 5.0 * deviation).all()
    # Relative error of a sample covariance: about sqrt(2 / n).
    assert_allclose(found.cov[order], truth.cov, atol=5.0 * np.sqrt(2.0 / (0.2 * n)))


def test_prior_equals_brute_force(mixture, rng):
    points = rng.standard_normal((2, 4, 3, 2))
    prior = mixture_prior(mixture, points, strength=2.5)
    for m in range(2):
        for t in range(3):
            w = mixture.responsibilities(points[m, :, t]).mean(axis=0)
            mu0 = sum(w[k] * mixture.mean[k] for k in range(3))
            cov = sum(
                w[k] * (mixture.cov[k] + np.outer(mixture.mean[k] - mu0, mixture.mean[k] - mu0))
                for k in range(3)
            )
            assert_allclose(prior.mu0[m, t], mu0)
            assert_allclose(prior.Phi[m, t], 2.5 * cov)
            assert prior.n0[m, t] == prior.m[m, t] == 2.5


@pytest.mark.parametrize(
    "points",
    [
        np.ones((10, 3)),  # one point, ten times
        np.repeat(np.arange(6.0).reshape(2, 3), 5, axis=0),  # two points
        np.outer(np.linspace(0.0, 1.0, 20), [1.0, 2.0, 3.0]),  # a line
        np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 7.0]]),  # fewer points than clusters
    ],
)
def test_degenerate_points_do_not_crash(points):
    mixture = fit_mixture(points, 4, np.random.default_rng(0))
    for array in (mixture.log_weight, mixture.mean, mixture.cov):
        assert np.isfinite(array).all()
    prior = mixture_prior(mixture, points[None, :, None])
    # All the points together: their own moments, as closely as EM has converged.
    assert_allclose(prior.mu0[0, 0], points.mean(axis=0), atol=1e-2)
    assert_allclose(prior.Phi[0, 0], np.cov(points.T, bias=True), atol=1e-2)


def test_same_seed_same_mixture(mixture, rng):
    points = draw(mixture, 100, rng)
    a, b = (fit_mixture(points, 3, np.random.default_rng(5)) for _ in range(2))
    assert (a.mean == b.mean).all()


def test_number_of_clusters():
    assert [number_of_clusters(n) for n in (1, 79, 80, 200, 799, 10_000)] == [2, 2, 2, 5, 19, 20]
