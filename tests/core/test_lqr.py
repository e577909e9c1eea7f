"""LQR against the dense quadratic programme, marginals and KL against the joint Gaussian."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal

from sb3_gps.core import lqr
from sb3_gps.core.lqr import (
    ETA_MAX,
    ETA_MIN,
    entropy,
    kl_constrained_lqr,
    kl_divergence,
    marginals,
    max_entropy_lqr,
    nll,
)
from sb3_gps.core.types import LinearGaussianController, QuadraticCost, map_arrays


def dense_program(problem, start, x):
    """Hessian and gradient, in all actions from ``start`` on, of the noiseless cost from state x.

    One condition, dynamics eliminated: z_t = Z_t u + z0_t for the stacked actions u.
    """
    dynamics, cost = problem.dynamics, problem.cost
    T, dX = len(cost.c), len(x)
    dU = cost.g.shape[-1] - dX
    n = (T - start) * dU
    X, x = np.zeros((dX, n)), x.copy()
    hessian, gradient = np.zeros((n, n)), np.zeros(n)
    for i, t in enumerate(range(start, T)):
        U = np.zeros((dU, n))
        U[:, i * dU : (i + 1) * dU] = np.eye(dU)
        Z, z = np.vstack([X, U]), np.concatenate([x, np.zeros(dU)])
        hessian += Z.T @ cost.H[t] @ Z
        gradient += Z.T @ (cost.g[t] + cost.H[t] @ z)
        if t < T - 1:
            X, x = dynamics.F[t] @ Z, dynamics.F[t] @ z + dynamics.f[t]
    return hessian, gradient


def joint_gaussian(problem, p):
    """Mean and covariance of [x_0, u_0, x_1, u_1, ...] of one condition, by its noise terms."""
    dynamics, x0 = problem.dynamics, problem.initial_state
    T, _, dX = p.K.shape
    noises = [x0.cov]
    for t in range(T):
        noises += [p.C[t], *([dynamics.Sigma[t]] if t < T - 1 else [])]
    ends = np.cumsum([len(S) for S in noises])
    n = ends[-1]

    def unit(i):  # the i-th noise as a function of all noises
        return np.eye(n)[ends[i] - len(noises[i]) : ends[i]]

    rows, mean = [], []
    A, a, i = unit(0), x0.mean, 1
    for t in range(T):
        B, b = p.K[t] @ A + unit(i), p.K[t] @ a + p.k[t]
        rows += [A, B]
        mean += [a, b]
        i += 1
        if t < T - 1:
            Fx, Fu = dynamics.F[t, :, :dX], dynamics.F[t, :, dX:]
            A, a = Fx @ A + Fu @ B + unit(i), Fx @ a + Fu @ b + dynamics.f[t]
            i += 1
    W = np.zeros((n, n))
    for end, S in zip(ends, noises, strict=True):
        W[end - len(S) : end, end - len(S) : end] = S
    L = np.vstack(rows)
    return np.concatenate(mean), L @ W @ L.T


def objective(problem, p, temperature):
    """E_p[cost] - temperature H(p), (M,)."""
    z = marginals(problem.dynamics, p, problem.initial_state)
    return (problem.cost.expectation(z) - temperature * entropy(p)).sum(axis=-1)


def perturbed(p, direction, size):
    """The controller moved along a direction; the covariance stays positive definite."""
    root = np.linalg.cholesky(p.C)
    root = root @ (np.eye(p.C.shape[-1]) + size * direction.C)
    return LinearGaussianController(
        p.K + size * direction.K, p.k + size * direction.k, root @ np.swapaxes(root, -1, -2)
    )


def random_like(record, rng):
    return map_arrays(lambda array: rng.standard_normal(array.shape), record)


def assert_same(a, b, rtol=1e-9, atol=1e-9):
    map_arrays(lambda x, y: assert_allclose(x, y, rtol=rtol, atol=atol) or x, a, b)


class TestMaxEntropyLQR:
    @pytest.mark.parametrize("seed", range(3))
    def test_every_step_solves_the_dense_program(self, make_problem, rng, seed):
        problem = make_problem(seed=seed)
        M, T, dU, dX = problem.reference.K.shape
        temperature = rng.uniform(0.5, 2.0, (M, T))
        p, feasible = max_entropy_lqr(problem.dynamics, problem.cost, temperature)
        assert feasible.all()
        for m in range(M):
            for t in range(T):
                x = rng.standard_normal(dX)
                hessian, gradient = dense_program(problem[m], t, x)
                u = -np.linalg.solve(hessian, gradient)[:dU]
                assert_allclose(p.K[m, t] @ x + p.k[m, t], u, rtol=1e-8, atol=1e-8)
                # The first block of the inverse Hessian is the inverse of Quu.
                Quu_inverse = np.linalg.inv(hessian)[:dU, :dU]
                assert_allclose(p.C[m, t], temperature[m, t] * Quu_inverse, rtol=1e-8, atol=1e-10)

    def test_no_perturbation_is_better(self, make_problem, rng):
        problem = make_problem()
        temperature = rng.uniform(0.1, 3.0, problem.cost.c.shape)
        p, _ = max_entropy_lqr(problem.dynamics, problem.cost, temperature)
        optimum = objective(problem, p, temperature)
        for size in (1e-3, 1e-1):
            for _ in range(30):
                direction = random_like(p, rng)
                for sign in (-1, 1):  # both: so the gradient vanishes as well
                    other = objective(problem, perturbed(p, direction, sign * size), temperature)
                    assert (other > optimum).all()

    def test_batch_equals_single(self, make_problem):
        problem = make_problem()
        temperature = np.full(problem.cost.c.shape, 0.7)
        together, _ = max_entropy_lqr(problem.dynamics, problem.cost, temperature)
        for m in range(3):
            one = slice(m, m + 1)
            alone, _ = max_entropy_lqr(problem.dynamics[one], problem.cost[one], temperature[one])
            assert_same(alone, together[one], 1e-12, 1e-12)

    def test_negative_curvature_is_masked(self, make_problem):
        problem = make_problem()
        temperature = np.ones(problem.cost.c.shape)
        clean, _ = max_entropy_lqr(problem.dynamics, problem.cost, temperature)
        problem.cost.H[1, 3, 4:, 4:] -= 100.0 * np.eye(2)
        p, feasible = max_entropy_lqr(problem.dynamics, problem.cost, temperature)
        assert feasible.tolist() == [True, False, True]
        assert_same(p[::2], clean[::2], 1e-12, 1e-12)

    def test_a_singular_quu_is_infeasible(self, make_problem):
        problem = make_problem(M=1)
        problem.cost.H[0, -1, 4:, :] = problem.cost.H[0, -1, :, 4:] = 0.0
        _, feasible = max_entropy_lqr(problem.dynamics, problem.cost, np.ones((1, 6)))
        assert not feasible[0]


class TestDistributions:
    def test_marginals_equal_the_joint(self, make_problem):
        problem = make_problem()
        z = marginals(problem.dynamics, problem.reference, problem.initial_state)
        dZ = z.mean.shape[-1]
        for m in range(3):
            mean, cov = joint_gaussian(problem[m], problem.reference[m])
            for t in range(6):
                here = slice(t * dZ, (t + 1) * dZ)
                assert_allclose(z.mean[m, t], mean[here], rtol=1e-10, atol=1e-10)
                assert_allclose(z.cov[m, t], cov[here, here], rtol=1e-10, atol=1e-10)

    def test_kl_equals_that_of_the_joints(self, make_problem, make_controller, rng):
        problem = make_problem()
        p, q = problem.reference, make_controller(rng, 3, 6, 4, 2)
        kl = kl_divergence(p, q, marginals(problem.dynamics, p, problem.initial_state))
        assert kl.shape == (3, 6)
        assert (kl > 0).all()
        for m in range(3):
            a, A = joint_gaussian(problem[m], p[m])
            b, B = joint_gaussian(problem[m], q[m])
            joint = 0.5 * (
                np.trace(np.linalg.solve(B, A))
                + (b - a) @ np.linalg.solve(B, b - a)
                - len(a)
                + np.linalg.slogdet(B)[1]
                - np.linalg.slogdet(A)[1]
            )
            assert_allclose(kl[m].sum(), joint, rtol=1e-8)

    def test_kl_to_itself_is_zero(self, make_problem):
        problem = make_problem()
        p = problem.reference
        z = marginals(problem.dynamics, p, problem.initial_state)
        assert_allclose(kl_divergence(p, p, z), 0.0, atol=1e-12)

    def test_entropy_equals_scipy(self, make_controller, rng):
        p = make_controller(rng, 2, 3, 4, 2)
        for m in range(2):
            for t in range(3):
                expected = multivariate_normal(cov=p.C[m, t]).entropy()
                assert_allclose(entropy(p)[m, t], expected, rtol=1e-12)

    def test_nll_equals_scipy(self, make_controller, rng):
        p = make_controller(rng, 2, 3, 4, 2)
        cost = nll(p)
        for m in range(2):
            for t in range(3):
                x, u = rng.standard_normal(4), rng.standard_normal(2)
                z = np.concatenate([x, u])
                value = cost.c[m, t] + cost.g[m, t] @ z + 0.5 * z @ cost.H[m, t] @ z
                expected = -multivariate_normal(p.K[m, t] @ x + p.k[m, t], p.C[m, t]).logpdf(u)
                assert_allclose(value, expected, rtol=1e-10)

    def test_expected_nll_is_entropy_plus_kl(self, make_problem, make_controller, rng):
        problem = make_problem()
        p, q = problem.reference, make_controller(rng, 3, 6, 4, 2)
        z = marginals(problem.dynamics, p, problem.initial_state)
        assert_allclose(nll(q).expectation(z), entropy(p) + kl_divergence(p, q, z), rtol=1e-9)


def solve(problem, epsilon, **options):
    M = len(problem.cost.c)
    return kl_constrained_lqr(
        problem.dynamics,
        problem.cost,
        problem.reference,
        problem.initial_state,
        np.broadcast_to(np.asarray(epsilon, dtype=float), M),
        **options,
    )


@pytest.fixture
def passes(monkeypatch):
    """A list that grows by one with every backward pass."""
    calls = []
    original = lqr._riccati

    def counted(*args):
        calls.append(1)
        return original(*args)

    monkeypatch.setattr(lqr, "_riccati", counted)
    return calls


class TestKLConstrainedLQR:
    @pytest.mark.parametrize("epsilon", [1e-3, 1e-1, 1.0, 30.0, 1e3, 1e4])
    @pytest.mark.parametrize("scale", [1e-6, 1e-2, 1.0, 1e3, 1e6])
    @pytest.mark.parametrize("weight", [0.0, "per step", 10.0])
    def test_constraint_is_met(self, make_problem, rng, passes, epsilon, scale, weight):
        problem = make_problem(scale=scale)
        if weight == "per step":
            weight = 10.0 ** rng.uniform(-3, 1, problem.cost.c.shape)
        result = solve(problem, epsilon, entropy_weight=weight)
        total = result.kl.sum(axis=-1)
        slack = (result.eta <= ETA_MIN * (1 + 1e-9)) & (total < epsilon)
        assert result.converged.all()
        assert (slack | (abs(total / epsilon - 1.0) < 0.1)).all()
        # A factor of ten a move: from 1 to either end of the range, then a few.
        assert 0 < len(passes) <= 13

    def test_result_is_consistent(self, make_problem, rng):
        problem = make_problem()
        weight = rng.uniform(0.0, 0.5, problem.cost.c.shape)
        result = solve(problem, [0.3, 3.0, 30.0], entropy_weight=weight)
        z = marginals(problem.dynamics, result.controller, problem.initial_state)
        assert_allclose(result.kl, kl_divergence(result.controller, problem.reference, z))
        # eta is the multiplier of this very controller.
        eta = result.eta[:, None]
        penalised = problem.cost + nll(problem.reference).scaled(eta)
        again, _ = max_entropy_lqr(problem.dynamics, penalised, eta + weight)
        assert_same(again, result.controller)

    def test_no_perturbation_of_the_lagrangian_is_better(self, make_problem, rng):
        problem = make_problem()
        weight = rng.uniform(0.0, 0.5, problem.cost.c.shape)
        result = solve(problem, 5.0, entropy_weight=weight)

        def lagrangian(p):
            z = marginals(problem.dynamics, p, problem.initial_state)
            kl = kl_divergence(p, problem.reference, z).sum(axis=-1)
            return objective(problem, p, weight) + result.eta * kl

        optimum = lagrangian(result.controller)
        for _ in range(30):
            direction = random_like(result.controller, rng)
            for size in (-1e-3, 1e-3):
                assert (lagrangian(perturbed(result.controller, direction, size)) > optimum).all()

    def test_no_controller_within_the_trust_region_is_better(self, make_problem, rng):
        problem = make_problem()
        result = solve(problem, 5.0, tolerance=1e-6)
        best = objective(problem, result.controller, 0.0)
        compared = 0
        for _ in range(50):
            other = perturbed(result.controller, random_like(result.controller, rng), 0.03)
            z = marginals(problem.dynamics, other, problem.initial_state)
            inside = kl_divergence(other, problem.reference, z).sum(axis=-1) <= 5.0
            compared += inside.sum()
            assert (objective(problem, other, 0.0) > best - 1e-4)[inside].all()
        assert compared > 20

    def test_cost_falls_as_epsilon_grows(self, make_problem):
        problem = make_problem()
        costs = [
            objective(problem, solve(problem, epsilon).controller, 0.0)
            for epsilon in (0.01, 0.1, 1.0, 10.0, 100.0)
        ]
        start = objective(problem, problem.reference, 0.0)
        assert (np.diff([start, *costs], axis=0) < 0).all()

    def test_huge_epsilon_solves_the_dense_program(self, make_problem):
        problem = make_problem(scale=1e3)
        result = solve(problem, 1e12)
        assert result.converged.all()
        assert_allclose(result.eta, ETA_MIN)
        z = marginals(problem.dynamics, result.controller, problem.initial_state)
        for m in range(3):
            x = problem.initial_state.mean[m]
            u = -np.linalg.solve(*dense_program(problem[m], 0, x))
            # The mean trajectory, which is that of the noiseless problem.
            assert_allclose(z.mean[m, :, 4:].ravel(), u, rtol=1e-8, atol=1e-8)

    def test_tiny_epsilon_returns_the_reference(self, make_problem):
        problem = make_problem()
        result = solve(problem, 1e-10)
        assert_same(result.controller, problem.reference, 1e-3, 1e-3)
        assert (result.kl.sum(axis=-1) < 1.1e-10).all()

    def test_huge_eta_returns_the_reference(self, make_problem):
        problem = make_problem()
        eta = np.full((3, 1), 1e12)
        penalised = problem.cost + nll(problem.reference).scaled(eta)
        p, _ = max_entropy_lqr(problem.dynamics, penalised, np.broadcast_to(eta, (3, 6)))
        assert_same(p, problem.reference, 1e-7, 1e-7)

    def test_batch_equals_single(self, make_problem):
        problem = make_problem(M=4)
        epsilon = np.array([0.1, 2.0, 50.0, 7.0])
        together = solve(problem, epsilon)
        for m in range(4):
            alone = solve(problem[m : m + 1], epsilon[m])
            assert_allclose(alone.eta[0], together.eta[m], rtol=1e-6)
            assert_same(alone.controller[0], together.controller[m], 1e-6, 1e-6)

    def test_few_passes_at_usual_scales(self, make_problem, passes):
        for scale in (0.1, 1.0, 10.0):
            for epsilon in (1.0, 10.0, 100.0):
                passes.clear()
                solve(make_problem(T=20, scale=scale), epsilon)
                assert len(passes) <= 8

    def test_a_warm_start_saves_passes(self, make_problem, passes):
        problem = make_problem(scale=1e4)
        eta = solve(problem, 1.0).eta
        cold = len(passes)
        passes.clear()
        solve(problem, 1.3, eta=eta)
        assert 0 < len(passes) < cold
        assert len(passes) <= 3

    @pytest.mark.parametrize("eta", [ETA_MIN, ETA_MAX])
    def test_a_start_at_the_end_of_the_range_recovers(self, make_problem, eta):
        problem = make_problem()
        cold, result = solve(problem, 3.0), solve(problem, 3.0, eta=np.full(3, eta))
        assert result.converged.all()
        assert_allclose(np.log(result.eta), np.log(cold.eta), atol=0.2)  # both within 10 % in KL

    def test_negative_curvature_raises_eta(self, make_problem):
        problem = make_problem()
        alone = solve(problem, 5.0, eta=np.full(3, ETA_MIN))
        problem.cost.H[1, 2, 4:, 4:] -= 30.0 * np.eye(2)
        result = solve(problem, 5.0, eta=np.full(3, ETA_MIN))
        assert result.converged.all()
        assert result.eta[1] > alone.eta[1]
        assert_same(result.controller[::2], alone.controller[::2])

    @pytest.mark.parametrize("epsilon", [0.1, 10.0, 1e3])
    @pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
    def test_negative_curvature_at_any_scale(self, make_problem, epsilon, scale):
        problem = make_problem(T=15, scale=scale)
        problem.cost.H[:, 5, 4:, 4:] -= 10.0 * scale * np.eye(2)
        result = solve(problem, epsilon)
        assert result.converged.all()
        assert_allclose(result.kl.sum(axis=-1), epsilon, rtol=0.1)

    def test_without_a_feasible_eta_the_reference_comes_back(self, make_problem):
        problem = make_problem()
        alone = solve(problem, 5.0)
        problem.cost.H[1, 2, 4:, 4:] -= 1e20 * np.eye(2)
        result = solve(problem, 5.0)
        assert result.converged.tolist() == [True, False, True]
        assert_same(result.controller[1], problem.reference[1], 0, 0)
        assert result.eta[1] == ETA_MAX
        assert (result.kl[1] == 0.0).all()
        assert_same(result.controller[::2], alone.controller[::2])

    def test_an_overflowing_loop_is_not_converged(self, make_problem):
        problem = make_problem(T=40)
        alone = solve(problem, 5.0)
        problem.dynamics.F[1] *= 1e9
        problem.cost.H[1] = np.diag([0.0, 0.0, 0.0, 0.0, 1.0, 1.0])  # nothing holds the state
        result = solve(problem, 5.0)
        assert result.converged.tolist() == [True, False, True]
        assert_same(result.controller[1], problem.reference[1], 0, 0)
        assert_same(result.controller[::2], alone.controller[::2])

    def test_the_constraint_may_be_about_the_first_steps_alone(self, make_problem):
        problem = make_problem()
        T = problem.cost.c.shape[1]
        length = np.array([T, 3, 1])
        result = solve(problem, 2.0, length=length)
        z = marginals(problem.dynamics, result.controller, problem.initial_state)
        kl = kl_divergence(result.controller, problem.reference, z)
        counted = np.arange(T) < length[:, None]
        assert_allclose(result.kl, np.where(counted, kl, 0.0))
        assert_allclose(result.kl.sum(axis=1), 2.0, rtol=0.1)
        # The steps that do not count go their own way, by the same multiplier.
        assert (kl[1, 3:].sum() > 0) and kl[1].sum() > 2.2
        assert_same(result.controller[0], solve(problem, 2.0).controller[0])

    def test_too_few_rounds_are_reported(self, make_problem):
        result = solve(make_problem(scale=1e6), 1.0, max_rounds=2)
        assert not result.converged.any()
        assert (result.kl.sum(axis=-1) < 1.1).all()

    def test_redundant_state(self, make_problem):
        """A copied coordinate, with no noise and no initial spread of its own."""
        problem = make_problem()
        F, S = problem.dynamics.F, problem.dynamics.Sigma
        F[:, :, 3], S[:, :, 3] = F[:, :, 2], S[:, :, 2]
        S[:, :, :, 3] = S[:, :, :, 2]
        problem.initial_state.cov[:, 3] = problem.initial_state.cov[:, 2]
        problem.initial_state.cov[:, :, 3] = problem.initial_state.cov[:, :, 2]
        assert solve(problem, 3.0).converged.all()

    @pytest.mark.parametrize(
        ("record", "field"), [("dynamics", "F"), ("cost", "H"), ("reference", "k")]
    )
    def test_nan_is_named(self, make_problem, record, field):
        problem = make_problem()
        getattr(getattr(problem, record), field)[2, 4] = np.nan
        with pytest.raises(ValueError, match=rf"{record}.{field} must be finite.*\[2, 4"):
            solve(problem, 1.0)

    @pytest.mark.parametrize("epsilon", [0.0, -1.0, np.nan])
    def test_epsilon_must_be_positive(self, make_problem, epsilon):
        with pytest.raises(ValueError, match="epsilon must be > 0"):
            solve(make_problem(), epsilon)

    def test_arguments_are_left_alone(self, make_problem):
        problem, untouched = make_problem(), make_problem()
        eta, epsilon = np.ones(3), np.full(3, 2.0)
        solve(problem, epsilon, eta=eta)
        assert_same(problem, untouched, 0, 0)
        assert (eta == 1.0).all()
        assert (epsilon == 2.0).all()

    def test_scaling_the_problem_scales_eta(self, make_problem):
        """Units of cost are arbitrary: the controller does not depend on them."""
        a = solve(make_problem(), 5.0, tolerance=1e-8)
        b = solve(make_problem(scale=1e3), 5.0, tolerance=1e-8)
        assert_allclose(b.eta, 1e3 * a.eta, rtol=1e-6)
        assert_same(a.controller, b.controller, 1e-6, 1e-6)

    def test_single_step(self, make_problem):
        """T = 1: no dynamics at all."""
        problem = make_problem(T=1)
        assert solve(problem, 0.5).converged.all()

    def test_quadratic_cost_needs_matching_shapes(self):
        with pytest.raises(ValueError, match=r"H must be \(\.\.\., T, dZ, dZ\) = \(2, 3, 3\)"):
            QuadraticCost(np.zeros(2), np.zeros((2, 3)), np.zeros((2, 3)))
