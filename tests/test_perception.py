"""Perception apart from control: the true pose in training, an estimate of it in the test."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env

from sb3_gps import GPS
from sb3_gps.evaluation import evaluate_split
from sb3_gps.perception import PoseObservation, PosePrediction, train_pose_estimator


def pose_env(**kwargs) -> gym.Env:
    return PoseObservation(gym.make("GPS/ShapeCube-v0", **kwargs))


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
@pytest.mark.filterwarnings("ignore:.*observation space m.*imum value is -?infinity")
def test_the_pose_takes_the_place_of_the_image() -> None:
    env = pose_env()
    check_env(env, skip_render_check=True)
    assert set(env.observation_space.spaces) == {"proprio", "pose"}
    observation, info = env.reset(options={"condition": 3})
    assert (observation["pose"] == info["pose"]).all()
    observation, *_, info = env.step(np.full(7, 0.5, np.float32))
    assert (observation["pose"] == info["pose"]).all()


def test_no_image_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args):
        raise AssertionError("an image was drawn")

    monkeypatch.setattr("gps_envs.rendering.render", refuse)
    env = pose_env()
    env.reset(seed=0)
    env.step(np.zeros(7, np.float32))


def test_wrapper_explains() -> None:
    with pytest.raises(ValueError, match="expected a Dict observation"):
        PoseObservation(gym.make("GPS/PegInsertion-v0"))

    class NoPose(gym.Env):
        observation_space = spaces.Dict({"v": spaces.Box(-1, 1, (2,), np.float32)})
        action_space = spaces.Box(-1, 1, (1,), np.float32)

        def reset(self, *, seed=None, options=None):
            return self.observation_space.sample(), {}

    with pytest.raises(ValueError, match=r"expected info\['pose'\]"):
        PoseObservation(NoPose())


@pytest.mark.gl
def test_prediction_acts_as_the_policy_on_the_estimated_pose() -> None:
    """With an exact estimator it is the policy itself; with a trained one it runs on a split."""
    M, tiny = 9, dict(iterations=1, last_head_steps=5, last_end_to_end_steps=0)
    train = make_vec_env(pose_env, env_kwargs={"num_conditions": M})
    model = GPS("MultiInputPolicy", train, seed=0, **tiny).learn()
    env = make_vec_env("GPS/ShapeCube-v0", n_envs=2)
    result = train_pose_estimator(env, 20, steps=3, rng=np.random.default_rng(0))
    prediction = PosePrediction(model, result.estimator)

    observation = env.reset()
    action, _ = prediction.predict(observation, deterministic=True)
    assert action.shape == (2, 7)
    images = {"image": np.moveaxis(observation["image"], -1, 1)}
    estimate = {"proprio": observation["proprio"], "pose": result.estimator(images)}
    assert (action == model.predict(estimate, deterministic=True)[0]).all()

    exact = {
        "proprio": observation["proprio"],
        "pose": np.stack([i["pose"] for i in env.reset_infos]),
    }
    result.estimator.readout.weight.data.zero_()
    result.estimator.readout.bias.data.copy_(
        result.estimator.readout.bias.new_tensor(exact["pose"][0])
    )
    action, _ = prediction.predict(observation, deterministic=True)
    expected = model.predict(exact, deterministic=True)[0]
    assert action[0] == pytest.approx(expected[0], abs=1e-5)
    assert evaluate_split(prediction, env, "spatial", 2).success.shape == (2,)
