"""What a trained policy is tried on, split by split, and the figures of it in a record."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.type_aliases import PolicyPredictor

from sb3_gps.evaluation import SuccessRate, evaluate_returns, evaluate_split, offered_splits
from sb3_gps.progress import RunProgress

Z95 = 1.96
SPLITS = {  # name -> in words
    "train": "training positions",
    "spatial": "unseen positions",
    "visual": "unseen with distractors",
}


@dataclass(frozen=True)
class Protocol:
    """What a trained policy is tried on. Test positions are for reporting only.

    A task without splits is tried on as many episodes as there are ``spatial`` positions.
    """

    train_repeats: int = 4
    spatial: int = 200
    visual: int = 200
    init_noise: float = 0.01  # rad, deviation of each joint at the start

    def given(self, env_kwargs: dict[str, Any]) -> Protocol:
        """With the noise that a task is given: what is written down is what was used."""
        return replace(self, init_noise=env_kwargs.get("init_noise", self.init_noise))


BY_THE_BOOK = Protocol()
QUICK = Protocol(train_repeats=1, spatial=40, visual=40)


def evaluate_policy_on_splits(
    model: PolicyPredictor,
    env_id: str,
    num_conditions: int,
    protocol: Protocol,
    n_envs: int = 16,
    progress_bar: bool = False,
    **env_kwargs: Any,
) -> dict[str, Any]:
    """Success in percent, with its 95 % interval, on train, spatial and visual positions.

    :param model: anything with SB3's ``predict``
    :param num_conditions: that it was trained on
    :param env_kwargs: of the task; an ``init_noise`` among them replaces the protocol's
    """
    env_kwargs = {"init_noise": protocol.init_noise, **env_kwargs, "num_conditions": num_conditions}
    env = make_vec_env(env_id, n_envs=n_envs, env_kwargs=env_kwargs)
    plan = {
        "train": (num_conditions, protocol.train_repeats),
        "spatial": (protocol.spatial, 1),
        "visual": (protocol.visual, 1),
    }
    offered = offered_splits(env)
    plan = {split: counts for split, counts in plan.items() if split in offered}
    total = sum(positions * repeats for positions, repeats in plan.values())
    progress = RunProgress(total, progress_bar, "evaluation")

    def on_step(locals_: dict[str, Any]) -> bool:
        progress.advance(int((locals_["dones"] & locals_["real"]).sum()))
        return True

    try:
        return {
            split: summarise(evaluate_split(model, env, split, positions, repeats, on_step=on_step))
            for split, (positions, repeats) in plan.items()
        }
    finally:
        progress.close()
        env.close()


def evaluate_by_the_book(
    model: PolicyPredictor,
    env_id: str,
    num_conditions: int,
    protocol: Protocol,
    progress_bar: bool = False,
    **env_kwargs: Any,
) -> dict[str, Any]:
    """What a record says of a policy: its "success" on the task's splits, or its "returns".

    :param num_conditions: as the other arguments, of ``evaluate_policy_on_splits``
    """
    if SPLITS.keys() & splits_of_task(env_id, env_kwargs):
        success = evaluate_policy_on_splits(
            model, env_id, num_conditions, protocol, progress_bar=progress_bar, **env_kwargs
        )
        return {"success": success}
    env = make_vec_env(env_id, n_envs=min(16, protocol.spatial), env_kwargs=env_kwargs)
    with closing(RunProgress(protocol.spatial, progress_bar, "evaluation")) as progress:
        returns = evaluate_returns(
            model, env, protocol.spatial, lambda here, _: progress.advance(int(here["done"]))
        )
    env.close()
    mean, deviation = (round(float(figure), 3) for figure in (returns.mean(), returns.std()))
    return {"success": {}, "returns": {"mean": mean, "std": deviation, "episodes": len(returns)}}


def splits_of_task(env_id: str, env_kwargs: dict[str, Any]) -> tuple[str, ...]:
    """The splits of a task's positions; none where it has no such thing."""
    env = make_vec_env(env_id, env_kwargs=env_kwargs)
    try:
        return offered_splits(env)
    finally:
        env.close()


def summarise(result: SuccessRate) -> dict[str, Any]:
    """Figures of one split in percent, JSON-able."""
    n = len(result.success)
    return {
        "success": round(100 * result.rate, 2),
        "interval_95": [round(100 * bound, 2) for bound in wilson(result.rate, n)],
        "episodes": n,
        "failed": np.flatnonzero(~result.success).tolist(),
    }


def wilson(rate: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Interval of a share, by Wilson's score: unlike the normal one, not empty at 0 and 1."""
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def splits_of(record: dict[str, Any]) -> dict[str, str]:
    """The splits that a record has figures of, in words."""
    return {split: words for split, words in SPLITS.items() if split in record["success"]}


def in_words(returns: dict[str, Any]) -> str:
    """The "returns" of a record."""
    return f"{returns['mean']:.1f} ± {returns['std']:.1f} in {returns['episodes']} episodes"
