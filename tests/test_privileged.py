"""The state in training alone: who sees what, an asymmetric SAC, and an expert that is imitated."""

from __future__ import annotations

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecTransposeImage
from toy_envs import SMALL_NETWORK

from sb3_gps.dagger import dagger
from sb3_gps.evaluation import evaluate_starts
from sb3_gps.policies import MultiInputPolicy
from sb3_gps.privileged import AsymmetricSACPolicy, InfoObservation
from sb3_gps.rollout import Start

ENV = "Toy/ImagePointMass-v0"


def toy(n_envs: int = 1, **kwargs):
    return make_vec_env(ENV, n_envs, wrapper_class=partial(InfoObservation, **kwargs))


@pytest.mark.parametrize(
    ("kwargs", "parts"),
    [
        ({}, {"image", "velocity", "state"}),
        ({"images": False}, {"velocity", "state"}),
        ({"images": False, "vectors": False}, {"state"}),
        ({"key": "pose", "vectors": False}, {"image", "pose"}),
    ],
)
def test_parts_of_the_observation(kwargs, parts):
    env = InfoObservation(gym.make(ENV), **kwargs)
    observation, info = env.reset(seed=0)
    assert set(observation) == parts and observation in env.observation_space
    observation, *_, info = env.step(np.array([0.4, -0.2], np.float32))
    key = kwargs.get("key", "state")
    np.testing.assert_array_equal(observation[key], info[key].astype(np.float32))
    again = gym.make(env.spec)  # the spec says how it was made
    assert again.observation_space == env.observation_space


def test_images_that_nobody_sees_are_not_drawn():
    env = InfoObservation(gym.make(ENV), images=False)
    env.reset()
    assert env.unwrapped.options == {"image": False}


def test_a_missing_entry_is_named():
    with pytest.raises(ValueError, match=r"expected info\['force'\]"):
        InfoObservation(gym.make(ENV), key="force")


@pytest.fixture(scope="module")
def asymmetric():
    model = SAC(
        AsymmetricSACPolicy, toy(), learning_starts=20, batch_size=16, buffer_size=200, seed=0
    )
    return model.learn(60)


def random_observation(model, n: int, seed: int) -> dict[str, th.Tensor]:
    model.observation_space.seed(seed)
    samples = [model.observation_space.sample() for _ in range(n)]
    return {k: th.as_tensor(np.stack([s[k] for s in samples])) for k in samples[0]}


@pytest.mark.parametrize("changed", ["image", "velocity", "state"])
def test_the_actor_sees_no_state_and_the_critic_no_image(asymmetric, changed):
    one, other = (random_observation(asymmetric, 4, seed) for seed in (0, 1))
    mixed = {**one, changed: other[changed]}
    action = th.zeros(4, 2)
    with th.no_grad():
        acts = [asymmetric.actor(o, deterministic=True) for o in (one, mixed)]
        values = [th.cat(asymmetric.critic(o, action)) for o in (one, mixed)]
        targets = [th.cat(asymmetric.critic_target(o, action)) for o in (one, mixed)]
    assert th.equal(*acts) == (changed == "state")
    assert th.equal(*values) == th.equal(*targets) == (changed == "image")


def test_an_asymmetric_sac_is_saved_and_loaded(asymmetric, tmp_path):
    asymmetric.save(tmp_path / "model")
    loaded = SAC.load(tmp_path / "model", toy())
    observation = toy().reset()
    expected, _ = asymmetric.predict(observation, deterministic=True)
    np.testing.assert_array_equal(loaded.predict(observation, deterministic=True)[0], expected)
    loaded.learn(30, reset_num_timesteps=False)


class Expert:
    """A damped spring, from the state."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        x = observation["state"]
        return np.clip(-1.5 * x[:, :2] - 0.8 * x[:, 2:], -1, 1), None


class Sighted:
    """A student in an environment that shows more than it sees."""

    def __init__(self, student):
        self.student = student

    def predict(self, observation, *args, **kwargs):
        seen = {key: value for key, value in observation.items() if key != "state"}
        return self.student.predict(seen, *args, **kwargs)


def test_dagger_follows_its_expert():
    env = VecTransposeImage(toy(n_envs=4))
    spaces_ = {k: s for k, s in env.observation_space.spaces.items() if k != "state"}
    th.manual_seed(0)
    student = MultiInputPolicy(
        gym.spaces.Dict(spaces_),
        env.action_space,
        lambda _: 1e-3,
        features_extractor_kwargs=SMALL_NETWORK,
    )
    starts = [Start({"condition": i}, seed=i) for i in range(4)]
    held_out = [Start({"split": "spatial", "condition": i}, seed=i) for i in range(4)]
    rounds = []

    def train(number: int, rng: np.random.Generator) -> None:
        dagger(
            student, Expert(), env, [starts] * number, head_steps=100, end_to_end_steps=150,
            rng=rng, on_round=rounds.append,
        )  # fmt: skip

    before = evaluate_starts(Sighted(student), env, held_out)
    train(3, np.random.default_rng(0))
    after = evaluate_starts(Sighted(student), env, held_out)
    assert rounds == [0, 1, 2]
    assert before.rate < 0.5 and after.rate == 1.0
    best = evaluate_starts(Expert(), env, held_out)
    assert after.returns.mean() > best.returns.mean() - 1.5


def test_dagger_asks_for_the_state():
    with pytest.raises(ValueError, match="wrap the environment in InfoObservation"):
        dagger(
            None, Expert(), make_vec_env(ENV), [], head_steps=1, end_to_end_steps=1,
            rng=np.random.default_rng(0),
        )  # fmt: skip
