"""Practice in the learned model: how far it is trusted, its trials, and what comes of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from scipy.optimize import lsq_linear
from stable_baselines3.common.env_util import make_vec_env
from toy_envs import HORIZON, QUICK, Rewarded, cost

from sb3_gps import GPS, imagination
from sb3_gps.autodiff import CostFunction, DifferentiableCost
from sb3_gps.core.costs import trajectory_costs
from sb3_gps.core.initial import random_controller
from sb3_gps.core.mirror_descent import MirrorDescent
from sb3_gps.core.types import Trajectories
from sb3_gps.dynamics import ChangeModel
from sb3_gps.imagination import (
    BEYOND,
    FADING,
    MISTAKEN,
    PUSHED,
    Ended,
    ImaginationOptions,
    acts,
    chosen_tries,
    detours,
    imagine,
    practise,
    trusted_steps,
    with_targets_in_reach,
)
from sb3_gps.policies import MlpPolicy
from sb3_gps.student import Batch, Student, StudentOptions, read_state
from sb3_gps.supervised import action_jacobian
from sb3_gps.teachers import TeacherOptions, Teachers, fit_about

DX, DU, T = 3, 2, 30
A = np.array([[1.0, 0.1, 0.0], [-0.1, 0.95, 0.0], [0.0, 0.05, 0.9]])
B = np.array([[0.0, 0.0], [0.2, 0.0], [0.0, 0.3]])
BOUNDS = LOW, HIGH = np.array([-0.5, -1.0]), np.array([0.5, 1.0])


def linear(A: np.ndarray, B: np.ndarray, spread: float = 1.0) -> ChangeModel:
    """x' = A x + B u, exactly."""

    def predict(z: np.ndarray) -> np.ndarray:
        return z[..., :DX] @ (A - np.eye(DX)).T + z[..., DX:] @ B.T

    regression = SimpleNamespace(
        predict=predict,
        jacobian=lambda Z: np.broadcast_to(
            np.hstack([A - np.eye(DX), B]), (*Z.shape[:-1], DX, DX + DU)
        ),
        mean=th.zeros(DX + DU, dtype=th.float64),
        std=th.full((DX + DU,), spread, dtype=th.float64),
    )
    nothing = np.zeros((0, DX))
    return ChangeModel(regression, np.zeros((0, DX + DU)), nothing, nothing, ended_early=False)


def shown(model: ChangeModel, z: np.ndarray, first: np.ndarray) -> ChangeModel:
    """The model, to have learned from transitions that begin so, and from trials that do."""
    return replace(model, z=z, change=model.regression.predict(z), first=first)


def trials(rng: np.random.Generator, M: int = 6) -> Trajectories:
    """Of the same system."""
    X, U = np.empty((M, 1, T, DX)), rng.uniform(-0.5, 0.5, size=(M, 1, T, DU))
    X[:, :, 0] = rng.normal(size=(M, 1, DX))
    for t in range(T - 1):
        X[:, :, t + 1] = X[:, :, t] @ A.T + U[:, :, t] @ B.T
    return Trajectories(X, U)


def foreseen(
    model: ChangeModel, seen: Trajectories, act: Callable[[np.ndarray], np.ndarray] | None = None
) -> int:
    return trusted_steps(model, seen, act, BOUNDS)


def test_a_model_is_trusted_as_far_as_it_foresaw(rng):
    seen = trials(rng)
    assert foreseen(linear(A, B), seen) == T
    slightly, badly = linear(A + 0.05 * np.eye(DX), B), linear(A + np.eye(DX), B)
    assert 0 == foreseen(badly, seen) < foreseen(slightly, seen) < T
    # The same errors are less where states differ more.
    assert foreseen(linear(A + 0.05 * np.eye(DX), B, spread=100.0), seen) == T


