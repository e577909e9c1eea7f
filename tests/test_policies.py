"""The student's policy: defaults, covariance, saving, PPO, names."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO

from sb3_gps.features import StateExtractor, VisuomotorExtractor
from sb3_gps.policies import GPSPolicy, policy_aliases, resolve_policy

SMALL = dict(filters=(4, 4, 4), kernel_sizes=(5, 3, 3), strides=(2, 2, 1), precision="float32")


def image_space(channels_first: bool = True) -> spaces.Box:
    return spaces.Box(0, 255, (3, 36, 36) if channels_first else (36, 36, 3), np.uint8)


def vector_space(d: int = 5) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (d,), np.float32)


ACTIONS = spaces.Box(-1, 1, (3,), np.float32)
COVARIANCE = np.array([[0.5, 0.2, -0.1], [0.2, 0.4, 0.05], [-0.1, 0.05, 0.3]])
DICT = spaces.Dict({"image": image_space(), "joints": vector_space()})


class RandomEnv(gym.Env):
    """Random observations, three steps an episode."""

    observation_space = spaces.Dict({"image": image_space(False), "joints": vector_space()})
    action_space = spaces.Box(-1, 1, (2,), np.float32)
    steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), float(action[0]), False, self.steps == 3, {}


def make(space: spaces.Space, **kwargs) -> GPSPolicy:
    th.manual_seed(0)
    return GPSPolicy(space, ACTIONS, lambda _: 1e-3, **kwargs)


@pytest.mark.parametrize(
    ("space", "extractor"),
    [
        (image_space(), VisuomotorExtractor),
        (DICT, VisuomotorExtractor),
        (spaces.Dict({"a": vector_space(2), "b": vector_space(3)}), VisuomotorExtractor),
        (vector_space(), StateExtractor),
    ],
)
def test_defaults_follow_the_space(space, extractor):
    policy = make(space)
    assert type(policy.features_extractor) is extractor
    assert [m.out_features for m in policy.mlp_extractor.policy_net if hasattr(m, "weight")] == [
        40,
        40,
    ]
    action, _ = policy.predict(space.sample(), deterministic=True)
    assert action.shape == (3,)


def test_predict_is_the_clipped_mean():
    policy = make(vector_space())
    with th.no_grad():
        policy.action_net.bias.copy_(th.tensor([0.2, -3.0, 3.0]))
    observation = np.zeros(5, np.float32)
    mean = policy.action_mean(policy.features_extractor(th.zeros(1, 5)))[0].detach().numpy()
    np.testing.assert_array_equal(
        policy.predict(observation, deterministic=True)[0], mean.clip(-1, 1)
    )


def test_samples_have_the_full_covariance():
    policy = make(vector_space())
    policy.set_action_covariance(COVARIANCE)
    np.testing.assert_allclose(policy.log_std.detach(), 0.5 * np.log(COVARIANCE.diagonal()), 1e-5)
    n = 40_000
    with th.no_grad():
        samples = policy._predict(th.zeros(n, 5)).double().numpy()
    sampled = np.cov(samples.T)
    # Var of an entry of a sampled covariance is (s_ii s_jj + s_ij^2) / n: five deviations.
    bound = np.sqrt((np.outer(COVARIANCE.diagonal(), COVARIANCE.diagonal()) + COVARIANCE**2) / n)
    assert (np.abs(sampled - COVARIANCE) < 5 * bound).all()
    # Fine-tuning moves log_std: the samples follow, the correlations stay.
    with th.no_grad():
        policy.log_std += np.log(2.0)
        samples = policy._predict(th.zeros(n, 5)).double().numpy()
    assert (np.abs(np.cov(samples.T) - 4 * COVARIANCE) < 20 * bound).all()


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (np.eye(2), r"\(3, 3\), got \(2, 2\)"),
        (np.triu(np.ones((3, 3))), "symmetric"),
        (np.diag([1.0, 1.0, 0.0]), "positive definite"),
        (np.full((3, 3), np.nan), "finite"),
    ],
)
def test_covariance_is_checked(covariance, message):
    with pytest.raises(ValueError, match=message):
        make(vector_space()).set_action_covariance(covariance)


def test_save_and_load(tmp_path):
    policy = make(DICT, features_extractor_kwargs=SMALL)
    policy.set_action_covariance(COVARIANCE)
    policy.features_extractor.set_input_statistics({"joints": (np.full(5, 2.0), np.full(5, 3.0))})
    policy.save(str(tmp_path / "policy.pth"))
    loaded = GPSPolicy.load(str(tmp_path / "policy.pth"))
    observation = DICT.sample()
    np.testing.assert_array_equal(
        policy.predict(observation, deterministic=True)[0],
        loaded.predict(observation, deterministic=True)[0],
    )
    np.testing.assert_array_equal(loaded.action_covariance, COVARIANCE)


def test_weights_load_into_ppo():
    ppo = PPO(
        GPSPolicy,
        RandomEnv(),
        n_steps=8,
        batch_size=4,
        n_epochs=1,
        policy_kwargs=dict(features_extractor_kwargs=SMALL),
        seed=0,
        device="cpu",
    )
    policy = GPSPolicy(DICT, ppo.action_space, lambda _: 1e-3, features_extractor_kwargs=SMALL)
    policy.set_action_covariance(COVARIANCE[:2, :2])
    ppo.policy.load_state_dict(policy.state_dict())
    observation = DICT.sample()
    np.testing.assert_array_equal(
        policy.predict(observation, deterministic=True)[0],
        ppo.predict(observation, deterministic=True)[0],
    )
    ppo.learn(16)
    assert np.isfinite(ppo.predict(observation)[0]).all()


def test_wrong_arguments():
    with pytest.raises(ValueError, match="Box"):
        GPSPolicy(vector_space(), spaces.Discrete(3), lambda _: 1e-3)
    with pytest.raises(ValueError, match="use_sde"):
        make(vector_space(), use_sde=True)


def test_names_resolve():
    for image in (image_space(), image_space(False)):
        space = spaces.Dict({"image": image, "joints": vector_space()})
        assert resolve_policy("CnnPolicy", image) is GPSPolicy
        assert resolve_policy("CnnPolicy", space) is GPSPolicy
        assert resolve_policy("MultiInputPolicy", space) is GPSPolicy
    assert resolve_policy("MlpPolicy", vector_space()) is GPSPolicy
    assert resolve_policy(GPSPolicy, vector_space()) is GPSPolicy


@pytest.mark.parametrize(
    ("policy", "space", "message"),
    [
        ("LstmPolicy", vector_space(), ", ".join(policy_aliases)),
        ("MlpPolicy", image_space(), "use 'CnnPolicy'"),
        ("MlpPolicy", DICT, "use 'CnnPolicy'"),
        ("CnnPolicy", vector_space(), "use 'MlpPolicy'"),
        ("MultiInputPolicy", vector_space(), "use 'MlpPolicy'"),
        (PPO, vector_space(), "subclass of GPSPolicy"),
    ],
)
def test_names_that_do_not_fit(policy, space, message):
    with pytest.raises(ValueError, match=message):
        resolve_policy(policy, space)
