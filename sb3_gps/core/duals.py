"""What an update rule carries from one iteration to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sb3_gps.core.types import LinearGaussianController, QuadraticCost, Record


@dataclass(frozen=True, eq=False)
class Duals(Record):
    """Multipliers of E_p[u_t] = E_pi[u_t] and weights of KL(p || pi)."""

    lam: np.ndarray  # (M, T, dU), cost per unit of action
    nu: np.ndarray  # (M, T), cost per nat


@dataclass(frozen=True, eq=False)
class TeacherProblem:
    """The arguments of ``kl_constrained_lqr`` that a rule chooses."""

    cost: QuadraticCost
    reference: LinearGaussianController
    entropy_weight: np.ndarray  # (M, T)


class UpdateRule(Protocol):
    """How teachers and student are driven to agree: four functions, and no branch elsewhere."""

    def initial_duals(self, M: int, T: int, dU: int) -> Duals:
        """The duals of a new run."""

    def teacher_problem(
        self,
        cost: QuadraticCost,
        duals: Duals,
        student: LinearGaussianController | None,
        previous: LinearGaussianController,
    ) -> TeacherProblem:
        """What the teachers minimise and stay close to; ``student`` is None before it exists."""

    def student_targets(
        self, X: np.ndarray, teacher: LinearGaussianController, duals: Duals
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean (M, N, T, dU) and precision (M, T, dU, dU) that the student regresses on at X."""

    def update_duals(
        self,
        duals: Duals,
        X: np.ndarray,
        student_actions: np.ndarray,
        teacher: LinearGaussianController,
        kl: np.ndarray,
    ) -> Duals:
        """The duals after a student phase.

        :param X: states of the current samples, (M, N, T, dX)
        :param student_actions: the student's mean actions there, (M, N, T, dU)
        :param kl: KL(teacher || linearised student), (M, T)
        """