def test_what_feedback_keeps_upright_is_foreseen_with_that_feedback(rng):
    """Small errors of a model grow in an unstable system, but not in the loop that acted there."""
    unstable, almost = np.diag([1.5, 1.3, 0.9]), np.diag([1.51, 1.3, 0.9])
    push = np.eye(DX, DU)
    act = lambda x: -0.7 * x[:, :DU]  # noqa: E731
    X, U = np.empty((6, 1, T, DX)), np.empty((6, 1, T, DU))
    x = 0.3 * rng.uniform(-1.0, 1.0, size=(6, DX))
    for t in range(T):
        X[:, 0, t] = x
        U[:, 0, t] = np.clip(act(x) + rng.normal(0.0, 0.02, size=(6, DU)), LOW, HIGH)
        x = x @ unstable.T + U[:, 0, t] @ push.T
    seen, model = Trajectories(X, U), linear(almost, push, spread=X.std())
    assert foreseen(linear(unstable, push, spread=X.std()), seen, act) == T
    assert foreseen(model, seen, act) == T
    assert foreseen(model, seen) < T // 2


def test_nothing_is_foreseen_after_the_end_of_a_trial(rng):
    """Begun at 0, 3, 6 and 9 of its 12 steps, half of what remains is over after 6."""
    seen, model = trials(rng), linear(A, B)
    X = seen.X.copy()
    X[:, :, 12:] = X[:, :, [12]]
    assert foreseen(model, Trajectories(X, seen.U, np.full((6, 1), 12))) == 5


def test_a_model_that_overflows_is_not_trusted(rng):
    assert foreseen(linear(1e200 * A, B), trials(rng)) == 0


@pytest.mark.parametrize(("trusted", "wanted"), [(50, 20), (20, 20), (12, 12), (10, 10), (9, 0)])
def test_half_of_the_horizon_is_the_least(trusted, wanted):
    assert ImaginationOptions(imagined_horizon=20).horizon(100, trusted) == wanted


@pytest.mark.parametrize(("trusted", "wanted"), [(50, 20), (4, 20), (3, 0)])
def test_where_trials_fall_a_fifth_is_enough_for_all_of_it(trusted, wanted):
    options = ImaginationOptions(imagined_horizon=20)
    assert options.horizon(100, trusted, falling=True) == wanted


def test_short_episodes_need_no_more():
    assert ImaginationOptions(imagined_horizon=20).horizon(8, trusted=4) == 4


def test_imagined_trials_are_those_of_the_model_with_actions_as_executed(rng):
    starts, gain = rng.normal(size=(5, DX)), rng.normal(size=(DX, DU))
    seen, lost = imagine(linear(A, B), lambda x: x @ gain, starts, T, BOUNDS)
    assert not lost.any()
    assert seen.X.shape == (5, 1, T, DX) and (seen.length == T).all()
    X, U = seen.X[:, 0], seen.U[:, 0]
    np.testing.assert_array_equal(X[:, 0], starts)
    np.testing.assert_allclose(U, np.clip(X @ gain, LOW, HIGH))
    assert (U == HIGH).any()
    np.testing.assert_allclose(X[:, 1:], X[:, :-1] @ A.T + U[:, :-1] @ B.T, atol=1e-12)


def test_who_is_mistaken_acts_on_another_state_than_the_model_does(rng):
    starts, gain = rng.normal(size=(5, DX)), 0.1 * rng.normal(size=(DX, DU))
    mistakes = rng.normal(size=(5, T, DX))
    seen, _ = imagine(linear(A, B), lambda x: x @ gain, starts, T, BOUNDS, mistakes)
    X, U = seen.X[:, 0], seen.U[:, 0]
    np.testing.assert_allclose(U, np.clip((X + mistakes) @ gain, LOW, HIGH))
    np.testing.assert_allclose(X[:, 1:], X[:, :-1] @ A.T + U[:, :-1] @ B.T, atol=1e-12)


