"""Where targets stand."""

import numpy as np
import pytest

from gps_envs.conditions import CORNERS_AND_CENTRE, Layout

HALF = (0.08, 0.05)
CUBE = Layout(HALF)
NAIL = Layout(HALF, first=CORNERS_AND_CENTRE, grasps=(-0.4, 0.0, 0.4))


def test_training_positions_start_with_the_grid_of_the_paper():
    positions = CUBE.training[:, :2]
    grid = {(x, y) for x in (-0.08, 0.0, 0.08) for y in (-0.05, 0.0, 0.05)}
    assert {tuple(p) for p in positions[:9] + 0.0} == grid
    assert len(np.unique(positions.round(9), axis=0)) == 81
    assert (np.abs(positions) <= HALF).all()


@pytest.mark.parametrize(("n", "side"), [(9, 3), (25, 5), (81, 9)])
def test_square_numbers_of_positions_are_grids(n, side):
    x, y = CUBE.training[:, :2][:n].T
    assert np.unique(x.round(9)) == pytest.approx(np.linspace(-0.08, 0.08, side))
    assert np.unique(y.round(9)) == pytest.approx(np.linspace(-0.05, 0.05, side))


@pytest.mark.parametrize("split", ["spatial", "visual"])
def test_unseen_positions_are_fixed_and_spread(split):
    points = np.array([CUBE.unseen(split, i)[:2] for i in range(300)])
    assert (points[17] == CUBE.unseen(split, 17)[:2]).all()
    gaps = np.linalg.norm(points[:, None] - CUBE.training[:, :2], axis=-1)
    assert gaps.min() >= 0.005
    # Uniform: each quadrant within 4 standard deviations of its share.
    quadrants = np.bincount((points > 0) @ [1, 2], minlength=4)
    assert np.abs(quadrants - 75).max() < 4 * np.sqrt(300 * 0.25 * 0.75)
    assert (np.abs(points) <= HALF).all()


def test_splits_differ():
    assert (CUBE.unseen("spatial", 0)[:2] != CUBE.unseen("visual", 0)[:2]).all()


def test_paper_conditions_are_positions_times_grasps():
    assert NAIL.fewest == 15 and NAIL.most == 243
    first = {tuple(row) for row in NAIL.training[:15].round(9) + 0.0}
    corners = [(x, y) for x in (-0.08, 0.08) for y in (-0.05, 0.05)]
    assert first == {(*p, g) for p in [*corners, (0.0, 0.0)] for g in NAIL.grasps}
    assert len(np.unique(NAIL.training.round(9), axis=0)) == 243
    # Further conditions use every grasp about equally.
    counts = [np.isclose(NAIL.training[:36, 2], g).sum() for g in NAIL.grasps]
    assert min(counts) >= 6


def test_unseen_conditions_use_every_grasp():
    grasps = [NAIL.unseen("spatial", i)[2] for i in range(90)]
    assert set(grasps) == set(NAIL.grasps)
    assert min(grasps.count(g) for g in NAIL.grasps) > 15


def test_one_dimensional_range():
    rack = Layout((0.1, 0.0), first=((-1, 0), (0, 0), (1, 0)), points=(13, 1), grasps=(-0.3, 0.3))
    assert rack.fewest == 6 and rack.most == 26
    assert (rack.training[:, 1] == 0).all()
    unseen = np.array([rack.unseen("visual", i) for i in range(50)])
    assert (unseen[:, 1] == 0).all()
    assert np.abs(unseen[:, None, 0] - rack.training[:, 0]).min() >= 0.005
