"""Parts that several fixtures are built of."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

BOX = mujoco.mjtGeom.mjGEOM_BOX


def add_well(
    spec: mujoco.MjSpec,
    body: Any,
    *,
    hole: float,
    depth: float,
    size: float,
    height: float,
    chamfer: float,
    colours: tuple[list[float], list[float], list[float]],
) -> None:
    """A block with a square hole from above; the rim lies in the body's plane z = 0.

    :param body: of the spec, that gets the geoms
    :param hole: half-width of the hole (m)
    :param depth: of the hole (m)
    :param size: half-width of the block (m)
    :param height: of the block (m)
    :param chamfer: width and height of the rim's slope (m); 0: a sharp edge
    :param colours: of the walls, the chamfer and the bottom
    """
    fixed, c = spec.find_default("fixed"), chamfer
    walls, slope, bottom = colours

    def add(low: Any, high: Any, rgba: Any) -> None:
        low, high = np.array(low), np.array(high)
        body.add_geom(fixed, type=BOX, pos=(low + high) / 2, size=(high - low) / 2, rgba=rgba)

    add([-hole, -hole, -height], [hole, hole, -depth], bottom)
    # Four walls, and above them the wider frame that holds the chamfer.
    for h, low, high in ((hole, -height, -c), (hole + c, -c, 0.0)):
        if high > low:
            add([h, -size, low], [size, size, high], walls)
            add([-size, -size, low], [-h, size, high], walls)
            add([-h, h, low], [h, size, high], walls)
            add([-h, -size, low], [h, -h, high], walls)
    # The chamfer: four boxes turned by 45 degrees, one face on the slope, the rest in the block.
    for sign in (1, -1) if c else ():
        out, half = hole + 0.75 * c, [c / np.sqrt(2), hole + c, c / np.sqrt(8)]
        cos, sin = np.cos(np.pi / 8), sign * np.sin(np.pi / 8)
        body.add_geom(fixed, type=BOX, pos=[sign * out, 0, -0.75 * c], size=half,
                      quat=[cos, 0, -sin, 0], rgba=slope)  # fmt: skip
        body.add_geom(fixed, type=BOX, pos=[0, sign * out, -0.75 * c],
                      size=[half[1], half[0], half[2]], quat=[cos, sin, 0, 0],
                      rgba=slope)  # fmt: skip
