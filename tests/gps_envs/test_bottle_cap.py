"""BottleCap: interface, geometry of cap and thread, success, physics."""

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from arm_scripts import follow, move_to, random_poses

from gps_envs.base import turned
from gps_envs.bottle_cap import HEIGHT, LUG_DEPTH, PAST, TURN, BottleCapEnv

BLIND = {"image": False}
CORNERS = [(x, y) for x in (-0.08, 0.08) for y in (-0.05, 0.05)]


@pytest.fixture(scope="module")
def env():
    env = gym.make("GPS/BottleCap-v0")
    env.reset(seed=0)
    yield env
    env.close()


def screwed(turn: float, tilt=(0.0, 0.0, 0.0)) -> np.ndarray:
    """The cap's rotation (3, 3), turned (rad) past its place and tilted by a rotation vector."""
    return turned(np.array(tilt)) @ BottleCapEnv.goal_rotation @ turned(np.array([turn, 0.0, 0.0]))


def screw(env: BottleCapEnv, degrees: float = 85.0, offset=(0.0, 0.0, 0.0), **options) -> dict:
    """One episode of a script: over the bottle (plus an offset), down, and then the turn."""
    _, info = env.reset(options={**BLIND, **options})
    place = info["pose"][:3] + np.array([0, 0, LUG_DEPTH]) + np.array(offset)
    rotation, above = screwed(-TURN), 0.04

    def goal(lugs: np.ndarray) -> np.ndarray:
        nonlocal above
        if np.abs(lugs - place)[:2].max() < 0.002:
            above = 0.0
        if lugs[2] - place[2] < 0.002:
            rotation[:] = screwed(np.radians(degrees) - TURN)
        return place + np.array([0, 0, above])

    return follow(env, info, goal, rotation)


def placed(
    offset=(0.0, 0.0, 0.0), degrees: float = 0.0, tilt=(0.0, 0.0, 0.0), target=(0.03, -0.02)
) -> BottleCapEnv:
    """An environment whose cap is at an offset from its place, turned past it and tilted."""
    env = BottleCapEnv()
    _, info = env.reset(seed=0, options={"target": list(target), **BLIND})
    place = info["pose"][:3] + np.array([0, 0, LUG_DEPTH])
    move_to(env, place + np.array(offset), screwed(np.radians(degrees), tilt))
    return env


def is_free(env: BottleCapEnv) -> bool:
    return env._is_free(env.data.qpos.copy(), depth=1e-4)


@pytest.mark.parametrize("target", [*CORNERS, (0.0, 0.0)])
def test_scripted_controller_screws_it_on(target):
    info = screw(BottleCapEnv(), target=list(target))
    assert info["success"]
    assert np.abs(info["state"][14:23]).max() < 0.003


@pytest.mark.parametrize(
    ("degrees", "success"), [(0, False), (40, False), (62, True), (92, True), (108, False)]
)
def test_success_needs_the_turn(degrees, success):
    info = screw(BottleCapEnv(), degrees, target=[0.0, 0.0])
    assert abs(info["state"][16]) < 0.003  # it is down
    assert info["success"] is success


def test_turned_too_early_it_comes_down_on_the_thread():
    env = BottleCapEnv()
    _, info = env.reset(options={**BLIND, "target": [0.0, 0.0]})
    place = info["pose"][:3] + np.array([0, 0, LUG_DEPTH])
    info = follow(env, info, lambda _: place, screwed(-PAST))
    assert 0.010 < info["state"][16] < 0.020
    assert not info["success"]


@pytest.mark.parametrize("offset", [(0.09, 0, 0), (0, -0.1, 0), (0, 0, 0.04)])
def test_no_success_beside_or_above(offset):
    info = screw(BottleCapEnv(), offset=offset, target=[0.0, 0.0])
    assert not info["success"]
    assert np.abs(info["state"][14:17] - offset).max() < 0.005  # where it was sent


@pytest.mark.parametrize(
    ("offset", "degrees", "tilt", "success"),
    [
        ((0, 0, 0), 0, (0, 0, 0), True),
        ((0.002, 0, 0), 0, (0, 0, 0), True),
        ((0, -0.002, 0), 0, (0, 0, 0), True),
        ((0, 0, 0.004), 0, (0, 0, 0), True),  # against the ridges
        ((0, 0, -0.002), 0, (0, 0, 0), True),  # down on the mouth
        ((0, 0, -0.005), 0, (0, 0, 0), False),  # the lid in the neck
        ((0, 0, 0.010), 0, (0, 0, 0), False),  # the lugs in the ridges
        ((0, 0, 0.016), 0, (0, 0, 0), False),  # the lugs on the ridges
        ((0, 0, 0.05), 0, (0, 0, 0), False),  # hovering
        ((0, 0, 0), 14, (0, 0, 0), True),
        ((0, 0, 0), 15, (0, 0, 0), False),  # past the end of the ridges
        ((0, 0, 0), -30, (0, 0, 0), True),
        ((0, 0, 0), -31, (0, 0, 0), False),  # just before them
        ((0, 0, 0), -85, (0, 0, 0), False),  # put on, not turned
        ((0.006, 0, 0), 0, (0, 0, 0), False),  # a lug in the neck
        ((0.09, 0, 0), 0, (0, 0, 0), False),  # beside the bottle
        ((0, 0, 0), 0, (0, 0.05, 0), True),
        ((0, 0, 0), 0, (0, 0.3, 0), False),
    ],
)
def test_success_is_geometry(offset, degrees, tilt, success):
    assert placed(offset, degrees, tilt).in_place() is success


