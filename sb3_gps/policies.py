"""The student pi_theta(u|o) = N(mu_theta(o), Sigma) as a policy of Stable-Baselines3.

The mean is a network, the covariance a full matrix that does not depend on the observation and is
set in closed form (Levine et al. 2016, sec. 4). It is an ``ActorCriticPolicy``, so its weights load
into PPO for fine-tuning; the value branch is one linear layer on the features, unused by GPS.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn

from sb3_gps.features import ImageExtractor, StateExtractor, VisuomotorExtractor, split_space
from sb3_gps.files import rewrite


class GPSPolicy(ActorCriticPolicy):
    """Gaussian policy with a full covariance; images, vectors, or a Dict of both.

    PPO and its relatives, which call ``forward``, see the diagonal Gaussian of ``log_std``;
    ``predict(deterministic=False)`` samples with the full covariance, its deviations taken from
    ``log_std`` so that the two agree after fine-tuning as well.

    :param observation_space: image Box (channels-first), vector Box, or a Dict of both.
    :param action_space: a Box (dU,).
    :param lr_schedule: learning rate as a function of the remaining progress.
    :param net_arch: hidden layers; by default the paper's two of 40 units for the mean and none
        for the value.
    :param activation_fn: between hidden layers.
    :param features_extractor_class: by default :class:`VisuomotorExtractor` for images and Dicts,
        :class:`StateExtractor` for vectors.
    :param normalize_images: whether images are uint8, which are divided by 255; False: floats in
        [0, 1].
    :param optimizer_class: Adam by default.
    :param optimizer_kwargs: by default Adam's fused kernel.
    :param kwargs: as for ``ActorCriticPolicy``; ``use_sde`` is refused.
    """

    action_covariance: th.Tensor  # (dU, dU), float64

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        *,
        features_extractor_class: type[BaseFeaturesExtractor] | None = None,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        use_sde: bool = False,
        **kwargs: Any,
    ) -> None:
        if not isinstance(action_space, spaces.Box):
            raise ValueError(f"the action space must be a Box, got {action_space}")
        if use_sde:
            raise ValueError("use_sde=True has no meaning here: the covariance is a full matrix")
        images, _ = split_space(observation_space, not normalize_images)
        if features_extractor_class is None:
            structured = bool(images) or isinstance(observation_space, spaces.Dict)
            features_extractor_class = VisuomotorExtractor if structured else StateExtractor
        if not normalize_images and issubclass(features_extractor_class, ImageExtractor):
            if any(part.dtype == np.uint8 for part in images.values()):
                raise ValueError(
                    "normalize_images=False is for images that are floats in [0, 1] already, got "
                    f"{observation_space}"
                )
            given = features_extractor_kwargs or {}
            features_extractor_kwargs = {"normalized_image": True, **given}
        if optimizer_kwargs is None:
            optimizer_kwargs = {"fused": True} if optimizer_class is th.optim.Adam else {}
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=dict(pi=[40, 40], vf=[]) if net_arch is None else net_arch,
            activation_fn=activation_fn,
            features_extractor_class=features_extractor_class,
            features_extractor_kwargs=features_extractor_kwargs,
            normalize_images=normalize_images,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            **kwargs,
        )
        self.register_buffer(
            "action_covariance", th.diag(self.log_std.detach().double().mul(2).exp())
        )

    def action_mean(self, features: th.Tensor) -> th.Tensor:
        """mu from the features of the extractor: (B, features_dim) -> (B, dU)."""
        return self.action_net(self.mlp_extractor.forward_actor(features))

    def set_action_covariance(self, covariance: np.ndarray) -> None:
        """Set Sigma, and ``log_std`` to its diagonal.

        :param covariance: (dU, dU), symmetric positive definite.
        :raises ValueError: wrong shape, or not symmetric positive definite.
        """
        covariance = np.asarray(covariance, dtype=np.float64)
        shape = tuple(self.action_covariance.shape)
        if covariance.shape != shape:
            raise ValueError(f"covariance must be (dU, dU) = {shape}, got {covariance.shape}")
        if not np.isfinite(covariance).all() or not np.allclose(covariance, covariance.T):
            raise ValueError(f"covariance must be finite and symmetric, got {covariance}")
        if np.linalg.eigvalsh(covariance)[0] <= 0:
            raise ValueError(
                f"covariance must be positive definite, got eigenvalues "
                f"{np.linalg.eigvalsh(covariance)}: raise its floor"
            )
        with th.no_grad():
            self.action_covariance.copy_(th.from_numpy(covariance))
            self.log_std.copy_(0.5 * self.action_covariance.diagonal().log())

    def save(self, path: str | os.PathLike[str] | BinaryIO) -> None:
        """As SB3's, which takes a path or an open file; a file appears whole or not at all."""
        if isinstance(path, (str, os.PathLike)):
            rewrite(Path(path), self._write)
        else:
            super().save(path)  # type: ignore[arg-type]

    def _write(self, path: Path) -> None:
        with path.open("wb") as file:  # torch would name what is inside by the temporary path
            super().save(file)  # type: ignore[arg-type]

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        mean = self.get_distribution(observation).mode()
        if deterministic:
            return mean
        factor = th.linalg.cholesky(self.action_covariance)
        scale = self.log_std.double().exp() / self.action_covariance.diagonal().sqrt()
        noise = th.randn_like(mean, dtype=th.float64) @ factor.T * scale
        return mean + noise.to(mean.dtype)


