"""What the visual test changes: objects on the table, colours and light. Nothing of it is touched.

Distractors are lower than the rim of any fixture, so that they can't hide it from a camera that
looks down, and neither the hand nor the forearm comes that low outside the fixture.
"""

from __future__ import annotations

import colorsys

import mujoco
import numpy as np

SLOTS = 8  # distractors that a model holds, hidden until they are placed
_NAMES = [f"distractor_{i}" for i in range(SLOTS)]
_SCENERY = ("table", "floor", "wall", "side_wall", "cupboard")
_SHAPES = tuple(
    int(shape)  # model arrays hold plain integers
    for shape in (
        mujoco.mjtGeom.mjGEOM_BOX,
        mujoco.mjtGeom.mjGEOM_CYLINDER,
        mujoco.mjtGeom.mjGEOM_SPHERE,
        mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    )
)


def add_slots(spec: mujoco.MjSpec) -> None:
    """Hidden objects without contacts, one per mocap body: their place is in the data."""
    for name in _NAMES:
        body = spec.worldbody.add_body(name=name, mocap=True, pos=[0, 0, -2])
        body.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.02] * 3, rgba=[0] * 4,
                      contype=0, conaffinity=0)  # fmt: skip


class Appearance:
    """The looks of a model as built, to be varied and restored."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._rgba = model.geom_rgba.copy()
        self._diffuse, self._direction = model.light_diffuse.copy(), model.light_dir.copy()
        self._ambient = model.vis.headlight.ambient.copy()

    def restore(self, model: mujoco.MjModel) -> None:
        """Undo `recolour` and `place`."""
        model.geom_rgba[:] = self._rgba
        model.light_diffuse[:], model.light_dir[:] = self._diffuse, self._direction
        model.vis.headlight.ambient[:] = self._ambient

    def recolour(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        """New colours for table and surroundings, another light: strength, tint, direction."""
        for name in _SCENERY:
            rgb = model.geom_rgba[model.geom(name).id, :3]
            rgb[:] = np.clip(rgb * rng.uniform(0.6, 1.2) + rng.uniform(-0.15, 0.15, 3), 0.05, 1)
        model.light_diffuse[:] = self._diffuse * rng.uniform(0.6, 1.3) * rng.uniform(0.85, 1.15, 3)
        model.light_dir[:, :2] += rng.uniform(-0.5, 0.5, 2)
        model.light_dir[:] /= np.linalg.norm(model.light_dir, axis=1, keepdims=True)
        model.vis.headlight.ambient[:] = self._ambient * rng.uniform(0.7, 1.25)

    def place(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        rng: np.random.Generator,
        count: int,
        avoid: tuple[float, float, float],
        area: np.ndarray,
    ) -> None:
        """Put `count` random objects on the table, apart from each other.

        :param avoid: (x, y, radius) of the fixture in m
        :param area: ((x, y) low, (x, y) high) of their centres, where the camera sees them
        """
        table = model.geom("table").id
        table_top = model.geom_pos[table, 2] + model.geom_size[table, 2]
        taken = [avoid]
        for name in _NAMES[:count]:
            shape = _SHAPES[rng.integers(len(_SHAPES))]
            size = rng.uniform([0.014, 0.014, 0.010], [0.030, 0.030, 0.035])
            radius = float(np.hypot(*size[:2]))
            for _ in range(1000):
                x, y = rng.uniform(*area)
                if all(np.hypot(x - a, y - b) > r + radius for a, b, r in taken):
                    break
            else:
                raise ValueError(f"no room on the table for {count} distractors; try fewer")
            taken.append((x, y, radius))
            hue, saturation, value = rng.random(), rng.uniform(0.5, 1), rng.uniform(0.4, 1)
            height = size[0] if shape == int(mujoco.mjtGeom.mjGEOM_SPHERE) else size[2]
            if shape == int(mujoco.mjtGeom.mjGEOM_CYLINDER):  # (radius, half height)
                size[1] = height
            geom, body = model.geom(name).id, model.body(name).mocapid[0]
            model.geom_type[geom], model.geom_size[geom] = shape, size
            model.geom_rgba[geom] = [*colorsys.hsv_to_rgb(hue, saturation, value), 1]
            turn = rng.uniform(0, np.pi)
            data.mocap_pos[body] = x, y, table_top + height
            data.mocap_quat[body] = np.cos(turn / 2), 0, 0, np.sin(turn / 2)
