"""Bregman ADMM between teachers and student.

    L = E_p[ l ] + sum_t lambda_t' (E_pi[u_t] - E_p[u_t]) + nu_t KL

    teacher   min_p      E_p[ l - lambda' u ] + nu KL(p || pi)  s.t.  KL(p || p_previous) <= epsilon
    student   min_theta  nu/2 (mu_pi - mu_p)' C^-1 (mu_pi - mu_p) + lambda' mu_pi
    dual      lambda <- lambda + alpha nu (E_pi[u] - E_p[u])

With nu = 0 in the teacher's problem it is the dual-gradient form.
Source: Levine et al. 2016, sec. 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sb3_gps.core.duals import Duals, TeacherProblem
from sb3_gps.core.lqr import nll
from sb3_gps.core.types import LinearGaussianController, QuadraticCost


@dataclass(frozen=True)
class BADMM:
    """Options of the rule.

    :param nu: initial weight of the KL penalty, 0.01 as in the paper
    :param dual_rate: alpha, 0.1 as in the paper
    :param adapt_nu: double nu_t where its KL is above the mean over steps, halve it where it is
        more than two standard deviations below
    :param nu_bounds: that nu stays within
    :param kl_penalty: False drops nu KL(p || pi) from the teacher: the dual-gradient form
    """

    nu: float = 0.01
    dual_rate: float = 0.1
    adapt_nu: bool = False
    nu_bounds: tuple[float, float] = (1e-3, 1.0)
    kl_penalty: bool = True

    def initial_duals(self, M: int, T: int, dU: int) -> Duals:
        """lambda = 0 and the initial nu."""
        return Duals(np.zeros((M, T, dU)), np.full((M, T), self.nu))

    def teacher_problem(
        self,
        cost: QuadraticCost,
        duals: Duals,
        student: LinearGaussianController | None,
        previous: LinearGaussianController,
    ) -> TeacherProblem:
        """Cost with multipliers and penalty; the reference is the previous controller."""
        dU = duals.lam.shape[-1]
        g = cost.g.copy()
        g[..., -dU:] -= duals.lam
        cost = QuadraticCost(cost.c, g, cost.H)
        nu = duals.nu if student is not None and self.kl_penalty else np.zeros_like(duals.nu)
        if student is not None and self.kl_penalty:
            cost = cost + nll(student).scaled(nu)
        return TeacherProblem(cost, previous, nu)

    def student_targets(
        self, X: np.ndarray, teacher: LinearGaussianController, duals: Duals
    ) -> tuple[np.ndarray, np.ndarray]:
        """Completing the square: mean mu_p - C lambda / nu, precision nu C^-1."""
        shift = np.einsum("mtuv,mtv->mtu", teacher.C, duals.lam) / duals.nu[..., None]
        mean = teacher[:, None].mean(X) - shift[:, None]
        return mean, duals.nu[..., None, None] * np.linalg.inv(teacher.C)

    def update_duals(
        self,
        duals: Duals,
        X: np.ndarray,
        student_actions: np.ndarray,
        teacher: LinearGaussianController,
        kl: np.ndarray,
    ) -> Duals:
        """A gradient step on lambda, and the rule for nu."""
        gap = (student_actions - teacher[:, None].mean(X)).mean(axis=1)
        lam = duals.lam + self.dual_rate * duals.nu[..., None] * gap
        if not self.adapt_nu:
            return Duals(lam, duals.nu)
        mean, std = kl.mean(axis=-1, keepdims=True), kl.std(axis=-1, keepdims=True)
        factor = np.where(kl > mean, 2.0, np.where(kl < mean - 2.0 * std, 0.5, 1.0))
        return Duals(lam, np.clip(duals.nu * factor, *self.nu_bounds))
