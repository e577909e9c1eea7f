"""What feature points are compared with: shapes, meaning, training, other algorithms."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO, SAC

from sb3_gps.architectures import ARCHITECTURES, FCExtractor, SpatialProbabilities
from sb3_gps.pretraining import pretrain_pose

IMAGE = spaces.Box(0, 255, (3, 64, 64), np.uint8)
DICT = spaces.Dict({"image": IMAGE, "joints": spaces.Box(-9, 9, (5,), np.float32)})


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_features_are_those_of_images_then_vectors(name: str, precision: str) -> None:
    extractor = ARCHITECTURES[name](DICT, precision=precision)
    batch = {"image": th.rand(4, 3, 64, 64), "joints": th.randn(4, 5)}
    features = extractor(batch)
    assert features.shape == (4, extractor.features_dim) == (4, 64 + 5)
    assert features.dtype == th.float32
    assert th.equal(features[:, :64], extractor.image_features(batch))
    assert th.equal(features[:, 64:], batch["joints"])


def test_the_last_maps_are_of_one_size() -> None:
    """So that the comparison is one of heads, not of resolutions."""
    maps = [
        e(IMAGE).convolutions["observation"](th.rand(1, 3, 64, 64)) for e in ARCHITECTURES.values()
    ]
    assert {tuple(m.shape) for m in maps} == {(1, 32, 9, 9)}


def test_probabilities_average_to_zero_and_peak_where_the_responses_do() -> None:
    responses = th.randn(2, 3, 4, 5)
    maps = SpatialProbabilities()(responses).reshape(2, 3, 20)
    assert th.allclose(maps.mean(dim=2), th.zeros(2, 3), atol=1e-6)
    assert th.equal(maps.argmax(dim=2), responses.flatten(2).argmax(dim=2))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_learns_where_a_blob_is(name: str) -> None:
    rng = np.random.default_rng(0)
    where = rng.uniform(0.25, 0.75, (200, 2))
    grid = (np.arange(36) + 0.5) / 36
    d2 = (grid - where[:, :1, None]) ** 2 + (grid[:, None] - where[:, 1:, None]) ** 2
    images = np.repeat((255 * np.exp(-d2 / 0.01)).astype(np.uint8)[:, None], 3, axis=1)
    poses = np.concatenate([0.1 * where, np.zeros((200, 1))], axis=1)
    th.manual_seed(0)
    small = dict(filters=(6, 6), kernel_sizes=(5, 3), strides=(1, 1), precision="float32")
    extractor = ARCHITECTURES[name](spaces.Box(0, 255, (3, 36, 36), np.uint8), **small)
    result = pretrain_pose(
        extractor, images, poses, steps=100, batch_size=32, learning_rate=5e-3, rng=rng
    )
    guess = 100 * np.linalg.norm(poses - poses.mean(axis=0), axis=1).mean()
    assert result.error_cm < 0.75 * guess


@pytest.mark.parametrize("algorithm", [PPO, SAC])
@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if n != "softmax + feature points"])
def test_in_other_algorithms(name: str, algorithm: type) -> None:
    class Env(gym.Env):
        observation_space = DICT
        action_space = spaces.Box(-1, 1, (2,), np.float32)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), 0.0, False, True, {}

    steps = dict(n_steps=4, batch_size=4) if algorithm is PPO else dict(buffer_size=50)
    model = algorithm(
        "MultiInputPolicy", Env(), **steps,
        policy_kwargs=dict(features_extractor_class=ARCHITECTURES[name]),
    )  # fmt: skip
    model.learn(8)
    action, _ = model.predict(DICT.sample())
    assert action.shape == (2,)


def test_units_are_checked() -> None:
    assert FCExtractor(IMAGE, units=10).features_dim == 10
    with pytest.raises(ValueError, match="units must be at least 1"):
        FCExtractor(IMAGE, units=0)
