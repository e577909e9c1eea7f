"""What a run says of itself: the seconds of its phases, where it failed, and rows for the log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from stable_baselines3.common.logger import Logger


@contextmanager
def timed(seconds: MutableMapping[str, float], phase: str) -> Iterator[None]:
    """Add what the block takes to the seconds of a phase."""
    begin = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - begin


@contextmanager
def located(iteration: int) -> Iterator[None]:
    """Errors of the numerics know condition and step; this adds the iteration."""
    try:
        yield
    except (ValueError, np.linalg.LinAlgError) as error:
        raise ValueError(f"{error} (iteration {iteration})") from error


def record_iteration(logger: Logger, row: Mapping[str, float], costs: np.ndarray) -> None:
    """Log what is finite of an iteration, and the cost of each condition (not on the screen)."""
    for key, value in row.items():
        if np.isfinite(value):
            logger.record(key, value)
    for m, cost in enumerate(costs):
        logger.record(f"gps/cost_{m}", cost, exclude="stdout")


def record_rollouts(
    logger: Logger, episodes: Sequence[dict[str, Any]], successes: Sequence[float]
) -> None:
    """SB3's means over recent episodes, those of ``Monitor`` and of ``info["is_success"]``."""
    if episodes:
        logger.record("rollout/ep_rew_mean", float(np.mean([e["r"] for e in episodes])))
        logger.record("rollout/ep_len_mean", float(np.mean([e["l"] for e in episodes])))
    if successes:
        logger.record("rollout/success_rate", float(np.mean(successes)))


def record_time(logger: Logger, steps: int, steps_at_start: int, seconds: float) -> None:
    """SB3's figures of time.

    :param steps: of the environment, in all
    :param steps_at_start: when ``learn`` began
    :param seconds: since then
    """
    logger.record("time/fps", int((steps - steps_at_start) / max(seconds, 1e-9)))
    logger.record("time/time_elapsed", int(seconds), exclude="tensorboard")
    logger.record("time/total_timesteps", steps, exclude="tensorboard")
