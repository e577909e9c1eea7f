"""PegInsertion: a state-based task; what differs from ShapeCube."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from arm_scripts import check_velocities, follow, move_to
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from gps_envs.peg_insertion import INSERTED, SEATED, PegInsertionEnv


def slot_of(env: PegInsertionEnv) -> np.ndarray:
    """The middle of the slot in the plane of the rim, in the world."""
    return env.data.mocap_pos[env.model.body("target").mocapid[0]].copy()


def insert(env: PegInsertionEnv, offset=(0.0, 0.0), **options) -> dict:
    """One episode of a scripted controller: over the slot (plus an offset in m), then down."""
    _, info = env.reset(options=options)
    slot = slot_of(env) + np.array([*offset, -SEATED])

    def goal(tip: np.ndarray) -> np.ndarray:
        away = np.hypot(*(tip - slot)[:2]) > 0.004 and tip[2] > slot[2] + SEATED
        return slot + np.array([0, 0, SEATED + 0.02 if away else 0])

    return follow(env, info, goal)


def test_checkers():
    env = gym.make("GPS/PegInsertion-v0")
    check_env(env.unwrapped, skip_render_check=True)
    sb3_check_env(env)


def test_the_observation_is_the_state_and_nothing_is_drawn(monkeypatch):
    def refuse(*args):
        raise AssertionError("an image was drawn")

    monkeypatch.setattr("gps_envs.rendering.render", refuse)
    env = PegInsertionEnv()
    observation, info = env.reset(seed=0)
    assert observation.dtype == np.float32
    assert (observation == info["state"].astype(np.float32)).all()
    for _ in range(10):
        observation, _, _, _, info = env.step(env.action_space.sample())
    assert (observation == info["state"].astype(np.float32)).all()
    check_velocities(env, info["state"])


def test_four_corners_are_for_training_and_others_for_the_test():
    env = PegInsertionEnv()
    slots = []
    for m in range(4):
        env.reset(options={"condition": m})
        slots.append(slot_of(env)[:2] - [0.62, 0])
    assert np.abs(np.array(slots)) == pytest.approx(np.tile([0.08, 0.05], (4, 1)))
    env.reset(options={"condition": 3, "split": "spatial"})
    gaps = np.linalg.norm(slots - (slot_of(env)[:2] - [0.62, 0]), axis=1)
    assert gaps.min() > 0.005
    with pytest.raises(ValueError, match="available"):
        env.reset(options={"split": "visual"})
    with pytest.raises(ValueError, match="no random_pose"):
        env.reset(options={"random_pose": True})


@pytest.mark.parametrize("target", [(0.0, 0.0), (0.08, 0.05), (-0.08, -0.05), (0.03, -0.04)])
def test_scripted_controller_inserts(target):
    assert insert(PegInsertionEnv(), target=target)["success"]


@pytest.mark.parametrize("offset", [(0.03, 0.0), (0.0, -0.025)])
def test_no_success_beside_the_slot(offset):
    assert not insert(PegInsertionEnv(), offset, target=[0.0, 0.0])["success"]


@pytest.mark.parametrize(
    ("depth", "aside", "success"),
    [
        (INSERTED + 0.001, 0, True),
        (INSERTED - 0.001, 0, False),
        (0.06, 0.005, False),
        (-0.02, 0, False),
    ],
)
def test_success_is_geometry(depth, aside, success):
    env = PegInsertionEnv()
    env.reset(seed=0, options={"target": [0.02, 0.01]})
    move_to(env, slot_of(env) + np.array([aside, 0, -depth]))
    assert env.in_place() is success


def test_same_seeds_same_episodes_also_after_pickling():
    env, other = PegInsertionEnv(init_noise=0.05), PegInsertionEnv(init_noise=0.05)
    env.reset(seed=3)
    other.reset(seed=3)
    twin = pickle.loads(pickle.dumps(env))
    u = np.full(7, 0.2, np.float32)
    observation = env.step(u)[0]
    assert (observation == other.step(u)[0]).all()
    assert (observation == twin.step(u)[0]).all()
