"""The teachers of all conditions: controllers improved on models fitted to their own samples.

One iteration is ``observe`` (fit the models to new samples, judge the last step, roll back what
broke) and then ``improve`` (a KL-constrained step), possibly several times against a student that
changes in between. Levine et al. 2016, sec. 4 and App. A.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sb3_gps.core.badmm import BADMM
from sb3_gps.core.costs import CostModel, expand_cost, expected_cost, trajectory_costs
from sb3_gps.core.duals import Duals, UpdateRule
from sb3_gps.core.fitting import held_out_error
from sb3_gps.core.gaussian import floor_deviations
from sb3_gps.core.improvement import Fit, Improvement, LQRStep, closed_loop
from sb3_gps.core.initial import double_integrator_gains, pd_controller, random_controller
from sb3_gps.core.lqr import LQRResult, entropy, kl_divergence
from sb3_gps.core.mirror_descent import MirrorDescent
from sb3_gps.core.step_size import adapt_step, broke
from sb3_gps.core.types import (
    Gaussian,
    LinearDynamics,
    LinearGaussianController,
    Record,
    Trajectories,
    after_its_end,
    first_steps,
    hold,
    where,
)
from sb3_gps.dynamics import DynamicsModel, Mixture, Network, Pooled, Simulator
from sb3_gps.environment import Task
from sb3_gps.options import pick


@dataclass(frozen=True)
class TeacherOptions:
    """How teachers learn.

    :param teacher: how they take a step, "lqr"
    :param kl_step: bound on the KL of a step of improvement, nats in a step of time
    :param min_eta: floor of the KL's multiplier, in units of cost a nat
    :param min_action_std: floor of the action noise in every direction, in units of the action;
        (dU,), or one for all
    :param dynamics: "fitted" to the trials, or those of the simulator, "mujoco"
    :param prior: of the fitted dynamics, "pooled", "mixture" or "network"
    :param prior_batches: recent iterations that the prior is made of; the network's is of all
    :param prior_strength: of the prior's covariance, in samples
    :param prior_window: steps to each side that the pooled prior reaches over
    :param ridge: added to the variances of [x; u] in the fits; 1e-4 is too much where coordinates
        are redundant
    :param min_dynamics_variance: floor of the fitted noise, in units of the state squared
    :param rollback: share of its best cost by which a condition may get worse before it goes back
    :param rollback_slack: the same in units of cost, for costs near zero
    :param max_marginal_std: limit of the states' deviation where costs are predicted, in units of
        the state: an unstable fit would predict anything
    """

    teacher: str = "lqr"
    kl_step: float = 2.0
    min_eta: float = 0.02
    min_action_std: float | np.ndarray = 0.05
    dynamics: str = "fitted"
    prior: str = "pooled"
    prior_batches: int = 4
    prior_strength: float = 10.0
    prior_window: int = 6
    ridge: float = 1e-6
    min_dynamics_variance: float = 1e-8
    rollback: float = 0.5
    rollback_slack: float = 2.0
    max_marginal_std: float = 1.0

    def improvement(self) -> Improvement:
        """How the teachers take their step."""
        return {"lqr": LQRStep(self.min_eta)}[self.teacher]

    def dynamics_model(self) -> DynamicsModel:
        """Where the local dynamics come from."""
        if self.dynamics == "mujoco":
            return Simulator(self.min_dynamics_variance)
        regression = self.ridge, self.min_dynamics_variance
        models: dict[str, DynamicsModel] = {
            "pooled": Pooled(self.prior_window, self.prior_strength, *regression),
            "mixture": Mixture(*regression),
            "network": Network(self.prior_strength, *regression),
        }
        return models[self.prior]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the models of one iteration follow from, with far fewer numbers."""

    recent: tuple[Trajectories, ...]  # that the prior is made of, the iteration's own last
    learned: Any  # by the model of the dynamics


@dataclass(frozen=True, eq=False)
class Executed(Record):
    """A controller of each condition, each from an iteration in which it was executed."""

    controller: LinearGaussianController  # (M, T, ...)
    sampled_cost: np.ndarray  # (M,)
    iteration: np.ndarray  # (M,) int, the evidence that it left


@dataclass(frozen=True, eq=False)
class Promise(Record):
    """What the last improvement expected of the next samples.

    Models add their own noise: near convergence their costs are three times those of the samples.
    So a cost of theirs is compared with another of the same models.
    """

    sampled: np.ndarray  # (M,) cost before it
    start: np.ndarray  # (M,) the same under the models, where they are of use
    predicted: np.ndarray  # (M,) cost after it, under the models


