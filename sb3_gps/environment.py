"""What GPS takes from an environment beyond Gymnasium's interface, and what stands in for it.

Everything is looked up once, before the first step, and each has a keyword of ``GPS`` to override
it: the full state, the cost, the initial conditions, the horizon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_gps.autodiff import CostFunction, DifferentiableCost
from sb3_gps.observations import map_observation
from sb3_gps.rollout import Episodes, NotFiniteError, Start, StateReader, reset_episodes

State = str | Callable[[Any, dict[str, Any]], np.ndarray] | None


def optional_attribute(env: VecEnv, name: str, default: Any = None) -> Any:
    """An attribute of the first environment, under all its wrappers, or a default."""
    return env.get_attr(name, indices=0)[0] if env.has_attr(name) else default


@dataclass(frozen=True)
class InfoState:
    """Reads the state from a key of the info dictionary."""

    key: str

    def __call__(self, observation: Any, info: dict[str, Any]) -> np.ndarray:
        if self.key not in info:
            raise ValueError(
                f"info has no {self.key!r} in this step although it had at reset (keys now: "
                f"{sorted(info)}); give it in every reset and step"
            )
        return np.asarray(info[self.key], dtype=np.float64).ravel()


@dataclass(frozen=True)
class ObservationState:
    """Reads the state from the observation, or from one key of a Dict observation."""

    key: str | None = None

    def __call__(self, observation: Any, info: dict[str, Any]) -> np.ndarray:
        value = observation if self.key is None else observation[self.key]
        return np.asarray(value, dtype=np.float64).ravel()


def resolve_state(state: State, space: spaces.Space, info: dict[str, Any]) -> StateReader:
    """Where the teachers read the full state x.

    In this order: the argument (info key, observation key or callable), ``info["state"]``, the
    observation key "state", the flat Box observation itself.
    """
    keys = list(space.spaces) if isinstance(space, spaces.Dict) else []
    if callable(state):
        return state
    if state is not None:
        if state in info:
            return InfoState(state)
        if state in keys:
            return ObservationState(state)
        raise ValueError(
            f"state={state!r} is neither a key of info {sorted(info)} nor of the observation {keys}"
        )
    if "state" in info:
        return InfoState("state")
    if "state" in keys:
        return ObservationState("state")
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return ObservationState()
    raise ValueError(
        "GPS needs the full state for its teachers and found none: expected info['state'], an "
        f"observation key 'state' or a flat Box observation, got {space} and info keys "
        f"{sorted(info)}; pass `state=` (an info key, an observation key or a callable)"
    )


def resolve_cost(
    cost: CostFunction | None, env: VecEnv, dX: int, dU: int
) -> DifferentiableCost | None:
    """The cost that teachers minimise: the argument, else the environment's ``cost``.

    :return: None where there is neither: it is then learned from the rewards
    """
    function = cost if cost is not None else optional_attribute(env, "cost")
    if function is None:
        return None
    model = DifferentiableCost(function)
    model.check(dX, dU)
    return model


def check_costs(cost: DifferentiableCost | None, episodes: Episodes) -> None:
    """
    :param cost: None: the rewards are looked at
    :raises NotFiniteError: at the first cost of the episodes that is no finite number
    """
    steps = np.broadcast_to(np.arange(episodes.X.shape[1]), episodes.X.shape[:2])
    name, advice = "cost", "guard divisions, logarithms and roots in `cost`"
    if cost is None:
        name, advice, value = "reward", "GPS learns its cost from rewards", episodes.rewards
    else:
        value = cost.value(episodes.X, episodes.U, steps)
    bad = np.argwhere(~np.isfinite(value))
    if len(bad):
        e, t = bad[0]
        raise NotFiniteError(
            f"expected a finite {name}, got {value[e, t]} at step {t} for x = {episodes.X[e, t]}, "
            f"u = {episodes.U[e, t]}; {advice}",
            int(e),
        )


def resolve_conditions(conditions: int | None, env: VecEnv, seed: int) -> list[Start]:
    """The starts of the M initial conditions: reset options, else one reset seed each."""
    offered = optional_attribute(env, "num_conditions")
    if offered is None:
        M = 4 if conditions is None else conditions
        return [Start(seed=seed + m) for m in range(M)]
    M = offered if conditions is None else conditions
    if not 1 <= M <= offered:
        raise ValueError(f"conditions must be in 1..{offered} (the environment's), got {M}")
    return [Start(options={"condition": m}) for m in range(M)]


def resolve_horizon(horizon: int | None, env: VecEnv) -> int:
    """T: the argument, else the environment's ``spec.max_episode_steps``."""
    if horizon is None:
        spec = optional_attribute(env, "spec")
        horizon = None if spec is None else spec.max_episode_steps
    if horizon is None or horizon < 2:
        raise ValueError(
            f"GPS needs a fixed horizon of at least 2 steps, got {horizon}; register the "
            "environment with max_episode_steps, or pass `horizon=`"
        )
    return int(horizon)


