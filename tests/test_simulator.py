"""The simulator's own derivatives, against secants of its steps."""

from __future__ import annotations

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv
from toy_envs import PointMass

from sb3_gps import GPS, SimulatorState

# Runge-Kutta; and another integrator, with points of a held object as well as joints. Neither
# begins at the limit of a joint, where there are two derivatives.
TASKS = ["InvertedDoublePendulum-v5", "GPS/PegInsertion-v0"]


def restore(env: gym.Env, saved: mujoco.MjData) -> None:
    mujoco.mj_copyData(env.unwrapped.data, env.unwrapped.model, saved)


@pytest.mark.parametrize("env_id", TASKS)
def test_jacobian(env_id, rng):
    env = SimulatorState(gym.make(env_id))
    _, info = env.reset(seed=3)
    task = env.unwrapped
    n, dX = 2 * task.model.nv, len(info["state"])
    np.testing.assert_array_equal(info["state"][: n // 2], task.data.qpos)
    for _ in range(3):
        saved = mujoco.MjData(task.model)
        mujoco.mj_copyData(saved, task.model, task.data)
        action = rng.uniform(-0.3, 0.3, env.action_space.shape)

        def after(state, control, saved=saved):
            restore(env, saved)
            task.data.qpos[:], task.data.qvel[:] = state[: n // 2], state[n // 2 :]
            task.data.ctrl[:] = control
            mujoco.mj_step(task.model, task.data, nstep=task.frame_skip)
            return env._state()

        s = np.concatenate([saved.qpos, saved.qvel])
        ds, du = 1e-5 * rng.normal(size=n), 1e-5 * rng.normal(size=action.shape)
        secant = after(s + ds, action + du) - after(s - ds, action - du)
        restore(env, saved)
        _, _, _, _, info = env.step(action)
        F = info["jacobian"]
        assert F.shape == (dX, dX + len(action))
        predicted = F[:, :n] @ (2 * ds) + F[:, dX:] @ (2 * du)
        assert np.linalg.norm(predicted - secant) < 1e-3 * np.linalg.norm(secant)
        np.testing.assert_allclose(info["state"], after(s, action), atol=1e-9)
        # What follows from the joints is no input of its own.
        assert (F[:, n:dX] == 0).all()
        restore(env, saved)
        env.step(action)


def test_the_episode_is_as_without():
    plain, wrapped = gym.make("Pusher-v5"), SimulatorState(gym.make("Pusher-v5"))
    a, b = plain.reset(seed=1)[0], wrapped.reset(seed=1)[0]
    for t in range(5):
        np.testing.assert_array_equal(a, b)
        action = np.full(7, 0.1 * t, dtype=np.float32)
        a, b = plain.step(action)[0], wrapped.step(action)[0]
    assert wrapped.spec.make().controls  # a worker can make it again


def test_teachers_need_no_trial_for_their_dynamics():
    """Exact from the first trial of each condition on, where fits are not."""
    errors = {}
    for dynamics in ("mujoco", "fitted"):
        env = DummyVecEnv([lambda: SimulatorState(gym.make("Reacher-v5"))])
        options = dict(horizon=50, conditions=4, iterations=2, initial_std=0.05, seed=0)
        gps = GPS("MlpPolicy", env, dynamics=dynamics, last_head_steps=0, **options)
        gps.learn()
        errors[dynamics] = gps.history[1]["gps/held_out_error"]
        assert gps.batches[0].samples.X.shape == (4, 1, 50, 8)
    assert errors["mujoco"] < 0.5 * errors["fitted"]


def test_after_its_end_an_episode_has_the_dynamics_of_its_middle():
    env = SimulatorState(gym.make("InvertedPendulum-v5"))
    gps = GPS("MlpPolicy", env, dynamics="mujoco", conditions=3, iterations=2, seed=0, horizon=1000)
    gps.learn()
    lengths = gps.batches[0].samples.length
    assert lengths.max() < 1000
    dynamics, samples = gps.teachers.fit.dynamics, gps.teachers.fit.samples
    for m in range(3):
        end = samples.length[m, 0]
        # Those of every step that was lived are the simulator's own there, the last one's too.
        np.testing.assert_array_equal(dynamics.F[m, :end], samples.jacobian[m, 0, :end])
        assert (dynamics.F[m, end:] == dynamics.F[m, end // 2]).all()
        assert (dynamics.f[m, end:] == dynamics.f[m, end // 2]).all()
        assert (dynamics.F[m, end - 1] != dynamics.F[m, end // 2]).any()


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("Pendulum-v1", "expected a MuJoCo environment, PendulumEnv has no model"),
        ("Ant-v5", "as many positions as velocities, got 15 and 14"),
    ],
)
def test_what_has_no_such_derivatives(env_id, message):
    with pytest.raises(ValueError, match=message):
        SimulatorState(gym.make(env_id))


def rescaled(env: gym.Env) -> gym.Env:
    return gym.wrappers.RescaleAction(env, np.float32(-10), np.float32(10))


def test_actions_that_are_not_the_controls():
    """Inside and outside of the wrapper: its derivatives would be those of other actions."""
    with pytest.raises(
        ValueError, match=r"simulator's controls, RescaleAction changes them: leave"
    ):
        SimulatorState(rescaled(gym.make("Reacher-v5")))
    env = rescaled(SimulatorState(gym.make("Reacher-v5")))
    with pytest.raises(ValueError, match=r"simulator's controls, Box.*leave out wrappers"):
        GPS("MlpPolicy", env, dynamics="mujoco").learn()


def test_an_environment_that_is_not_wrapped():
    env = gym.wrappers.TimeLimit(PointMass(), 10)
    with pytest.raises(ValueError, match=r"SimulatorState\(gym.make"):
        GPS("MlpPolicy", env, dynamics="mujoco").learn()
