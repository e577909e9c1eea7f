"""Where the target stands and how the object is held: training conditions and unseen ones.

A condition is (x, y, grasp): metres from the centre of a rectangle of half-sides `half`, and the
angle in rad by which the object is turned in the hand. Conditions depend on nothing but the task's
layout, the split and the index, so that every run is trained and tested on the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

SPLITS = ("train", "spatial", "visual")
UNSEEN_DISTANCE = 0.005  # m, from an unseen position to every possible training position
CORNERS = ((-1, -1), (1, 1), (-1, 1), (1, -1))
GRID_3X3 = (*CORNERS, (0, -1), (0, 1), (-1, 0), (1, 0), (0, 0))
CORNERS_AND_CENTRE = (*CORNERS, (0, 0))


@dataclass(frozen=True)
class Layout:
    """The conditions of a task.

    :param half: half-sides of the range of positions along x and y, in m
    :param first: the paper's positions, in units of `half`
    :param points: of the lattice of training positions along x and y
    :param grasps: the angles at which the object is held, in rad
    """

    half: tuple[float, float]
    first: tuple[tuple[float, float], ...] = GRID_3X3
    points: tuple[int, int] = (9, 9)
    grasps: tuple[float, ...] = (0.0,)

    @property
    def fewest(self) -> int:
        """The paper's number of conditions, which every training set contains."""
        return len(self.first) * len(self.grasps)

    @property
    def most(self) -> int:
        """The number of possible training conditions."""
        return self.points[0] * self.points[1] * len(self.grasps)

    @property
    def training(self) -> np.ndarray:
        """All nested training conditions, (most, 3): the first n are those of n conditions."""
        return _nested(self)

    def unseen(self, split: str, index: int) -> np.ndarray:
        """Condition (3,) number `index` of a test split, away from every training position.

        Positions are uniform over what is farther than `UNSEEN_DISTANCE` from the lattice.
        """
        rng = np.random.default_rng([SPLITS.index(split), index])
        while True:
            position = rng.uniform(-1, 1, 2) * self.half
            gaps = np.linalg.norm(self.training[:, :2] - position, axis=1)
            if gaps.min() >= UNSEEN_DISTANCE:
                return np.array([*position, self.grasps[rng.integers(len(self.grasps))]])


@cache
def _nested(layout: Layout) -> np.ndarray:
    """At first the paper's positions with every grasp; then always the farthest from all before.

    Distances are measured with the ranges of x, y and the grasp scaled to a cube, so that 25
    conditions with one grasp give the 5 x 5 grid. Of equally far conditions a mirror image of the
    last one goes first, which keeps the layout close to symmetric at every n.
    """
    axes = [_axis(n) for n in (*layout.points, len(layout.grasps))]
    lattice = np.array(list(product(*axes)))
    chosen = [(*position, grasp) for position in layout.first for grasp in axes[2]]
    while len(chosen) < layout.most:
        distance = np.linalg.norm(lattice[:, None] - np.array(chosen), axis=-1)  # (most, chosen)
        nearest = distance.min(axis=1).round(9)
        ties = lattice[nearest == nearest.max()]
        mirrored = [
            point
            for signs in product((-1, 1), repeat=3)
            if (ties == (point := tuple(np.multiply(signs, chosen[-1])))).all(axis=1).any()
        ]
        # Without a mirror image: the tie with the largest sum of distances, hence an outer one.
        spread = np.linalg.norm(ties[:, None] - np.array(chosen), axis=-1).sum(axis=1).round(9)
        chosen.append(mirrored[0] if mirrored else tuple(ties[spread.argmax()]))
    conditions = np.array(chosen)
    conditions[:, :2] *= layout.half
    conditions[:, 2] = np.interp(conditions[:, 2], axes[2], layout.grasps)
    conditions.flags.writeable = False
    return conditions


def _axis(n: int) -> np.ndarray:
    """n points from -1 to 1; a single one lies in the middle."""
    return np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
