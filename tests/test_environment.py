"""What is taken from an environment, in which order, and what is refused."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv
from toy_envs import HORIZON, ImagePointMass, PointMass, PositionOnly, cost

from sb3_gps.environment import (
    check_spaces,
    describe_task,
    resolve_conditions,
    resolve_cost,
    resolve_horizon,
    resolve_state,
)

BOX = spaces.Box(-1, 1, (3,), np.float32)
DICT = spaces.Dict({"state": BOX, "other": spaces.Box(-1, 1, (2,), np.float32)})
OBS = {"state": np.arange(3.0), "other": np.arange(2.0)}
INFO = {"state": np.full(4, 7.0), "also": np.full(5, 8.0)}


def vec(**kwargs) -> DummyVecEnv:
    return DummyVecEnv([lambda: gym.make("Toy/PointMass-v0", **kwargs)])


def test_order_in_which_the_state_is_looked_for():
    def read(state, space, obs, info):
        return resolve_state(state, space, info)(obs, info).tolist()

    assert read(lambda obs, info: np.ones(1), DICT, OBS, INFO) == [1.0]
    assert read("also", DICT, OBS, INFO) == [8.0] * 5
    assert read("other", DICT, OBS, INFO) == [0.0, 1.0]
    assert read("state", DICT, OBS, INFO) == [7.0] * 4  # info before the observation
    assert read(None, DICT, OBS, INFO) == [7.0] * 4
    assert read(None, DICT, OBS, {}) == [0.0, 1.0, 2.0]
    assert read(None, BOX, np.arange(3.0), {}) == [0.0, 1.0, 2.0]


def test_state_errors_name_what_there_is():
    with pytest.raises(ValueError, match=r"'joints'.*\['also', 'state'\].*\['other', 'state'\]"):
        resolve_state("joints", DICT, INFO)
    image = spaces.Box(0, 255, (36, 36, 3), np.uint8)
    with pytest.raises(ValueError, match=r"needs the full state.*pass `state=`"):
        resolve_state(None, image, {"time": 0.0})
    with pytest.raises(ValueError, match="no 'state' in this step"):
        resolve_state(None, BOX, INFO)(np.zeros(3), {})


def test_the_cost_argument_goes_before_the_attribute():
    env = vec()
    assert resolve_cost(None, env, 4, 2).function is cost

    def mine(x, u, t):
        return x.sum(-1)

    assert resolve_cost(mine, env, 4, 2).function is mine
    without = DummyVecEnv([lambda: gym.make("Pendulum-v1")])
    assert resolve_cost(None, without, 3, 1) is None  # learned from the rewards


def test_conditions_are_options_or_seeds():
    env = vec(num_conditions=3)
    assert [s.options for s in resolve_conditions(None, env, 5)] == [
        {"condition": m} for m in range(3)
    ]
    assert len(resolve_conditions(2, env, 5)) == 2
    for bad in (0, 4):
        with pytest.raises(ValueError, match=rf"1\.\.3.*got {bad}"):
            resolve_conditions(bad, env, 5)
    plain = DummyVecEnv([lambda: gym.make("Pendulum-v1")])
    starts = resolve_conditions(3, plain, 5)
    assert [s.seed for s in starts] == [5, 6, 7]
    assert all(s.options == {} for s in starts)


def test_horizon():
    assert resolve_horizon(None, vec()) == HORIZON
    assert resolve_horizon(7, vec()) == 7
    unregistered = DummyVecEnv([PointMass])
    assert resolve_horizon(7, unregistered) == 7
    for horizon, env in ((None, unregistered), (1, vec())):
        with pytest.raises(ValueError, match=r"fixed horizon.*pass `horizon=`"):
            resolve_horizon(horizon, env)


@pytest.mark.parametrize("env_class", [PointMass, PositionOnly, ImagePointMass])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_describe_task(env_class, n_envs):
    env = DummyVecEnv([lambda: env_class(num_conditions=4) for _ in range(n_envs)])
    task = describe_task(env, state=None, cost=None, conditions=None, horizon=HORIZON, seed=0)
    assert (task.M, task.dU, task.horizon) == (4, 2, HORIZON)
    assert task.initial_states.shape == (4, 4)
    np.testing.assert_array_equal(task.initial_states[0], [1.0, 0.6, 0.0, 0.0])
    assert len(np.unique(task.initial_states, axis=0)) == 4
    assert task.blind == task.random_poses == (env_class is ImagePointMass)


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        (BOX, spaces.Discrete(3), "got Discrete.*discrete actions"),
        (BOX, spaces.Box(-1, 1, (2, 2), np.float32), "one-dimensional Box"),
        (BOX, spaces.Box(-np.inf, 1, (2,), np.float32), "finite action bounds.*TransformAction"),
        (BOX, spaces.Box(np.array([-1, 0]), np.array([1, 0]), dtype=np.float32), r"at \[1\] have"),
        (spaces.Dict({"a": spaces.Dict({"b": BOX})}), BOX, r"\['a'\].*FlattenObservation"),
        (spaces.Dict({"a": BOX, "n": spaces.Discrete(2)}), BOX, r"\['n'\]"),
        (spaces.Discrete(4), BOX, "Box or a Dict of Boxes"),
        (spaces.Tuple((BOX, BOX)), BOX, "Box or a Dict of Boxes"),
    ],
    ids=["discrete", "matrix", "infinite", "fixed", "nested", "mixed", "discrete obs", "tuple obs"],
)
def test_wrong_spaces(observation, action, message):
    with pytest.raises(ValueError, match=message):
        check_spaces(observation, action)
