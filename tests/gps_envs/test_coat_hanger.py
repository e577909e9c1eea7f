"""CoatHanger: interface, geometry of the hook, success, physics."""

import mujoco
import numpy as np
import pytest
from arm_scripts import follow, move_to, random_poses

from gps_envs.base import turned
from gps_envs.coat_hanger import BAR, LIP, MOUTH, SEAT, SPAN, CoatHangerEnv

BLIND = {"image": False}
GRASPS = CoatHangerEnv.layout.grasps
CASES = [(x, grasp) for x in (-0.1, -0.04, 0.1) for grasp in GRASPS]


def hang(env: CoatHangerEnv, offset=(0.0, 0.0, 0.0), **options) -> dict:
    """One episode of a script: over the bar (plus an offset in m), then down on it."""
    _, info = env.reset(options={**BLIND, **options})
    place = info["pose"][:3] + np.array(offset)

    def goal(seat: np.ndarray) -> np.ndarray:
        upright = env.data.xmat[env.model.body("object").id].reshape(3, 3)[2, 2] > 0.995
        ready = np.abs(seat - place)[:2].max() < 0.006 and upright
        return place + np.array([0, 0, 0 if ready or seat[2] < place[2] + 0.03 else 0.09])

    return follow(env, info, goal)


def placed(
    offset=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0), x: float = 0.03, grasp: float = GRASPS[0]
) -> CoatHangerEnv:
    """An environment whose hook is at an offset from its place, turned by a rotation vector."""
    env = CoatHangerEnv()
    options = {"target": [x, 0.0], "grasp": grasp, **BLIND}
    _, info = env.reset(seed=0, options=options)
    move_to(env, info["pose"][:3] + np.array(offset), turned(np.array(turn)))
    return env


@pytest.mark.parametrize(("x", "grasp"), CASES)
def test_scripted_controller_hangs_it_up(x, grasp):
    env = CoatHangerEnv()
    assert hang(env, target=[x, 0.0], grasp=grasp)["success"]
    assert env._held > env.hold


@pytest.mark.parametrize("grasp", GRASPS)
@pytest.mark.parametrize("offset", [(-0.05, 0, 0), (0, 0, 0.04), (0.15, 0, 0.05)])
def test_no_success_beside_or_above_the_bar(offset, grasp):
    assert not hang(CoatHangerEnv(), offset, target=[-0.04, 0.0], grasp=grasp)["success"]


def test_success_needs_the_last_ten_steps():
    env = placed()
    for t in range(1, 12):
        _, _, _, _, info = env.step(np.zeros(7, np.float32))
        assert info["is_success"] == (t >= 10)


@pytest.mark.parametrize(("x", "grasp"), CASES)
def test_the_place_is_reachable_and_free(x, grasp):
    env = placed(x=x, grasp=grasp)
    angles, limits = env.data.qpos, env.model.jnt_range[env.model.jnt_limited.astype(bool)]
    limited = angles[env.model.jnt_limited.astype(bool)]
    assert np.minimum(limited - limits[:, 0], limits[:, 1] - limited).min() > 0.15
    error = env.in_world(env.object_points) - env.data.mocap_pos[0] - env.goal_points
    assert np.abs(error).max() < 1e-4
    assert env._is_free(angles.copy(), depth=0.0)


@pytest.mark.parametrize("grasp", GRASPS)
def test_success_is_geometry(grasp):
    gap, depth = MOUTH - BAR, SEAT[2] - LIP[2]  # 13 mm to each side and above, 16 mm to the lip
    assert placed(grasp=grasp).in_place()
    for offset in (
        (gap, 0, 0), (-gap, 0, 0), (0, 0, -gap), (0, 0, depth - 0.001), (0, 0.9 * SPAN, 0),
    ):  # fmt: skip
        assert placed(offset, grasp=grasp).in_place(), offset
    for offset in (
        (gap + 0.002, 0, 0),  # the stem inside the bar
        (-gap - 0.002, 0, 0),  # the tip inside the bar
        (0, 0, -gap - 0.002),  # the arch inside the bar
        (-0.7 * gap, 0, -0.9 * gap),  # the same at a slant
        (0, 0, depth + 0.001),  # half-way: the tip not below the bar's axis
        (0, 0, 0.05),  # hovering over it
        (-0.06, 0, 0),  # before it
        (0.06, 0, 0),  # behind it
        (0, 1.1 * SPAN, 0),  # beside the post
    ):
        assert not placed(offset, grasp=grasp).in_place(), offset


