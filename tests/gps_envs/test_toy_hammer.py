"""ToyHammer: interface, geometry of claw and nail, success, physics."""

import gymnasium as gym
import numpy as np
import pytest
from arm_scripts import follow, move_to, random_poses

from gps_envs.base import turned
from gps_envs.toy_hammer import BELOW, BOARD, SHAFT, ToyHammerEnv

BLIND = {"image": False}
GRASPS = ToyHammerEnv.layout.grasps
CORNERS = [(x, y) for x in (-0.05, 0.05) for y in (-0.035, 0.035)]
CASES = [(target, grasp) for target in CORNERS for grasp in GRASPS]


@pytest.fixture(scope="module")
def env():
    env = gym.make("GPS/ToyHammer-v0")
    env.reset(seed=0)
    yield env
    env.close()


def fit(env: ToyHammerEnv, approach=(-0.08, 0.0, 0.0), offset=(0.0, 0.0, 0.0), **options) -> dict:
    """One episode of a script: straight at `approach` from the place (plus an offset), then in."""
    _, info = env.reset(options={**BLIND, **options})
    place = info["pose"][:3] + np.array([0, 0, -BELOW]) + np.array(offset)
    away = np.array(approach)

    def goal(slot: np.ndarray) -> np.ndarray:
        nonlocal away
        if np.trace(env._rotation()) > 2.995 and np.abs(slot - place - away).max() < 0.004:
            away = np.zeros(3)
        return place + away

    return follow(env, info, goal)


def placed(
    offset=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0), target=(0.02, -0.01), grasp: float = 0.0
) -> ToyHammerEnv:
    """An environment whose claw is at an offset from its place, turned by a rotation vector."""
    env = ToyHammerEnv()
    options = {"target": list(target), "grasp": grasp, **BLIND}
    _, info = env.reset(seed=0, options=options)
    place = info["pose"][:3] + np.array([0, 0, -BELOW])
    move_to(env, place + np.array(offset), turned(np.array(turn)))
    return env


@pytest.mark.parametrize(("target", "grasp"), [*CASES, ((0.0, 0.0), 0.1)])
def test_scripted_controller_fits_the_claw(target, grasp):
    info = fit(ToyHammerEnv(), target=list(target), grasp=grasp)
    assert info["success"]
    assert np.linalg.norm(info["state"][14:17]) < 0.005


@pytest.mark.parametrize("grasp", GRASPS)
@pytest.mark.parametrize("aside", [-0.012, 0.012])
def test_the_slot_guides_the_nail(aside, grasp):
    assert fit(ToyHammerEnv(), offset=(0.0, aside, 0.0), grasp=grasp, target=[0.0, 0.0])["success"]


@pytest.mark.parametrize("grasp", GRASPS)
@pytest.mark.parametrize(
    "approach", [(0.0, 0.0, 0.06), (0.0, 0.06, 0.0), (0.0, -0.06, 0.0)], ids=str
)
def test_wrong_ways_in_are_blocked(approach, grasp):
    """From above the head is in the way, from a side the nail is, for a prong."""
    info = fit(ToyHammerEnv(), approach, grasp=grasp, target=[0.03, 0.0])
    assert not info["success"]
    reached = info["state"][14:17] @ np.sign(approach)  # of the place, where it is 0
    assert 0.014 < reached < 0.05


@pytest.mark.parametrize("offset", [(0, 0.045, 0), (0, -0.045, 0), (-0.06, 0, 0), (0, 0, 0.05)])
def test_no_success_beside_behind_or_above(offset):
    info = fit(ToyHammerEnv(), offset=offset, target=[0.0, 0.0])
    assert not info["success"]
    assert np.abs(info["state"][14:17] - offset).max() < 0.005  # where it was sent


@pytest.mark.parametrize(
    ("offset", "turn", "success"),
    [
        ((0, 0, 0), (0, 0, 0), True),
        ((0.003, 0, 0), (0, 0, 0), True),  # to the end of the slot
        ((-0.013, 0, 0), (0, 0, 0), True),  # just inside its narrow part
        ((-0.017, 0, 0), (0, 0, 0), False),  # the tips are past the nail, but not under its head
        ((-0.09, 0, 0), (0, 0, 0), False),  # behind
        ((0.006, 0, 0), (0, 0, 0), False),  # the nail inside the hammer
        ((0, 0.003, 0), (0, 0, 0), True),
        ((0, 0.005, 0), (0, 0, 0), False),  # a prong through the nail
        ((0, 0.04, 0), (0, 0, 0), False),  # beside it
        ((0, 0, 0.019), (0, 0, 0), True),
        ((0, 0, 0.022), (0, 0, 0), False),  # through the head
        ((0, 0, 0.05), (0, 0, 0), False),  # above
        ((0, 0, -0.026), (0, 0, 0), True),
        ((0, 0, -0.029), (0, 0, 0), False),  # through the board
        ((0, 0, 0), (0, 0.3, 0), True),  # tips down, with room left
        ((0, 0, 0), (0, -0.7, 0), False),  # tips through the level of the head
        ((0, 0, 0), (0.2, 0, 0), True),
        ((0, 0, 0), (0, 0, 0.08), True),
        ((0, 0, 0.03), (0, 1.2, 0), False),  # the head between the tips, from above
    ],
)
def test_success_is_geometry(offset, turn, success):
    assert placed(offset, turn).in_place() is success


