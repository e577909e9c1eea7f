"""Perception trained apart from control: the way of training that end to end is compared with.

A policy is trained by GPS on the true pose (``PoseObservation``); a network is trained to tell the
pose from images (``pretraining``); at test time the estimate takes the place of the pose
(``PosePrediction``). Neither knows what errors the other makes.
Source: Levine et al. 2016, the comparison "pose prediction".
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import maybe_transpose
from stable_baselines3.common.type_aliases import PolicyPredictor
from stable_baselines3.common.vec_env import VecEnv, VecTransposeImage

from sb3_gps.features import ImageExtractor, VisuomotorExtractor
from sb3_gps.pretraining import PoseEstimator, PoseResult, pretrain_pose
from sb3_gps.privileged import InfoObservation
from sb3_gps.rollout import random_poses
from sb3_gps.supervised import Augment, Progress

POSE = "pose"


class PoseObservation(InfoObservation):
    """``info["pose"]`` in place of the images of a Dict observation; no image is drawn."""

    def __init__(self, env: gym.Env) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)  # so that `env.spec` can make it again
        super().__init__(env, POSE, images=False)


class PosePrediction:
    """Acts on images with a policy that was trained on the true pose.

    :param policy: trained on a ``PoseObservation``
    :param estimator: tells the pose from the images of an observation
    """

    def __init__(self, policy: PolicyPredictor, estimator: PoseEstimator) -> None:
        self.policy, self.estimator = policy, estimator

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """As SB3's, on a batch of Dict observations with images, channels first or last."""
        extractor = self.estimator.extractor
        space = extractor._observation_space
        assert isinstance(space, spaces.Dict) and isinstance(observation, dict)
        images = {
            key: maybe_transpose(observation[key], space[key]) for key in extractor.convolutions
        }
        vectors = {key: value for key, value in observation.items() if key not in images}
        pose = self.estimator(images).astype(np.float32)
        return self.policy.predict(
            {**vectors, POSE: pose}, state, episode_start, deterministic=deterministic
        )


def train_pose_estimator(
    env: VecEnv,
    images: int,
    *,
    steps: int,
    rng: np.random.Generator,
    augment: Augment | None = None,
    extractor_class: type[ImageExtractor] = VisuomotorExtractor,
    progress: Progress | None = None,
    **extractor_kwargs: Any,
) -> PoseResult:
    """A network that tells the pose, trained on images of random poses.

    :param env: that offers random poses
    :param images: of random poses
    :param steps: of training
    :param augment: random changes of the images
    :param extractor_class: of the network, with its keywords
    """
    channels_first = VecTransposeImage(env, skip=False)
    observations, poses = random_poses(channels_first, images, rng, progress)
    extractor = extractor_class(channels_first.observation_space, **extractor_kwargs)
    return pretrain_pose(extractor, observations, poses, steps=steps, rng=rng, augment=augment)
