"""The student's success while it learns: what is tried, when, and that the run stays as it is."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import DummyVecEnv
from toy_envs import HORIZON, QUICK, SMALL_POLICY, PointMass

from sb3_gps import GPS, StudentSuccessCallback
from sb3_gps.evaluation import evaluate_split, evaluate_starts

M = 4


def model(name: str = "PointMass", env: Any = None, **options: Any) -> GPS:
    images = name == "ImagePointMass"
    env = gym.make(f"Toy/{name}-v0", init_noise=0.05) if env is None else env
    extra = {"policy_kwargs": SMALL_POLICY} if images else {}
    policy = "CnnPolicy" if images else "MlpPolicy"
    return GPS(policy, env, **{**QUICK, **extra, **options})


class Rows(KVWriter):
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, key_values, key_excluded, step=0) -> None:
        self.rows.append(dict(key_values))

    def close(self) -> None:
        pass


@pytest.mark.parametrize("split", [None, "spatial"])
def test_what_is_recorded(split):
    log = Rows()
    gps = model(iterations=5)
    gps.set_logger(Logger(folder=None, output_formats=[log]))
    env = make_vec_env("Toy/PointMass-v0", n_envs=3)
    callback = StudentSuccessCallback(env, split=split, positions=6)
    gps.learn(callback=callback)
    # Iteration 0 has no student; then each is followed, and the last fit at the end.
    assert [row["trials"] for row in callback.rows] == [2 * M, 3 * M, 4 * M, 5 * M]
    keys = {"trials", "train"} | ({"validation"} if split else set())
    assert all(row.keys() == keys for row in callback.rows)
    assert callback.rows[-1]["train"] == 100.0
    for key, name in (("gps/student_success", "train"), ("gps/student_validation", "validation")):
        logged = [100 * row[key] for row in log.rows if key in row]
        wanted = [row[name] for row in callback.rows if name in row]
        np.testing.assert_allclose(logged, wanted, atol=0.01)
    # With the trials of the iteration that it precedes; the last one alone.
    logged = [row.get("gps/iteration") for row in log.rows if "gps/student_success" in row]
    assert logged == [3, 4, 5, None]
    last = evaluate_split(gps, env, "train", M)
    assert callback.rows[-1]["train"] == 100 * last.rate


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("PointMass", {"prior": "mixture"}),
        ("PointMass", {"sampling": "student", "step_rule": "global"}),
        ("ImagePointMass", {"update": "badmm"}),
    ],
)
def test_the_run_stays_as_it_is(name, options):
    alone = model(name, **options).learn()
    eval_env = gym.make(f"Toy/{name}-v0", init_noise=0.05)
    callback = StudentSuccessCallback(eval_env, repeats=2, split="spatial", positions=3)
    followed = model(name, **options).learn(callback=callback)
    assert len(callback.rows) > 1
    np.testing.assert_equal(followed.history, alone.history)
    assert (followed.trials, followed.num_timesteps) == (alone.trials, alone.num_timesteps)
    assert followed.rng.bit_generator.state == alone.rng.bit_generator.state
    weights = alone.policy.state_dict()
    assert all(th.equal(value, weights[key]) for key, value in followed.policy.state_dict().items())


def test_going_on_tries_what_is_new():
    gps = model(iterations=3)
    callback = StudentSuccessCallback("Toy/PointMass-v0", last=False)
    gps.learn(callback=callback)
    assert [row["trials"] for row in callback.rows] == [2 * M]
    gps.learn(callback=callback)
    assert [row["trials"] for row in callback.rows] == [2 * M, 3 * M, 4 * M, 5 * M]
    callback.last = True
    gps.learn(total_timesteps=1, callback=callback)
    gps.learn(total_timesteps=1, callback=callback)
    assert [row["trials"] for row in callback.rows][4:] == [6 * M, 7 * M, 8 * M]


class Seeded(PointMass):
    """No conditions: the reset seed decides where it begins."""

    @staticmethod
    def start(seed: int | None) -> np.ndarray:
        return np.random.default_rng(seed).uniform(-1.0, 1.0, 2)

    def __init__(self, starts: list[np.ndarray]) -> None:
        super().__init__()
        del self.num_conditions
        self.starts = starts

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options={})
        self.q = self.start(seed)
        if seed is not None:  # else a VecEnv's own reset at the end of an episode
            self.starts.append(self.q)
        return self.observe(), self.info()


def test_conditions_that_are_seeds():
    trained: list[np.ndarray] = []
    tried: list[np.ndarray] = []
    gps = model(env=TimeLimit(Seeded(trained), HORIZON), horizon=HORIZON, conditions=3)
    callback = StudentSuccessCallback(TimeLimit(Seeded(tried), HORIZON))
    gps.learn(callback=callback)
    np.testing.assert_array_equal(tried, [Seeded.start(m) for m in range(3)] * len(callback.rows))
    assert {tuple(q) for q in tried} <= {tuple(q) for q in trained}
    assert len(callback.rows) == 3


def test_repeats_are_episodes_of_their_own():
    gps = model(iterations=2).learn()
    env = make_vec_env("Toy/PointMass-v0", env_kwargs={"init_noise": 0.1})
    result = evaluate_starts(gps, env, gps.task.starts, repeats=3)
    assert len(np.unique(result.returns)) == 3 * M


def test_an_environment_of_its_own():
    env = gym.make("Toy/PointMass-v0")
    gps = model(env=env)
    for shared in (env, gps.get_env(), DummyVecEnv([lambda: env.unwrapped])):
        with pytest.raises(ValueError, match=r"environment of its own.*make another"):
            gps.learn(callback=StudentSuccessCallback(shared))


def test_an_environment_of_other_conditions():
    other = gym.make("Toy/PointMass-v0", num_conditions=3)
    with pytest.raises(ValueError, match=r"4 conditions that it is trained on.*with 3"):
        model().learn(callback=StudentSuccessCallback(other))


def test_success_that_is_not_given():
    class Silent(PointMass):
        def info(self):
            return {key: value for key, value in super().info().items() if key != "is_success"}

    callback = StudentSuccessCallback(TimeLimit(Silent(), HORIZON))
    with pytest.raises(ValueError, match="is_success"):
        model().learn(callback=callback)


@pytest.mark.parametrize("options", [{"repeats": 0}, {"positions": 0}])
def test_numbers_without_a_meaning(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be at least 1, got 0"):
        StudentSuccessCallback("Toy/PointMass-v0", **options)


def test_another_algorithm():
    ppo = PPO("MlpPolicy", gym.make("Toy/PointMass-v0"), n_steps=8, batch_size=8)
    with pytest.raises(ValueError, match=r"is for GPS, got PPO.*EvalCallback"):
        ppo.learn(8, callback=StudentSuccessCallback("Toy/PointMass-v0"))