@pytest.mark.parametrize(("target", "grasp"), CASES)
def test_the_place_is_reachable_and_free(target, grasp):
    env = placed(target=target, grasp=grasp)
    limited = env.model.jnt_limited.astype(bool)
    angles, limits = env.data.qpos[limited], env.model.jnt_range[limited]
    assert np.minimum(angles - limits[:, 0], limits[:, 1] - angles).min() > 0.15
    error = env.in_world(env.object_points) - env.data.mocap_pos[env._target] - env.goal_points
    assert np.abs(error).max() < 1e-4
    assert env.in_place()
    assert env._is_free(env.data.qpos.copy(), depth=0.0)
    assert env._is_free(env.start_angles, depth=0.0)


def test_clearances_are_those_of_the_docs():
    """In place the claw just clears the nail where it is moved by less than the clearance."""
    for offset, free in (
        ((0, 0.0024, 0), True), ((0, 0.0027, 0), False), ((0.0025, 0, 0), True),
        ((0.0035, 0, 0), False), ((0, 0, 0.0195), True), ((0, 0, 0.0205), False),
        ((0, 0, -0.0265), True), ((0, 0, -0.0275), False),
    ):  # fmt: skip
        env = placed(offset)
        assert env._is_free(env.data.qpos.copy(), depth=1e-4) is free, offset


def test_the_hand_turns_the_hammer_by_the_grasp(env):
    task = env.unwrapped
    for grasp in GRASPS:
        env.reset(options={"condition": 0, "grasp": grasp, **BLIND})
        hand = task.data.xmat[task._hand].reshape(3, 3)
        assert task._rotation() == pytest.approx(hand @ turned(np.array([0, grasp, 0])), abs=1e-9)


def test_conditions(env):
    task = env.unwrapped
    first = {tuple(row) for row in np.round(task.layout.training[:15], 6) + 0.0}
    positions = [*CORNERS, (0.0, 0.0)]
    assert first == {(x, y, round(grasp, 6)) for x, y in positions for grasp in GRASPS}
    drawn = {tuple(env.reset(options=BLIND)[1]["pose"]) for _ in range(80)}
    assert 15 < len(drawn) <= task.num_conditions
    for split in ("spatial", "visual"):
        options = {"condition": 4, "split": split, **BLIND}
        poses = [env.reset(seed=seed, options=options)[1]["pose"] for seed in (1, 2)]
        assert (poses[0] == poses[1]).all()


def test_random_poses_cover_the_way_without_penetration():
    distance = np.linalg.norm(random_poses(ToyHammerEnv(), 100), axis=1)
    assert (distance < 0.03).sum() >= 5  # the nail in the slot
    assert (distance > 0.12).sum() >= 5


def test_distractors_are_out_of_the_way():
    """Neither where the claw may be on its way, nor between the nail and the camera."""
    env = ToyHammerEnv(visual="strong", split="visual")
    camera = env.model.cam_pos[env._camera]
    table = env.target_centre[2] - SHAFT - 2 * BOARD[2]
    for i in range(100):
        _, info = env.reset(options={"condition": 10_000 + i, **BLIND})
        nail = info["pose"][:3]
        shown = [j for j in range(8) if env.model.geom(f"distractor_{j}").rgba[3]]
        assert 4 <= len(shown) <= 8
        for j in shown:
            geom = env.model.geom(f"distractor_{j}")
            centre = env.data.mocap_pos[env.model.body(f"distractor_{j}").mocapid[0]]
            radius, top = np.hypot(*geom.size[:2]), 2 * (centre[2] - table)
            assert abs(centre[1] - nail[1]) > 0.027 + radius or centre[0] > 0.75 + radius
            # The ray from the foot of the nail to the camera passes beside it or above it.
            ray = camera - (nail - [0, 0, SHAFT])
            along = (centre - nail)[:2] @ ray[:2] / (ray[:2] @ ray[:2])
            aside = np.linalg.norm((centre - nail)[:2] - along * ray[:2])
            near = along - radius / np.hypot(*ray[:2])
            assert along < 0 or aside > radius or near * ray[2] + 2 * BOARD[2] > top


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"num_conditions": 14}, "15 to 243"),
        ({"num_conditions": 244}, "15 to 243"),
        ({"visual": "wild"}, "available"),
    ],
)
def test_bad_arguments(arguments, word):
    with pytest.raises(ValueError, match=word):
        ToyHammerEnv(**arguments)