def test_a_turned_hook_counts_by_where_the_bar_crosses_it():
    for turn in ((0.0, 0.3, 0.0), (0.0, 0.0, 0.9), (0.3, 0.0, 0.0)):
        assert placed(turn=turn).in_place()
        assert placed((0.0, 0.08, 0.0), turn).in_place()  # elsewhere along the bar
    # The bar crosses a yawed hook farther from its middle than the hook is from its place.
    assert placed((0.012, 0.0, 0.0)).in_place()
    assert not placed((0.012, 0.0, 0.0), (0.0, 0.0, 0.9)).in_place()
    assert not placed(turn=(0.0, 0.0, -1.1)).in_place()  # rather along the bar than across it


def test_pulled_at_the_hanger_stays_only_if_the_hook_holds():
    for offset in ((0, 0, 0), (0, 0, 0.012), (0.01, 0, 0), (-0.01, 0, 0)):
        env = placed(offset)
        before = env.data.qpos.copy(), env.data.qvel.copy(), env.data.time, env.data.ctrl.copy()
        assert env.stays_in_place()
        after = env.data.qpos, env.data.qvel, env.data.time, env.data.ctrl
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        assert not env.data.xfrc_applied.any()
    tipped = placed((0.0, 0.0, 0.0), (0.0, 1.1, 0.0), x=-0.04, grasp=GRASPS[1])
    assert tipped.in_place()  # but the mouth opens to the front
    assert not tipped.stays_in_place()


@pytest.mark.parametrize("grasp", GRASPS)
def test_the_bar_blocks_the_hook(grasp):
    """From the robot's side at the height of the bar, the tip meets it and gets no farther."""
    env = CoatHangerEnv()
    _, info = env.reset(options={**BLIND, "target": [0.0, 0.0], "grasp": grasp})
    low = info["pose"][:3] + np.array([-0.12, 0, 0])
    move_to(env, low)
    assert env._is_free(env.data.qpos.copy())
    info = follow(env, info, lambda seat: low + np.array([0.12, 0.0, 0.0]))
    mujoco.mj_collision(env.model, env.data)
    assert not info["success"]
    assert info["state"][14] < -0.03
    assert env.data.ncon > 0
    assert env.data.contact.dist.min() > -0.003


def test_conditions_change_grasp_and_rack():
    env = CoatHangerEnv()
    resets = [env.reset(options={"condition": m, **BLIND}) for m in (0, 1, 2)]
    points = [info["pose"][3:] for _, info in resets]
    assert np.abs(points[0] - points[1]).max() > 0.05  # another grasp
    assert points[0] == pytest.approx(points[2], abs=1e-6)  # another rack


def test_conditions_are_the_papers_and_more():
    env = CoatHangerEnv()
    assert env.num_conditions == 10
    conditions = env.layout.training
    first = {(round(x, 3), round(g, 3)) for x, _, g in conditions[:6]}
    assert first == {(x, g) for x in (-0.1, 0.0, 0.1) for g in (-0.305, 0.305)}
    assert not conditions[:, 1].any()
    for split in ("spatial", "visual"):
        unseen = np.array([env.layout.unseen(split, i) for i in range(100)])
        assert not unseen[:, 1].any()
        assert set(unseen[:, 2]) == set(GRASPS)
        gaps = np.abs(unseen[:, :1] - conditions[:, 0]).min(axis=1)
        assert gaps.min() >= 0.005
        # Else a policy that knows the trained racks by heart would hang the hanger on most others.
        assert (gaps > MOUTH - BAR).mean() > 0.5


def test_random_poses_cover_the_way_without_penetration():
    heights = random_poses(CoatHangerEnv(), 100)[:, 2]
    assert (heights < 0.02).sum() >= 5  # on the bar
    assert (heights > 0.2).sum() >= 5


def test_there_is_room_for_all_distractors():
    env = CoatHangerEnv(split="visual", distractors=8)
    for i in range(20000, 20100):
        env.reset(options={"condition": i, **BLIND})


@pytest.mark.gl
@pytest.mark.parametrize("grasp", GRASPS)
@pytest.mark.parametrize("size", [64, 240])
def test_images_show_rack_and_grasp(size, grasp):
    env = CoatHangerEnv(image_size=size)

    def blue_and_red(x: float, grasp: float) -> tuple[np.ndarray, np.ndarray]:
        options = {"target": [x, 0.0], "grasp": grasp}
        image = env.reset(options=options)[0]["image"].astype(int)
        blue, red = image[..., 2] > image[..., 0] + 60, image[..., 0] > image[..., 2] + 90
        assert min(blue.sum(), red.sum()) > 0.01 * size**2
        return blue, red

    bars = [np.argwhere(blue_and_red(x, grasp)[0]).mean(axis=0) for x in (-0.1, 0.1)]
    assert np.linalg.norm(bars[0] - bars[1]) > 0.1 * size
    one, other = (blue_and_red(0.0, g)[1] for g in GRASPS)
    assert (one & other).sum() < 0.5 * one.sum()


def test_bad_number_of_conditions():
    with pytest.raises(ValueError, match="6 to 10"):
        CoatHangerEnv(num_conditions=5)
