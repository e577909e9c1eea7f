"""Episodes in a vectorised environment: the only file that steps one.

An episode of a condition is asked for through the reset options (``env.set_options``), which pass
every VecEnv wrapper; where an environment has no conditions, the reset seed stands in for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from sb3_gps.core.types import LinearisedTrajectories, Trajectories
from sb3_gps.observations import Observations, map_observation, parts_of

# (observations of n environments, their states (n, dX), t, which episodes (n,)) -> actions (n, dU)
Actor = Callable[[Observations, np.ndarray, int, np.ndarray], np.ndarray]
StateReader = Callable[[Any, dict[str, Any]], np.ndarray]  # (one observation, its info) -> x
StepHook = Callable[[dict[str, Any]], bool]


class EpisodeError(ValueError):
    """An episode that cannot be used; ``episode`` is its index in the batch."""

    def __init__(self, message: str, episode: int) -> None:
        super().__init__(message)
        self.episode = episode


class EpisodeLengthError(EpisodeError):
    """An episode is shorter than the horizon, and has not terminated."""


class NotFiniteError(EpisodeError):
    """A NaN or an infinity, where it first appears."""


class StopTraining(Exception):
    """A callback asked to stop; what was sampled in the unfinished batch is dropped."""


@dataclass
class Start:
    """How one episode begins: its reset options, and a seed where those do not fix it."""

    options: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None


@dataclass
class Episodes:
    """What E episodes of T steps left behind."""

    X: np.ndarray  # (E, T, dX) states before each action; empty last axis where no state is read
    U: np.ndarray  # (E, T, dU) executed actions
    rewards: np.ndarray  # (E, T)
    success: np.ndarray  # (E,) float, nan where the environment does not say
    observations: Observations | None  # (E, T, ...) before each action
    length: np.ndarray  # (E,) steps before its end
    jacobian: np.ndarray | None = None  # (E, T, dX, dX + dU) of the simulator, where it is read

    def by_condition(self, M: int) -> tuple[Trajectories, Observations | None]:
        """As (M, N, T, ...): episodes are ordered condition by condition."""

        def split(array: np.ndarray) -> np.ndarray:
            return array.reshape(M, -1, *array.shape[1:])

        observations = self.observations
        if observations is not None:
            observations = map_observation(split, observations)
        parts = split(self.X), split(self.U), split(self.length)
        if self.jacobian is None:
            return Trajectories(*parts), observations
        return LinearisedTrajectories(*parts, split(self.jacobian)), observations


def reset_episodes(
    env: VecEnv, starts: Sequence[Start]
) -> tuple[Observations, list[dict[str, Any]]]:
    """Reset every environment at once, each as asked."""
    env.set_options([dict(start.options) for start in starts])
    for index, start in enumerate(starts):
        if start.seed is not None:
            # The public `VecEnv.seed` gives environment i the seed + i: undo that.
            env.unwrapped._seeds[index] = start.seed
    observation = env.reset()
    assert not isinstance(observation, tuple)  # SB3 has no Tuple observations
    return observation, list(env.unwrapped.reset_infos)


def run_episodes(
    env: VecEnv,
    starts: Sequence[Start],
    actor: Actor,
    horizon: int,
    read_state: StateReader | None,
    keep_observations: bool,
    on_step: StepHook | None = None,
    read_jacobian: bool = False,
) -> Episodes:
    """Run one episode for each start, ``env.num_envs`` at a time.

    An episode that terminates early rests in its last state for the steps that are left, with
    actions and rewards of zero, and what was observed there: it is then as long as the others, and
    its return is what the environment gave. One that would go on after T steps is cut there.

    :param starts: E episodes; the last round is filled up by repeating the last one
    :param actor: chooses actions; they are clipped to the action space, and recorded as executed
    :param horizon: T
    :param read_state: None where nobody reads the state
    :param keep_observations: whether to return them
    :param on_step: called after each step with the locals that SB3's callbacks read, of which
        ``real`` says which environments are in one of the episodes, and ``ends`` which of these end
        now; false stops
    :param read_jacobian: whether to keep ``info["jacobian"]`` of each step
    :raises EpisodeLengthError: when an episode is truncated before T steps
    :raises StopTraining: when ``on_step`` is false
    :raises NotFiniteError: at the first NaN of a state, an observation or an action
    """
    E, n, T = len(starts), env.num_envs, horizon
    low, high = env.action_space.low, env.action_space.high  # type: ignore[attr-defined]
    dU = env.action_space.shape[0]  # type: ignore[index]
    U, rewards_all = np.zeros((E, T, dU)), np.zeros((E, T))
    X: np.ndarray | None = None
    success, length = np.full(E, np.nan), np.full(E, T)
    kept: Any = None
    jacobian: np.ndarray | None = None
    for first in range(0, E, n):
        episodes = np.minimum(np.arange(first, first + n), E - 1)
        observation, infos = reset_episodes(env, [starts[e] for e in episodes])
        real = np.arange(first, first + n) < E
        for t in range(T):
            if not real.any():
                break
            x = _read_states(read_state, observation, infos, t, episodes)
            if X is None:
                X = np.zeros((E, T, x.shape[1]))
            _check_observation(observation, t, episodes)
            action = np.clip(actor(observation, x, t, episodes), low, high)
            if not np.isfinite(action).all():
                bad = episodes[~np.isfinite(action).all(axis=1)][0]
                raise NotFiniteError(
                    f"expected a finite action, got {action[episodes == bad][0]} at step {t}; "
                    "look at gps/cost and gps/entropy before it",
                    bad,
                )
            if keep_observations:
                kept = _store(kept, observation, episodes, real, E, T, t)
            X[episodes[real], t], U[episodes[real], t] = x[real], action[real]
            new_obs, rewards, dones, infos = env.step(action.astype(env.action_space.dtype))
            assert not isinstance(new_obs, tuple)
            rewards_all[episodes[real], t] = rewards[real]
            if t < T - 1:
                _refuse_truncated(infos, t, T, episodes, real)
            if read_jacobian:
                assert X is not None
                if jacobian is None:
                    jacobian = np.zeros((*X.shape, X.shape[-1] + dU))
                jacobian[episodes[real], t] = [infos[i]["jacobian"] for i in np.flatnonzero(real)]
            ends = real & (dones | (t == T - 1))
            if on_step is not None and not on_step(locals()):
                raise StopTraining
            for i in np.flatnonzero(ends):
                e, info = episodes[i], infos[i]
                success[e] = float(info.get("is_success", np.nan))
                if t < T - 1:
                    length[e], last = t + 1, map_observation(_first, info["terminal_observation"])
                    X[e, t + 1 :] = _read_states(read_state, last, [info], t + 1, episodes[[i]])
                    if keep_observations:
                        rest = slice(t + 1, None)
                        kept = _store(kept, last, episodes[[i]], np.array([True]), E, T, rest)
            real = real & ~dones  # its environment has begun another episode, which is not one
            observation = new_obs
    assert X is not None
    return Episodes(X, U, rewards_all, success, kept, length, jacobian)


def _first(array: np.ndarray) -> np.ndarray:
    """One observation as a batch."""
    return np.asarray(array)[None]


def _refuse_truncated(
    infos: Sequence[dict[str, Any]], t: int, T: int, episodes: np.ndarray, real: np.ndarray
) -> None:
    """Where an episode is truncated, what it was worth is not known: it is no trial of T steps."""
    wrong = real & np.array([info.get("TimeLimit.truncated", False) for info in infos])
    if wrong.any():
        bad = episodes[wrong][0]
        raise EpisodeLengthError(
            f"expected episodes of {T} steps, episode {bad} was truncated after {t + 1}; pass the "
            "environment's own length as `horizon=`, the shortest where lengths vary",
            bad,
        )


def _read_states(
    read_state: StateReader | None,
    observation: Any,
    infos: Sequence[dict[str, Any]],
    t: int,
    episodes: np.ndarray,
) -> np.ndarray:
    if read_state is None:
        return np.zeros((len(infos), 0))
    rows = [
        read_state(map_observation(lambda a, i=i: a[i], observation), info)  # type: ignore[misc]
        for i, info in enumerate(infos)
    ]
    x = np.asarray(rows, dtype=np.float64)
    if not np.isfinite(x).all():
        bad = episodes[~np.isfinite(x).all(axis=1)][0]
        raise NotFiniteError(
            f"expected a finite state, got {x[episodes == bad][0]} at step {t}; has the simulation "
            "diverged?",
            bad,
        )
    return x


def _check_observation(observation: Any, t: int, episodes: np.ndarray) -> None:
    for key, value in parts_of(observation).items():
        if not np.issubdtype(value.dtype, np.floating):
            continue
        finite = np.isfinite(value.reshape(len(value), -1)).all(axis=1)
        if not finite.all():
            raise NotFiniteError(
                f"expected a finite observation, got NaN or infinity in {key!r} at step {t}",
                episodes[~finite][0],
            )


def _store(
    kept: Any,
    observation: Any,
    episodes: np.ndarray,
    real: np.ndarray,
    E: int,
    T: int,
    t: int | slice,
) -> Any:
    """Put the observations of those environments that are real at a step, or at several."""
    if kept is None:
        kept = map_observation(lambda a: np.zeros((E, T, *a.shape[1:]), dtype=a.dtype), observation)
    seen = parts_of(observation)
    for key, array in parts_of(kept).items():
        for e, value in zip(episodes[real], seen[key][real], strict=True):
            array[e, t] = value
    return kept


def random_poses(
    env: VecEnv,
    count: int,
    rng: np.random.Generator,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Any, np.ndarray]:
    """Observations and pose labels of an arm moved at random, (count, ...) and (count, d).

    Each is one reset with the option ``random_pose``: an image, but no step of the environment.
    """
    rows: list[Any] = []
    poses: list[np.ndarray] = []
    # All at once: the generator moves on alike for any number of environments.
    seeds = rng.integers(2**31, size=count)
    while len(poses) < count:
        chosen = np.minimum(np.arange(len(poses), len(poses) + env.num_envs), count - 1)
        observation, infos = reset_episodes(
            env, [Start({"random_pose": True}, int(seed)) for seed in seeds[chosen]]
        )
        for i, info in enumerate(infos[: count - len(poses)]):
            if "pose" not in info:
                raise ValueError(
                    f"pose pretraining needs info['pose'] at reset, got keys {sorted(info)}; "
                    "pass pose_images=0 to leave it out"
                )
            rows.append(map_observation(lambda a, i=i: np.array(a[i]), observation))  # type: ignore[misc]
            poses.append(np.asarray(info["pose"], dtype=np.float64))
        if progress is not None:
            progress(len(poses), count)
    if isinstance(rows[0], dict):
        return {key: np.stack([row[key] for row in rows]) for key in rows[0]}, np.stack(poses)
    return np.stack(rows), np.stack(poses)
