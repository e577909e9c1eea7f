"""A cap onto the thread of a bottle."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any, ClassVar

import mujoco
import numpy as np

from gps_envs.base import ArmEnv
from gps_envs.conditions import Layout
from gps_envs.costs import PointCost

# Lengths in m, angles in rad, clockwise as seen from above, as a cap is screwed on; 0 is y.
# The frame of the target: origin on the bottle's axis, in the plane of its mouth.
NECK, LIP, LIP_HEIGHT = 0.0255, 0.015, 0.010  # radii of neck and lip, height of the cone
NECK_HEIGHT, HEIGHT, BODY = 0.038, 0.110, 0.042  # of neck and bottle, radius of the body
STARTS, ARC = 3, np.radians(45)  # of the thread, and the length of a ridge
RIDGE, DEPTH, SLOPE = 0.030, -0.015, -0.004  # its radius, its middle's z, its z from end to end
ROUND = 0.003  # radius of ridges and lugs
# The frame of the object: x along the tool, which is the axis of the cap.
TOP, LUG = 0.024, 0.051  # x of the underside of the cap's lid, and of its lugs
WALL, INSIDE, TIP = 0.004, 0.037, 0.0275  # thickness of the wall, radii of its inside and of lugs
LUG_DEPTH = -0.025  # z of the lugs in place: 2 mm of room above the mouth
TURN, PAST = np.radians(85), np.radians(8)  # to be turned, of it past the middle of the ridges
SLACK = 0.001  # by which elastic bodies may sink into each other
CAMERA, LOOK_AT = np.array([1.0, 0.75, 0.25]), np.array([0.62, 0.0, -0.32])
PULL, PULL_STEPS = 5.0, 100  # N, in steps of the physics (10 ms)
RED, BLUE, YELLOW, WHITE = (
    [0.90, 0.10, 0.12, 1], [0.08, 0.35, 0.85, 1], [0.98, 0.80, 0.15, 1], [0.92, 0.94, 0.96, 1],
)  # fmt: skip


class BottleCapEnv(ArmEnv):
    """
    ## Description

    A 7-DoF arm of PR2 proportions holds a cap by its knob, puts it on the neck of a bottle and
    screws it on. The thread has three starts, like that of a jar: three ridges run around the neck
    over 45 degrees each, falling clockwise, and three lugs inside the cap go down between them and
    then under them as the cap is turned. The lugs leave 2 mm around the neck, whose lip is a cone,
    the wall of the cap 4 mm around the ridges. Turned too early, the lugs come down on the ridges.
    The bottle stands anywhere in a range of 16 x 10 cm on a table, its mouth 7 cm below the lugs,
    and only the image tells where. Torque control at 20 Hz; 100 steps = 5 s. After the bottle cap
    task of Levine et al., *End-to-End Training of Deep Visuomotor Policies*, JMLR 2016.

    The world frame is the robot's: x ahead, y left, z up, origin on the torso axis at the height of
    the shoulder (the shoulder is at y = -0.188 m). There is no gravity: the real arm's is
    compensated by springs.

    ## Action space

    `Box(-1, 1, (7,), float32)`: joint torques as parts of their limits. Values outside are clipped,
    NaN is refused.

    | Index | Joint | Limit (N m) |
    |---|---|---|
    | 0 | shoulder pan | 36 |
    | 1 | shoulder lift | 36 |
    | 2 | upper arm roll | 18 |
    | 3 | elbow flex | 18 |
    | 4 | forearm roll | 4.8 |
    | 5 | wrist flex | 4.8 |
    | 6 | wrist roll | 3 |

    ## Observation space

    `Dict`, nothing in it but the image depends on the target:

    | Key | Space | Content |
    |---|---|---|
    | `image` | `Box(0, 255, (S, S, 3), uint8)` | camera opposite the arm, S = `image_size` |
    | `proprio` | `Box(-100, 100, (32,), float32)` | what the robot knows of itself, below |

    | `proprio` | Content | Unit |
    |---|---|---|
    | 0-6 | joint angles | rad |
    | 7-13 | joint velocities | rad/s |
    | 14-22 | three points of the cap (x, y, z each) in the robot frame | m |
    | 23-31 | their velocities | m/s |

    The points are the middle of the circle of the lugs, a point 6 cm above it on the axis of the
    cap, and one 1.3 cm beside it: together they fix position and rotation.

    ## Privileged state

    For teachers, in the `info` of `reset` and `step`; new arrays at each call.

    | Key | Content |
    |---|---|
    | `state` | float64 (32,): as `proprio`, but with the points *relative to their targets* |
    | `pose` | float32 (12,): target, then the three points: labels for pose regression |
    | `is_success` | bool, the first half of the rule below applied to this moment |
    | `success` | at the last step only: the same, and the cap stays on when pulled at |

    The points' targets are those of the cap in place: upright on the bottle's axis, its lid 2 mm
    above the mouth, its lugs 8 degrees past the middle of the ridges. The target in `pose` is the
    middle of the mouth, in the robot frame; its z is constant.

    ## Cost and reward

    `reward = -env.cost(x_t, u_t, t)` with the state before the action, by default
    `gps_envs.PointCost(w_l2=3.0, w_log=1.0, alpha=2e-4, w_v=0.1, lateral=3.0)`: a quadratic and a
    logarithmic term of the points' distance, terms for joint velocities and torques, growing over
    the episode. What the turn counts follows from how far beside the axis the third point is:
    so little that the cap is down before it has turned as far as the next ridges. See
    `gps_envs.costs`.

    ## Starting state

    The arm rests at `start_angles` plus normal noise of `init_noise` rad, the cap 85 degrees short
    of its place, so that its lugs are above the gaps of the thread; the target is drawn:

    | Split | Target | Scene |
    |---|---|---|
    | `train` | condition m of `num_conditions` lattice points | as built |
    | `spatial` | condition i: a fixed unseen point anywhere in the range | as built |
    | `visual` | condition i: another stream of unseen points | objects, colours, light, texture |

    The training positions are nested, and the first nine are the paper's 3 x 3 grid. Unseen points
    are uniform but for 5 mm around each of the 81 possible training positions. What the visual
    split shows is fixed by i too.

    Options of `reset`, each for that one episode:

    | Option | Meaning |
    |---|---|
    | `condition` | 0 to `num_conditions` - 1 in `train`, any i >= 0 elsewhere; else drawn |
    | `split` | instead of the environment's |
    | `target` | `[x, y]` in m from the centre of the range, up to 0.08 and 0.05 |
    | `image` | False: images are zeros and none is drawn until the next reset |
    | `random_pose` | True: a random configuration on the way from the start onto the bottle |

    With `random_pose` the target is anywhere in the range unless one of the others is given.

    ## Success

    Each of the three lugs is under a ridge: its axis lower than the ridge's underside, its inner
    end between the neck (1 mm is allowed for elastic bodies) and the ridge's outer edge, and turned
    to within the 45 degrees of the ridge. So the cap is turned by 55 degrees at least, and to where
    the thread holds it. After the last step it is pulled up with 5 N for a second in a copy of the
    scene, without any motor torque: the same is still true. A cap that is only put on comes off.
    Judged by geometry alone, not by the cost.

    ## Episode end

    Never terminated; truncated by `TimeLimit` after 100 steps. The last check of success is made
    after step 100, so it is not with another `max_episode_steps`.

    ## Arguments

    | Argument | Default | Meaning |
    |---|---|---|
    | `split` | `"train"` | `"train"`, `"spatial"` or `"visual"` |
    | `image_size` | 64 | pixels, 64 to 240 |
    | `num_conditions` | None | training positions, 9 to 81; None: 25 |
    | `visual` | `"medium"` | strength of the visual split: `"mild"`, `"medium"`, `"strong"` |
    | `distractors` | None | number of objects on the table, 0 to 8; None: the split's own |
    | `init_noise` | 0.0 | standard deviation of the starting joint angles in rad |
    | `shadows` | False | draw shadows (20 times slower on a CPU) |
    | `render_mode` | None | `"rgb_array"`: `render()` returns 240 x 240 pixels |
    | `cost` | None | l(x, u, t) instead of the default; called with numpy arrays at each step |

    ## Version history

    * v0: first version
    """

    start_angles: ClassVar = np.array([-0.206, 0.183, -1.618, -1.322, -1.737, -1.481, -3.498])
    # Two on the axis, one beside it: how far says what the turn counts. With 3 cm the cap turns so
    # early that its lugs land on the ridges, with 1.7 cm a student's still do now and then.
    object_points: ClassVar = np.array([[LUG, 0.0, 0.0], [LUG - 0.06, 0.0, 0.0], [LUG, 0.0, 0.013]])
    goal_rotation: ClassVar = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    goal_points: ClassVar = (object_points - [LUG, 0, 0]) @ goal_rotation.T + [0, 0, LUG_DEPTH]
    way_out: ClassVar = np.array([0.0, 0.0, 0.06])
    target_centre: ClassVar = np.array([0.62, 0.0, HEIGHT - 0.43])
    layout: ClassVar = Layout(half=(0.08, 0.05))
    # With equal weights the cap comes down off the axis, where one lug misses its ridge; where
    # velocities cost little, students circle about the place to the end; where they cost 0.2, some
    # teachers have not finished turning after eight iterations.
    default_cost: ClassVar = PointCost(w_l2=3.0, w_log=1.0, alpha=2e-4, w_v=0.1, lateral=3.0)
    distractor_area: ClassVar = np.array([[0.46, -0.22], [0.74, 0.10]])
    fixture_radius: ClassVar = 0.07
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
        """Whether every lug is under a ridge, and the lid above the mouth."""
        rotation = data.xmat[self._object].reshape(3, 3)
        lugs = data.xpos[self._object] + self._lugs @ rotation.T - data.mocap_pos[self._target]
        radius, angle = np.hypot(lugs[:, 0], lugs[:, 1]), np.arctan2(lugs[:, 0], lugs[:, 1])
        aside = _from_ridge(angle)
        under = lugs[:, 2] < _ridge_height(aside) - ROUND
        around = (radius > NECK - SLACK) & (radius < RIDGE + ROUND) & (np.abs(aside) < ARC / 2)
        return bool((under & around).all() and lugs[:, 2].mean() > TOP - LUG - SLACK)


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
