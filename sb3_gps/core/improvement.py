"""How a teacher takes its step: the one place for methods other than LQR.

    p' = improve(what samples of p taught)   s.t.  sum_t KL(p' || reference) <= epsilon

An update rule says what is minimised and what the step is bounded from (``TeacherProblem``); a
method may use the fitted models, the samples themselves, or both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from sb3_gps.core.duals import TeacherProblem
from sb3_gps.core.lqr import LQRResult, kl_constrained_lqr, marginals
from sb3_gps.core.types import (
    Gaussian,
    LinearDynamics,
    LinearGaussianController,
    QuadraticCost,
    Record,
    Trajectories,
    first_steps,
    hold,
    map_arrays,
)

FAR = 1e50  # its square is a number, and so is that of the square


@dataclass(frozen=True, eq=False)
class Fit(Record):
    """What samples of a controller taught about each condition."""

    controller: LinearGaussianController  # that was executed
    samples: Trajectories  # of it
    dynamics: LinearDynamics
    cost: QuadraticCost
    initial_state: Gaussian
    sampled_cost: np.ndarray  # (M,)

    @property
    def planned(self) -> int:
        """Steps that there is a plan for: all, or twice as many as the longest episode lived.

        A plan does not care what follows it: ended where episodes did, it would do nothing in their
        last steps. But models of a system that fell after six of a thousand steps overflow long
        before the last.
        """
        T, longest = self.samples.X.shape[2], int(self.samples.lived.max())
        return min(T, 2 * longest + 10)

    def first(self, steps: int) -> Fit:
        """The models over the first steps of time; the samples stay whole."""
        return replace(
            self,
            controller=first_steps(self.controller, steps),
            dynamics=first_steps(self.dynamics, steps - 1),
            cost=first_steps(self.cost, steps),
        )


def closed_loop(fit: Fit, controller: LinearGaussianController) -> Gaussian:
    """p(z_t) of a controller under the models of a fit; after the plan, as at its last step.

    Hundreds of steps of an unstable loop overflow: where they would, they stay at ``FAR``.
    """
    dynamics = first_steps(fit.dynamics, fit.planned - 1)
    with np.errstate(over="ignore", invalid="ignore"):
        z = marginals(dynamics, first_steps(controller, fit.planned), fit.initial_state)
    z = map_arrays(lambda array: np.clip(np.nan_to_num(array, nan=FAR), -FAR, FAR), z)
    return hold(z, controller.k.shape[1])


class Improvement(Protocol):
    """One step of the teachers of all conditions."""

    def __call__(
        self, fit: Fit, problem: TeacherProblem, epsilon: np.ndarray, eta: np.ndarray
    ) -> LQRResult:
        """The next controllers, and how far they went.

        :param epsilon: bound on the KL of each condition, nats in a trajectory, (M,)
        :param eta: its multiplier in the last step, to start from, (M,)
        """


@dataclass(frozen=True)
class LQRStep:
    """Maximum-entropy LQR on the fitted models (Levine et al. 2016, App. A).

    :param min_eta: floor of the KL's multiplier, in units of cost a nat
    """

    min_eta: float

    def __call__(
        self, fit: Fit, problem: TeacherProblem, epsilon: np.ndarray, eta: np.ndarray
    ) -> LQRResult:
        """``kl_constrained_lqr`` of the rule's problem."""
        return kl_constrained_lqr(
            fit.dynamics,
            problem.cost,
            problem.reference,
            fit.initial_state,
            epsilon,
            problem.entropy_weight,
            eta=eta,
            min_eta=self.min_eta,
            length=fit.samples.lived,
        )