def test_who_is_pushed_does_as_much_more(rng):
    starts, gain = rng.normal(size=(5, DX)), 0.1 * rng.normal(size=(DX, DU))
    pushes = rng.normal(size=(5, T, DU))
    seen, _ = imagine(linear(A, B), lambda x: x @ gain, starts, T, BOUNDS, pushes=pushes)
    X, U = seen.X[:, 0], seen.U[:, 0]
    np.testing.assert_allclose(U, np.clip(X @ gain + pushes, LOW, HIGH))
    np.testing.assert_allclose(X[:, 1:], X[:, :-1] @ A.T + U[:, :-1] @ B.T, atol=1e-12)


def test_a_try_is_the_student_s_own_or_pushed_or_mistaken(rng):
    M, tries = 50, 6
    states = rng.normal(size=(M, tries, DX))
    mistakes, pushes = detours(states, T, BOUNDS, rng)
    assert mistakes.shape == (M, tries, T, DX) and pushes.shape == (M, tries, T, DU)
    departs = mistakes.any(axis=(2, 3)), pushes.any(axis=(2, 3))
    assert not (departs[0] | departs[1])[:, 0].any()
    assert ((departs[0] ^ departs[1])[:, 1:]).all() and departs[1][:, 1::2].all()
    # The push is one, for a while, of up to all that there is to either side.
    lasts = pushes.any(axis=3).sum(axis=2)[:, 1::2]
    assert (lasts.min(), lasts.max()) == (1, PUSHED)
    first = pushes[:, :, :1]
    np.testing.assert_array_equal(pushes, np.where(pushes != 0.0, first, 0.0))
    share = first[:, 1::2] / (HIGH - LOW)
    assert -1.0 <= share.min() < -0.9 and 0.9 < share.max() <= 1.0
    # The mistake fades, towards another state or as far beyond it.
    np.testing.assert_allclose(mistakes, FADING ** np.arange(T)[:, None] * mistakes[:, :, :1])
    alpha = mistakes[:, 2::2, 0] / (states[:, 2::2] - states[:, :1])
    np.testing.assert_allclose(alpha, alpha[..., :1] * np.ones(DX))
    assert 0.0 <= alpha.min() < 0.2 and MISTAKEN - 0.2 < alpha.max() <= MISTAKEN


def test_another_way_is_taken_where_it_spares_much():
    costs = np.array([[10.0, 9.0, 9.5], [10.0, 12.0, 8.0], [-10.0, -11.0, -12.0], [1.0, 0.7, 0.6]])
    lost = np.zeros((4, 3), dtype=bool)
    assert chosen_tries(costs, lost).tolist() == [0, 5, 8, 11]
    # Who got lost does not count, unless it is the student's own way.
    lost.flat[[3, 5, 11]] = True
    assert chosen_tries(costs, lost).tolist() == [0, 3, 8, 10]


def still(x: np.ndarray) -> np.ndarray:
    return np.zeros((len(x), DU))


@pytest.mark.parametrize(("before", "length"), [([], 3), ([10.0], 5), ([-3.0, 5.0], 4)])
def test_imagined_trials_are_lost_beyond_all_that_was_seen(before, length):
    """From 1 to 2, 4, and 8 is beyond; but not if one was, or came, as far before."""
    model = linear(2.0 * np.eye(DX), B)
    known = np.zeros((len(before), DX + DU))
    known[:, 0] = before
    model = shown(model, known, known[:, :DX])
    if length == 4:  # and came back
        model = replace(model, z=np.vstack([known, 8.0 * np.eye(1, DX + DU)]))
        model = replace(model, change=np.vstack([model.change, -8.0 * np.eye(1, DX)]))
    seen, lost = imagine(model, still, np.array([[1.0, 0.0, 0.0]]), T, BOUNDS)
    assert lost.all() and seen.length[0, 0] == length
    assert np.abs(seen.X).max() == 2.0 ** (length - 1)


def test_what_is_no_number_is_lost():
    starts = np.array([[1.0, 0.0, 0.0]])
    seen, lost = imagine(linear(np.nan * np.eye(DX), B), still, starts, T, BOUNDS)
    assert lost.all() and seen.length[0, 0] == 1 and np.isfinite(seen.X).all()


