"""Each of the rule's four functions against the Lagrangian that it comes from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize

from sb3_gps.core.badmm import BADMM
from sb3_gps.core.duals import Duals
from sb3_gps.core.initial import random_controller
from sb3_gps.core.lqr import entropy, kl_divergence, marginals, max_entropy_lqr
from sb3_gps.core.types import LinearDynamics, QuadraticCost

M, T, DX, DU = 3, 6, 4, 2


@pytest.fixture
def duals(rng):
    return Duals(rng.standard_normal((M, T, DU)), rng.uniform(0.01, 1.0, (M, T)))


@pytest.fixture
def student(make_controller, rng):
    return make_controller(rng, M, T, DX, DU)


def solve(problem, rule_problem):
    return max_entropy_lqr(problem.dynamics, rule_problem.cost, rule_problem.entropy_weight)[0]


def test_initial_duals():
    duals = BADMM(nu=0.3).initial_duals(M, T, DU)
    assert duals.lam.shape == (M, T, DU)
    assert (duals.lam == 0.0).all()
    assert (duals.nu == 0.3).all()


def test_teacher_problem_is_the_lagrangian(make_problem, make_controller, duals, student, rng):
    """E[cost] - weight H = E[l] - lambda' E[u] + nu KL(p || student), for any p."""
    problem = make_problem()
    found = BADMM().teacher_problem(problem.cost, duals, student, problem.reference)
    assert found.reference is problem.reference
    for _ in range(3):
        p = make_controller(rng, M, T, DX, DU)
        z = marginals(problem.dynamics, p, problem.initial_state)
        value = found.cost.expectation(z) - found.entropy_weight * entropy(p)
        expected = (
            problem.cost.expectation(z)
            - (duals.lam * z.mean[..., DX:]).sum(axis=-1)
            + duals.nu * kl_divergence(p, student, z)
        )
        assert_allclose(value, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kl_penalty", [True, False])
def test_without_student_or_penalty_no_kl_term(make_problem, duals, student, kl_penalty):
    problem = make_problem()
    given = None if kl_penalty else student
    found = BADMM(kl_penalty=kl_penalty).teacher_problem(
        problem.cost, duals, given, problem.reference
    )
    assert (found.entropy_weight == 0.0).all()
    assert_array_equal(found.cost.H, problem.cost.H)
    assert_allclose(found.cost.g[..., DX:], problem.cost.g[..., DX:] - duals.lam)
    assert_array_equal(found.cost.g[..., :DX], problem.cost.g[..., :DX])


def test_student_targets_minimise_the_objective(make_problem, duals, rng):
    """argmin_mu  nu/2 (mu - mu_p)' C^-1 (mu - mu_p) + lambda' mu, found without algebra."""
    teacher = make_problem().reference
    X = rng.standard_normal((M, 2, T, DX))
    mean, precision = BADMM().student_targets(X, teacher, duals)
    for m, n, t in [(0, 0, 0), (1, 1, 3), (2, 0, 5)]:
        mu_p = teacher.K[m, t] @ X[m, n, t] + teacher.k[m, t]
        P, lam, nu = np.linalg.inv(teacher.C[m, t]), duals.lam[m, t], duals.nu[m, t]

        def objective(mu, mu_p=mu_p, P=P, lam=lam, nu=nu):
            return 0.5 * nu * (mu - mu_p) @ P @ (mu - mu_p) + lam @ mu

        best = minimize(
            objective, mu_p, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}
        )
        assert_allclose(mean[m, n, t], best.x, atol=1e-5)
        # The regression's loss differs from the objective by a constant only.
        offsets = []
        for _ in range(5):
            mu = rng.standard_normal(DU)
            error = mu - mean[m, n, t]
            offsets.append(objective(mu) - 0.5 * error @ precision[m, t] @ error)
        assert_allclose(offsets, offsets[0], rtol=1e-8, atol=1e-8)


def test_duals_move_teacher_and_student_towards_each_other(make_problem, duals, student, rng):
    problem, rule = make_problem(), BADMM(dual_rate=0.1)
    teacher = solve(problem, rule.teacher_problem(problem.cost, duals, student, problem.reference))
    X = rng.standard_normal((M, 4, T, DX))
    gap = np.array([0.5, -0.8])  # the student's action minus the teacher's
    actions = teacher[:, None].mean(X) + gap
    new = rule.update_duals(duals, X, actions, teacher, np.ones((M, T)))
    assert_allclose(new.lam - duals.lam, 0.1 * duals.nu[..., None] * gap)
    assert_array_equal(new.nu, duals.nu)
    # Teachers of the last step answer by moving along the gap, students by moving against it.
    moved = solve(problem, rule.teacher_problem(problem.cost, new, student, problem.reference))
    assert ((moved.k - teacher.k)[:, -1] @ gap > 0.0).all()
    before, _ = rule.student_targets(X, teacher, duals)
    after, _ = rule.student_targets(X, teacher, new)
    assert ((after - before) @ gap < 0.0).all()


def test_agreement_with_a_limited_student(make_pd, rng):
    """Two conditions, one action for both: the consensus that minimises the sum of the costs."""
    R, wish = make_pd(rng, 2, DU), rng.standard_normal((2, DU, 1))
    H, g = np.zeros((2, 1, DX + DU, DX + DU)), np.zeros((2, 1, DX + DU))
    H[:, 0, DX:, DX:], g[:, 0, DX:] = R, -(R @ wish)[..., 0]
    cost = QuadraticCost(np.zeros((2, 1)), g, H)
    consensus = np.linalg.solve(R.sum(axis=0), (R @ wish).sum(axis=0))[:, 0]

    no_dynamics = LinearDynamics(
        np.zeros((2, 0, DX, DX + DU)), np.zeros((2, 0, DX)), np.zeros((2, 0, DX, DX))
    )
    X = rng.standard_normal((2, 3, 1, DX))
    rule = BADMM(nu=0.5, dual_rate=1.0)
    duals, student = rule.initial_duals(2, 1, DU), random_controller(2, 1, DX, DU, 1.0)
    for _ in range(200):
        problem = rule.teacher_problem(cost, duals, student, student)
        teacher, _ = max_entropy_lqr(no_dynamics, problem.cost, problem.entropy_weight)
        mean, precision = rule.student_targets(X, teacher, duals)
        # One action for all: the weighted mean of the targets.
        total = (precision[:, None] @ mean[..., None]).mean(axis=1).sum(axis=(0, 1))[:, 0]
        action = np.linalg.solve(precision.sum(axis=(0, 1)), total)
        student = replace(student, k=np.tile(action, (2, 1, 1)))
        duals = rule.update_duals(
            duals, X, np.broadcast_to(action, mean.shape), teacher, np.ones((2, 1))
        )
    assert_allclose(action, consensus, atol=1e-6)
    assert_allclose(teacher[:, None].mean(X), np.broadcast_to(action, mean.shape), atol=1e-6)


def test_adaptive_nu(rng):
    rule = BADMM(nu=0.1, adapt_nu=True, nu_bounds=(0.06, 0.15))
    duals = rule.initial_duals(1, 20, DU)
    kl = np.ones((1, 20))
    kl[0, 3], kl[0, 7] = 3.0, -30.0  # far above, far below
    teacher = random_controller(1, 20, DX, DU, 1.0)
    X = rng.standard_normal((1, 2, 20, DX))
    nu = rule.update_duals(duals, X, teacher[:, None].mean(X), teacher, kl).nu
    assert nu[0, 3] == 0.15
    assert nu[0, 7] == 0.06
