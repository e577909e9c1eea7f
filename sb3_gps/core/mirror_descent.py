"""Mirror descent: the teacher steps from the student, the student projects back.

    teacher   min_p E_p[ l ]   s.t.  KL(p || pi_bar) <= epsilon,   pi_bar the linearised student
    student   min_theta  E_p[ KL(pi_theta || p) ]

No duals. Source: Montgomery & Levine 2016, sec. 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sb3_gps.core.duals import Duals, TeacherProblem
from sb3_gps.core.types import LinearGaussianController, QuadraticCost


@dataclass(frozen=True)
class MirrorDescent:
    """The rule has no options; what it shares with BADMM belongs to the run."""

    def initial_duals(self, M: int, T: int, dU: int) -> Duals:
        """None are used: zeros, and unit weights."""
        return Duals(np.zeros((M, T, dU)), np.ones((M, T)))

    def teacher_problem(
        self,
        cost: QuadraticCost,
        duals: Duals,
        student: LinearGaussianController | None,
        previous: LinearGaussianController,
    ) -> TeacherProblem:
        """The plain cost; the reference is the student as soon as there is one."""
        reference = previous if student is None else student
        return TeacherProblem(cost, reference, np.zeros_like(duals.nu))

    def student_targets(
        self, X: np.ndarray, teacher: LinearGaussianController, duals: Duals
    ) -> tuple[np.ndarray, np.ndarray]:
        """The teacher's mean, weighted by its precision."""
        return teacher[:, None].mean(X), np.linalg.inv(teacher.C)

    def update_duals(
        self,
        duals: Duals,
        X: np.ndarray,
        student_actions: np.ndarray,
        teacher: LinearGaussianController,
        kl: np.ndarray,
    ) -> Duals:
        """Unchanged."""
        return duals
