"""The paper's three ways of training from images, each with GPS.

    end-to-end        perception and control are trained together
    pose-features     convolutions as pose pretraining leaves them; the rest is trained by GPS
    pose-prediction   control is trained on the true pose, perception apart from it

Source: Levine et al. 2016, sec. 6 (end-to-end training against its parts).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.type_aliases import MaybeCallback, PolicyPredictor
from stable_baselines3.common.vec_env import VecEnv

from sb3_gps.features import split_space
from sb3_gps.gps import GPS
from sb3_gps.perception import PoseObservation, PosePrediction, train_pose_estimator

WAYS = ("end-to-end", "pose-features", "pose-prediction")
# Nothing below the fully connected layers moves.
FROZEN_CONVOLUTIONS = dict(end_to_end_steps=0, last_end_to_end_steps=0)


@dataclass
class Trained:
    """A policy, and what it took.

    :param actor: acts on the environment's own observations, by SB3's ``predict``
    """

    model: GPS
    actor: PolicyPredictor
    pose_images: int
    pose_error_cm: float | None
    seconds: dict[str, float] = field(default_factory=dict)  # of each phase


def train(
    way: str,
    env_id: str,
    seed: int,
    options: dict[str, Any],
    *,
    num_conditions: int | None = None,
    n_envs: int = 1,
    env_kwargs: dict[str, Any] | None = None,
    progress_bar: bool = False,
    callback: MaybeCallback = None,
) -> Trained:
    """Train from scratch in one of ``WAYS``.

    :param options: keywords of ``GPS``
    :param num_conditions: training conditions, by default the task's own
    :param n_envs: environments in the training VecEnv
    :raises ValueError: an unknown way
    """
    env = make_env(way, env_id, num_conditions, n_envs, env_kwargs)
    if way == "pose-features":
        options = {**options, **FROZEN_CONVOLUTIONS}
    model = GPS(policy_for(env.observation_space), env, seed=seed, **options)
    model.learn(progress_bar=progress_bar, callback=callback)
    env.close()
    trained = Trained(
        model, model, model.pose_images_used, model.pose_error_cm, dict(model.seconds)
    )
    if way != "pose-prediction":
        return trained
    begin = time.perf_counter()
    images = make_env("end-to-end", env_id, num_conditions, env_kwargs=env_kwargs)
    result = train_pose_estimator(
        images,
        model.pose_images,
        steps=model.pose_steps,
        rng=np.random.default_rng([seed, 1]),
        augment=model.augmentation,
    )
    images.close()
    trained.actor = PosePrediction(model, result.estimator)
    trained.pose_images, trained.pose_error_cm = result.images, result.error_cm
    trained.seconds["pretraining"] = time.perf_counter() - begin
    return trained


def make_env(
    way: str,
    env_id: str,
    num_conditions: int | None = None,
    n_envs: int = 1,
    env_kwargs: dict[str, Any] | None = None,
) -> VecEnv:
    """What the policy of a way is trained in.

    :param num_conditions: training conditions, by default the task's own
    :raises ValueError: an unknown way, or ``num_conditions`` of a task that has none
    """
    if way not in WAYS:
        raise ValueError(f"way {way!r} does not exist; available: {', '.join(WAYS)}")
    env_kwargs = dict(env_kwargs or {})
    if num_conditions is not None:
        env_kwargs["num_conditions"] = num_conditions
    wrapper = PoseObservation if way == "pose-prediction" else None
    try:
        return make_vec_env(env_id, n_envs=n_envs, env_kwargs=env_kwargs, wrapper_class=wrapper)
    except TypeError as error:
        if num_conditions is None or "num_conditions" not in str(error):
            raise
        raise ValueError(
            f"{env_id} has no training positions of its own, got {num_conditions} of them: give "
            f"GPS conditions={num_conditions}, which are reset seeds"
        ) from error


def policy_for(observation_space: gym.Space) -> str:
    """The name of the policy that an observation asks for."""
    if split_space(observation_space)[0]:
        return "CnnPolicy"
    return "MultiInputPolicy" if isinstance(observation_space, spaces.Dict) else "MlpPolicy"
