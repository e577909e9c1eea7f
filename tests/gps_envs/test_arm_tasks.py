"""What holds for every task on the arm: interface, state, reward, determinism, copies."""

import copy
import pickle
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import pytest
from arm_scripts import check_velocities
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from gps_envs import ArmEnv, PointCost

BLIND = {"image": False}


class Case(NamedTuple):
    """A task, starts that its robot cannot tell apart, and options that it refuses, with why."""

    name: str
    alike: list[dict]
    refused: list[tuple[dict, str]]


CASES = [
    Case(
        "ShapeCube",
        [{"condition": 0}, {"condition": 1}],
        [
            ({"colour": 1}, "available"),
            ({"condition": 25}, "0 to 24"),
            ({"condition": 1.0}, "integer"),
            ({"condition": -1, "split": "spatial"}, "at least 0"),
            ({"split": "test"}, "available"),
            ({"target": [0.09, 0.0]}, "0.08"),
            ({"target": [np.nan, 0.0]}, "0.08"),
            ({"target": [0.0]}, "0.08"),
            ({"image": 1}, "True or False"),
        ],
    ),
    Case(
        "CoatHanger",
        [{"condition": 0}, {"condition": 1}, {"condition": 2}],
        [
            ({"target": [0.11, 0.0]}, "0.1"),
            ({"target": [0.0, 0.01]}, "0.0"),
            ({"grasp": 0.4}, "0.305"),
            ({"condition": 10}, "0 to 9"),
        ],
    ),
    Case(
        "ToyHammer",
        [{"target": [x, 0.0], "grasp": grasp} for x in (-0.02, 0.04) for grasp in (-0.3, 0.0, 0.3)],
        [
            ({"condition": 36}, "0 to 35"),
            ({"target": [0.06, 0.0]}, "0.05"),
            ({"target": [0.0, 0.04]}, "0.035"),
            ({"grasp": 0.5}, "0.3927"),
        ],
    ),
    Case(
        "BottleCap",
        [{"target": [x, 0.02]} for x in (-0.08, 0.0, 0.04)],
        [
            ({"condition": 25}, "0 to 24"),
            ({"target": [0.09, 0.0]}, "0.08"),
            ({"grasp": 0.1}, "0.0"),
        ],
    ),
]
REFUSED = [(case.name, *refused) for case in CASES for refused in case.refused]

every_task = pytest.mark.parametrize("name", [case.name for case in CASES])


def made(name: str, **options) -> ArmEnv:
    env = gym.make(f"GPS/{name}-v0", **options).unwrapped
    assert isinstance(env, ArmEnv)
    return env


@every_task
@pytest.mark.gl
@pytest.mark.parametrize("split", ["train", "visual"])
def test_checkers(name, split):
    env = gym.make(f"GPS/{name}-v0", split=split, render_mode="rgb_array")
    check_env(env.unwrapped)
    sb3_check_env(env)


@every_task
@pytest.mark.parametrize("condition", [2, 3])
def test_state_velocities_and_relation_to_proprio(name, condition):
    env = made(name)
    rng = np.random.default_rng(0)
    observation, info = env.reset(seed=1, options={"condition": condition, **BLIND})
    state, proprio = info["state"], observation["proprio"]
    assert state[:14] == pytest.approx(proprio[:14], abs=1e-6)
    assert state[23:] == pytest.approx(proprio[23:], abs=1e-6)
    goal = info["pose"][:3] + env.goal_points
    assert state[14:23] == pytest.approx(info["pose"][3:] - goal.ravel(), abs=1e-6)
    for _ in range(20):
        _, _, _, _, info = env.step(rng.uniform(-1, 1, 7).astype(np.float32))
    check_velocities(env, info["state"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_proprio_is_blind_to_what_the_image_shows(case):
    env = made(case.name)
    resets = [env.reset(options={**options, **BLIND}) for options in case.alike]
    (first, shown), *others = resets
    assert all((first["proprio"] == other["proprio"]).all() for other, _ in others)
    assert all((shown["state"] != info["state"]).any() for _, info in others)


@every_task
def test_reward_is_minus_the_cost_before_the_action(name):
    env = gym.make(f"GPS/{name}-v0")
    _, info = env.reset(seed=0, options={"condition": 0, **BLIND})
    for t in range(100):
        u = np.full(7, 0.1 if t % 2 else -0.3, np.float32)
        x = info["state"]
        _, reward, terminated, truncated, info = env.step(u)
        assert reward == -env.unwrapped.cost(x, u.astype(np.float64), t)
        assert ("success" in info) == truncated == (t == 99)
        assert not terminated


@every_task
@pytest.mark.gl
@pytest.mark.parametrize("split", ["train", "visual"])
def test_same_seed_and_actions_same_everything(name, split):
    def episode(env):
        actions = np.random.default_rng(3).uniform(-1, 1, (10, 7)).astype(np.float32)
        observation, info = env.reset(seed=5)
        yield observation, info
        for action in actions:
            observation, _, _, _, info = env.step(action)
            yield observation, info

    envs = [made(name, split=split, init_noise=0.02) for _ in range(2)]
    list(episode(envs[1]))  # what went before leaves no trace
    for (o1, i1), (o2, i2) in zip(episode(envs[0]), episode(envs[1]), strict=True):
        assert (o1["image"] == o2["image"]).all()
        assert (o1["proprio"] == o2["proprio"]).all()
        assert (i1["state"] == i2["state"]).all()
        assert i1["state"] is not i2["state"]


@every_task
def test_pickle_and_deepcopy_in_mid_episode(name):
    env = made(name, cost=PointCost(lateral=2.0))
    env.reset(seed=0, options=BLIND)
    env.step(np.ones(7, np.float32))
    twins = [pickle.loads(pickle.dumps(env)), copy.deepcopy(env)]
    state = env.step(-np.ones(7, np.float32))[4]["state"]
    drawn = env.reset(options=BLIND)[1]["pose"]
    for twin in twins:
        assert (twin.step(-np.ones(7, np.float32))[4]["state"] == state).all()
        assert (twin.reset(options=BLIND)[1]["pose"] == drawn).all()


@pytest.mark.parametrize(("name", "options", "word"), REFUSED)
def test_bad_options(name, options, word):
    with pytest.raises(ValueError, match=word):
        made(name).reset(options=options)
