"""What the tests of all tasks on the arm do: follow a script, go to a place, check velocities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from gps_envs import ArmEnv


def follow(
    env: ArmEnv,
    info: dict[str, Any],
    goal: Callable[[np.ndarray], np.ndarray],
    rotation: np.ndarray | None = None,
) -> dict[str, Any]:
    """The rest of an episode after a reset, under a script that knows everything; its last info.

    :param info: of the reset
    :param goal: from the place (3,) of the object's first point in the world to where it shall go
    :param rotation: of the object (3, 3) that the script seeks; None: the one in place
    """
    model, data, body = env.model, env.data, env.model.body("object").id
    rotation = env.goal_rotation if rotation is None else rotation
    jacobian, error, quaternion = np.empty((6, 7)), np.empty(6), np.empty(4)
    for _ in range(env.horizon):
        here = env.in_world(env.object_points[:1])[0]
        error[:3] = np.clip(goal(here) - here, -0.05, 0.05)
        turn = rotation @ data.xmat[body].reshape(3, 3).T
        mujoco.mju_mat2Quat(quaternion, turn.ravel())
        mujoco.mju_quat2Vel(error[3:], quaternion, 1.0)
        mujoco.mj_jac(model, data, jacobian[:3], jacobian[3:], here, body)
        velocity = 6 * np.linalg.pinv(jacobian) @ error
        torque = model.dof_damping * (1.6 * velocity - 0.6 * data.qvel)
        action = np.clip(torque / model.actuator_gear[:, 0], -1, 1)
        _, _, _, _, info = env.step(action.astype(np.float32))
    return info


def move_to(env: ArmEnv, point: np.ndarray, rotation: np.ndarray | None = None) -> np.ndarray:
    """Put the object's first point and its rotation there; the joint angles (7,)."""
    rotation = env.goal_rotation if rotation is None else rotation
    angles = env._inverse_kinematics(env.start_angles, point, rotation, tolerance=1e-5)
    assert angles is not None
    env.data.qpos[:] = angles
    env._update_kinematics()
    return angles


def check_velocities(env: ArmEnv, x: np.ndarray, h: float = 1e-6) -> None:
    """The points' velocities in the state against the points moved along the joints' velocities."""
    points = []
    for sign in (1, -1):
        env.data.qpos[:] = x[:7] + sign * h * x[7:14]
        env._update_kinematics()
        points.append(env.in_world(env.object_points).ravel())
    assert np.abs(x[23:]).max() > 0.05
    np.testing.assert_allclose(x[23:], (points[0] - points[1]) / (2 * h), atol=1e-6)


def random_poses(env: ArmEnv, number: int) -> np.ndarray:
    """Where the object is from its place in random poses, which are free; (number, 3)."""
    points = []
    env.reset(seed=0, options={"image": False})
    for _ in range(number):
        _, info = env.reset(options={"random_pose": True, "image": False})
        points.append(info["state"][14:17])
        mujoco.mj_collision(env.model, env.data)
        assert (env.data.contact.dist > -0.0011).all()
    assert len(np.unique(np.round(points, 6), axis=0)) > 0.95 * number
    return np.array(points)