def check_vectorised(env: Any) -> None:
    """Refuse Gymnasium's own vectorised environments, which SB3 would take for a single one."""
    if isinstance(env, gym.vector.VectorEnv):
        raise ValueError(
            f"expected an environment, its id or a VecEnv of Stable-Baselines3, got Gymnasium's "
            f"{type(env).__name__}; use stable_baselines3.common.env_util.make_vec_env(id, "
            f"n_envs={env.num_envs})"
        )


def check_spaces(observation_space: spaces.Space, action_space: spaces.Space) -> None:
    """Refuse what a linear-Gaussian teacher cannot control or a student cannot see."""
    if not isinstance(action_space, spaces.Box) or len(action_space.shape) != 1:
        raise ValueError(
            f"GPS needs a one-dimensional Box action space, got {action_space}; discrete actions "
            "have no linear-Gaussian controller: use PPO or DQN, or wrap the action space"
        )
    if not (np.isfinite(action_space.low).all() and np.isfinite(action_space.high).all()):
        raise ValueError(
            f"GPS needs finite action bounds, got {action_space}; give it some, as in "
            "gymnasium.wrappers.TransformAction(env, lambda action: action, Box(low, high))"
        )
    if (fixed := np.flatnonzero(action_space.low == action_space.high)).size:
        raise ValueError(
            f"every action needs a range, those at {fixed.tolist()} have low = high in "
            f"{action_space}; leave them out, with gymnasium.wrappers.TransformAction"
        )
    if isinstance(observation_space, spaces.Dict):
        nested = [k for k, s in observation_space.spaces.items() if not isinstance(s, spaces.Box)]
        if nested:
            raise ValueError(
                f"every entry of a Dict observation must be a Box, got {nested} of other types; "
                "wrap the environment with gymnasium.wrappers.FlattenObservation or drop them"
            )
    elif not isinstance(observation_space, spaces.Box):
        raise ValueError(
            f"the observation must be a Box or a Dict of Boxes, got {observation_space}"
        )


def sees_images(observation_space: spaces.Space) -> bool:
    """Whether an observation has images."""
    space = observation_space
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    return any(len(part.shape) == 3 for part in parts)  # type: ignore[arg-type]


def check_wrapper(wrapper: VecNormalize | None) -> None:
    """Refuse observations whose meaning changes during the run."""
    if wrapper is not None and wrapper.norm_obs:
        raise ValueError(
            "GPS standardises its inputs itself, and statistics that change during the run "
            "would make old observations and states mean something else: expected no "
            "VecNormalize, or one with norm_obs=False"
        )


def check_rewards(wrapper: VecNormalize | None, cost: DifferentiableCost | None) -> None:
    """Refuse rewards whose meaning changes during the run, where a cost is learned from them."""
    if wrapper is not None and wrapper.norm_reward and cost is None:
        raise ValueError(
            "GPS learns its cost from the rewards, and standardises them itself; with statistics "
            "that change during the run old ones would mean something else: expected no "
            "VecNormalize, or one with norm_reward=False, or a cost"
        )


