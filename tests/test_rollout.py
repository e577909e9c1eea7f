"""Episodes are what was asked for, whatever the number of workers."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv
from toy_envs import HORIZON, STARTS, ImagePointMass, PointMass, Rewarded

from sb3_gps.environment import InfoState
from sb3_gps.rollout import (
    EpisodeLengthError,
    NotFiniteError,
    Start,
    StopTraining,
    random_poses,
    run_episodes,
)


def make(env_class=PointMass, horizon: int = HORIZON, **kwargs):
    return lambda: TimeLimit(env_class(**kwargs), horizon)


def dummy(n: int, **kwargs) -> DummyVecEnv:
    return DummyVecEnv([make(**kwargs) for _ in range(n)])


def spring(observation, x, t, episodes):
    return -2.0 * x[:, :2] - x[:, 2:] + 0.01 * episodes[:, None]


def run(env, E=4, actor=spring, horizon=HORIZON, **kwargs):
    starts = [Start({"condition": m}, seed=m) for m in range(E)]
    kwargs = {"keep_observations": True, **kwargs}
    return run_episodes(env, starts, actor, horizon, InfoState("state"), **kwargs)


@pytest.mark.parametrize("n_envs", [2, 3, 4, 5])
def test_workers_do_not_matter(n_envs):
    """5 workers for 4 episodes: what fills up the round is not recorded."""
    alone, together = (
        run(dummy(n, init_noise=0.1), horizon=HORIZON, on_step=None) for n in (1, n_envs)
    )
    for name in ("X", "U", "rewards", "success", "observations"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(together, name))
    assert alone.X.shape == (4, HORIZON, 4)


def test_workers_in_processes():
    env = SubprocVecEnv([make(init_noise=0.1)] * 2, start_method="forkserver")
    try:
        there = run(env, E=3)
    finally:
        env.close()
    here = run(dummy(1, init_noise=0.1), E=3)
    np.testing.assert_array_equal(there.X, here.X)


def test_states_are_those_before_the_actions_and_actions_are_clipped():
    episodes = run(dummy(1))
    np.testing.assert_array_equal(episodes.X[:, 0, :2], STARTS[:4])
    assert (episodes.X[:, 0, 2:] == 0.0).all()
    assert np.abs(episodes.U).max() == 1.0
    reward = -((episodes.X[..., :2] ** 2).sum(-1) + 0.1 * (episodes.X[..., 2:] ** 2).sum(-1))
    reward -= 0.02 * (episodes.U**2).sum(-1)
    np.testing.assert_allclose(episodes.rewards, reward, atol=1e-6)
    np.testing.assert_allclose(episodes.observations, episodes.X, atol=1e-6)


def test_by_condition_keeps_the_order():
    starts = [Start({"condition": m}) for m in np.repeat(np.arange(3), 2)]
    episodes = run_episodes(dummy(2), starts, spring, HORIZON, InfoState("state"), True)
    samples, observations = episodes.by_condition(3)
    assert samples.X.shape == (3, 2, HORIZON, 4) and observations.shape == (3, 2, HORIZON, 4)
    np.testing.assert_array_equal(samples.X[:, 0, 0, :2], STARTS[:3])


def test_image_observations_are_kept_or_not():
    env = dummy(2, env_class=ImagePointMass)
    kept = run(env, E=3).observations
    assert kept["image"].shape == (3, HORIZON, 36, 36, 3) and kept["image"].dtype == np.uint8
    assert run(env, E=3, keep_observations=False).observations is None


def test_an_episode_that_is_truncated_before_the_horizon():
    with pytest.raises(EpisodeLengthError, match=r"expected episodes of 15 steps.*horizon=") as e:
        run(dummy(2, horizon=5))
    assert e.value.episode == 0


@pytest.mark.parametrize("n_envs", [1, 3])
def test_longer_episodes_are_cut(n_envs):
    """Each trial begins where it was asked to, and not where the last one was cut."""
    whole, cut = run(dummy(n_envs)), run(dummy(n_envs, horizon=HORIZON + 7))
    for name in ("X", "U", "rewards", "length"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name))
    assert np.isfinite(cut.success).all() and (cut.length == HORIZON).all()


@pytest.mark.parametrize("n_envs", [1, 3])
def test_an_episode_that_ends_early_rests_in_its_last_state(n_envs):
    """The mass of episode 1 is pushed out of the disc; its environment begins another episode."""

    def push(observation, x, t, episodes):
        return np.where(episodes[:, None] == 1, [[1.0, 1.0]], spring(None, x, t, episodes))

    seen = []

    def hook(scope):
        seen.append(scope["real"].copy())
        return True

    env = dummy(n_envs, env_class=Rewarded)
    episodes = run(env, E=3, actor=push, on_step=hook)
    end = episodes.length[1]
    assert 1 < end < HORIZON and episodes.length[[0, 2]].tolist() == [HORIZON, HORIZON]
    X, last = episodes.X[1], episodes.X[1, end]
    assert np.linalg.norm(X[end - 1, :2]) <= Rewarded.radius < np.linalg.norm(last[:2])
    assert (X[end:] == last).all() and (episodes.U[1, end:] == 0).all()
    np.testing.assert_allclose(episodes.observations[1, end:], X[end:], atol=1e-6)
    assert (episodes.rewards[1, :end] != 0).all() and (episodes.rewards[1, end:] == 0).all()
    assert episodes.success.tolist()[1] == 0.0 and not np.isnan(episodes.success).any()
    # The others are as they are alone, and nobody counts what follows the end as theirs.
    alone = run(dummy(1, env_class=Rewarded), E=3, actor=push)
    np.testing.assert_array_equal(alone.X, episodes.X)
    assert sum(real.sum() for real in seen) == episodes.length.sum()
    samples, _ = episodes.by_condition(3)
    assert samples.running.sum() == episodes.length.sum()
    assert samples.running[1, 0].tolist() == [t < end for t in range(HORIZON)]


def test_a_round_stops_when_all_of_its_episodes_have_ended():
    def push(observation, x, t, episodes):
        return np.ones((len(x), 2))

    steps = []
    episodes = run(
        dummy(2, env_class=Rewarded), E=2, actor=push, on_step=lambda scope: steps.append(1) or True
    )
    assert len(steps) == episodes.length.max() < HORIZON


def test_nan_state_and_action_stop_at_the_step():
    with pytest.raises(NotFiniteError, match=r"finite state.*nan.*step 4") as e:
        run(dummy(2, fault="nan_state"))
    assert e.value.episode == 1

    def broken(observation, x, t, episodes):
        return np.where((t == 6) & (episodes == 2)[:, None], np.nan, spring(None, x, t, episodes))

    with pytest.raises(NotFiniteError, match=r"finite action.*step 6") as e:
        run(dummy(2), actor=broken)
    assert e.value.episode == 2


def test_a_hook_stops_at_once_and_sees_what_callbacks_read():
    seen = []

    def hook(scope):
        assert {"new_obs", "rewards", "dones", "infos"} <= scope.keys()
        seen.append(scope["t"])
        return len(seen) < 3

    with pytest.raises(StopTraining):
        run(dummy(2), on_step=hook)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("n_envs", [1, 3])
def test_random_poses_are_exactly_as_many(n_envs, rng):
    calls = []
    env = dummy(n_envs, env_class=ImagePointMass)
    observations, poses = random_poses(env, 7, rng, lambda done, total: calls.append((done, total)))
    assert observations["image"].shape == (7, 36, 36, 3) and poses.shape == (7, 3)
    assert len(np.unique(poses, axis=0)) == 7
    assert calls[-1] == (7, 7)
    # The same ones, and the generator behind them, for any number of environments.
    other = np.random.default_rng(0)
    again = random_poses(dummy(2, env_class=ImagePointMass), 7, other)
    np.testing.assert_array_equal(again[1], poses)
    assert rng.bit_generator.state == other.bit_generator.state


def test_random_poses_need_a_label(rng):
    with pytest.raises(ValueError, match=r"info\['pose'\].*pose_images=0"):
        random_poses(dummy(1), 2, rng, lambda done, total: None)
