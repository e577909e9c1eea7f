"""An environment of one's own, in which the teacher knows more than the student.

python examples/own_environment.py

A puck has to stop at a goal that lies elsewhere in each episode. Teachers read how far it is from
there; the student knows where it is, and of the goal the distances from three beacons.
"""

import argparse

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces

from sb3_gps import GPS
from sb3_gps.evaluation import evaluate_starts
from sb3_gps.rollout import Start

BEACONS = np.array([[-2.0, -2.0], [-2.0, 2.0], [2.0, 0.0]])


def cost(x: th.Tensor, u: th.Tensor, t: th.Tensor) -> th.Tensor:
    """l(x, u, t): (B, 4), (B, 2), (B,) -> (B,), differentiable. Optional: else from rewards."""
    distance, velocity, force = (part.square().sum(1) for part in (x[:, :2], x[:, 2:], u))
    return distance + 0.1 * th.log(distance + 1e-4) + 0.1 * velocity + 0.01 * force


class Puck(gym.Env):
    """See above; 40 steps of 0.1 s."""

    observation_space = spaces.Box(-np.inf, np.inf, (7,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    cost = staticmethod(cost)  # GPS finds it here
    num_conditions = 36  # starts that teachers are trained from

    def reset(self, *, seed=None, options=None):
        """Goal number ``condition``, else any."""
        super().reset(seed=seed)
        number = (options or {}).get("condition")
        rng = self.np_random if number is None else np.random.default_rng(number)
        self.goal, self.q, self.v = rng.uniform(-1, 1, 2), np.zeros(2), np.zeros(2)
        return self.observe()

    def step(self, action):
        """A force of up to 4 N on 1 kg, and friction."""
        x = th.from_numpy(np.concatenate([self.q - self.goal, self.v]))[None]
        reward = -float(cost(x, th.from_numpy(np.float64(action))[None], None))
        self.v = self.v + 0.1 * (4.0 * np.float64(action) - self.v)
        self.q = self.q + 0.1 * self.v
        return self.observe()[0], reward, False, False, self.observe()[1]

    def observe(self):
        """What the student sees; and, for teachers only, the state."""
        ranges = np.linalg.norm(BEACONS - self.goal, axis=1)
        seen = np.concatenate([self.q, self.v, ranges])
        state = np.concatenate([self.q - self.goal, self.v])
        there = np.linalg.norm(self.q - self.goal) < 0.05
        return seen.astype(np.float32), {"state": state, "is_success": bool(there)}


def main() -> None:
    """Train, and try it on goals that it was not trained on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=12)
    iterations = parser.parse_args().iterations
    gym.register("Puck-v0", Puck, max_episode_steps=40)
    model = GPS("MlpPolicy", "Puck-v0", iterations=iterations, update="badmm", seed=0)
    model.learn()
    result = evaluate_starts(model, model.get_env(), [Start({}, seed) for seed in range(50)])
    print(f"{model.trials} trials, {100 * result.rate:.0f} % of unseen goals reached")


if __name__ == "__main__":
    main()
