"""What the visual test changes: objects on the table, its texture, colours and light.

Nothing of it can be touched. How much changes has three names, `STRENGTHS`; "medium" is the one
that results are reported on.

Distractors are at most 7 cm high: lower than what the held object goes to, but for the nail, whose
camera looks down; and neither the hand nor the forearm comes that low outside the fixture.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import mujoco
import numpy as np

SLOTS = 8  # distractors that a model holds, hidden until they are placed
_NAMES = [f"distractor_{i}" for i in range(SLOTS)]
_SCENERY = ("table", "floor", "wall", "side_wall", "cupboard")
_TEXTURES = ("checks", "speckles", "spots")
_SHAPES = tuple(
    int(shape)  # model arrays hold plain integers
    for shape in (
        mujoco.mjtGeom.mjGEOM_BOX,
        mujoco.mjtGeom.mjGEOM_CYLINDER,
        mujoco.mjtGeom.mjGEOM_SPHERE,
        mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    )
)


@dataclass(frozen=True)
class Strength:
    """How much a visual test changes.

    :param objects: the fewest distractors, and one more than the most
    :param alike: share of them that have a colour of the held object or of the fixture
    :param colour: of the changes of colours and of the light, relative to "medium"
    :param textures: share of the scenes whose table has a texture
    :param camera: deviation of the camera's position (m) and of its direction (rad)
    """

    objects: tuple[int, int]
    alike: float
    colour: float
    textures: float
    camera: float = 0.0


STRENGTHS = {
    "mild": Strength(objects=(1, 3), alike=0.0, colour=0.5, textures=0.0),
    "medium": Strength(objects=(2, 5), alike=0.25, colour=1.0, textures=0.5),
    "strong": Strength(objects=(4, 9), alike=0.5, colour=1.3, textures=1.0, camera=0.005),
}


def prepare(spec: mujoco.MjSpec) -> None:
    """Add what the visual test may show: hidden objects without contacts, and textures.

    Each object is a mocap body: its place is in the data.
    """
    for name in _NAMES:
        body = spec.worldbody.add_body(name=name, mocap=True, pos=[0, 0, -2])
        body.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.02] * 3, rgba=[0] * 4,
                      contype=0, conaffinity=0)  # fmt: skip
    builtin, mark = mujoco.mjtBuiltin, mujoco.mjtMark
    light, dark = [1.0, 1.0, 1.0], [0.72, 0.72, 0.72]  # times the table's own colour
    patterns = {
        "checks": dict(builtin=builtin.mjBUILTIN_CHECKER, rgb1=light, rgb2=dark),
        "speckles": dict(builtin=builtin.mjBUILTIN_FLAT, rgb1=light, rgb2=light,
                         mark=mark.mjMARK_RANDOM, random=0.2, markrgb=dark),
        "spots": dict(builtin=builtin.mjBUILTIN_GRADIENT, rgb1=light, rgb2=dark),
    }  # fmt: skip
    for name in _TEXTURES:
        spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=64, height=64,
                         **patterns[name])  # fmt: skip
        material = spec.add_material(name=name, texrepeat=[6, 6])
        material.textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = name


class Appearance:
    """The looks of a model as built, to be varied and restored."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._rgba, self._material = model.geom_rgba.copy(), model.geom_matid.copy()
        self._camera = model.cam_pos.copy(), model.cam_quat.copy()
        self._diffuse, self._direction = model.light_diffuse.copy(), model.light_dir.copy()
        self._ambient = model.vis.headlight.ambient.copy()
        parts = [model.body("object").id, model.body("target").id]
        self._task_colours = np.unique(self._rgba[np.isin(model.geom_bodyid, parts), :3], axis=0)

    def restore(self, model: mujoco.MjModel) -> None:
        """Undo `recolour` and `place`."""
        model.geom_rgba[:], model.geom_matid[:] = self._rgba, self._material
        model.cam_pos[:], model.cam_quat[:] = self._camera
        model.light_diffuse[:], model.light_dir[:] = self._diffuse, self._direction
        model.vis.headlight.ambient[:] = self._ambient

    def recolour(self, model: mujoco.MjModel, rng: np.random.Generator, strength: Strength) -> None:
        """New colours for table and surroundings, another light: strength, tint, direction."""
        c = strength.colour
        for name in _SCENERY:
            rgb = model.geom_rgba[model.geom(name).id, :3]
            shade, tint = rng.uniform(1 - 0.4 * c, 1 + 0.2 * c), rng.uniform(-0.15, 0.15, 3)
            rgb[:] = np.clip(rgb * shade + c * tint, 0.05, 1)
        light = rng.uniform(1 - 0.4 * c, 1 + 0.3 * c) * (1 + c * rng.uniform(-0.15, 0.15, 3))
        model.light_diffuse[:] = self._diffuse * light
        model.light_dir[:, :2] += c * rng.uniform(-0.5, 0.5, 2)
        model.light_dir[:] /= np.linalg.norm(model.light_dir, axis=1, keepdims=True)
        model.vis.headlight.ambient[:] = self._ambient * (1 + c * rng.uniform(-0.3, 0.25))
        if rng.random() < strength.textures:
            model.geom_matid[model.geom("table").id] = model.material(rng.choice(_TEXTURES)).id
        if strength.camera:
            model.cam_pos[:] += rng.normal(0.0, strength.camera, 3)
            for quaternion in model.cam_quat:
                mujoco.mju_quatIntegrate(quaternion, rng.normal(0.0, strength.camera, 3), 1.0)

    def place(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        rng: np.random.Generator,
        count: int,
        strength: Strength,
        avoid: tuple[float, float, float],
        area: np.ndarray,
    ) -> None:
        """Put `count` random objects on the table, apart from each other.

        :param avoid: (x, y, radius) of the fixture in m
        :param area: ((x, y) low, (x, y) high) of their centres, where the camera sees them, or
            several of these, equally likely
        """
        table = model.geom("table").id
        table_top = model.geom_pos[table, 2] + model.geom_size[table, 2]
        taken, areas = [avoid], area.reshape(-1, 2, 2)
        for name in _NAMES[:count]:
            shape = _SHAPES[rng.integers(len(_SHAPES))]
            size = rng.uniform([0.014, 0.014, 0.010], [0.030, 0.030, 0.035])
            radius = float(np.hypot(*size[:2]))
            for _ in range(1000):
                x, y = rng.uniform(*areas[rng.integers(len(areas))])
                if all(np.hypot(x - a, y - b) > r + radius for a, b, r in taken):
                    break
            else:
                raise ValueError(f"no room on the table for {count} distractors; try fewer")
            taken.append((x, y, radius))
            if rng.random() < strength.alike:
                rgb = self._task_colours[rng.integers(len(self._task_colours))]
            else:
                hue, saturation, value = rng.random(), rng.uniform(0.5, 1), rng.uniform(0.4, 1)
                rgb = colorsys.hsv_to_rgb(hue, saturation, value)
            height = size[0] if shape == int(mujoco.mjtGeom.mjGEOM_SPHERE) else size[2]
            if shape == int(mujoco.mjtGeom.mjGEOM_CYLINDER):  # (radius, half height)
                size[1] = height
            geom, body = model.geom(name).id, model.body(name).mocapid[0]
            model.geom_type[geom], model.geom_size[geom] = shape, size
            model.geom_rgba[geom] = [*rgb, 1]
            turn = rng.uniform(0, np.pi)
            data.mocap_pos[body] = x, y, table_top + height
            data.mocap_quat[body] = np.cos(turn / 2), 0, 0, np.sin(turn / 2)
