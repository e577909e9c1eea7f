"""Who acts in trials: teachers or the student, with smoothed noise of a covariance."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from sb3_gps.core.exploration import smooth_noise
from sb3_gps.core.types import LinearGaussianController
from sb3_gps.rollout import Actor


def action_noise(
    C: np.ndarray, conditions: np.ndarray, smoothing: float, rng: np.random.Generator
) -> np.ndarray:
    """Noise of every episode, (E, T, dU), smoothed over time.

    :param C: covariances, (M, T, dU, dU)
    :param conditions: of the episodes, (E,)
    """
    _, T, dU, _ = C.shape
    noise = smooth_noise((len(conditions), T, dU), smoothing, rng)
    return (np.linalg.cholesky(C)[conditions] @ noise[..., None])[..., 0]


def teacher_actor(
    controller: LinearGaussianController, conditions: np.ndarray, noise: np.ndarray | float = 0.0
) -> Actor:
    """u = K x + k + noise, each episode by the controller of its condition.

    :param controller: (M, T, ...)
    :param conditions: of the episodes, (E,)
    :param noise: (E, T, dU), or 0 for the mean controller
    """
    offset = np.broadcast_to(noise, (len(conditions), *controller.k.shape[1:]))

    def act(observation: Any, x: np.ndarray, t: int, episodes: np.ndarray) -> np.ndarray:
        m = conditions[episodes]
        feedback = np.einsum("eux,ex->eu", controller.K[m, t], x)
        return feedback + controller.k[m, t] + offset[episodes, t]

    return act


def student_actor(policy: BaseAlgorithm | BasePolicy, noise: np.ndarray) -> Actor:
    """The policy's mean action + noise.

    :param noise: (E, T, dU)
    """

    def act(observation: Any, x: np.ndarray, t: int, episodes: np.ndarray) -> np.ndarray:
        return policy.predict(observation, deterministic=True)[0] + noise[episodes, t]

    return act
