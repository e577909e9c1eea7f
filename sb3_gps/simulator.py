"""The derivatives of MuJoCo itself, for teachers that need not fit their dynamics.

    s' = step(s, u),  s = [qpos; qvel]        A = ds'/ds,  B = ds'/du
    x  = h(s),        s the first part of x    dx'/d[x; u] = h_s(s') [A 0 B]

by finite differences (``mjd_transitionFD``), chained over the substeps of a control step.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

EPSILON = 1e-6  # of the differences, which are central


class SimulatorState(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Gives ``info["state"]`` and, after each step, ``info["jacobian"]``, its derivatives.

    ``info["state"]`` is that of the environment, which must then begin with qpos and qvel and offer
    ``state()``, computed from its ``data``; else [qpos; qvel].

    The environment must apply its action as ``data.ctrl`` over ``frame_skip`` steps of the physics,
    as Gymnasium's MuJoCo environments do.

    :param env: with ``model``, ``data`` and ``frame_skip``
    :raises ValueError: no such environment, free or ball joints, or actuators with a state
    """

    def __init__(self, env: gym.Env) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        task: Any = env.unwrapped
        missing = [name for name in ("model", "data", "frame_skip") if not hasattr(task, name)]
        if missing:
            raise ValueError(
                f"expected a MuJoCo environment, {type(task).__name__} has no "
                f"{', '.join(missing)}; use dynamics='fitted', which needs no simulator"
            )
        model = task.model
        if model.nq != model.nv:
            raise ValueError(
                f"expected as many positions as velocities, got {model.nq} and {model.nv}: free "
                "and ball joints have quaternions; use dynamics='fitted'"
            )
        if model.na:
            raise ValueError("actuators with a state are not supported; use dynamics='fitted'")
        space = env.action_space
        if not isinstance(space, gym.spaces.Box) or space.shape != (model.nu,):
            raise ValueError(
                f"expected one action for each of the {model.nu} actuators, got {space}"
            )
        inner = env
        while isinstance(inner, gym.Wrapper):
            if isinstance(inner, gym.ActionWrapper):
                raise ValueError(
                    f"expected actions that are the simulator's controls, {type(inner).__name__} "
                    "changes them: leave it out, or use dynamics='fitted'"
                )
            inner = inner.env

    @property
    def controls(self) -> gym.spaces.Space:
        """What actions are here, inside of other wrappers."""
        return self.action_space

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        return observation, {**info, "state": self._state()}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        space = self.action_space
        assert isinstance(space, gym.spaces.Box)
        A, B = self._transition(np.clip(action, space.low, space.high))
        observation, reward, terminated, truncated, info = self.env.step(action)
        state = self._state()
        info = {**info, "state": state, "jacobian": self._jacobian(A, B, len(state))}
        return observation, reward, terminated, truncated, info

    def _state(self) -> np.ndarray:
        task: Any = self.unwrapped
        if hasattr(task, "state"):
            return np.asarray(task.state(), dtype=np.float64)
        return np.concatenate([task.data.qpos, task.data.qvel])

    def _transition(self, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A (2 nv, 2 nv) and B (2 nv, nu) of a control step, from where the simulation is."""
        task: Any = self.unwrapped
        model, data = task.model, mujoco.MjData(task.model)
        mujoco.mj_copyData(data, model, task.data)
        data.ctrl[:] = control
        if model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4:
            return _differences(model, data, task.frame_skip)
        n = 2 * model.nv
        A, B = np.eye(n), np.zeros((n, model.nu))
        a, b = np.empty((n, n)), np.empty((n, model.nu))
        for _ in range(task.frame_skip):
            mujoco.mjd_transitionFD(model, data, EPSILON, True, a, b, None, None)
            A, B = a @ A, a @ B + b
            mujoco.mj_step(model, data)
        return A, B

    def _jacobian(self, A: np.ndarray, B: np.ndarray, dX: int) -> np.ndarray:
        """d x'/d [x; u], (dX, dX + dU), where the simulation is at x'."""
        n, dU = B.shape
        jacobian = np.zeros((dX, dX + dU))
        jacobian[:n, :n], jacobian[:n, dX:] = A, B
        if dX > n:
            slope = self._slope(n)[n:]
            jacobian[n:, :n], jacobian[n:, dX:] = slope @ A, slope @ B
        return jacobian

    def _slope(self, n: int) -> np.ndarray:
        """h_s, (dX, 2 nv), by central differences; the simulation is left as it was."""
        task: Any = self.unwrapped
        model, data = task.model, task.data
        saved = mujoco.MjData(model)
        mujoco.mj_copyData(saved, model, data)
        columns = []
        for i in range(n):
            ends = []
            for sign in (1.0, -1.0):
                part = data.qpos if i < model.nv else data.qvel
                part[i % model.nv] += sign * EPSILON
                ends.append(self._state())
                mujoco.mj_copyData(data, model, saved)
            columns.append((ends[0] - ends[1]) / (2 * EPSILON))
        return np.stack(columns, axis=1)


def _differences(
    model: mujoco.MjModel, data: mujoco.MjData, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """A and B of some steps of the physics, where ``mjd_transitionFD`` has no answer (RK4)."""
    n = 2 * model.nv
    moved = mujoco.MjData(model)
    columns = []
    for i in range(n + model.nu):
        ends = []
        for sign in (1.0, -1.0):
            mujoco.mj_copyData(moved, model, data)
            for part, first in ((moved.qpos, 0), (moved.qvel, model.nv), (moved.ctrl, n)):
                if first <= i < first + len(part):
                    part[i - first] += sign * EPSILON
            mujoco.mj_step(model, moved, nstep=steps)
            ends.append(np.concatenate([moved.qpos, moved.qvel]))
        columns.append((ends[0] - ends[1]) / (2 * EPSILON))
    both = np.stack(columns, axis=1)
    return both[:, :n], both[:, n:]
