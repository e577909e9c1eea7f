"""What a policy is worth: its success from given starts, by the task's own rule, or its return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.type_aliases import PolicyPredictor
from stable_baselines3.common.vec_env import VecEnv

from sb3_gps.environment import optional_attribute, resolve_horizon
from sb3_gps.observations import Observations, map_observation
from sb3_gps.rollout import Actor, Start, StepHook, run_episodes

EVALUATION_SEED = 10_000  # of the first episode that a return is measured on


@dataclass(frozen=True)
class SuccessRate:
    """Success over episodes."""

    success: np.ndarray  # (episodes,) bool
    returns: np.ndarray  # (episodes,)

    @property
    def rate(self) -> float:
        """Share of successful episodes, 0 to 1."""
        return float(self.success.mean())


def evaluate_starts(
    model: PolicyPredictor,
    env: VecEnv,
    starts: Sequence[Start],
    repeats: int = 1,
    seed: int = 0,
    horizon: int | None = None,
    on_step: StepHook | None = None,
) -> SuccessRate:
    """Run the deterministic policy ``repeats`` times from each start.

    :param model: anything with SB3's ``predict``
    :param env: its environments run in parallel; more of them share one network pass
    :param starts: those without a seed get one for each repeat (initial-state noise)
    :param seed: of the first start; the next have the next ones
    :param horizon: T; None: the environment's
    :param on_step: as of ``run_episodes``
    :raises ValueError: where the environment does not say what success is
    """
    seeded = [
        start if start.seed is not None else Start(start.options, seed + 100_003 * r + i)
        for i, start in enumerate(starts)
        for r in range(repeats)
    ]

    episodes = run_episodes(
        env,
        seeded,
        _actor(model),
        resolve_horizon(horizon, env),
        read_state=None,
        keep_observations=False,
        on_step=on_step,
    )
    if np.isnan(episodes.success).any():
        raise ValueError("the environment gives no info['is_success']: success cannot be judged")
    return SuccessRate(episodes.success > 0.5, episodes.rewards.sum(axis=1))


def evaluate_returns(
    model: PolicyPredictor,
    env: VecEnv,
    episodes: int,
    on_step: Callable[[dict[str, Any], dict[str, Any]], None] | None = None,
) -> np.ndarray:
    """Return of deterministic episodes, the same ones at each call, (episodes,).

    :param model: anything with SB3's ``predict``
    :param env: its environments run in parallel
    :param on_step: the callback of SB3's ``evaluate_policy``
    """
    env.seed(EVALUATION_SEED)
    returns, _ = evaluate_policy(
        model, env, episodes, callback=on_step, warn=False, return_episode_rewards=True
    )
    return np.array(returns)


def what_is_seen(
    model: PolicyPredictor, env: VecEnv, start: Start, horizon: int | None = None
) -> Observations:
    """The observations of one deterministic episode, (length, ...).

    :param horizon: T; None: the environment's
    """
    horizon = resolve_horizon(horizon, env)
    episodes = run_episodes(env, [start], _actor(model), horizon, None, keep_observations=True)
    return map_observation(lambda a: a[0, : episodes.length[0]], episodes.observations)


def evaluate_split(
    model: PolicyPredictor,
    env: VecEnv,
    split: str,
    positions: int,
    repeats: int = 1,
    first: int = 0,
    seed: int = 0,
    horizon: int | None = None,
    on_step: StepHook | None = None,
) -> SuccessRate:
    """``evaluate_starts`` from a split's positions.

    :param split: given to ``reset(options={"split": ..., "condition": i})``
    :param positions: how many conditions of the split
    :param first: the first of them; unseen positions beyond those that are reported are for
        choosing options
    """
    starts = [Start({"split": split, "condition": i}) for i in range(first, first + positions)]
    return evaluate_starts(model, env, starts, repeats, seed + first, horizon, on_step)


def offered_splits(env: VecEnv) -> tuple[str, ...]:
    """The splits of a task's positions; none where it has no such thing."""
    return optional_attribute(env, "splits", ())


def _actor(model: PolicyPredictor) -> Actor:
    """Its deterministic actions."""

    def act(observation: Any, x: np.ndarray, t: int, episodes: np.ndarray) -> np.ndarray:
        return model.predict(observation, deterministic=True)[0]

    return act
