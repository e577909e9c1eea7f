"""Records: indexing, choosing and replacing through nested ones; shapes; expectations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sb3_gps.core.types import (
    Gaussian,
    LinearDynamics,
    LinearGaussianController,
    QuadraticCost,
    Record,
    Trajectories,
    map_arrays,
    put,
    where,
)


@dataclass(frozen=True, eq=False)
class Nested(Record):
    score: np.ndarray  # (M,)
    belief: Gaussian


def nested(rng, M):
    return Nested(
        rng.standard_normal(M),
        Gaussian(rng.standard_normal((M, 2)), rng.standard_normal((M, 2, 2))),
    )


def arrays(record):
    return record.score, record.belief.mean, record.belief.cov


def test_index_slice_and_mask_reach_every_array(rng):
    record = nested(rng, 4)
    mask = np.array([True, False, True, False])
    for index in (1, slice(1, 3), np.array([3, 0]), mask):
        picked = record[index]
        assert isinstance(picked, Nested)
        for a, b in zip(arrays(picked), arrays(record), strict=True):
            assert_array_equal(a, b[index])


def test_map_arrays_combines_records(rng):
    a, b = nested(rng, 3), nested(rng, 3)
    for x, y, z in zip(arrays(map_arrays(np.add, a, b)), arrays(a), arrays(b), strict=True):
        assert_array_equal(x, y + z)


def test_where_takes_whole_entries(rng):
    a, b = nested(rng, 3), nested(rng, 3)
    mask = np.array([True, False, True])
    for x, y, z in zip(arrays(where(mask, a, b)), arrays(a), arrays(b), strict=True):
        assert_array_equal(x[mask], y[mask])
        assert_array_equal(x[~mask], z[~mask])


def test_put_copies(rng):
    whole, part = nested(rng, 4), nested(rng, 2)
    before = [array.copy() for array in arrays(whole)]
    index = np.array([3, 1])
    for x, old, new in zip(arrays(put(whole, index, part)), before, arrays(part), strict=True):
        assert_array_equal(x[index], new)
        assert_array_equal(x[[0, 2]], old[[0, 2]])
    for array, old in zip(arrays(whole), before, strict=True):
        assert_array_equal(array, old)


def test_arrays_do_not_broadcast_over_records(rng):
    with pytest.raises(TypeError):
        np.ones(3) * nested(rng, 3)


def test_controller_mean(make_controller, rng):
    p = make_controller(rng, 2, 3, 4, 2)
    X = rng.standard_normal((2, 3, 4))
    for m in range(2):
        for t in range(3):
            assert_allclose(p.mean(X)[m, t], p.K[m, t] @ X[m, t] + p.k[m, t])
    samples = rng.standard_normal((2, 5, 3, 4))
    assert_allclose(p[:, None].mean(samples)[:, 2], p.mean(samples[:, 2]))


def test_expectation_of_a_quadratic_is_exact(make_pd, rng):
    """Against sigma points, which have the Gaussian's first two moments."""
    d = 3
    H = rng.standard_normal((2, d, d))
    cost = QuadraticCost(
        rng.standard_normal(2), rng.standard_normal((2, d)), H + H.transpose(0, 2, 1)
    )
    z = Gaussian(rng.standard_normal((2, d)), make_pd(rng, 2, d))
    offsets = np.sqrt(d) * np.linalg.cholesky(z.cov).transpose(0, 2, 1)  # rows
    for t in range(2):
        points = z.mean[t] + np.concatenate([offsets[t], -offsets[t]])
        values = [cost.c[t] + cost.g[t] @ p + 0.5 * p @ cost.H[t] @ p for p in points]
        assert_allclose(cost.expectation(z)[t], np.mean(values))


def test_costs_add_and_scale(make_problem, make_pd, rng):
    cost = make_problem().cost
    other = make_problem(seed=1).cost
    z = Gaussian(rng.standard_normal((3, 6, 6)), make_pd(rng, 3, 6, 6))
    weight = rng.uniform(0.5, 2.0, (3, 1))
    combined = (cost + other.scaled(weight)).expectation(z)
    assert_allclose(combined, cost.expectation(z) + weight * other.expectation(z))


def test_z_is_state_then_action(rng):
    samples = Trajectories(rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 3, 4, 2)))
    assert_array_equal(samples.Z[..., :5], samples.X)
    assert_array_equal(samples.Z[..., 5:], samples.U)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"k must be \(\.\.\., T, dU\) = \(5, 2\), got \(5, 3\)"):
        LinearGaussianController(np.zeros((5, 2, 4)), np.zeros((5, 3)), np.zeros((5, 2, 2)))
    with pytest.raises(ValueError, match="C must be"):
        LinearGaussianController(np.zeros((5, 2, 4)), np.zeros((5, 2)), np.zeros((5, 4, 4)))
    with pytest.raises(ValueError, match="Sigma must be"):
        LinearDynamics(np.zeros((5, 4, 6)), np.zeros((5, 4)), np.zeros((5, 6, 6)))
    with pytest.raises(ValueError, match="c must be"):
        QuadraticCost(np.zeros(4), np.zeros((5, 6)), np.zeros((5, 6, 6)))
    with pytest.raises(ValueError, match="must agree"):
        Trajectories(np.zeros((2, 3, 4, 5)), np.zeros((2, 3, 5, 2)))
