"""ShapeCube: interface, physics, determinism."""

import copy
import pickle

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from arm_scripts import check_velocities, follow, move_to
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import gps_envs
from gps_envs.shape_cube import SEATED, ShapeCubeEnv

BLIND = {"image": False}


@pytest.fixture(scope="module")
def env():
    env = gym.make("GPS/ShapeCube-v0")
    env.reset(seed=0)
    yield env
    env.close()


def insert(env: ShapeCubeEnv, offset=(0.0, 0.0), **options) -> dict:
    """One episode of a scripted controller: over the hole (plus an offset in m), then down."""
    _, info = env.reset(options={**BLIND, **options})
    hole = info["pose"][:3] + np.array([*offset, -SEATED])

    def goal(bottom: np.ndarray) -> np.ndarray:
        away = np.hypot(*(bottom - hole)[:2]) > 0.006 and bottom[2] > hole[2] + SEATED
        return hole + np.array([0, 0, 0.08 if away else 0])

    return follow(env, info, goal)


@pytest.mark.gl
@pytest.mark.parametrize("split", ["train", "visual"])
def test_checkers(split):
    env = gym.make("GPS/ShapeCube-v0", split=split, render_mode="rgb_array")
    check_env(env.unwrapped)
    sb3_check_env(env)


@pytest.mark.parametrize("chamfer", [0.012, 0.0])
@pytest.mark.parametrize("condition", [0, 1, 8, 20])
def test_scripted_controller_inserts(chamfer, condition):
    info = insert(ShapeCubeEnv(chamfer=chamfer), condition=condition)
    assert info["success"]
    assert np.linalg.norm(info["state"][14:17]) < 0.005


@pytest.mark.parametrize("offset", [(0.05, 0.0), (0.0, -0.03), (0.1, 0.1)])
def test_no_success_beside_the_hole(offset):
    assert not insert(ShapeCubeEnv(), offset, condition=8)["success"]


@pytest.mark.parametrize(
    ("depth", "aside", "success"),
    [
        (0.045, 0, True),
        (0.058, 0, True),
        (0.0125, 0, True),
        (0.0115, 0, False),
        (0.045, 0.006, False),
    ],
)
def test_success_is_one_sided_geometry(depth, aside, success):
    env = ShapeCubeEnv()
    env.reset(seed=0, options={"target": [0.03, -0.02], **BLIND})
    hole = env.data.mocap_pos[env.model.body("target").mocapid[0]]
    move_to(env, hole + np.array([aside, 0, -depth]))
    assert env.in_place() is success


def test_state_velocities_and_relation_to_proprio(env):
    rng = np.random.default_rng(0)
    observation, info = env.reset(seed=1, options={"condition": 3, **BLIND})
    task = env.unwrapped
    assert info["state"][:14] == pytest.approx(observation["proprio"][:14], abs=1e-6)
    assert info["state"][23:] == pytest.approx(observation["proprio"][23:], abs=1e-6)
    goal = info["pose"][:3] + task.goal_points
    assert info["state"][14:23] == pytest.approx(info["pose"][3:] - goal.ravel(), abs=1e-6)
    for _ in range(20):
        _, _, _, _, info = env.step(rng.uniform(-1, 1, 7).astype(np.float32))
    check_velocities(task, info["state"])


def test_proprio_is_blind_to_the_target(env):
    a, b = (env.reset(options={"condition": m, **BLIND})[0]["proprio"] for m in (0, 1))
    assert (a == b).all()


def test_reward_is_minus_the_cost_before_the_action(env):
    _, info = env.reset(seed=0, options={"condition": 0, **BLIND})
    for t in range(100):
        u = np.full(7, 0.1 if t % 2 else -0.3, np.float32)
        x = info["state"]
        _, reward, terminated, truncated, info = env.step(u)
        assert reward == -env.unwrapped.cost(x, u.astype(np.float64), t)
        assert ("success" in info) == truncated == (t == 99)
        assert not terminated


@pytest.mark.gl
@pytest.mark.parametrize("split", ["train", "visual"])
def test_same_seed_and_actions_same_everything(split):
    def episode(env):
        actions = np.random.default_rng(3).uniform(-1, 1, (10, 7)).astype(np.float32)
        observation, info = env.reset(seed=5)
        yield observation, info
        for action in actions:
            observation, _, _, _, info = env.step(action)
            yield observation, info

    envs = [ShapeCubeEnv(split=split, init_noise=0.02) for _ in range(2)]
    list(episode(envs[1]))  # what went before leaves no trace
    for (o1, i1), (o2, i2) in zip(episode(envs[0]), episode(envs[1]), strict=True):
        assert (o1["image"] == o2["image"]).all()
        assert (o1["proprio"] == o2["proprio"]).all()
        assert (i1["state"] == i2["state"]).all()
        assert i1["state"] is not i2["state"]


