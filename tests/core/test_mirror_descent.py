"""The teacher steps from the student, and the student regresses on the teacher."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose

from sb3_gps.core.duals import UpdateRule
from sb3_gps.core.mirror_descent import MirrorDescent

M, T, DX, DU = 3, 6, 4, 2


def test_the_reference_is_the_student_once_there_is_one(make_problem, make_controller, rng):
    problem, rule = make_problem(), MirrorDescent()
    student = make_controller(rng, M, T, DX, DU)
    duals = rule.initial_duals(M, T, DU)
    for given, expected in ((None, problem.reference), (student, student)):
        found = rule.teacher_problem(problem.cost, duals, given, problem.reference)
        assert found.reference is expected
        assert found.cost is problem.cost
        assert found.entropy_weight.shape == (M, T)
        assert (found.entropy_weight == 0.0).all()


def test_targets_are_the_teachers(make_controller, rng):
    rule, teacher = MirrorDescent(), make_controller(rng, M, T, DX, DU)
    X = rng.standard_normal((M, 4, T, DX))
    mean, precision = rule.student_targets(X, teacher, rule.initial_duals(M, T, DU))
    assert mean.shape == (M, 4, T, DU)
    assert_allclose(mean[1, 2, 3], teacher.K[1, 3] @ X[1, 2, 3] + teacher.k[1, 3])
    assert_allclose(precision @ teacher.C, np.broadcast_to(np.eye(DU), (M, T, DU, DU)), atol=1e-9)


def test_duals_stay(make_controller, rng):
    rule, teacher = MirrorDescent(), make_controller(rng, M, T, DX, DU)
    duals = rule.initial_duals(M, T, DU)
    X = rng.standard_normal((M, 4, T, DX))
    actions = rng.standard_normal((M, 4, T, DU))
    assert rule.update_duals(duals, X, actions, teacher, np.ones((M, T))) is duals


def test_it_is_an_update_rule():
    rule: UpdateRule = MirrorDescent()  # checked by mypy
    assert rule.initial_duals(1, 2, 3).nu.shape == (1, 2)