@pytest.mark.parametrize("starts", [[0.5], [0.5, 0.001]])
def test_imagined_trials_end_where_episodes_do(starts):
    """Above 1.5, and rest in the state that ended them; those below go on."""
    x = np.array(starts)[:, None] * np.eye(1, DX)
    model = linear(1.2 * np.eye(DX), B)
    seen, lost = imagine(model, still, x, T, BOUNDS, ended=lambda x: x[:, 0] > 1.5)
    assert seen.length[:, 0].tolist() == [7, T][: len(starts)] and not lost.any()
    times = np.minimum(np.arange(T), [[7], [T]])[: len(starts)]
    np.testing.assert_allclose(seen.X[:, 0, :, 0], x[:, :1] * 1.2**times)


def test_a_fall_beyond_all_that_was_seen_is_an_end():
    """From 1 to 2, 4, and the 8 that is beyond is a fall: at 6, which is as far as states go."""
    starts = np.array([[1.0, 0.0, 0.0]])
    model = linear(2.0 * np.eye(DX), B)
    seen, lost = imagine(model, still, starts, T, BOUNDS, ended=lambda x: x[:, 0] > 5.0)
    assert not lost.any() and seen.length[0, 0] == 3
    assert seen.X[0, 0, :5, 0].tolist() == [1.0, 2.0, 4.0, 6.0, 6.0]


def test_what_a_student_is_to_want_is_beyond_the_bounds_but_not_far(rng):
    seen = trials(rng)
    mean = 10.0 * rng.normal(size=seen.U.shape)
    batch = with_targets_in_reach(Batch(seen, None, (mean, np.ones((6, 1, T, DU, DU)))), BOUNDS)
    assert batch.targets is not None
    middle, half = 0.5 * (LOW + HIGH), 0.5 * (HIGH - LOW)
    inside = np.abs(mean - middle) < half
    np.testing.assert_array_equal(batch.targets[0][inside], mean[inside])
    assert np.abs((batch.targets[0] - middle) / half).max() == pytest.approx(1.0 + BEYOND)


def test_the_derivative_of_a_student_is_that_of_finite_differences(rng):
    policy = GPS("MlpPolicy", "Toy/PointMass-v0", seed=0).policy
    x = rng.normal(size=(7, 4))
    exact = action_jacobian(policy, x)
    assert exact.shape == (7, 2, 4)

    def act(x: np.ndarray) -> np.ndarray:
        with th.no_grad():
            return policy.action_mean(policy.extract_features(th.from_numpy(x).float())).numpy()

    for i in range(4):
        step = 1e-2 * np.eye(4)[i]
        secant = (act(x + step) - act(x - step)) / 2e-2
        np.testing.assert_allclose(exact[..., i], secant, atol=2e-3)


Worth = Callable[[np.ndarray], float]  # what trials from some starts cost in the mean


def box(n: int) -> spaces.Box:
    return spaces.Box(-10.0, 10.0, (n,), np.float32)


def after_practice(
    model: ChangeModel,
    cost: CostFunction,
    limit: float,
    options: ImaginationOptions,
    steps: int,
    rng: np.random.Generator,
    seed: int = 0,
    ended: Ended | None = None,
) -> tuple[Worth, Worth, float]:
    """A student that has learned nothing, after practice.

    :param limit: of the actions
    :return: its cost from given starts; the same before; what practice said that it costs
    """
    th.manual_seed(seed)
    policy = MlpPolicy(box(DX), box(DU), lambda _: 1e-3)
    student = Student(policy, read_state, StudentOptions(trust_radius=100.0))
    bounds = np.full(DU, -limit), np.full(DU, limit)
    teachers = Teachers(
        random_controller(1, T, DX, DU, 0.1),
        DifferentiableCost(cost),
        MirrorDescent(),
        TeacherOptions(min_eta=0.002, min_action_std=0.05),
    )
    teachers.learned = model
    untrained = copy.deepcopy(policy)

    def worth(starts: np.ndarray, policy: MlpPolicy = policy) -> float:
        seen, _ = imagine(model, partial(acts, policy), starts, T, bounds)
        return float(trajectory_costs(teachers.cost, seen).mean())

    rounds: list[int] = []
    predicted = practise(
        student,
        teachers,
        bounds,
        T,
        options,
        rng,
        lambda: rounds.append(1),
        ended,
        steps=(steps, 0),
        learning_rate=3e-3,
    )
    assert len(rounds) == options.imagined_rounds
    return worth, lambda starts: worth(starts, untrained), predicted


