"""A cap onto the thread of a bottle."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any, ClassVar

import mujoco
import numpy as np

from gps_envs.base import ArmEnv, turned
from gps_envs.conditions import Layout
from gps_envs.costs import PointCost

# Lengths in m, angles in rad, clockwise as seen from above, as a cap is screwed on; 0 is y.
# The frame of the target: origin on the bottle's axis, in the plane of its mouth.
NECK, LIP, LIP_HEIGHT = 0.0255, 0.015, 0.010  # radii of neck and lip, height of the cone
NECK_HEIGHT, HEIGHT, BODY = 0.038, 0.110, 0.042  # of neck and bottle, radius of the body
STARTS, ARC = 3, np.radians(50)  # of the thread, and the length of a ridge
RIDGE, DEPTH, SLOPE = 0.030, -0.015, -0.004  # its radius, its middle's z, its z from end to end
ROUND = 0.003  # radius of ridges and lugs
# The frame of the object: x along the tool, which is the axis of the cap.
TOP, LUG = 0.024, 0.051  # x of the underside of the cap's lid, and of its lugs
WALL, INSIDE, TIP = 0.004, 0.037, 0.0275  # thickness of the wall, radii of its inside and of lugs
LUG_DEPTH = -0.025  # z of the lugs in place: 2 mm of room above the mouth
TURN, PAST = np.radians(70), np.radians(10)  # to be turned, of it past the middle of the ridges
SLACK = 0.001  # by which elastic bodies may sink into each other
CAMERA, LOOK_AT = np.array([1.0, 0.75, 0.25]), np.array([0.62, 0.0, -0.32])
PULL, PULL_STEPS = 5.0, 100  # N, in steps of the physics (10 ms)
RED, BLUE, YELLOW, WHITE = (
    [0.90, 0.10, 0.12, 1], [0.08, 0.35, 0.85, 1], [0.98, 0.80, 0.15, 1], [0.92, 0.94, 0.96, 1],
)  # fmt: skip


class BottleCapEnv(ArmEnv):
    """TODO"""

    start_angles: ClassVar = np.array([-0.209, 0.141, -1.587, -1.342, -1.705, -1.523, -3.227])
    # Two on the axis, one beside it: how far beside says what the turn counts.
    object_points: ClassVar = np.array([[LUG, 0.0, 0.0], [LUG - 0.06, 0.0, 0.0], [LUG, 0.0, 0.017]])
    goal_rotation: ClassVar = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    goal_points: ClassVar = (object_points - [LUG, 0, 0]) @ goal_rotation.T + [0, 0, LUG_DEPTH]
    way_out: ClassVar = np.array([0.0, 0.0, 0.06])
    target_centre: ClassVar = np.array([0.62, 0.0, HEIGHT - 0.43])
    layout: ClassVar = Layout(half=(0.08, 0.05))
    default_cost: ClassVar = PointCost(w_l2=3.0, w_log=1.0, alpha=2e-4, lateral=3.0)
    distractor_area: ClassVar = np.array([[0.44, -0.2], [0.78, 0.16]])
    fixture_radius: ClassVar = 0.09
    _around: ClassVar = 2 * np.pi / STARTS * np.arange(STARTS)
    # The inner ends of the lugs.
    _lugs: ClassVar = np.array([[LUG, TIP * np.cos(a), TIP * np.sin(a)] for a in _around])

    def build(self, spec: mujoco.MjSpec) -> None:
        box, capsule, cylinder = (
            mujoco.mjtGeom.mjGEOM_BOX,
            mujoco.mjtGeom.mjGEOM_CAPSULE,
            mujoco.mjtGeom.mjGEOM_CYLINDER,
        )
        held, fixed = spec.find_default("held"), spec.find_default("fixed")
        cap = spec.body("object")
        cap.add_geom(held, name="knob", type=box, pos=[0.010, 0, 0], size=[0.014, 0.0185, 0.010],
                     rgba=YELLOW)  # fmt: skip
        outside = INSIDE + WALL
        cap.add_geom(held, name="lid", type=cylinder, pos=[TOP - WALL / 2, 0, 0],
                     size=[outside, WALL / 2, 0], quat=[1, 0, 1, 0], rgba=RED)  # fmt: skip
        rim = LUG + ROUND
        for a in np.linspace(0, 2 * np.pi, 12, endpoint=False):
            middle = INSIDE + WALL / 2
            cap.add_geom(held, type=box, rgba=RED,
                         pos=[(TOP + rim) / 2, middle * np.cos(a), middle * np.sin(a)],
                         size=[(rim - TOP) / 2, WALL / 2, outside * np.tan(np.pi / 12)],
                         quat=[np.cos(a / 2), np.sin(a / 2), 0, 0])  # fmt: skip
        for x, y, z in self._lugs / [1, TIP, TIP]:
            ends = (TIP + ROUND, INSIDE)
            cap.add_geom(held, type=capsule, size=[ROUND, 0, 0], rgba=YELLOW,
                         fromto=[c for r in ends for c in (x, r * y, r * z)])  # fmt: skip

        bottle = spec.worldbody.add_body(name="target", mocap=True, pos=self.target_centre)
        for name, radius, low, high, rgba in (
            ("body", BODY, -HEIGHT, -NECK_HEIGHT - 0.015, BLUE),
            ("neck", NECK, -NECK_HEIGHT, -LIP_HEIGHT, WHITE),
        ):
            bottle.add_geom(fixed, name=name, type=cylinder, pos=[0, 0, (low + high) / 2],
                            size=[radius, (high - low) / 2, 0], rgba=rgba)  # fmt: skip
        for name, wide, narrow, low, high, rgba in (
            ("shoulder", BODY, NECK, -NECK_HEIGHT - 0.015, -NECK_HEIGHT, BLUE),
            ("lip", NECK, LIP, -LIP_HEIGHT, 0.0, WHITE),
        ):
            angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
            points = [(*r * p, z) for r, z in ((wide, low), (narrow, high)) for p in circle]
            spec.add_mesh(name=name, uservert=np.ravel(points))
            bottle.add_geom(fixed, name=name, type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name,
                            rgba=rgba)  # fmt: skip
        for a in self._around:
            line = [ridge_point(a - PAST + part * ARC) for part in (-0.5, 0.0, 0.5)]
            for start, end in pairwise(line):
                bottle.add_geom(fixed, type=capsule, fromto=[*start, *end], size=[ROUND, 0, 0],
                                rgba=WHITE)  # fmt: skip

        # The robot's left, opposite the arm, which hides neither cap nor bottle from there.
        camera = spec.camera("scene")
        camera.pos, camera.fovy = CAMERA, 21
        back = CAMERA - LOOK_AT
        right = np.cross([0, 0, 1], back)
        camera.alt.xyaxes = [*right, *np.cross(back, right)]

    def in_place(self) -> bool:
        return self._is_screwed_on(self.data)

    def stays_in_place(self) -> bool:
        """Whether the thread holds the cap on a copy of the scene, pulled up without motors."""
        data = copy.copy(self.data)
        data.ctrl[:] = 0.0
        data.xfrc_applied[self._object, 2] = PULL
        mujoco.mj_step(self.model, data, nstep=PULL_STEPS)
        mujoco.mj_kinematics(self.model, data)
        return self._is_screwed_on(data)

    def _is_screwed_on(self, data: mujoco.MjData) -> bool:
        """Whether every lug is under a ridge, between the neck and the ridge's outer edge."""
        rotation = data.xmat[self._object].reshape(3, 3)
        lugs = data.xpos[self._object] + self._lugs @ rotation.T - data.mocap_pos[self._target]
        radius, angle = np.hypot(lugs[:, 0], lugs[:, 1]), np.arctan2(lugs[:, 0], lugs[:, 1])
        aside = _from_ridge(angle)
        under = lugs[:, 2] < _ridge_height(aside) - ROUND
        on = lugs[:, 2] > LUG - TOP
        beside = (radius > NECK - SLACK) & (radius < RIDGE + ROUND)
        return bool((under & beside & (np.abs(aside) < ARC / 2)).all())


def ridge_point(angle: float) -> np.ndarray:
    """(3,) on the centre line of a ridge, in the frame of the target."""
    height = _ridge_height(_from_ridge(np.array(angle)))
    return np.array([RIDGE * np.sin(angle), RIDGE * np.cos(angle), height])


def _ridge_height(aside: Any) -> Any:
    """z of the centre line at an angle from the middle of its ridge."""
    return DEPTH + SLOPE * aside / ARC


def _from_ridge(angle: np.ndarray) -> np.ndarray:
    """The angle from the middle of the nearest ridge."""
    pitch = 2 * np.pi / STARTS
    return (angle + PAST + pitch / 2) % pitch - pitch / 2
