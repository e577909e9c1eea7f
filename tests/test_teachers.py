"""Teachers alone: they learn, they keep what they learned, and a step that breaks is undone."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit
from scipy.special import softmax
from stable_baselines3.common.vec_env import DummyVecEnv
from toy_envs import HORIZON, PointMass

from sb3_gps.core.badmm import BADMM
from sb3_gps.core.improvement import closed_loop
from sb3_gps.core.initial import double_integrator_gains
from sb3_gps.core.lqr import LQRResult, kl_divergence
from sb3_gps.core.types import Record, Trajectories, map_arrays
from sb3_gps.environment import Task, describe_task
from sb3_gps.exploration import action_noise, teacher_actor
from sb3_gps.rollout import run_episodes
from sb3_gps.teachers import TeacherOptions, Teachers, first_controller, initial_state

M = 4


class Run:
    """Teachers on the point mass, one iteration a call."""

    samples = 1  # of each condition

    def __init__(self, rng: np.random.Generator, **options) -> None:
        self.env = DummyVecEnv([lambda: TimeLimit(PointMass(), HORIZON)] * M)
        self.task: Task = describe_task(
            self.env, state=None, cost=None, conditions=None, horizon=HORIZON, seed=0
        )
        self.rng = rng
        self.teachers = Teachers(
            first_controller(self.task), self.task.cost, BADMM(), TeacherOptions(**options)
        )

    def sample(self, noise: bool = True) -> Trajectories:
        conditions = np.repeat(np.arange(M), self.samples)
        controller = self.teachers.controller
        offset = action_noise(controller.C, conditions, 2.0, self.rng) if noise else 0.0
        actor = teacher_actor(controller, conditions, offset)
        starts = [self.task.starts[m] for m in conditions]
        episodes = run_episodes(self.env, starts, actor, HORIZON, self.task.read_state, False)
        return episodes.by_condition(M)[0]

    def step(self):
        observed = self.teachers.observe(self.sample(), self.rng)
        self.teachers.improve(None, self.rng)
        return observed


@pytest.mark.parametrize("prior", ["pooled", "mixture"])
def test_they_stay_good_for_forty_iterations(prior, rng):
    run = Run(rng, prior=prior)
    costs = [run.step().sampled_cost for _ in range(40)]
    assert np.isfinite(costs).all()
    first, late = costs[0], np.array(costs[15:])
    assert (late < 0.4 * first).all()  # every condition, every iteration: no late breakage
    assert late[-1].mean() <= 1.05 * late[0].mean()
    p = run.teachers.controller
    assert np.linalg.eigvalsh(p.C).min() > 0.999 * run.teachers.options.min_action_std**2
    assert np.isfinite(p.K).all()


class PathIntegrals:
    """Actions as the better samples had them (Theodorou, Buchli & Schaal 2010), by no dynamics."""

    def __call__(self, fit, problem, epsilon, eta):
        p, z, cost = fit.controller, fit.samples.Z, fit.cost
        step = cost.c[:, None] + np.einsum("mtz,mntz->mnt", cost.g, z)
        step += 0.5 * np.einsum("mntz,mtzy,mnty->mnt", z, cost.H, z)
        to_go = np.cumsum(step[..., ::-1], axis=-1)[..., ::-1]
        weight = softmax(-10 * to_go / np.ptp(to_go, axis=1, keepdims=True), axis=1)
        tried = fit.samples.U - p[:, None].mean(fit.samples.X)
        better = replace(p, k=p.k + np.einsum("mnt,mntu->mtu", weight, tried))
        kl = kl_divergence(better, problem.reference, closed_loop(fit, better))
        return LQRResult(better, eta, kl, np.ones(M, dtype=bool))


def test_another_method_than_lqr(rng, monkeypatch):
    """What ``Improvement`` is given is enough for one that uses the samples themselves."""
    monkeypatch.setattr(TeacherOptions, "improvement", lambda options: PathIntegrals())
    run = Run(rng)
    run.samples = 20
    costs = np.array([run.step().sampled_cost for _ in range(10)])
    assert (costs[-1] < 0.7 * costs[0]).all()


def test_promises_are_kept(rng):
    """The dynamics are linear: what is predicted comes, once the models are good."""
    run = Run(rng)
    for _ in range(4):
        run.step()
    observed = run.step()
    np.testing.assert_allclose(
        observed.predicted_improvement, observed.actual_improvement, atol=1.0
    )
    assert observed.held_out_error.mean() < 0.05


def broken(samples: Trajectories, m: int) -> Trajectories:
    X = samples.X.copy()
    X[m] += 5.0
    return Trajectories(X, samples.U)


def test_a_condition_that_breaks_returns_to_its_best(rng):
    run = Run(rng)
    for _ in range(4):
        run.step()
    teachers = run.teachers
    best = teachers.fit_of(teachers.best)
    step = np.minimum(teachers.multiplier, teachers.step_taken)
    observed = teachers.observe(broken(run.sample(), 2), rng)
    assert observed.rolled_back.tolist() == [False, False, True, False]
    assert teachers.multiplier[2] == max(0.5 * step[2], 0.05)
    np.testing.assert_array_equal(teachers.fit.controller.K[2], best.controller.K[2])
    np.testing.assert_array_equal(teachers.fit.dynamics.F[2], best.dynamics.F[2])
    # Nor does the student learn from the controller that broke.
    np.testing.assert_array_equal(teachers.controller.K[2], best.controller.K[2])
    np.testing.assert_array_equal(teachers.fit.cost.H[2], best.cost.H[2])
    assert teachers.fit.sampled_cost[2] == best.sampled_cost[2]
    # The others go on from what they have just executed, and the best is not forgotten.
    np.testing.assert_array_equal(teachers.fit.controller.K[0], teachers.controller.K[0])
    assert teachers.best.sampled_cost[2] == best.sampled_cost[2]
    teachers.improve(None, rng)
    assert run.step().sampled_cost[2] < 1.5 * best.sampled_cost[2]


def test_after_a_break_the_step_is_smaller_where_eta_limits_it_too(rng):
    """Half of a bound that did not bind would be the same step again."""
    run = Run(rng)
    for _ in range(2):
        run.step()
    teachers = run.teachers
    teachers.options = replace(teachers.options, min_eta=0.1)
    taken = teachers.improve(None, rng).kl.sum(axis=1)
    assert (taken < 0.5 * teachers.epsilon).all()
    teachers.observe(broken(run.sample(), 2), rng)
    assert teachers.epsilon[2] == pytest.approx(0.5 * taken[2])


def test_the_step_follows_what_the_student_would_cost(rng):
    """The global rule: a student that cannot follow makes the teachers slow down."""
    slow, fast = Run(np.random.default_rng(1)), Run(np.random.default_rng(1))
    for run in (slow, fast):
        run.step()
        samples = run.sample()
        # A student that does nothing at all, judged in place of the teachers.
        p = run.teachers.controller
        idle = replace(p, K=np.zeros_like(p.K), k=np.zeros_like(p.k))
        run.teachers.observe(samples, run.rng, student=idle if run is slow else None)
    assert (slow.teachers.multiplier < fast.teachers.multiplier).all()
    assert (slow.teachers.epsilon < fast.teachers.epsilon).all()


def test_cost_of_agrees_with_execution(rng):
    run = Run(rng)
    for _ in range(4):
        run.step()
    samples = run.sample()
    run.teachers.observe(samples, rng)
    executed = np.mean(
        [run.task.cost.value(s.X, s.U, np.broadcast_to(np.arange(HORIZON), s.X.shape[:3])).sum(-1)
         for s in (run.sample() for _ in range(20))],
        axis=0,
    )[:, 0]  # fmt: skip
    predicted, stable = run.teachers.cost_of(run.teachers.controller, run.teachers.fit, rng)
    assert stable.all()
    np.testing.assert_allclose(predicted, executed, rtol=0.15, atol=0.3)


def test_a_promise_compares_costs_of_the_same_models(rng):
    """Where the next step changes nothing, nothing is promised, whatever noise the models add."""
    run = Run(rng, kl_step=1e-9, min_dynamics_variance=1e-3)
    run.step()
    run.step()
    promise = run.teachers.promise
    assert promise.start.mean() > 1.1 * promise.sampled.mean()
    np.testing.assert_allclose(promise.predicted, promise.start, rtol=0.1)


def test_models_that_make_an_executed_controller_unstable_promise_from_its_samples(rng):
    run = Run(rng)
    run.step()
    teachers = run.teachers
    F = teachers.fit.dynamics.F.copy()
    F[1, :, :, : teachers.controller.K.shape[-1]] *= 3.0
    teachers._fit = replace(teachers.fit, dynamics=replace(teachers.fit.dynamics, F=F))
    teachers.improve(None, rng)
    promise = teachers.promise
    assert promise.start[1] == promise.sampled[1]
    assert (promise.start != promise.sampled)[[0, 2, 3]].all()


def test_no_plan_is_made_for_what_follows_the_end_of_all_episodes(rng):
    """A system that falls: over the whole horizon its models would overflow."""
    run = Run(rng, kl_step=0.5)
    samples = run.sample()
    lived = 2
    cut = np.arange(HORIZON) < lived
    short = Trajectories(
        np.where(cut[:, None], samples.X, samples.X[:, :, [lived - 1]]),
        np.where(cut[:, None], samples.U, 0.0),
        np.full(samples.X.shape[:2], lived),
    )
    teachers = run.teachers
    teachers.observe(short, rng)
    planned = teachers.fit.planned
    assert lived < planned < HORIZON
    # Models of the steps that nobody saw are those of the middle of what was seen.
    np.testing.assert_array_equal(teachers.fit.cost.H[:, lived:], np.repeat(
        teachers.fit.cost.H[:, lived // 2, None], HORIZON - lived, axis=1))  # fmt: skip
    # An unstable model beyond the plan, which nothing may look at.
    F = teachers.fit.dynamics.F.copy()
    F[:, planned:] = 1e6
    teachers._fit = replace(teachers.fit, dynamics=replace(teachers.fit.dynamics, F=F))
    teachers.improve(None, rng)
    p = teachers.controller
    assert p.k.shape[1] == HORIZON and np.isfinite(p.K).all()
    assert np.isfinite(teachers.promise.predicted).all()
    np.testing.assert_array_equal(p.K[:, planned:], np.repeat(
        p.K[:, planned // 2, None], HORIZON - planned, axis=1))  # fmt: skip
    # Only what was lived is known, and counts in the bound.
    np.testing.assert_allclose(teachers.epsilon, 0.5 * lived * teachers.multiplier)


def test_a_plan_that_overflows_is_a_bad_one_and_no_error(rng):
    run = Run(rng)
    run.step()
    teachers = run.teachers
    F = teachers.fit.dynamics.F.copy()
    F[2, :, :, : teachers.controller.K.shape[-1]] = 1e60
    broken = replace(teachers.fit, dynamics=replace(teachers.fit.dynamics, F=F))
    cost, stable = teachers.cost_of(teachers.controller, broken, rng)
    assert np.isfinite(cost).all() and cost[2] > 1e6
    assert stable.tolist() == [True, True, False, True]


def test_first_controller_holds_the_posture(rng):
    run = Run(rng)
    p = run.teachers.controller
    np.testing.assert_allclose(p[:, None].mean(run.task.initial_states[:, None, None]), 0.0)
    moved = run.task.initial_states + np.array([0.1, 0.0, 0.0, 0.2])
    np.testing.assert_allclose(
        p[:, None].mean(np.broadcast_to(moved[:, None, None], (M, 1, HORIZON, 4)))[:, 0, 0],
        np.tile([-0.1, -0.06], (M, 1)),
    )


def test_initial_state_pools_the_spread(rng):
    samples = Trajectories(rng.normal(size=(3, 200, 2, 2)), np.zeros((3, 200, 2, 1)))
    state = initial_state(samples)
    np.testing.assert_allclose(state.mean, samples.X[:, :, 0].mean(axis=1))
    np.testing.assert_allclose(state.cov[0], np.eye(2), atol=0.15)
    np.testing.assert_array_equal(state.cov[0], state.cov[2])
    alone = initial_state(samples[:, :1])  # one sample: no spread, but still positive definite
    assert np.linalg.eigvalsh(alone.cov).min() > 0


def test_pickling_leaves_the_cost_to_the_environment(rng):
    run = Run(rng)
    run.step()
    copy = pickle.loads(pickle.dumps(run.teachers))
    assert copy.cost is None and run.teachers.cost is not None
    np.testing.assert_array_equal(copy.controller.K, run.teachers.controller.K)


def assert_same(a: Record, b: Record) -> None:
    map_arrays(lambda x, y: np.testing.assert_array_equal(x, y) or x, a, b)


@pytest.mark.parametrize("prior", ["pooled", "mixture"])
def test_models_are_made_again_to_the_last_bit(prior, rng):
    """Of the current controllers and, after a roll-back, of those from before the pickling."""
    run = Run(rng, prior=prior, prior_batches=2)
    for _ in range(4):
        run.step()
    teachers = run.teachers
    copy = pickle.loads(pickle.dumps(teachers))
    copy.cost = teachers.cost
    assert_same(copy.fit, teachers.fit)
    best, samples = teachers.best.iteration[2], broken(run.sample(), 2)
    for each in (teachers, copy):
        observed = each.observe(samples, np.random.default_rng(5))
        each.improve(None, np.random.default_rng(5))
        assert observed.rolled_back.tolist() == [False, False, True, False]
    assert teachers.current.iteration.tolist() == [5, 5, best, 5]
    assert_same(copy.fit, teachers.fit)
    assert_same(copy.controller, teachers.controller)


def test_evidence_is_kept_as_long_as_a_condition_may_go_back_to_it(rng):
    run = Run(rng, prior_batches=2)
    for _ in range(8):
        run.step()
        teachers = run.teachers
        wanted = {*teachers.best.iteration.tolist(), *teachers.current.iteration.tolist()}
        assert teachers.evidence.keys() == wanted
        assert len(teachers.recent) == min(2, teachers.iteration)
    fresh = teachers.fit_of(replace(teachers.current, iteration=np.full(M, 8)))
    np.testing.assert_array_equal(
        fresh.initial_state.mean, teachers.recent[-1].X[:, :, 0].mean(axis=1)
    )


def test_the_first_controller_takes_the_gains_of_an_lqr():
    task = Run(np.random.default_rng(0)).task
    assert task.posture is not None
    named = first_controller(task, gains="lqr")
    given = first_controller(task, gains=double_integrator_gains(task.dt))
    np.testing.assert_array_equal(named.K, given.K)
    assert not np.allclose(named.K, first_controller(task).K)
