"""ShapeCube: success, conditions, physics, bad arguments."""

import gymnasium as gym
import numpy as np
import pytest
from arm_scripts import follow, move_to, random_poses

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


def test_random_poses_cover_the_way_without_penetration():
    heights = random_poses(ShapeCubeEnv(), 100)[:, 2]
    assert (heights < 0.04).sum() >= 5  # inside the hole
    assert (heights > 0.2).sum() >= 5


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


def test_bad_actions():
    env = ShapeCubeEnv()
    with pytest.raises(ValueError, match="reset"):
        env.step(np.zeros(7, np.float32))
    env.reset(seed=0, options=BLIND)
    for action in (np.zeros(6), np.full(7, np.nan)):
        with pytest.raises(ValueError, match="7 finite numbers"):
            env.step(action)
