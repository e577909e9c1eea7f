"""Quadratic models against the costs themselves, sampled costs against exact expectations."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sb3_gps.core.costs import convexify, expand_cost, expected_cost, trajectory_costs
from sb3_gps.core.types import Gaussian, QuadraticCost, Trajectories

DX, DU, T = 3, 2, 5


class LogCost:
    """(1 + t) (log(|x|^2 + 0.1) + x_0 u_1 + u_0^2): a sharp well, a cross term and time."""

    def value(self, X, U, t):
        well = np.log((X**2).sum(axis=-1) + 0.1)
        return (1.0 + t) * (well + X[..., 0] * U[..., 1] + U[..., 0] ** 2)

    def expand(self, X, U, t):
        r = (X**2).sum(axis=-1)[..., None] + 0.1
        gradient = np.zeros((*t.shape, DX + DU))
        gradient[..., :DX] = 2.0 * X / r
        gradient[..., 0] += U[..., 1]
        gradient[..., DX] = 2.0 * U[..., 0]
        gradient[..., DX + 1] = X[..., 0]
        hessian = np.zeros((*t.shape, DX + DU, DX + DU))
        outer = X[..., :, None] * X[..., None, :]
        hessian[..., :DX, :DX] = 2.0 * np.eye(DX) / r[..., None] - 4.0 * outer / r[..., None] ** 2
        hessian[..., DX, DX] = 2.0
        hessian[..., 0, DX + 1] = hessian[..., DX + 1, 0] = 1.0
        w = 1.0 + t
        return self.value(X, U, t), w[..., None] * gradient, w[..., None, None] * hessian


class Quadratic:
    """One quadratic per step, as a cost model."""

    def __init__(self, cost: QuadraticCost):
        self.cost = cost

    def value(self, X, U, t):
        Z = np.concatenate([X, U], axis=-1)
        c, g, H = self.cost.c[t], self.cost.g[t], self.cost.H[t]
        return c + (g * Z).sum(axis=-1) + 0.5 * np.einsum("...i,...ij,...j->...", Z, H, Z)


@pytest.fixture
def samples(rng):
    return Trajectories(rng.standard_normal((2, 3, T, DX)), rng.standard_normal((2, 3, T, DU)))


def evaluate(model, z):
    """A quadratic cost (...) at points z (..., dZ)."""
    return model.c + (model.g * z).sum(-1) + 0.5 * np.einsum("...i,...ij,...j->...", z, model.H, z)


def test_model_has_the_value_and_gradient_of_the_cost(samples):
    one = Trajectories(samples.X[:, :1], samples.U[:, :1])
    cost, z = LogCost(), one.Z[:, 0]
    model = expand_cost(cost, one)
    steps = np.broadcast_to(np.arange(T), (2, T))
    assert_allclose(evaluate(model, z), cost.value(z[..., :DX], z[..., DX:], steps))
    h = 1e-4
    for e in h * np.eye(DX + DU):
        up, down = (cost.value(p[..., :DX], p[..., DX:], steps) for p in (z + e, z - e))
        slope = (evaluate(model, z + e) - evaluate(model, z - e)) / (2.0 * h)
        assert_allclose(slope, (up - down) / (2.0 * h), rtol=1e-5, atol=1e-5)
        bend = (up - 2.0 * evaluate(model, z) + down) / h**2
        assert_allclose((e / h) @ model.H @ (e / h), bend, rtol=1e-4, atol=1e-4)


def test_model_is_the_mean_of_the_samples_models(samples, rng):
    together = expand_cost(LogCost(), samples)
    z = rng.standard_normal((2, T, DX + DU))
    alone = [
        evaluate(expand_cost(LogCost(), Trajectories(samples.X[:, [n]], samples.U[:, [n]])), z)
        for n in range(3)
    ]
    assert_allclose(evaluate(together, z), np.mean(alone, axis=0))


def test_trajectory_costs(samples):
    total = np.zeros((2, 3))
    for t in range(T):
        total += LogCost().value(samples.X[:, :, t], samples.U[:, :, t], np.full((2, 3), t))
    assert_allclose(trajectory_costs(LogCost(), samples), total)


def test_convexify_drops_negative_curvature(samples):
    steps = np.broadcast_to(np.arange(T), (2, 3, T))
    _, _, hessian = LogCost().expand(samples.X, samples.U, steps)
    assert np.linalg.eigvalsh(hessian).min() < -0.1
    convex = convexify(hessian)
    assert np.linalg.eigvalsh(convex).min() > -1e-10
    # Along the eigenvectors of positive curvature nothing has changed.
    values, vectors = np.linalg.eigh(hessian)
    kept = (np.swapaxes(vectors, -1, -2) @ convex @ vectors) - np.maximum(values, 0.0)[
        ..., None
    ] * np.eye(DX + DU)
    assert_allclose(kept, 0.0, atol=1e-10)


@pytest.fixture
def quadratic(rng, make_pd):
    cost = QuadraticCost(
        rng.standard_normal(T), rng.standard_normal((T, DX + DU)), make_pd(rng, T, DX + DU)
    )
    z = Gaussian(rng.standard_normal((2, T, DX + DU)), 0.1 * make_pd(rng, 2, T, DX + DU))
    return cost, z


def test_expected_cost_of_a_quadratic(quadratic, rng):
    cost, z = quadratic
    exact = cost.expectation(z).sum(axis=-1)
    estimates = np.array(
        [expected_cost(Quadratic(cost), z, DX, rng, max_std=100.0) for _ in range(300)]
    )
    error = estimates.std(axis=0) / np.sqrt(len(estimates))
    assert (abs(estimates.mean(axis=0) - exact) < 5.0 * error).all()


def test_antithetic_pairs_are_exact_for_a_linear_cost(quadratic, rng):
    cost, z = quadratic
    linear = QuadraticCost(cost.c, cost.g, np.zeros_like(cost.H))
    exact = linear.expectation(z).sum(axis=-1)
    assert_allclose(expected_cost(Quadratic(linear), z, DX, rng, samples=2), exact)


def test_an_unstable_prediction_is_clipped(quadratic, rng):
    cost, z = quadratic
    wide = Gaussian(z.mean, 1e12 * z.cov)
    clipped = Gaussian(z.mean, np.broadcast_to(np.eye(DX + DU), z.cov.shape))
    estimate = expected_cost(Quadratic(cost), wide, DX, rng, samples=4000, max_std=1.0)
    assert_allclose(estimate, cost.expectation(clipped).sum(axis=-1), rtol=0.1)
