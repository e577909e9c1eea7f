"""DAgger: a student that imitates an expert in the states that the student itself comes to.

    round 0    the expert acts
    later      the student acts, and the expert says what it would have done
    after each the student is fitted to all that was said so far

Source: Ross, Gordon & Bagnell 2011, with beta = 1 in the first round and 0 after it. An expert that
sees the state, and a student that sees images, are what privileged-teacher methods are today.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from stable_baselines3.common.type_aliases import PolicyPredictor
from stable_baselines3.common.vec_env import VecEnv

from sb3_gps.core.types import StudentTargets
from sb3_gps.environment import resolve_horizon
from sb3_gps.features import StandardisedExtractor, input_statistics
from sb3_gps.observations import map_observation
from sb3_gps.policies import GPSPolicy
from sb3_gps.privileged import STATE
from sb3_gps.rollout import Start, run_episodes
from sb3_gps.supervised import Augment, fit_student


def dagger(
    student: GPSPolicy,
    expert: PolicyPredictor,
    env: VecEnv,
    rounds: Sequence[Sequence[Start]],
    *,
    head_steps: int,
    end_to_end_steps: int,
    rng: np.random.Generator,
    augment: Augment | None = None,
    on_round: Callable[[int], None] | None = None,
) -> GPSPolicy:
    """Train a student, which is changed in place.

    :param student: of the environment's observation without the state
    :param expert: acts on ``{"state": ...}`` by SB3's ``predict``
    :param env: of ``InfoObservation``, with images channels-first
    :param rounds: starts of each round's episodes
    :param head_steps: of the fully connected layers, in each round
    :param end_to_end_steps: of the whole network, in each round
    :param augment: random changes of the images
    :param on_round: called after each round with its number, from 0
    :raises ValueError: an environment that does not show the state
    """
    parts = getattr(env.observation_space, "spaces", {})
    if STATE not in parts:
        raise ValueError(
            f"the expert needs '{STATE}' in the observation, got {sorted(parts)}: wrap the "
            "environment in InfoObservation"
        )
    seen: list[dict[str, np.ndarray]] = []
    wanted: list[np.ndarray] = []

    def advice(observation: dict[str, np.ndarray]) -> np.ndarray:
        return expert.predict({STATE: observation[STATE]}, deterministic=True)[0]

    def expert_acts(observation: Any, x: Any, t: int, episodes: Any) -> np.ndarray:
        return advice(observation)

    def student_acts(observation: Any, x: Any, t: int, episodes: Any) -> np.ndarray:
        return student.predict(_without_state(observation), deterministic=True)[0]

    for number, starts in enumerate(rounds):
        episodes = run_episodes(
            env,
            starts,
            expert_acts if number == 0 else student_acts,
            resolve_horizon(None, env),
            read_state=None,
            keep_observations=True,
        )
        running = np.arange(episodes.U.shape[1]) < episodes.length[:, None]
        lived = map_observation(itemgetter(running), episodes.observations)
        seen.append(_without_state(lived))
        wanted.append(advice(lived).astype(np.float64))
        inputs = {key: np.concatenate([part[key] for part in seen]) for key in seen[0]}
        mean = np.concatenate(wanted)
        if isinstance(student.features_extractor, StandardisedExtractor):
            student.features_extractor.set_input_statistics(input_statistics(inputs))
        identity = np.broadcast_to(np.eye(mean.shape[1]), (*mean.shape, mean.shape[1]))
        fit_student(
            student,
            inputs,
            StudentTargets(mean, identity),
            head_steps=head_steps,
            end_to_end_steps=end_to_end_steps,
            augment=augment,
            rng=rng,
        )
        if on_round is not None:
            on_round(number)
    return student


def _without_state(observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the student sees."""
    return {key: value for key, value in observation.items() if key != STATE}
