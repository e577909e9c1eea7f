"""Where targets stand."""

import numpy as np
import pytest

from gps_envs.conditions import training_positions, unseen_position

HALF = (0.08, 0.05)


def test_training_positions_start_with_the_grid_of_the_paper():
    positions = training_positions(HALF)
    grid = {(x, y) for x in (-0.08, 0.0, 0.08) for y in (-0.05, 0.0, 0.05)}
    assert {tuple(p) for p in positions[:9] + 0.0} == grid
    assert len(np.unique(positions.round(9), axis=0)) == 81
    assert (np.abs(positions) <= HALF).all()


@pytest.mark.parametrize(("n", "side"), [(9, 3), (25, 5), (81, 9)])
def test_square_numbers_of_positions_are_grids(n, side):
    x, y = training_positions(HALF)[:n].T
    assert np.unique(x.round(9)) == pytest.approx(np.linspace(-0.08, 0.08, side))
    assert np.unique(y.round(9)) == pytest.approx(np.linspace(-0.05, 0.05, side))


@pytest.mark.parametrize("split", ["spatial", "visual"])
def test_unseen_positions_are_fixed_and_spread(split):
    points = np.array([unseen_position(split, i, HALF) for i in range(300)])
    assert (points[17] == unseen_position(split, 17, HALF)).all()
    gaps = np.linalg.norm(points[:, None] - training_positions(HALF), axis=-1)
    assert gaps.min() >= 0.005
    # Uniform: each quadrant within 4 standard deviations of its share.
    quadrants = np.bincount((points > 0) @ [1, 2], minlength=4)
    assert np.abs(quadrants - 75).max() < 4 * np.sqrt(300 * 0.25 * 0.75)
    assert (np.abs(points) <= HALF).all()


def test_splits_differ():
    assert (unseen_position("spatial", 0, HALF) != unseen_position("visual", 0, HALF)).all()