def test_a_student_that_has_learned_nothing_becomes_the_optimal_one_by_practice(rng):
    """Riccati's, from starts that it has not been in."""
    model = shown(linear(A, B), rng.normal(size=(200, DX + DU)), rng.normal(size=(6, DX)))

    def cost(x: th.Tensor, u: th.Tensor, t: th.Tensor) -> th.Tensor:
        return x.square().sum(-1) + 0.1 * u.square().sum(-1)

    P = np.eye(DX)  # of the last step; no action pays there any more
    for _ in range(T - 1):
        riccati = np.linalg.solve(0.1 * np.eye(DU) + B.T @ P @ B, B.T @ P @ A)
        P = np.eye(DX) + A.T @ P @ (A - B @ riccati)
    starts = rng.normal(size=(50, DX))
    optimal = float(np.einsum("mx,xy,my->m", starts, P, starts).mean())
    options = ImaginationOptions(imagined_rounds=8, imagined_conditions=40)
    after, before, predicted = after_practice(model, cost, 10.0, options, 300, rng)
    assert optimal < after(starts) < 1.05 * optimal < 0.5 * before(starts)
    assert 0.3 * optimal < predicted < 3.0 * optimal  # other starts


@pytest.mark.parametrize("aware", [True, False])
def test_a_student_learns_what_is_best_within_its_bounds(aware, rng, monkeypatch):
    """A mass that is to be brought to rest by no more than a force: best by a dense bounded QP.

    Teachers that know nothing of the bounds plan with more, and brake too early.
    """
    if not aware:
        monkeypatch.setattr(imagination, "within_bounds", lambda fit, bounds: fit)
    A = np.array([[1.0, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5]])
    B = np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]])
    first, starts = rng.uniform(-1.0, 1.0, (20, DX)), rng.uniform(-1.0, 1.0, (50, DX))
    model = shown(linear(A, B), rng.normal(size=(200, DX + DU)), first)

    def cost(x: th.Tensor, u: th.Tensor, t: th.Tensor) -> th.Tensor:
        return x[:, 0].square() + 0.01 * x[:, 2].square() + 1e-3 * u.square().sum(-1)

    # x_t = A^t x_0 + sum_s A^(t-1-s) B u_s
    power = [np.linalg.matrix_power(A, t) for t in range(T)]
    response = np.zeros((T, DX, T, DU))
    for t in range(T):
        for s in range(t):
            response[t, :, s] = power[t - 1 - s] @ B
    root = np.array([1.0, 0.0, 0.1])  # of the cost of a state
    rows = (root[:, None, None] * response).reshape(T * DX, T * DU)
    rows = np.concatenate([rows, np.sqrt(1e-3) * np.eye(T * DU)])
    best = []
    for start in starts:
        free = (root * (np.stack(power) @ start)).reshape(-1)
        aim = np.concatenate([-free, np.zeros(T * DU)])
        best.append(2.0 * lsq_linear(rows, aim, bounds=(-1.0, 1.0)).cost)
    optimal = float(np.mean(best))
    options = ImaginationOptions(10, imagined_conditions=40, imagined_tries=1)
    after, before, _ = after_practice(model, cost, 1.0, options, 300, rng)
    learned = after(starts)
    assert optimal < learned < 0.3 * before(starts)
    assert (learned < 1.01 * optimal) == aware


