"""The smooth regression, and what comes of it: a learned cost, dynamics of all transitions."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch as th

from sb3_gps.core.fitting import held_out_error
from sb3_gps.core.types import Trajectories
from sb3_gps.dynamics import HUBER, Network, Pooled
from sb3_gps.learned_cost import LearnedCost
from sb3_gps.regression import POINTS, STEPS, LogisticRegression, SmoothRegression

DX, DU = 3, 2


@pytest.fixture
def smooth(rng) -> SmoothRegression:
    """Fitted to something that no quadratic is."""
    z = rng.normal(size=(600, 3)) * [1.0, 0.2, 3.0] + [0.0, 5.0, -2.0]
    y = np.stack([np.sin(z[:, 0]) * z[:, 2], 40.0 * z[:, 1] ** 2], axis=1)
    model = SmoothRegression(3, 2, rng)
    model.fit(z, y, rng)
    return model


def test_it_learns_what_no_quadratic_is(smooth, rng):
    z = rng.normal(size=(200, 3)) * [1.0, 0.2, 3.0] + [0.0, 5.0, -2.0]
    y = np.stack([np.sin(z[:, 0]) * z[:, 2], 40.0 * z[:, 1] ** 2], axis=1)
    error = np.abs(smooth.predict(z) - y).mean(axis=0) / y.std(axis=0)
    assert (error < [0.1, 0.02]).all()


def test_its_jacobian_is_that_of_finite_differences(smooth, rng):
    z = rng.normal(size=(4, 5, 3)) + np.array([0.0, 5.0, -2.0])
    exact = smooth.jacobian(z)
    assert exact.shape == (4, 5, 2, 3)
    for i in range(3):
        step = 1e-5 * np.eye(3)[i]
        secant = (smooth.predict(z + step) - smooth.predict(z - step)) / 2e-5
        np.testing.assert_allclose(exact[..., i], secant, rtol=1e-6, atol=1e-6)


def test_its_quadratic_is_that_of_the_features(smooth, rng):
    standard = th.from_numpy(rng.normal(size=(7, 3)))
    features = th.cat([th.ones(7, 1), smooth.features(standard)], dim=1)
    expected = features @ smooth.coefficients
    np.testing.assert_allclose(smooth.quadratic(standard), expected, rtol=1e-12, atol=1e-12)


def test_inputs_and_outputs_that_never_change(rng):
    z = np.column_stack([rng.normal(size=50), np.full(50, 3.0)])
    model = SmoothRegression(2, 1, rng)
    model.fit(z, np.full((50, 1), -7.0), rng)
    np.testing.assert_allclose(model.predict(z), -7.0, atol=0.05)
    assert np.isfinite(model.jacobian(z)).all()


def test_a_robust_one_learns_what_is_between_the_shocks(rng):
    """Motion of an arm, but that one step in twenty meets something, and is thrown about."""
    z = rng.normal(size=(1500, 3))
    smooth = lambda z: np.stack([np.sin(z[:, 0]) * z[:, 2], z[:, 1] - z[:, 2]], axis=1)  # noqa: E731
    shocks = 20.0 * rng.normal(size=(1500, 2)) * (rng.random((1500, 1)) < 0.05)
    new, error = rng.normal(size=(300, 3)), {}
    for huber in (None, HUBER):
        model = SmoothRegression(3, 2, np.random.default_rng(1), huber)
        model.fit(z, smooth(z) + shocks, np.random.default_rng(1))
        error[huber] = np.median(np.abs(model.predict(new) - smooth(new)), axis=0)
    assert (error[HUBER] < 0.1).all()
    assert (error[HUBER] < 0.3 * error[None]).all()


def test_a_robust_one_is_exact_where_all_is_quiet(rng, monkeypatch):
    """A pole that stands in three steps of four, and else falls, by what no quadratic is."""
    quiet = rng.random(2000) < 0.75
    z = rng.normal(size=(2000, 3)) * np.where(quiet, 0.03, 1.0)[:, None]
    falls = lambda z: np.sin(2.0 * z[:, :1]) * np.exp(z[:, 1:2]) + np.abs(z[:, 2:]) ** 1.5  # noqa: E731
    new = 0.03 * rng.normal(size=(300, 3))

    def error(huber: float | None, steps: int) -> float:
        monkeypatch.setattr("sb3_gps.regression.STEPS", steps)
        model = SmoothRegression(3, 1, np.random.default_rng(1), huber)
        model.fit(z, falls(z), np.random.default_rng(1))
        return np.sqrt(np.square(model.predict(new) - falls(new)).mean())

    short = STEPS // 4
    coarse = error(0.1, short)
    assert coarse < error(None, short)
    assert error(HUBER, short) < 0.6 * coarse
    assert error(0.1, STEPS) < 0.6 * coarse


def test_a_pickle_predicts_and_goes_on_alike(smooth, rng):
    z = rng.normal(size=(30, 3))
    again = pickle.loads(pickle.dumps(smooth))
    np.testing.assert_array_equal(again.predict(z), smooth.predict(z))
    for model in (again, smooth):
        model.fit(z, z[:, :2], np.random.default_rng(1))
    np.testing.assert_array_equal(again.predict(z), smooth.predict(z))


# ---------------------------------------------------------------- rewards


def rewards_of(X: np.ndarray, U: np.ndarray) -> np.ndarray:
    return 4.0 - 10.0 * (X[..., 0] ** 2 + 0.3 * X[..., 0] * X[..., 1]) - 2.0 * (U**2).sum(-1)


def trials(rng: np.random.Generator, M: int = 4, T: int = 30) -> Trajectories:
    return Trajectories(rng.normal(size=(M, 1, T, DX)), rng.normal(size=(M, 1, T, DU)))


def test_a_quadratic_reward_is_found_with_its_derivatives(rng):
    cost, samples = LearnedCost(DX, DU, rng), trials(rng)
    assert np.isnan(cost.fit(samples, rewards_of(samples.X, samples.U), rng))
    new = trials(rng)
    assert cost.fit(new, rewards_of(new.X, new.U), rng) < 0.05
    t = np.broadcast_to(np.arange(30), new.X.shape[:3])
    value, gradient, hessian = cost.expand(new.X, new.U, t)
    np.testing.assert_allclose(value * cost.scale, -rewards_of(new.X, new.U), atol=1.5)
    slope = np.zeros_like(gradient)
    slope[..., 0] = 20.0 * new.X[..., 0] + 3.0 * new.X[..., 1]
    slope[..., 1] = 3.0 * new.X[..., 0]
    slope[..., DX:] = 4.0 * new.U
    assert np.abs(gradient * cost.scale - slope).mean() < 0.1 * np.abs(slope).mean()
    assert np.linalg.eigvalsh(hessian).min() > -1e-9
    # A quadratic goes on for ever; no step can pay more, or less, than any that was seen.
    far = cost.value(100.0 * new.X, new.U, t) * cost.scale
    assert far.min() >= -cost.rewards.max() and far.max() <= -cost.rewards.min()
    # What a trajectory did cost is what it was paid, not what the model makes of it.
    paid = rewards_of(new.X, new.U)
    np.testing.assert_allclose(cost.costs(paid) * cost.scale, -paid.sum(axis=-1))


def test_the_state_after_an_early_end_is_worth_nothing(rng):
    """+1 a step while |x| < 1: only what comes after the end tells the one from the other."""
    X = np.linspace(0.0, 2.0, 21)[None, None, :, None] * np.array([1.0, 0.0, 0.0])
    X = np.repeat(X, 6, axis=0) + 0.01 * rng.normal(size=(6, 1, 21, DX))
    alive = np.arange(21) < 10
    X[:, :, 11:] = X[:, :, [10]]
    samples = Trajectories(X, np.zeros((6, 1, 21, DU)), np.full((6, 1), 10))
    cost = LearnedCost(DX, DU, rng)
    cost.fit(samples, np.broadcast_to(1.0 * alive, (6, 1, 21)), rng)
    assert len(cost.z) == 6 * 10 and len(cost.ends) == 6  # no state after the end is a step
    states = np.array([[0.2, 0.0, 0.0], [0.8, 0.0, 0.0], [1.05, 0.0, 0.0], [1.6, 0.0, 0.0]])
    U, t = np.zeros((4, DU)), np.zeros(4)
    lived, _, ended, _ = -cost.scale * cost.value(states, U, t)
    assert lived > 0.8 and ended < 0.4
    # Plans see no cliff, but a slope that leads away from the end, steeper the nearer.
    _, gradient, hessian = cost.expand(states, U, t)
    assert (np.diff(gradient[:, 0]) > 0).all() and gradient[1, 0] > 0.1
    assert np.linalg.eigvalsh(hessian).min() > -1e-9


def test_an_end_that_is_paid_for_by_shorter_episodes_is_sought(rng):
    """-1 a step until |x| > 1: the same slope, the other way."""
    X = np.linspace(0.0, 2.0, 21)[None, None, :, None] * np.array([1.0, 0.0, 0.0])
    X = np.repeat(X, 6, axis=0) + 0.01 * rng.normal(size=(6, 1, 21, DX))
    X[:, :, 11:] = X[:, :, [10]]
    cost = LearnedCost(DX, DU, rng)
    samples = Trajectories(X, np.zeros((6, 1, 21, DU)), np.full((6, 1), 10))
    cost.fit(samples, np.broadcast_to(-1.0 * (np.arange(21) < 10), (6, 1, 21)), rng)
    near = np.array([[0.9, 0.0, 0.0]])
    _, gradient, _ = cost.expand(near, np.zeros((1, DU)), np.zeros(1))
    assert gradient[0, 0] < -0.1


def falling(rng: np.random.Generator) -> Trajectories:
    """Twelve trials that run away from the middle, to either side, and fall where |x| > 1."""
    side = np.repeat([1.0, -1.0], 6)[:, None, None, None]
    X = side * np.linspace(0.0, 2.0, 21)[:, None] * np.array([1.0, 0.0, 0.0])
    X = X + 0.01 * rng.normal(size=(12, 1, 21, DX))
    X[:, :, 11:] = X[:, :, [10]]
    return Trajectories(X, 0.1 * rng.normal(size=(12, 1, 21, DU)), np.full((12, 1), 10))


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_ends_count_as_far_as_rewards_do_not_tell_them(slope, rng):
    """5 a step, and 0 for the last; or less, the farther from the middle."""
    samples = falling(rng)
    paid = np.where(np.arange(21) < 9, 5.0 - slope * np.square(samples.X[..., 0]), 0.0)
    cost = LearnedCost(DX, DU, rng)
    assert cost.end_rule() is None  # none is known yet
    cost.fit(samples, paid, rng)
    assert len(cost.z) == 12 * 9 and cost.rewards.min() > 4.0  # without the cliff
    assert cost.untold == (1.0 if slope == 0.0 else 0.0)
    line = np.linspace(-1.2, 1.2, 49)[:, None] * np.array([1.0, 0.0, 0.0])
    ended = cost.end_rule()
    assert 0.8 < ended(cost.ends).mean() <= 0.95
    assert ended(line[[0, -1]]).all() and not ended(line[np.abs(line[:, 0]) < 0.85]).any()
    x = np.array([[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]])
    _, gradient, _ = cost.expand(x, np.zeros((2, DU)), np.zeros(2))
    away = gradient[:, 0] * cost.scale * [1.0, -1.0]
    if slope == 0.0:
        assert (away > 0.1).all()
    else:
        np.testing.assert_allclose(away, 2.0 * slope * 0.5, rtol=0.1)


def test_states_that_are_hard_to_tell_from_ends_are_none(rng):
    """Ends are where trials go on as well."""
    samples = falling(rng)
    X = samples.X.copy()
    X[:, :, 10:] = X[rng.permutation(12)][:, :, :1] + 0.01 * rng.normal(size=(12, 1, 11, DX))
    samples = Trajectories(X, samples.U, samples.length)
    cost = LearnedCost(DX, DU, rng)
    cost.fit(samples, np.where(np.arange(21) < 9, 5.0, 0.0) * np.ones((12, 1, 1)), rng)
    assert cost.end_rule()(cost.z[:, :DX]).mean() <= 0.02


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_a_fall_that_is_punished_more_than_steps_are_is_avoided(slope, rng):
    """-1 a step, or more the farther from the middle, and -100 for the fall."""
    samples = falling(rng)
    step = np.arange(21)
    paid = np.where(step < 9, -1.0 - slope * np.square(samples.X[..., 0]), -100.0 * (step == 9))
    cost = LearnedCost(DX, DU, rng)
    cost.fit(samples, paid, rng)
    assert cost.untold == 1.0 and cost.rewards.min() == -100.0
    x = np.array([[0.8, 0.0, 0.0], [-0.8, 0.0, 0.0]])
    _, gradient, _ = cost.expand(x, np.zeros((2, DU)), np.zeros(2))
    assert (gradient[:, 0] * [1.0, -1.0] > 0.0).all()


def test_what_is_paid_for_reaching_a_goal_is_learned(rng):
    samples = falling(rng)
    paid = np.where(np.arange(21) < 9, 1.0, 0.0) + 5.0 * (np.arange(21) == 9)
    cost = LearnedCost(DX, DU, rng)
    cost.fit(samples, np.broadcast_to(paid, (12, 1, 21)), rng)
    assert len(cost.z) == 12 * 10 and cost.rewards.max() == 5.0


def test_rewards_that_are_all_alike_have_a_scale(rng):
    cost, samples = LearnedCost(DX, DU, rng), trials(rng)
    cost.fit(samples, np.full((4, 1, 30), 3.0), rng)
    assert cost.scale == 1.0


def test_odds_of_what_can_be_told_apart_stay_finite(rng):
    x = rng.normal(size=(400, DX))
    event = np.square(x[:, 0]) + 0.5 * x[:, 1] > 1.5
    odds = LogisticRegression(DX)
    odds.fit(x, event)
    new = rng.normal(size=(400, DX))
    said = odds(th.from_numpy(new)).numpy()
    assert ((said > 0) == (np.square(new[:, 0]) + 0.5 * new[:, 1] > 1.5)).mean() > 0.95
    assert np.abs(said).max() < 100.0
    # It is the maximum of the penalised likelihood, both classes alike.
    weights = odds.coefficients.clone().requires_grad_()
    logits = weights[0] + odds.features(odds.standardised(th.from_numpy(x))) @ weights[1:]
    missed = th.nn.functional.softplus(th.from_numpy(np.where(event, -1.0, 1.0)) * logits)
    alike = missed[event].mean() + missed[~event].mean()
    (0.5 * POINTS * alike + 0.5 * weights[1:].square().sum()).backward()
    assert weights.grad.abs().max() < 1e-3


# ---------------------------------------------------------------- dynamics


def roll(rng: np.random.Generator, spread: float, M: int = 6, T: int = 25) -> Trajectories:
    """A hanging pendulum (angle, velocity) and a counter of nothing, under random torques."""
    X, U = np.zeros((M, 1, T, 3)), rng.normal(size=(M, 1, T, 2))
    x = spread * rng.normal(size=(M, 1, 3)) * [1.0, 1.0, 0.0]
    for t in range(T):
        X[:, :, t] = x
        angle, velocity, _ = np.moveaxis(x, -1, 0)
        velocity = velocity + 0.1 * (-3.0 * np.sin(angle) + U[:, :, t, 0])
        x = np.stack([angle + 0.1 * velocity, velocity, np.zeros_like(angle)], axis=-1)
    return Trajectories(X, U)


def test_a_network_is_the_better_prior_where_states_are_far_apart(rng):
    history = [roll(rng, 2.0) for _ in range(4)]
    network, learned = Network(strength=10.0, ridge=1e-6, min_variance=1e-8), None
    for i in range(len(history)):
        learned = network.learn(history[: i + 1], learned, rng)
    np.testing.assert_array_equal(learned.first, np.concatenate([h.X[:, 0, 0] for h in history]))
    pooled = Pooled(window=6, strength=10.0, ridge=1e-6, min_variance=1e-8)
    # The slope of x' in the angle, which depends on where the pendulum is.
    X = history[-1].X[:, 0, :-1]
    slope = -0.3 * np.cos(X[..., 0])
    error = {
        name: np.abs(model.local(history, given).F[..., 1, 0] - slope).mean()
        for name, model, given in (("network", network, learned), ("pooled", pooled, None))
    }
    assert error["network"] < 0.05 < 0.1 < error["pooled"]
    assert held_out_error(network.local(history, learned), history[-1]).mean() < 0.05


def test_local_models_of_single_trials_are_the_networks_own_derivatives(rng):
    """In other units too, where a coordinate varies by hundredths; but not where by noise alone."""
    big = roll(rng, 1.0)
    X = big.X * [1e-2, 1.0, 1.0]
    X[..., 2] = 1e-5 * rng.normal(size=X.shape[:-1])
    small = Trajectories(X, big.U)
    network = Network(strength=10.0, ridge=1e-6, min_variance=1e-8)
    learned = network.learn([small], None, rng)
    F = network.local([small], learned).F
    own = learned.jacobian(small.Z[:, 0, :-1])
    moved = [0, 1, 3, 4]
    np.testing.assert_allclose(F[..., moved], own[..., moved], rtol=0.05, atol=1e-3)
    assert (np.abs(F[..., 0, 0] - 1.0) < 0.1).all()  # the angle goes on from where it is
    assert (np.abs(F[..., 1, 2]) < 1e-3 * np.abs(own[..., 1, 2])).all()


def test_what_follows_the_end_of_an_episode_is_not_learned(rng):
    """Steps at rest after the end would say that nothing moves."""
    full = roll(rng, 0.3, M=12)
    length = np.full((12, 1), 15)
    X, U = full.X.copy(), full.U.copy()
    X[:, :, 15:], U[:, :, 15:] = X[:, :, [15]], 0.0
    ended = Trajectories(X, U, length)
    cut = Trajectories(X[:, :, :16], U[:, :, :16])
    pooled = Pooled(window=6, strength=10.0, ridge=1e-6, min_variance=1e-8)
    a, b = pooled.local([ended], None), pooled.local([cut], None)
    for name in ("F", "f", "Sigma"):
        np.testing.assert_allclose(getattr(a, name)[:, :6], getattr(b, name)[:, :6], atol=1e-9)
    # Beyond the end: as near it, so that a longer life can be planned.
    np.testing.assert_allclose(a.F[:, 20, 1, 0], -0.3, atol=0.05)
    np.testing.assert_allclose(a.F[:, 20, 1, 1], 1.0, atol=0.05)
    assert held_out_error(a, ended)[:, 15:].max() == 0.0
    network = Network(strength=10.0, ridge=1e-6, min_variance=1e-8)
    learned = network.learn([ended], None, rng)
    assert len(learned.z) == 12 * 15
    # An end is not forgotten, and none is made up.
    assert learned.ended_early and network.learn([full], learned, rng).ended_early
    assert not network.learn([full], None, rng).ended_early
