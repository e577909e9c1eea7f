"""Spatial softmax and the extractors, also inside PPO and SAC."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO, SAC

from sb3_gps.features import (
    SpatialSoftmax,
    StateExtractor,
    VisuomotorExtractor,
    input_statistics,
)

SMALL = dict(filters=(4, 4, 4), kernel_sizes=(5, 3, 3), strides=(2, 2, 1), precision="float32")


def image_space(size: int = 36, channels_first: bool = True) -> spaces.Box:
    shape = (3, size, size) if channels_first else (size, size, 3)
    return spaces.Box(0, 255, shape, np.uint8)


def vector_space(d: int = 5) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (d,), np.float32)


class RandomEnv(gym.Env):
    """Random observations of a space, three steps an episode."""

    def __init__(self, observation_space: spaces.Space) -> None:
        self.observation_space = observation_space
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), float(action[0]), False, self.steps == 3, {}


def test_spatial_softmax_against_a_loop():
    th.manual_seed(0)
    responses = 3 * th.randn(2, 3, 4, 5)
    points, variance = SpatialSoftmax((3, 4, 5), temperature=0.7, output_variance=True)(responses)
    for b in range(2):
        for c in range(3):
            weights = np.exp(responses[b, c].double().numpy() / 0.7)
            weights /= weights.sum()
            mean, second = np.zeros(2), np.zeros((2, 2))
            for i in range(4):
                for j in range(5):
                    xy = np.array([-1 + 2 * j / 4, -1 + 2 * i / 3])
                    mean += weights[i, j] * xy
                    second += weights[i, j] * np.outer(xy, xy)
            np.testing.assert_allclose(points[b, c], mean, atol=1e-6)
            np.testing.assert_allclose(variance[b, c], second - np.outer(mean, mean), atol=1e-6)


def test_spatial_softmax_finds_a_peak_x_along_the_width():
    responses = th.zeros(1, 1, 7, 9)
    responses[0, 0, 1, 8] = 1e4
    np.testing.assert_allclose(SpatialSoftmax((1, 7, 9))(responses)[0, 0], [1.0, -1 + 2 / 6])


def test_spatial_softmax_options():
    th.manual_seed(0)
    layer = SpatialSoftmax((3, 4, 5), num_kp=6, learnable_temperature=True, noise_std=0.1)
    responses = th.randn(2, 3, 4, 5)
    noisy = layer(responses)
    assert noisy.shape == (2, 6, 2)
    noisy.sum().backward()
    assert layer.temperature.grad is not None
    layer.eval()
    assert th.equal(layer(responses), layer(responses))
    assert not th.equal(layer(responses), noisy)
    with pytest.raises(ValueError, match="temperature"):
        SpatialSoftmax((3, 4, 5), temperature=0.0)
    with pytest.raises(ValueError, match="input_shape"):
        SpatialSoftmax((3, 4, 0))


def test_papers_network_has_the_papers_size():
    extractor = VisuomotorExtractor(image_space(240), filters=(64, 32, 32), strides=(2, 1, 1))
    assert extractor.heads["observation"].grid.shape == (2, 109 * 109)
    assert extractor.features_dim == 64
    # 3 * 64 * 49 + 64 * 32 * 25 + 32 * 32 * 25 and the biases: "about 86 k".
    assert sum(p.numel() for p in extractor.parameters()) == 86_208 + 128


def test_features_are_points_then_standardised_vectors():
    space = spaces.Dict(
        {"joints": vector_space(3), "image": image_space(), "speed": vector_space(2)}
    )
    extractor = VisuomotorExtractor(space, **SMALL)
    rng = np.random.default_rng(0)
    vectors = {"joints": 2 + 3 * rng.normal(size=(50, 3)), "speed": rng.normal(size=(50, 2))}
    vectors["speed"][:, 1] = 4.0
    statistics = input_statistics({**vectors, "image": np.zeros((50, 3, 36, 36), np.uint8)})
    assert set(statistics) == {"joints", "speed"}
    extractor.set_input_statistics(statistics, floor=0.01)
    observations = {key: th.from_numpy(v).float() for key, v in vectors.items()}
    observations["image"] = th.rand(50, 3, 36, 36)
    features = extractor(observations)
    assert features.shape == (50, extractor.features_dim) == (50, 8 + 5)
    assert th.equal(features[:, :8], extractor.image_features(observations))
    assert features[:, :8].abs().max() <= 1
    order = [key for key in space.spaces if key != "image"]
    expected = np.concatenate(
        [(vectors[k] - vectors[k].mean(0)) / np.maximum(vectors[k].std(0), 0.01) for k in order], 1
    )
    np.testing.assert_allclose(features[:, 8:].detach(), expected, atol=1e-5)
    # The statistics travel with the weights.
    copy = VisuomotorExtractor(space, **SMALL)
    copy.load_state_dict(extractor.state_dict())
    assert th.equal(copy(observations), features)


def test_statistics_are_checked():
    extractor = StateExtractor(vector_space(3))
    with pytest.raises(ValueError, match="Available names: observation"):
        extractor.set_input_statistics({"joints": (np.zeros(3), np.ones(3))})
    with pytest.raises(ValueError, match=r"\(3,\), got \(2,\)"):
        extractor.set_input_statistics({"observation": (np.zeros(2), np.ones(3))})
    with pytest.raises(ValueError, match="finite"):
        extractor.set_input_statistics({"observation": (np.zeros(3), np.full(3, np.nan))})


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        (image_space(36, channels_first=False), {}, "VecTransposeImage"),
        (image_space(36), dict(filters=(4,)), "one length"),
        (image_space(36), dict(precision="half"), "Available names"),
        (image_space(8), {}, "too small"),
    ],
)
def test_visuomotor_extractor_explains(space, options, message):
    with pytest.raises(ValueError, match=message):
        VisuomotorExtractor(space, **options)


def test_bf16_stays_close_to_float32():
    th.manual_seed(0)
    extractor = VisuomotorExtractor(image_space(), **SMALL)
    images = th.rand(4, 3, 36, 36)
    exact = extractor(images)
    extractor.precision = "bf16"
    rounded = extractor(images)
    assert rounded.dtype == th.float32
    assert (exact - rounded).abs().max() < 0.02
    rounded.sum().backward()
    assert all(p.grad is not None for p in extractor.parameters())


@pytest.mark.parametrize("policy", ["MultiInputPolicy", "CnnPolicy"])
@pytest.mark.parametrize("algorithm", ["PPO", "SAC"])
def test_inside_other_algorithms(algorithm, policy):
    image = image_space(36, channels_first=False)
    space = image
    if policy == "MultiInputPolicy":
        space = spaces.Dict({"image": image, "joints": vector_space()})
    keywords = dict(
        policy_kwargs=dict(
            features_extractor_class=VisuomotorExtractor,
            features_extractor_kwargs=SMALL,
            net_arch=[8],
        ),
        batch_size=4,
        seed=0,
        device="cpu",
    )
    if algorithm == "PPO":
        model = PPO(policy, RandomEnv(space), n_steps=8, n_epochs=1, **keywords).learn(8)
    else:
        model = SAC(policy, RandomEnv(space), buffer_size=20, learning_starts=4, **keywords)
        model.learn(8)
    assert any(isinstance(m, VisuomotorExtractor) for m in model.policy.modules())
    assert np.isfinite(model.predict(space.sample())[0]).all()