@pytest.mark.parametrize(("tries", "seed"), [(1, 2), (16, 1), (16, 2)])
def test_who_tries_finds_the_deeper_of_two_wells(tries, seed):
    """A teacher goes down where it is; who departs from that goes where it leads.

    Without, three of four seeds that were looked at stay in the flat one, all or in part.
    """
    rng = np.random.default_rng(seed)
    z = rng.uniform(-1.5, 1.5, size=(200, DX + DU))
    model = shown(linear(np.eye(DX), 0.1 * np.eye(DX, DU)), z, z[:50, :DX])

    def cost(x: th.Tensor, u: th.Tensor, t: th.Tensor) -> th.Tensor:
        deep, flat = (th.exp(-2.0 * (x[:, 0] - well).square()) for well in (1.0, -1.0))
        return 1.0 - deep - 0.5 * flat + 0.01 * u.square().sum(-1)

    starts = np.linspace([-1.0, 0.0, 0.0], [-0.2, 0.0, 0.0], 20)  # nearer to the flat one
    options = ImaginationOptions(15, imagined_conditions=40, imagined_tries=tries)
    after, _, _ = after_practice(model, cost, 1.0, options, 200, rng, seed)
    stays = 0.5 * T
    if tries == 1:
        assert after(starts) > 0.85 * stays
    else:
        assert after(starts) < 0.6 * stays


