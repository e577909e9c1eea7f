"""A batch of trials: every condition's starts, their seeds, and the noise that explores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from sb3_gps.core.types import LinearGaussianController
from sb3_gps.environment import Task, check_costs, without_image
from sb3_gps.exploration import action_noise, student_actor, teacher_actor
from sb3_gps.policies import GPSPolicy
from sb3_gps.rollout import EpisodeError, Episodes, Start, StepHook, run_episodes


def random_starts(M: int, rng: np.random.Generator) -> list[Start]:
    """Those of a plain reset, by seeds that nobody has chosen."""
    return [Start(seed=int(seed)) for seed in rng.integers(2**31, size=M)]


def sample_trials(
    env: VecEnv,
    task: Task,
    teachers: LinearGaussianController,
    student: GPSPolicy | None,
    *,
    samples_per_condition: int,
    smoothing: float,
    seen: bool,
    rng: np.random.Generator,
    on_step: StepHook,
    iteration: int,
) -> Episodes:
    """Episodes of all conditions, condition by condition.

    :param teachers: who act, (M, T, ...)
    :param student: acts in their place, with its own noise; None: they do
    :param smoothing: of the noise over time, deviation in steps
    :param seen: whether images are drawn and observations kept
    :param on_step: as of ``run_episodes``
    :param iteration: that errors name
    :raises EpisodeError: naming iteration and condition
    """
    conditions = np.repeat(np.arange(task.M), samples_per_condition)
    if student is None:
        noise = action_noise(teachers.C, conditions, smoothing, rng)
        actor = teacher_actor(teachers, conditions, noise)
    else:
        sigma = np.broadcast_to(student.action_covariance.cpu().numpy(), teachers.C.shape)
        noise = action_noise(sigma, conditions, smoothing, rng)
        actor = student_actor(student, noise)
    # A seed of its own makes an episode's noise independent of workers and interruptions.
    seeds = rng.integers(2**31, size=len(conditions))
    starts = [
        replace(start, seed=int(seed) if start.seed is None else start.seed)
        for start, seed in zip((task.starts[m] for m in conditions), seeds, strict=True)
    ]
    try:
        episodes = run_episodes(
            env,
            starts if seen else [without_image(start) for start in starts],
            actor,
            task.horizon,
            task.read_state,
            keep_observations=seen,
            on_step=on_step,
            read_jacobian=task.simulated,
        )
        check_costs(task.cost, episodes)
    except EpisodeError as error:
        m = conditions[error.episode]
        where = f"iteration {iteration}, condition {m}"
        raise type(error)(f"{error} ({where})", error.episode) from error
    return episodes
