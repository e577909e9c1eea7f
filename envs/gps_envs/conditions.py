"""Where the target stands: training positions on a lattice, unseen ones anywhere in the range.

Positions are (x, y) in metres from the centre of a rectangle of half-sides `half` (m). They depend
on nothing but the split and the index, so that every run is trained and tested on the same ones.
"""

from __future__ import annotations

from functools import cache

import numpy as np

SPLITS = ("train", "spatial", "visual")
MIN_CONDITIONS, MAX_CONDITIONS = 9, 81
UNSEEN_DISTANCE = 0.005  # m, from an unseen position to every possible training position


@cache
def training_positions(half: tuple[float, float]) -> np.ndarray:
    """The 81 nested training positions (81, 2): the first n are those of n conditions.

    The first nine are the paper's 3 x 3 grid (corners, middles of the edges, centre). Each further
    one is the point of a regular 9 x 9 lattice that is farthest from all before it, measured with
    the range scaled to a square, so that 25 give the 5 x 5 grid. Of equally far points a mirror
    image of the last one goes first, which keeps the layout close to symmetric at every n.
    """
    axis = np.linspace(-1, 1, 9)
    lattice = np.array([(x, y) for x in axis for y in axis])
    chosen = [(-1, -1), (1, 1), (-1, 1), (1, -1), (0, -1), (0, 1), (-1, 0), (1, 0), (0, 0)]
    while len(chosen) < MAX_CONDITIONS:
        distance = np.linalg.norm(lattice[:, None] - np.array(chosen), axis=-1)  # (81, chosen)
        nearest = distance.min(axis=1).round(9)
        ties = lattice[nearest == nearest.max()]
        x, y = chosen[-1]
        mirrored = [p for p in [(-x, -y), (-x, y), (x, -y)] if (ties == p).all(axis=1).any()]
        # Without a mirror image: the tie with the largest sum of distances, hence an outer one.
        spread = np.linalg.norm(ties[:, None] - np.array(chosen), axis=-1).sum(axis=1).round(9)
        chosen.append(mirrored[0] if mirrored else tuple(ties[spread.argmax()]))
    positions = np.array(chosen) * half
    positions.flags.writeable = False
    return positions


def unseen_position(split: str, index: int, half: tuple[float, float]) -> np.ndarray:
    """Position (2,) number `index` of a test split, uniform over what is not near the lattice."""
    rng = np.random.default_rng([SPLITS.index(split), index])
    while True:
        position = rng.uniform(-1, 1, 2) * half
        gaps = np.linalg.norm(training_positions(half) - position, axis=1)
        if gaps.min() >= UNSEEN_DISTANCE:
            return position