def check_simulator(env: VecEnv) -> None:
    """Refuse environments whose steps do not come with the derivatives of the simulator."""
    controls = optional_attribute(env, "controls")
    if controls is None:
        raise ValueError(
            "dynamics='mujoco' needs the derivatives of the simulator: wrap each environment, as "
            "in GPS(policy, SimulatorState(gym.make(...)), dynamics='mujoco')"
        )
    if controls != env.action_space:
        raise ValueError(
            f"dynamics='mujoco' needs actions that are the simulator's controls, {controls}, got "
            f"{env.action_space}: leave out wrappers that change them, or use dynamics='fitted'"
        )


@dataclass
class Task:
    """What a run needs to know of its environment."""

    starts: list[Start]  # one for each of the M conditions
    horizon: int
    read_state: StateReader
    cost: DifferentiableCost | None  # None: learned from the rewards
    initial_states: np.ndarray  # (M, dX)
    action_low: np.ndarray  # (dU,) float64
    action_high: np.ndarray  # (dU,)
    dt: float  # s a step; only the LQR's first gains read it
    blind: bool  # whether episodes can go without images
    random_poses: bool  # whether resets to random poses are offered
    observed: bool  # whether the state is what the student sees, and all of it
    simulated: bool  # whether the derivatives of the simulator are read at each step
    posture: tuple[np.ndarray, np.ndarray] | None  # indices in x: what actions push, its velocity

    @property
    def M(self) -> int:
        """Number of conditions."""
        return len(self.starts)

    @property
    def dU(self) -> int:
        """Dimensions of the action."""
        return len(self.action_low)

    @property
    def action_scale(self) -> np.ndarray:
        """Half the range of each action, (dU,)."""
        return 0.5 * (self.action_high - self.action_low)

    @property
    def action_middle(self) -> np.ndarray:
        """(dU,)."""
        return 0.5 * (self.action_high + self.action_low)


def describe_task(
    env: VecEnv,
    *,
    state: State,
    cost: CostFunction | None,
    conditions: int | None,
    horizon: int | None,
    seed: int,
    dynamics: str = "fitted",
) -> Task:
    """Resolve all of the above; resets every condition once, takes no step."""
    simulated = dynamics == "mujoco"
    if simulated:
        check_simulator(env)
    starts = resolve_conditions(conditions, env, seed)
    T = resolve_horizon(horizon, env)
    blind = bool(optional_attribute(env, "image_on_demand", False))
    read_state: StateReader | None = None
    states = []
    observed = True
    # Seeded, so that noise of the initial state does not depend on the number of environments.
    seeded = [s if s.seed is not None else Start(s.options, seed + m) for m, s in enumerate(starts)]
    for first in range(0, len(starts), env.num_envs):
        chosen = [seeded[min(i, len(starts) - 1)] for i in range(first, first + env.num_envs)]
        observation, infos = reset_episodes(env, [without_image(s) if blind else s for s in chosen])
        if read_state is None:
            read_state = resolve_state(state, env.observation_space, infos[0])
        for i in range(min(env.num_envs, len(starts) - first)):
            row = map_observation(itemgetter(i), observation)
            states.append(read_state(row, infos[i]))
            observed &= (
                isinstance(row, np.ndarray)
                and row.shape == states[-1].shape
                and np.allclose(row, states[-1], rtol=1e-5, atol=1e-6)
            )
    assert read_state is not None
    initial = np.asarray(states, dtype=np.float64)
    assert isinstance(env.action_space, gym.spaces.Box)
    low, high = (b.astype(np.float64) for b in (env.action_space.low, env.action_space.high))
    return Task(
        starts=starts,
        horizon=T,
        read_state=read_state,
        cost=resolve_cost(cost, env, initial.shape[1], len(low)),
        initial_states=initial,
        action_low=low,
        action_high=high,
        dt=float(optional_attribute(env, "dt", 0.05)),
        blind=blind,
        random_poses=bool(optional_attribute(env, "random_poses", False)),
        observed=observed,
        simulated=simulated,
        # Its indices are those of the environment's own state.
        posture=optional_attribute(env, "actuated") if state in (None, "state") else None,
    )


def without_image(start: Start) -> Start:
    """The same episode, but blind: nothing is rendered."""
    return Start({**start.options, "image": False}, start.seed)