def test_what_is_learned_from_is_what_was_tried(rng, monkeypatch):
    """From a state that was seen; the others that it is taken for are such states as well."""
    model = shown(linear(A, B), rng.normal(size=(7, DX + DU)), rng.normal(size=(5, DX)))
    known, rounds, fits = [], [], []

    def detoured(states, *others):
        known.append(states)
        return detours(states, *others)

    def imagined(model, act, starts, steps, bounds, mistakes, pushes, ended):
        seen, lost = imagine(model, act, starts, steps, bounds, mistakes, pushes, ended)
        wanted = act((seen.X[:, 0] + mistakes).reshape(-1, DX)).reshape(pushes.shape) + pushes
        rounds.append((starts, wanted, seen, lost))
        return seen, lost

    def fitted(seen, controller, *others):
        fits.append((seen, controller))
        return fit_about(seen, controller, *others)

    monkeypatch.setattr("sb3_gps.imagination.detours", detoured)
    monkeypatch.setattr("sb3_gps.imagination.imagine", imagined)
    monkeypatch.setattr("sb3_gps.imagination.fit_about", fitted)
    target = lambda x, u, t: (x[:, 0] - 1.0).square() + 0.1 * u.square().sum(-1)  # noqa: E731
    M, tries = 40, 6
    options = ImaginationOptions(3, imagined_conditions=M, imagined_tries=tries)
    over = lambda x: x[:, 0] > 0.9  # noqa: E731
    _, _, predicted = after_practice(model, target, 0.5, options, 50, rng, ended=over)
    for states, (starts, *_) in zip(known, rounds, strict=True):
        np.testing.assert_array_equal(starts.reshape(M, tries, DX), states[:, :1].repeat(tries, 1))
        for half, pool in ((states[: M // 2], model.first), (states[M // 2 :], model.z[:, :DX])):
            assert (half[..., None, :] == pool).all(axis=-1).any(axis=-1).all()

    def costs_of(seen: Trajectories) -> np.ndarray:
        return trajectory_costs(DifferentiableCost(target), seen).reshape(M, tries)

    assert predicted == pytest.approx(costs_of(rounds[-1][2])[:, 0].mean())
    # A student that has learned nothing does better on some other ways.
    (_, wanted, seen, lost), (chosen, controller) = rounds[0], fits[0]
    index = chosen_tries(costs_of(seen), lost.reshape(M, tries))
    # Some end early, near the target, where resting is cheap: they are not lost.
    assert seen.ended_early[index[index % tries > 0]].any() and not lost.any()
    assert 0 < (index % tries > 0).sum() < M
    np.testing.assert_array_equal(chosen.X, seen.X[index])
    done = np.einsum("mtux,mtx->mtu", controller.K, chosen.X[:, 0]) + controller.k
    most = 0.5 * (1.0 + BEYOND)
    assert np.abs(wanted[index]).max() > most  # pushes go farther, which changes nothing
    np.testing.assert_allclose(done, np.clip(wanted[index], -most, most), atol=1e-5)


PRACTICE = dict(
    QUICK, sampling="global", prior="network", min_eta=0.002, update="mdgps", iterations=4
)


def test_a_run_practises_where_its_model_foresees():
    env = make_vec_env("Toy/PointMass-v0", env_kwargs=dict(init_noise=0.3))
    gps = GPS("MlpPolicy", env, imagined_rounds=2, imagined_conditions=10, **PRACTICE).learn()
    steps = [row["gps/imagined_steps"] for row in gps.history]
    assert steps[0] == 0  # the first trials have not been foreseen by anybody
    assert steps[-1] == HORIZON
    practised = [step > 0 for step in steps]
    assert [np.isfinite(row["gps/imagined_cost"]) for row in gps.history] == practised
    assert gps.num_timesteps == 4 * 4 * HORIZON  # those of the real trials
    assert gps.seconds["imagination"] > 0
    # What the real trials teach is to stay as practice left the student.
    assert gps.unfinished is not None
    gps.unfinished.restore(gps.policy)
    (batch,) = gps.batches[-1:]
    assert batch.targets is not None
    actions = acts(gps.policy, batch.samples.X.reshape(-1, 4))
    np.testing.assert_allclose(batch.targets[0].reshape(-1, 2), actions)


class Alike(Rewarded):
    """Every step is paid alike, wherever it is."""

    def step(self, action: np.ndarray) -> Any:
        observation, _, *rest = super().step(action)
        return observation, 1.0, *rest


class WithCost(Rewarded):
    """Rewarded alike, but what is minimised is a cost."""

    cost = staticmethod(cost)


@pytest.mark.parametrize(
    ("kind", "practises"), [(Alike, False), (Rewarded, True), (WithCost, False)]
)
def test_where_episodes_end_early_there_is_practice_if_rewards_tell_the_ends(
    kind, practises, monkeypatch
):
    rules = []

    def practised(*args, ended, **others):
        rules.append(ended)
        return practise(*args, ended=ended, **others)

    monkeypatch.setattr("sb3_gps.gps.practise", practised)
    env = make_vec_env(lambda: TimeLimit(kind(init_noise=0.1), HORIZON))
    options = dict(PRACTICE, initial_std=1.0, imagined_horizon=10, imagined_conditions=10)
    gps = GPS("MlpPolicy", env, horizon=HORIZON, imagined_rounds=1, **options).learn()
    assert gps.teachers.learned.ended_early
    assert any(row["gps/imagined_steps"] for row in gps.history) == practises == bool(rules)
    # Imagined trials end where those did.
    assert all(ended(gps.learned_cost.ends).mean() > 0.5 for ended in rules)


@pytest.mark.parametrize(
    "options", [{"sampling": "teacher"}, {"prior": "pooled"}, {"dynamics": "mujoco"}]
)
def test_it_needs_the_model_of_all_trials(options):
    wrong = {**PRACTICE, "imagined_rounds": 2, **options}
    with pytest.raises(ValueError, match=r"imagined_rounds needs .* got sampling="):
        GPS("MlpPolicy", "Toy/PointMass-v0", **wrong)


def test_it_needs_a_student_that_sees_the_state():
    gps = GPS("MlpPolicy", "Toy/PositionOnly-v0", imagined_rounds=2, **PRACTICE)
    with pytest.raises(ValueError, match=r"imagined_rounds needs a student that sees the state"):
        gps.learn()
    assert gps.num_timesteps == 0