@dataclass
class Observed:
    """What ``observe`` found, for the log."""

    sampled_cost: np.ndarray  # (M,)
    predicted_improvement: np.ndarray  # (M,) nan in the first iteration
    actual_improvement: np.ndarray  # (M,)
    rolled_back: np.ndarray  # (M,) bool
    # Of the last dynamics on these samples, relative to the state's change, (M, T-1); nan at first.
    held_out_error: np.ndarray


@dataclass(frozen=True)
class Latest:
    """What the last iteration saw, and the last improvement in it."""

    observed: Observed
    step: LQRResult


class Teachers:
    """The teachers' state over a run.

    :param controller: to start from, (M, T, ...)
    :param cost: that they minimise; None: it is set before the first samples come
    :param rule: how they and the student are driven to agree
    """

    def __init__(
        self,
        controller: LinearGaussianController,
        cost: CostModel | None,
        rule: UpdateRule,
        options: TeacherOptions,
    ) -> None:
        M, T, dU, _ = controller.K.shape
        self.controller = controller  # the next to execute
        self.cost: Any = cost
        self.rule = rule
        self.options = options
        self.duals: Duals = rule.initial_duals(M, T, dU)
        self.multiplier = np.ones(M)
        self.stride = 1.0  # what it is where conditions are new
        self.step_taken = np.ones(M)  # the KL of the last step, in units of ``multiplier``
        self.eta = np.ones(M)
        self.iteration = 0  # of ``observe``
        self.recent: list[Trajectories] = []
        self.learned: Any = None  # by the model of the dynamics, in the last iteration
        self.evidence: dict[int, Evidence] = {}  # of the iterations of the next two
        self.current: Executed | None = None  # that the next improvement starts from
        self.best: Executed | None = None
        self.promise: Promise | None = None
        self._fit: Fit | None = None

    @classmethod
    def about(
        cls, fit: Fit, cost: CostModel, rule: UpdateRule, options: TeacherOptions
    ) -> Teachers:
        """Those of models that are known, for one ``step``."""
        teachers = cls(fit.controller, cost, rule, options)
        teachers._fit = fit
        return teachers

    def __getstate__(self) -> dict[str, Any]:
        """Without the models, which are made again, and the cost, which the run gives back.

        The cost may be a method of the environment.
        """
        return {**self.__dict__, "cost": None, "_fit": None}

    @property
    def fit(self) -> Fit | None:
        """Models of the current controllers, None before the first samples."""
        if self._fit is None and self.current is not None:
            self._fit = self.fit_of(self.current)
        return self._fit

    @property
    def proposal(self) -> Fit:
        """The same models with the controllers that are executed next, a promise so far."""
        assert self.fit is not None
        return replace(self.fit, controller=self.controller)

    def check_fit(self, task: Task) -> None:
        """Refuse a task that these teachers are not for."""
        has = self.controller.K.shape
        needs = (task.M, task.horizon, task.dU, task.initial_states.shape[1])
        if has != needs:
            raise ValueError(
                f"this model was trained on (conditions, horizon, dU, dX) = {has}, the environment "
                f"has {needs}; pass one like the first, or begin with a new GPS"
            )

    @property
    def epsilon(self) -> np.ndarray:
        """The bound on the KL of each condition's next step, nats in a trajectory, (M,)."""
        steps = self.controller.k.shape[1] if self.fit is None else self.fit.samples.lived
        return self.options.kl_step * steps * self.multiplier

    def renew(self) -> None:
        """Begin with other conditions: nothing that is coming compares with what was."""
        self.current = self.best = self.promise = self._fit = None
        self.change_stride(1.0)
        self.eta = np.ones_like(self.eta)

    def change_stride(self, factor: float) -> None:
        """Let the steps of conditions that are always new be longer or shorter, up to kl_step."""
        self.stride = float(np.clip(factor * self.stride, 0.05, 1.0))
        self.multiplier = np.full_like(self.multiplier, self.stride)

    def observe(
        self,
        samples: Trajectories,
        rng: np.random.Generator,
        student: LinearGaussianController | None = None,
        executed: LinearGaussianController | None = None,
        costs: np.ndarray | None = None,
    ) -> Observed:
        """Fit models to new samples, adapt the step, and roll back the conditions that broke.

        :param samples: (M, N, T, ...)
        :param student: for the *global* step rule, the linearised student of the last step, whose
            cost under the new models is then what that step really gained
        :param executed: the controller that acted, where it was not the teachers' own
        :param costs: of the samples, (M, N), where they were measured; None: as the cost says
        """
        opts = self.options
        M, _, T, _ = samples.X.shape
        held_out = np.full((M, T - 1), np.nan)
        if self.fit is not None:
            held_out = held_out_error(self.fit.dynamics, samples)
        self.recent = [*self.recent, samples][-opts.prior_batches :]
        self.iteration += 1
        self.learned = opts.dynamics_model().learn(self.recent, self.learned, rng)
        self.evidence[self.iteration] = Evidence(tuple(self.recent), self.learned)
        if costs is None:
            costs = trajectory_costs(self.cost, samples)
        sampled = costs.mean(axis=1)
        fresh = Executed(
            controller=self.controller if executed is None else executed,
            sampled_cost=sampled,
            iteration=np.full(len(sampled), self.iteration),
        )
        fit = self.fit_of(fresh)
        predicted = actual = np.full(M, np.nan)
        worse = np.zeros(M, dtype=bool)
        if self.promise is not None and self.best is not None:
            predicted = self.promise.start - self.promise.predicted
            if student is None:
                actual = self.promise.sampled - sampled
            else:
                actual = self.promise.start - self.cost_of(student, fit, rng)[0]
            worse = broke(sampled, self.best.sampled_cost, opts.rollback, opts.rollback_slack)
            # Near convergence min_eta limits the step, far below epsilon: a condition that broke
            # took the same step again and again while only epsilon shrank.
            step = np.minimum(self.multiplier, self.step_taken)
            self.multiplier = np.where(
                worse, np.maximum(0.5 * step, 0.05), adapt_step(step, predicted, actual)
            )
        better = sampled < (np.inf if self.best is None else self.best.sampled_cost)
        self.best = fresh if self.best is None else where(better, fresh, self.best)
        self.current = where(worse, self.best, fresh)
        self._fit = self.fit_of(self.current, newest=fit)
        wanted = {*self.best.iteration, *self.current.iteration}
        self.evidence = {i: e for i, e in self.evidence.items() if i in wanted}
        # The student is fitted before the next step: it must not learn from what just broke.
        self.controller = where(worse, self.best.controller, self.controller)
        return Observed(sampled, predicted, actual, worse, held_out)

    def improve(
        self, student: LinearGaussianController | None, rng: np.random.Generator
    ) -> LQRResult:
        """``step``, and what it promises of the next samples."""
        assert self.fit is not None
        result = self.step(student)
        start, stable = self.cost_of(self.fit.controller, self.fit, rng)
        self.promise = Promise(
            sampled=self.fit.sampled_cost,
            # It was executed, so models under which it is unstable say nothing of its cost.
            start=np.where(stable, start, self.fit.sampled_cost),
            predicted=self.cost_of(self.controller, self.fit, rng)[0],
        )
        return result

    def step(self, student: LinearGaussianController | None) -> LQRResult:
        """One KL-constrained step from the fitted models; sets the controller to execute next."""
        assert self.fit is not None
        T, L = self.controller.k.shape[1], self.fit.planned
        fit = self.fit.first(L)
        if student is not None:
            student = first_steps(after_its_end(student, fit.samples.lived), L)
        problem = self.rule.teacher_problem(
            fit.cost, first_steps(self.duals, L), student, fit.controller
        )
        result = self.options.improvement()(fit, problem, self.epsilon, self.eta)
        self.step_taken = self.multiplier * result.kl.sum(axis=1) / self.epsilon
        # Where no step was found, the next search starts afresh.
        self.eta = np.where(result.converged, result.eta, 1.0)
        # After its plan, as in the middle of it: towards its end there is little left to gain.
        p = hold(result.controller, T, step=L // 2)
        # Without a floor the covariance shrinks at every step, until its inverse overflows.
        self.controller = replace(p, C=floor_deviations(p.C, self.options.min_action_std))
        return result

    def update_duals(
        self, X: np.ndarray, actions: np.ndarray, student: LinearGaussianController
    ) -> None:
        """Charge for where teachers and student disagree.

        :param X: states of the newest samples, (M, N, T, dX)
        :param actions: the student's mean actions there, (M, N, T, dU)
        :param student: linearised
        """
        assert self.fit is not None
        z = closed_loop(self.fit, self.controller)
        kl = kl_divergence(self.controller, student, z)
        self.duals = self.rule.update_duals(self.duals, X, actions, self.controller, kl)

    def cost_of(
        self, controller: LinearGaussianController, fit: Fit, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """What a controller would cost under the models of a fit, from its starts.

        :return: the cost (M,), and whether the states' deviations stay below
            ``max_marginal_std`` (M,): above it they are clipped
        """
        z = first_steps(closed_loop(fit, controller), fit.planned)
        dX, limit = controller.K.shape[-1], self.options.max_marginal_std
        variances = np.diagonal(z.cov, axis1=-2, axis2=-1)[..., :dX]
        stable = variances.max(axis=(1, 2)) <= limit**2
        return expected_cost(self.cost, z, dX, rng, max_std=limit), stable

    def fit_of(self, executed: Executed, newest: Fit | None = None) -> Fit:
        """The models of each condition, from the evidence of its iteration.

        They are made again where a condition goes back to its best: kept for that, they would be
        most of a saved model.

        :param newest: models of the newest iteration, where they have been made
        """

        def made(i: int) -> Fit:
            if newest is not None and i == self.iteration:
                return newest
            return self._fit_to(self.evidence[i], executed)

        first, *others = np.unique(executed.iteration).tolist()
        fit = made(first)
        for i in others:
            fit = where(executed.iteration == i, made(i), fit)
        return fit

    def _fit_to(self, evidence: Evidence, executed: Executed) -> Fit:
        """Of all conditions at once, always: only then are the models made again bit by bit."""
        samples = evidence.recent[-1]
        dynamics = self.options.dynamics_model().local(evidence.recent, evidence.learned)
        return fit_about(samples, executed.controller, dynamics, self.cost, executed.sampled_cost)


def fit_about(
    samples: Trajectories,
    controller: LinearGaussianController,
    dynamics: LinearDynamics,
    cost: CostModel,
    sampled_cost: np.ndarray,
) -> Fit:
    """The models of each condition about its samples.

    :param controller: that made them
    :param dynamics: local to them, (M, T-1, ...)
    :param sampled_cost: theirs, (M,)
    """
    return Fit(
        controller=controller,
        samples=samples,
        # After an early end there is nothing to see, and where it rests, models are of little
        # use: it had fallen.
        dynamics=after_its_end(dynamics, samples.lived),
        cost=after_its_end(expand_cost(cost, samples), samples.lived),
        initial_state=initial_state(samples),
        sampled_cost=sampled_cost,
    )


def initial_state(samples: Trajectories, min_variance: float = 1e-6) -> Gaussian:
    """p(x_0) of each condition: its mean, and the spread pooled over all conditions."""
    x0 = samples.X[:, :, 0]
    mean = x0.mean(axis=1)
    deviation = (x0 - mean[:, None]).reshape(-1, x0.shape[-1])
    cov = deviation.T @ deviation / len(deviation) + min_variance * np.eye(x0.shape[-1])
    return Gaussian(mean, np.broadcast_to(cov, (len(mean), *cov.shape)).copy())


def first_teachers(task: Task, options: Mapping[str, Any]) -> Teachers:
    """Teachers of a new run.

    :param options: by the names of the keywords of ``GPS``; those of others are ignored
    """
    return Teachers(
        first_controller(task, options["initial_std"], options["initial_gains"]),
        task.cost,
        MirrorDescent() if options["update"] == "mdgps" else pick(BADMM, options),
        teacher_options(task, options),
    )


def teacher_options(task: Task, options: Mapping[str, Any]) -> TeacherOptions:
    """Those of a task, whose actions have ranges of their own.

    :param options: as of ``first_teachers``
    """
    chosen = pick(TeacherOptions, options)
    return replace(chosen, min_action_std=chosen.min_action_std * task.action_scale)


def first_controller(
    task: Task, std: float = 0.316, gains: tuple[float, float] | str = (1.0, 0.3)
) -> LinearGaussianController:
    """Hold the initial posture where the task says what actions push; else noise about the middle.

    :param std: of the action noise, in half the range of the action
    :param gains: kp and kd, action per unit of position and of velocity; "lqr" for those that
        would be optimal for unit masses
    """
    M, T = task.M, task.horizon
    noise = std * task.action_scale
    if task.posture is None:
        dX = task.initial_states.shape[1]
        return random_controller(M, T, dX, task.dU, noise, task.action_middle)
    kp, kd = double_integrator_gains(task.dt) if isinstance(gains, str) else gains
    return pd_controller(task.initial_states, *task.posture, T, task.dU, kp, kd, noise)


def figures(teachers: Teachers, observed: Observed, step: LQRResult) -> dict[str, float]:
    """What an iteration is judged by, averaged over conditions, for the log.

    :param step: the last improvement
    """
    row = {
        "gps/cost": observed.sampled_cost.mean(),
        "gps/kl": step.kl.sum(axis=1).mean(),
        "gps/kl_met": step.converged.mean(),
        "gps/eta": np.exp(np.log(teachers.eta).mean()),
        "gps/epsilon": teachers.epsilon.mean(),
        "gps/nu": teachers.duals.nu.mean(),
        "gps/entropy": entropy(teachers.controller).mean(),
        "gps/predicted_improvement": observed.predicted_improvement.mean(),
        "gps/actual_improvement": observed.actual_improvement.mean(),
        "gps/rolled_back": observed.rolled_back.sum(),
        "gps/held_out_error": observed.held_out_error.mean(),
    }
    return {key: float(value) for key, value in row.items()}