def test_pickle_and_deepcopy_in_mid_episode():
    env = ShapeCubeEnv(cost=gps_envs.PointCost(lateral=2.0))
    env.reset(seed=0, options=BLIND)
    env.step(np.ones(7, np.float32))
    twins = [pickle.loads(pickle.dumps(env)), copy.deepcopy(env)]
    state = env.step(-np.ones(7, np.float32))[4]["state"]
    drawn = env.reset(options=BLIND)[1]["pose"]
    for twin in twins:
        assert (twin.step(-np.ones(7, np.float32))[4]["state"] == state).all()
        assert (twin.reset(options=BLIND)[1]["pose"] == drawn).all()


def test_conditions_and_targets(env):
    task = env.unwrapped
    poses = [env.reset(options={"condition": m, **BLIND})[1]["pose"][:2] for m in range(25)]
    assert len(np.unique(np.round(poses, 6), axis=0)) == 25
    for split in ("spatial", "visual"):
        options = {"condition": 4, "split": split, **BLIND}
        first = env.reset(seed=1, options=options)[1]["pose"]
        assert (env.reset(seed=2, options=options)[1]["pose"] == first).all()
    pose = env.reset(options={"target": [0.08, -0.05], **BLIND})[1]["pose"]
    assert pose[:3] == pytest.approx(task.target_centre + np.array([0.08, -0.05, 0]))
    drawn = {tuple(env.reset(options=BLIND)[1]["pose"][:2]) for _ in range(60)}
    assert 10 < len(drawn) <= 25


def test_init_noise():
    env = ShapeCubeEnv(init_noise=0.02)
    env.reset(seed=0, options=BLIND)
    angles = [env.reset(options=BLIND)[1]["state"][:7] for _ in range(100)]
    assert np.std(angles, axis=0) == pytest.approx(0.02, rel=0.4)
    assert np.mean(angles, axis=0) == pytest.approx(env.start_angles, abs=0.01)


def test_random_poses_cover_the_way_without_penetration(env):
    task, points = env.unwrapped, []
    env.reset(seed=0, options=BLIND)
    for _ in range(100):
        _, info = env.reset(options={"random_pose": True, **BLIND})
        points.append(info["state"][14:17])
        mujoco.mj_collision(task.model, task.data)
        assert (task.data.contact.dist > -0.0011).all()
    heights = np.array(points)[:, 2]
    assert (heights < 0.04).sum() >= 5  # inside the hole
    assert (heights > 0.2).sum() >= 5
    assert len(np.unique(np.round(points, 6), axis=0)) > 95


@pytest.mark.gl
def test_blind_episodes_draw_nothing(env):
    assert not env.reset(options={"condition": 0, **BLIND})[0]["image"].any()
    assert not env.step(np.zeros(7, np.float32))[0]["image"].any()
    assert env.reset(options={"condition": 0})[0]["image"].any()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"split": "test"}, "available"),
        ({"image_size": 32}, "64 to 240"),
        ({"image_size": 64.0}, "64 to 240"),
        ({"num_conditions": 8}, "9 to 81"),
        ({"chamfer": -0.01}, "0 to 0.02"),
        ({"distractors": 9}, "0 to 8"),
        ({"init_noise": -1.0}, "rad"),
        ({"visual": ["medium"]}, "available"),
        ({"cost": gps_envs.PointCost}, "callable"),
        ({"render_mode": "human"}, "rgb_array"),
        ({"cost": 3}, "callable"),
    ],
)
def test_bad_arguments(arguments, word):
    with pytest.raises(ValueError, match=word):
        ShapeCubeEnv(**arguments)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"colour": 1}, "available"),
        ({"condition": 25}, "0 to 24"),
        ({"condition": 1.0}, "integer"),
        ({"condition": -1, "split": "spatial"}, "at least 0"),
        ({"split": "test"}, "available"),
        ({"target": [0.09, 0.0]}, "0.08"),
        ({"target": [np.nan, 0.0]}, "0.08"),
        ({"target": [0.0]}, "0.08"),
        ({"image": 1}, "True or False"),
    ],
)
def test_bad_options(env, options, word):
    with pytest.raises(ValueError, match=word):
        env.reset(options=options)


def test_bad_actions():
    env = ShapeCubeEnv()
    with pytest.raises(ValueError, match="reset"):
        env.step(np.zeros(7, np.float32))
    env.reset(seed=0, options=BLIND)
    for action in (np.zeros(6), np.full(7, np.nan)):
        with pytest.raises(ValueError, match="7 finite numbers"):
            env.step(action)
