"""What only training sees, as a part of the observation: for other algorithms that use it.

PPO and SAC on the full state are an upper reference; an asymmetric SAC (Pinto et al. 2018) has a
critic of the state and an actor of the images, so that its policy needs no state when it acts.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor
from stable_baselines3.sac.policies import Actor, ContinuousCritic, MultiInputPolicy

from sb3_gps.features import VisuomotorExtractor

STATE = "state"


class InfoObservation(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """An entry of info as a part of a Dict observation.

    :param env: with a Dict observation
    :param key: of info, a vector; its name in the observation as well
    :param images: whether images stay in the observation; without them none is drawn
    :param vectors: whether its vectors stay
    :raises ValueError: an observation that is not a Dict, or no such entry
    """

    def __init__(
        self, env: gym.Env, key: str = STATE, images: bool = True, vectors: bool = True
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, key=key, images=images, vectors=vectors)
        gym.Wrapper.__init__(self, env)
        if not isinstance(env.observation_space, spaces.Dict):
            raise ValueError(f"expected a Dict observation, got {env.observation_space}")
        parts = {
            name: space
            for name, space in env.observation_space.spaces.items()
            if (images if is_image_space(space) else vectors)
        }
        self._kept, self._key = list(parts), key
        self._blind = bool(
            not images
            and env.has_wrapper_attr("image_on_demand")
            and env.get_wrapper_attr("image_on_demand")
        )
        _, info = self._reset(seed=None, options=None)
        if key not in info:
            raise ValueError(f"expected info['{key}'] at reset, got keys {sorted(info)}")
        parts[key] = spaces.Box(-np.inf, np.inf, np.shape(info[key]), np.float32)
        self.observation_space = spaces.Dict(parts)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        observation, info = self._reset(seed, options)
        return self._replace(observation, info), info

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._replace(observation, info), reward, terminated, truncated, info

    def _reset(self, seed: int | None, options: dict[str, Any] | None) -> tuple[Any, dict]:
        if self._blind:
            options = {**(options or {}), "image": False}
        return self.env.reset(seed=seed, options=options)

    def _replace(self, observation: Any, info: dict[str, Any]) -> dict[str, np.ndarray]:
        added = np.asarray(info[self._key], dtype=np.float32)
        return {**{name: observation[name] for name in self._kept}, self._key: added}


class AsymmetricSACPolicy(MultiInputPolicy):
    """Of SAC on an ``InfoObservation``: the actor does not see the state, the critic no images.

    :param args: as of SAC's ``MultiInputPolicy``; the actor has our network of images
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "share_features_extractor": False})

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        seen = {k: s for k, s in self._parts().items() if k != STATE}
        return super().make_actor(features_extractor or VisuomotorExtractor(spaces.Dict(seen)))

    def make_critic(
        self, features_extractor: BaseFeaturesExtractor | None = None
    ) -> ContinuousCritic:
        vectors = {k: s for k, s in self._parts().items() if not is_image_space(s)}
        return super().make_critic(features_extractor or CombinedExtractor(spaces.Dict(vectors)))

    def _parts(self) -> dict[str, spaces.Space]:
        assert isinstance(self.observation_space, spaces.Dict)
        return self.observation_space.spaces
