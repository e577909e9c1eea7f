"""Success on splits, counted over the episodes that were asked for."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv
from toy_envs import HORIZON, QUICK, PointMass

from sb3_gps import GPS
from sb3_gps.evaluation import evaluate_split


class Spring:
    """Pulls to the origin, as far as actions go; ``sign=-1`` pushes away."""

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        action = -2.5 * observation[:, :2] - 1.5 * observation[:, 2:]
        return np.clip(self.sign * action, -1.0, 1.0), state


@pytest.mark.parametrize("n_envs", [1, 4])
def test_success_is_the_tasks_own(n_envs):
    env = make_vec_env("Toy/PointMass-v0", n_envs=n_envs)
    good = evaluate_split(Spring(), env, "train", positions=4)
    bad = evaluate_split(Spring(-1.0), env, "train", positions=4)
    assert (good.rate, bad.rate) == (1.0, 0.0)
    assert good.success.dtype == bool and good.success.shape == (4,)
    assert (good.returns > bad.returns).all()


def test_repeats_differ_by_noise_and_seeds_repeat():
    env = make_vec_env("Toy/PointMass-v0", n_envs=2, env_kwargs={"init_noise": 0.1})
    first, again, other = (
        evaluate_split(Spring(), env, "spatial", positions=2, repeats=3, seed=seed)
        for seed in (0, 0, 1)
    )
    assert len(np.unique(first.returns)) == 6
    np.testing.assert_array_equal(first.returns, again.returns)
    assert (first.returns != other.returns).all()


def test_splits_and_first_position():
    env = make_vec_env("Toy/PointMass-v0")
    every = evaluate_split(Spring(), env, "spatial", positions=4).returns
    tail = evaluate_split(Spring(), env, "spatial", positions=2, first=2).returns
    np.testing.assert_array_equal(tail, every[2:])
    assert (every != evaluate_split(Spring(), env, "train", positions=4).returns).all()


def test_a_trained_model_succeeds():
    gps = GPS("MlpPolicy", gym.make("Toy/PointMass-v0"), **{**QUICK, "iterations": 6}).learn()
    result = evaluate_split(gps, make_vec_env("Toy/PointMass-v0", n_envs=2), "train", positions=4)
    assert result.rate == 1.0


def test_success_that_is_not_given():
    class Silent(PointMass):
        def info(self):
            return {}

    env = DummyVecEnv([lambda: TimeLimit(Silent(), HORIZON)])
    with pytest.raises(ValueError, match="is_success"):
        evaluate_split(Spring(), env, "train", positions=1, horizon=HORIZON)
