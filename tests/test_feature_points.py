"""Feature points: where they are in the image, which of them matter, and how they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from toy_envs import QUICK, SMALL_NETWORK, SMALL_POLICY

from sb3_gps import GPS, FeaturePointsCallback
from sb3_gps import __main__ as cli
from sb3_gps.feature_points import draw_feature_points, read_feature_points
from sb3_gps.features import SpatialSoftmax, VisuomotorExtractor
from sb3_gps.policies import MultiInputPolicy

ENV = "Toy/ImagePointMass-v0"
SIZE = 36
KWARGS = dict(features_extractor_class=VisuomotorExtractor, features_extractor_kwargs=SMALL_NETWORK)
SPACE = spaces.Dict(
    image=spaces.Box(0, 255, (3, SIZE, SIZE), np.uint8), velocity=spaces.Box(-1, 1, (2,))
)


def spots(*centres: tuple[int, int]) -> dict[str, np.ndarray]:
    """Observations with one bright pixel each, at (x, y)."""
    images = np.zeros((len(centres), SIZE, SIZE, 3), np.uint8)
    for image, (x, y) in zip(images, centres, strict=True):
        image[y, x] = 255
    return {"image": images, "velocity": np.zeros((len(centres), 2), np.float32)}


@pytest.fixture
def detector() -> MultiInputPolicy:
    """Whose two points are where the image is bright; the action is ten times x of the first."""
    network = dict(filters=(2, 2), kernel_sizes=(3, 5), strides=(2, 1), precision="float32")
    policy = MultiInputPolicy(
        SPACE,
        spaces.Box(-1, 1, (2,), np.float32),
        lambda _: 1e-3,
        net_arch=[],
        features_extractor_kwargs=dict(network, temperature=5e-3),
    )
    first, second = (m for m in policy.features_extractor.modules() if isinstance(m, th.nn.Conv2d))
    with th.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
        first.weight[:] = 1.0 / 27
        second.weight[0, 0, 2, 2] = second.weight[1, 1, 2, 2] = 1.0  # the middle cell
        first.bias[:] = 0.5  # images are centred
        policy.action_net.weight[0, 0] = 10.0
    return policy


def test_points_are_where_the_image_is_bright(detector):
    centres = [(9, 9), (21, 13), (25, 25)]  # middles of the cells of the first convolution
    (points,) = read_feature_points(detector, spots(*centres))
    assert points.image == "image" and points.position.shape == (3, 2, 2)
    np.testing.assert_allclose(
        points.position[:, 0] * SIZE - 0.5, np.array(centres), atol=0.02, rtol=0
    )
    assert points.presence.shape == (3, 2) and (points.presence > 0.9).all()
    (nothing,) = read_feature_points(detector, {k: v * 0 for k, v in spots((1, 1)).items()})
    cells = np.prod(detector.features_extractor.heads["image"].input_shape[1:])
    np.testing.assert_allclose(nothing.presence, 1 / cells)


def test_influence_is_the_action_that_comes_with_the_motion(detector):
    observations = spots((9, 9), (21, 13), (25, 25))
    (points,) = read_feature_points(detector, observations)
    features = detector.extract_features(detector.obs_to_tensor(observations)[0])
    change = (10 * features[:, 0]).detach().numpy()
    change = change - change.mean()
    # The action is linear in the points here, so that its change is theirs.
    np.testing.assert_allclose(points.influence, [np.sqrt((change**2).mean()), 0.0], rtol=1e-5)
    assert points.order.tolist() == [0, 1]
    # Nothing that stands still has an influence.
    (still,) = read_feature_points(detector, spots((9, 9), (9, 9)))
    np.testing.assert_allclose(still.influence, 0.0, atol=1e-12)


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_other_algorithms_have_them_too(algorithm):
    env = make_vec_env(ENV, 1)
    options = dict(n_steps=8, batch_size=8) if algorithm is PPO else dict(buffer_size=10)
    model = algorithm("MultiInputPolicy", env, policy_kwargs=dict(KWARGS), seed=0, **options)
    observations = {key: np.repeat(value, 3, axis=0) for key, value in env.reset().items()}
    (points,) = read_feature_points(model.policy, observations)
    assert points.position.shape == (3, SMALL_NETWORK["filters"][-1], 2)
    assert ((points.position > 0) & (points.position < 1)).all()
    before = model.predict(observations, deterministic=True)[0]
    np.testing.assert_array_equal(model.predict(observations, deterministic=True)[0], before)


def test_a_softmax_in_a_network_of_the_users_own():
    class Own(BaseFeaturesExtractor):
        def __init__(self, space: spaces.Dict) -> None:
            super().__init__(space, 8)
            self.net = th.nn.Sequential(
                th.nn.Conv2d(3, 4, 3, padding=1), SpatialSoftmax((4, SIZE, SIZE)), th.nn.Flatten()
            )

        def forward(self, observations: dict[str, th.Tensor]) -> th.Tensor:
            return self.net(observations["image"])

    policy = MultiInputPolicy(
        SPACE,
        spaces.Box(-1, 1, (2,), np.float32),
        lambda _: 1e-3,
        features_extractor_class=Own,
    )
    for parameter in policy.features_extractor.parameters():
        parameter.requires_grad = False  # frozen: the derivative begins at the points
    (points,) = read_feature_points(policy, spots((3, 4), (20, 9)))
    assert points.image == "image" and (points.influence > 0).all()


def test_a_policy_without_points_says_so():
    policy = MultiInputPolicy(
        spaces.Dict(velocity=spaces.Box(-1, 1, (2,))), spaces.Box(-1, 1, (2,)), lambda _: 1e-3
    )
    with pytest.raises(ValueError, match="GPSPolicy has no spatial softmax"):
        read_feature_points(policy, {"velocity": np.zeros((1, 2), np.float32)})


@pytest.mark.parametrize("algorithm", [GPS, PPO])
def test_they_are_in_tensorboard(algorithm, tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    callback = FeaturePointsCallback(ENV, every=10, moments=2, video=True)
    if algorithm is GPS:
        options = {**QUICK, "policy_kwargs": SMALL_POLICY, "tensorboard_log": str(tmp_path)}
        GPS("CnnPolicy", ENV, **options).learn(callback=callback)
    else:
        options = dict(n_steps=15, batch_size=15, n_epochs=1, policy_kwargs=dict(KWARGS), seed=0)
        PPO("MultiInputPolicy", ENV, tensorboard_log=str(tmp_path), **options).learn(
            45, callback=callback
        )
    (run,) = tmp_path.iterdir()
    events = event_accumulator.EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    images = events.Images("feature_points/image")
    assert len(images) >= 2 and (images[0].height, images[0].width) == (384, 768)
    films = events.Images("feature_points/image_video")
    assert len(films) == len(images) and films[0].encoded_image_string.startswith(b"GIF89a")
    assert images[0].encoded_image_string != images[-1].encoded_image_string  # it learned


@pytest.mark.parametrize("algorithm", [GPS, PPO])
def test_films(algorithm, tmp_path, capsys):
    pytest.importorskip("imageio")
    model, out = tmp_path / "model.zip", tmp_path / "film.gif"
    if algorithm is GPS:
        gps = GPS("CnnPolicy", ENV, **{**QUICK, "policy_kwargs": SMALL_POLICY, "iterations": 2})
        gps.learn().save(model)
        how: tuple[str, ...] = ()
    else:
        PPO("MultiInputPolicy", ENV, policy_kwargs=dict(KWARGS)).save(model)
        how = ("--algo", "ppo", "--env", ENV)
    line = ("film", str(model), *how, "--episodes", "1", "--points", "3")
    assert cli.main([*line, "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out) and out.stat().st_size > 1000
    assert cli.main([*line, "--out", "film.avi"]) == 1
    assert "must end in .mp4 or .gif" in capsys.readouterr().err
    assert cli.main(["film", str(tmp_path / "none.zip")]) == 1
    assert "is not a file" in capsys.readouterr().err


def test_the_drawing(detector):
    observations = spots((9, 9), (21, 13), (25, 25))
    (points,) = read_feature_points(detector, observations)
    page = draw_feature_points(observations["image"][2], points, 2, shown=1, side=6 * SIZE)
    assert page.shape == (6 * SIZE, 6 * SIZE, 3) and page.dtype == np.uint8
    bare = draw_feature_points(observations["image"][2], points, 2, shown=0, side=6 * SIZE)
    assert (bare == np.repeat(np.repeat(observations["image"][2], 6, 0), 6, 1)).all()
    changed = np.argwhere((page != bare).any(axis=-1))  # y, x
    # The circle about the last position, and the trail from the first.
    centre = np.array([25, 25]) * 6 + 3
    assert np.abs(changed.max(axis=0) - centre).max() <= 6
    assert np.abs(changed.min(axis=0) - (np.array([9, 9]) * 6 + 3)).max() <= 6
    red = page[centre[1], centre[0]].astype(int)
    assert red[0] > 200 and red[0] > 2 * red[1]  # the first colour