@pytest.mark.parametrize("target", [*CORNERS, (0.0, 0.0)])
def test_the_place_is_reachable_and_free(target):
    env = placed(target=target)
    limited = env.model.jnt_limited.astype(bool)
    angles, limits = env.data.qpos[limited], env.model.jnt_range[limited]
    assert np.minimum(angles - limits[:, 0], limits[:, 1] - angles).min() > 0.15
    error = env.in_world(env.object_points) - env.data.mocap_pos[env._target] - env.goal_points
    assert np.abs(error).max() < 1e-4
    assert env.in_place()
    assert is_free(env)
    assert env._is_free(env.start_angles, depth=0.0)


def test_the_start_is_above_the_gaps():
    env = BottleCapEnv()
    _, info = env.reset(options={"target": [0.0, 0.0], **BLIND})
    assert env._rotation() == pytest.approx(screwed(-TURN), abs=2e-3)
    assert info["state"][14:17] == pytest.approx([0, 0, 0.095], abs=2e-3)


@pytest.mark.parametrize("height", np.arange(0.0, 0.031, 0.003))
def test_the_lugs_go_down_between_the_ridges(height):
    for degrees in (-90, -68, -46):
        assert is_free(placed((0, 0, height), degrees)), degrees


def test_clearances_are_those_of_the_docs():
    for offset, degrees, free in (
        ((0, 0.0019, 0), 0, True), ((0, -0.0021, 0), 0, False), ((0, 0, -0.0019), 0, True),
        ((0, 0, -0.0022), 0, False), ((0, 0, 0.010), -45, True), ((0, 0, 0.010), -40, False),
    ):  # fmt: skip
        assert is_free(placed(offset, degrees)) is free, (offset, degrees)


@pytest.mark.parametrize("degrees", [0, -20])
@pytest.mark.parametrize("offset", [(0, 0, 0), (0, 0, 0.004), (0.0019, 0, 0), (0, -0.0019, 0)])
def test_the_thread_holds_the_cap_that_is_pulled_at(offset, degrees):
    env = placed(offset, degrees)
    before = env.data.qpos.copy(), env.data.qvel.copy(), env.data.time, env.data.ctrl.copy()
    assert env.stays_in_place()
    after = env.data.qpos, env.data.qvel, env.data.time, env.data.ctrl
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert not env.data.xfrc_applied.any()


@pytest.mark.parametrize(("offset", "degrees"), [((0, 0, 0), -85), ((0, 0, 0.017), 0)])
def test_a_cap_that_is_only_put_on_comes_off(offset, degrees):
    env = placed(offset, degrees)
    assert not env.stays_in_place()
    height = env.data.xpos[env._object, 2]
    env.data.xfrc_applied[env._object, 2] = 5.0
    mujoco.mj_step(env.model, env.data, nstep=100)
    assert env.data.xpos[env._object, 2] > height + 0.03


def test_conditions_are_the_papers_and_more(env):
    task = env.unwrapped
    first = {tuple(row) for row in np.round(task.layout.training[:9, :2], 6) + 0.0}
    assert first == {(x, y) for x in (-0.08, 0.0, 0.08) for y in (-0.05, 0.0, 0.05)}
    for split in ("spatial", "visual"):
        options = {"condition": 4, "split": split, **BLIND}
        poses = [env.reset(seed=seed, options=options)[1]["pose"] for seed in (1, 2)]
        assert (poses[0] == poses[1]).all()


def test_random_poses_cover_the_way_without_penetration():
    heights = random_poses(BottleCapEnv(), 200)[:, 2]
    assert (heights < 0.02).sum() >= 5  # on the neck
    assert (heights > 0.08).sum() >= 5


def test_distractors_hide_no_neck_and_stand_on_no_bottle():
    env = BottleCapEnv(visual="strong", split="visual")
    camera = env.model.cam_pos[env._camera]
    for i in range(100):
        _, info = env.reset(options={"condition": 10_000 + i, **BLIND})
        mouth = info["pose"][:3]
        shown = [j for j in range(8) if env.model.geom(f"distractor_{j}").rgba[3]]
        assert 4 <= len(shown) <= 8
        for j in shown:
            geom = env.model.geom(f"distractor_{j}")
            centre = env.data.mocap_pos[env.model.body(f"distractor_{j}").mocapid[0]]
            top = 2 * (centre[2] - (mouth[2] - HEIGHT))
            assert top < HEIGHT - 0.038  # of the neck's foot; the camera looks down
            assert np.linalg.norm((centre - mouth)[:2]) > 0.042 + np.hypot(*geom.size[:2])
        assert camera[2] > mouth[2]


@pytest.mark.gl
@pytest.mark.parametrize("size", [64, 240])
def test_images_show_bottle_and_cap(size):
    env = BottleCapEnv(image_size=size)
    centres = []
    for target in CORNERS:
        image = env.reset(options={"target": list(target)})[0]["image"].astype(int)
        blue, red = image[..., 2] > image[..., 0] + 60, image[..., 0] > image[..., 2] + 90
        assert min(blue.sum(), red.sum()) > 0.01 * size**2
        centres.append(np.argwhere(blue).mean(axis=0))
    apart = np.linalg.norm(np.array(centres)[:, None] - centres, axis=-1)
    assert apart[np.triu_indices(4, 1)].min() > 0.15 * size


def test_bad_number_of_conditions():
    with pytest.raises(ValueError, match="9 to 81"):
        BottleCapEnv(num_conditions=8)
