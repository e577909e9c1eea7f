"""Point masses that GPS learns in a second: a flat state, images, or positions without velocity."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces

DT, GAIN, DAMPING = 0.2, 3.0, 0.5
HORIZON = 15
SMALL_NETWORK = dict(filters=(8, 8), kernel_sizes=(5, 5), strides=(2, 2), precision="float32")
STARTS = np.array([[1.0, 0.6], [-0.8, 0.9], [-1.0, -0.5], [0.7, -1.0], [0.2, 1.0], [-1.0, 0.3]])


def cost(x: th.Tensor, u: th.Tensor, t: th.Tensor) -> th.Tensor:
    """Distance to the origin, speed and effort; a function, so that a worker can send it."""
    q, v = x[:, :2], x[:, 2:4]
    return q.square().sum(-1) + 0.1 * v.square().sum(-1) + 0.02 * u.square().sum(-1)


def nan_cost(x: th.Tensor, u: th.Tensor, t: th.Tensor) -> th.Tensor:
    """Not a number at one step."""
    return cost(x, u, t) + th.where(t == 4, th.nan, 0.0)


class PointMass(gym.Env):
    """A damped mass in the plane, x = [q; v], pushed by u; observed as [q; v].

    :param init_noise: deviation of the initial position, drawn from the reset seed
    :param length: steps after which it ends by itself; None leaves that to a wrapper
    :param fault: what goes wrong, in condition 1 from step 4 on: "nan_state", "no_state", "short"
    """

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 20}
    cost = staticmethod(cost)
    actuated: ClassVar = (np.array([0, 1]), np.array([2, 3]))

    def __init__(
        self,
        num_conditions: int = 4,
        init_noise: float = 0.0,
        length: int | None = None,
        fault: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.render_mode = render_mode
        self.num_conditions, self.init_noise = num_conditions, init_noise
        self.length, self.fault = length, fault
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = self.make_observation_space()
        self.q, self.v = np.zeros(2), np.zeros(2)
        self.t, self.condition = 0, 0
        self.options: dict[str, Any] = {}

    def make_observation_space(self) -> spaces.Space:
        return spaces.Box(-np.inf, np.inf, (4,), np.float32)

    def observe(self) -> Any:
        return np.concatenate([self.q, self.v]).astype(np.float32)

    def info(self) -> dict[str, Any]:
        state = np.concatenate([self.q, self.v])
        broken = self.condition == 1 and self.t >= 4
        if broken and self.fault == "nan_state":
            state[2] = np.nan
        named = {} if broken and self.fault == "no_state" else {"state": state}
        return {**named, "is_success": bool(np.linalg.norm(self.q) < 0.25)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.options = options or {}
        self.condition = self.options.get("condition", 0)
        scale = 0.9 if self.options.get("split") == "spatial" else 1.0
        self.q = scale * STARTS[self.condition % len(STARTS)]
        if self.options.get("random_pose"):
            self.q = self.np_random.uniform(-1.0, 1.0, 2)
        self.q = self.q + self.init_noise * self.np_random.normal(size=2)
        self.v, self.t = np.zeros(2), 0
        return self.observe(), self.info()

    def render(self) -> np.ndarray:
        """The mass as a bright square, (36, 36, 3)."""
        image = np.full((36, 36, 3), 20, np.uint8)
        x, y = np.clip(np.round(self.q * 11 + 15), 0, 30).astype(int)
        image[y : y + 6, x : x + 6] = (250, 40, 40)
        return image

    def step(self, action: np.ndarray) -> Any:
        x = th.from_numpy(np.concatenate([self.q, self.v]))[None]
        u = th.from_numpy(np.asarray(action, dtype=np.float64))[None]
        reward = -float(cost(x, u, th.tensor([self.t])))
        self.v = self.v + DT * (GAIN * np.asarray(action, dtype=np.float64) - DAMPING * self.v)
        self.q = self.q + DT * self.v
        self.t += 1
        short = self.fault == "short" and self.condition == 1 and self.t == 5
        return self.observe(), reward, self.t == self.length, short, self.info()


class Rewarded(PointMass):
    """Offers no cost, and ends when the mass leaves a disc: there is more to be had within."""

    cost: Any = None
    radius = 1.5

    def step(self, action: np.ndarray) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        fallen = bool(np.linalg.norm(self.q) > self.radius)
        return observation, reward + 3.0, terminated or fallen, truncated, info


class PositionOnly(PointMass):
    """The student sees the position alone; the teachers read the velocity in ``info["state"]``."""

    def make_observation_space(self) -> spaces.Space:
        return spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def observe(self) -> Any:
        return self.q.astype(np.float32)


class ImagePointMass(PointMass):
    """The position as a bright square in an image, the velocity as numbers."""

    image_on_demand = True
    random_poses = True
    splits = ("train", "spatial", "visual")

    def make_observation_space(self) -> spaces.Space:
        return spaces.Dict(
            {
                "image": spaces.Box(0, 255, (36, 36, 3), np.uint8),
                "velocity": spaces.Box(-np.inf, np.inf, (2,), np.float32),
            }
        )

    def observe(self) -> Any:
        seen = self.options.get("image", True)
        image = self.render() if seen else np.full((36, 36, 3), 20, np.uint8)
        return {"image": image, "velocity": self.v.astype(np.float32)}

    def info(self) -> dict[str, Any]:
        return {**super().info(), "pose": np.array([*self.q, 0.0])}


for _name, _entry in (
    ("PointMass", PointMass),
    ("Rewarded", Rewarded),
    ("PositionOnly", PositionOnly),
    ("ImagePointMass", ImagePointMass),
):
    if f"Toy/{_name}-v0" not in gym.registry:
        gym.register(f"Toy/{_name}-v0", entry_point=_entry, max_episode_steps=HORIZON)


# GPS on these tasks in about a second.
QUICK = dict(
    seed=0,
    iterations=4,
    head_steps=60,
    end_to_end_steps=10,
    last_head_steps=60,
    last_end_to_end_steps=20,
    pose_images=40,
    pose_steps=20,
)
SMALL_POLICY = dict(features_extractor_kwargs=SMALL_NETWORK)