MlpPolicy = GPSPolicy
CnnPolicy = GPSPolicy
MultiInputPolicy = GPSPolicy

policy_aliases: dict[str, type[BasePolicy]] = {
    "MlpPolicy": MlpPolicy,
    "CnnPolicy": CnnPolicy,
    "MultiInputPolicy": MultiInputPolicy,
}


def resolve_policy(
    policy: str | type[GPSPolicy], observation_space: gym.Space, normalize_images: bool = True
) -> type[GPSPolicy]:
    """The policy class of a name, after checking that the name fits the observations.

    :param policy: a class, or "MlpPolicy" (a vector), "CnnPolicy" (an image, or a Dict with one)
        or "MultiInputPolicy" (the same class, for a Dict).
    :param observation_space: of the environment; images may be channels-last.
    :param normalize_images: as of ``GPSPolicy``.
    :raises ValueError: unknown name, or a name that does not fit.
    """
    if not isinstance(policy, str):
        if not (isinstance(policy, type) and issubclass(policy, GPSPolicy)):
            raise ValueError(f"policy must be a name or a subclass of GPSPolicy, got {policy!r}")
        return policy
    if policy not in policy_aliases:
        raise ValueError(
            f"policy '{policy}' does not exist. Available names: {', '.join(policy_aliases)}"
        )
    images, _ = split_space(observation_space, not normalize_images)
    is_dict = isinstance(observation_space, spaces.Dict)
    if policy == "MlpPolicy" and (images or is_dict):
        raise ValueError(
            f"MlpPolicy takes a vector, got {observation_space}: "
            f"use '{'CnnPolicy' if images else 'MultiInputPolicy'}'"
        )
    if policy == "CnnPolicy" and not images:
        raise ValueError(
            f"CnnPolicy takes an image (uint8, 0 to 255, three dimensions; floats in [0, 1] with "
            "policy_kwargs=dict(normalize_images=False)) or a Dict with one, got "
            f"{observation_space}: use '{'MultiInputPolicy' if is_dict else 'MlpPolicy'}'"
        )
    if policy == "MultiInputPolicy" and not (images or is_dict):
        raise ValueError(
            f"MultiInputPolicy takes a Dict or an image, got {observation_space}: use 'MlpPolicy'"
        )
    return GPSPolicy
