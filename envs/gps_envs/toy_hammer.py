"""The claw of a toy hammer under the head of a nail."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import mujoco
import numpy as np

from gps_envs.base import ArmEnv
from gps_envs.conditions import CORNERS_AND_CENTRE, Layout
from gps_envs.costs import PointCost

# Lengths in m. The frame of the target: origin on the nail's axis at the underside of its head.
SHAFT, SHAFT_RADIUS = 0.055, 0.005  # from the board to the head
HEAD_RADIUS, HEAD_THICKNESS = 0.012, 0.005
BOARD = (0.032, 0.032, 0.005)  # half-sizes
# The frame of the object: its x axis is the claw's direction, its -z axis runs down the handle.
LEVEL = -0.075  # of the claw below the grip
FACE, FRONT, HEIGHT = -0.045, 0.012, 0.024  # x of both ends of the hammer's head, its height
ROOT, NARROW, TIP = 0.020, 0.043, 0.065  # x of the slot's end, of where it widens, of the tips
PRONG = 0.004  # radius
SLOT, MOUTH = 0.0075, 0.0185  # half-width of the slot, and of its opening between the tips
PLACE = ROOT + 0.008  # x where the nail's axis is, of the claw in place
BELOW = 0.024  # of the claw's level under the nail's head, in place
SLACK = 0.001  # by which elastic bodies may sink into each other
CAMERA, LOOK_AT = np.array([0.96, 0.56, 0.14]), np.array([0.637, 0.0, -0.365])
RED, YELLOW, GREEN, BLUE = (
    [0.85, 0.10, 0.12, 1], [0.98, 0.80, 0.15, 1], [0.15, 0.45, 0.25, 1], [0.08, 0.25, 0.75, 1],
)  # fmt: skip


class ToyHammerEnv(ArmEnv):
    """
    ## Description

    A 7-DoF arm of PR2 proportions holds a toy hammer by its handle and fits the claw under the head
    of a nail. The nail, 10 mm thick with a head of 24 mm, stands in a small board anywhere in a
    range of 10 x 7 cm on a table, and the hammer is held at one of three angles, 22.5 degrees
    apart; only the image tells both. The slot of the claw narrows from 37 mm between the tips to 15
    mm, so 2.5 mm of clearance on each side of the nail; the prongs have room of 20 mm above and 27
    mm below them. Torque control at 20 Hz; 100 steps = 5 s. After the toy hammer task of Levine et
    al., *End-to-End Training of Deep Visuomotor Policies*, JMLR 2016.

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

    `Dict`, nothing in it but the image depends on the target or on the grasp:

    | Key | Space | Content |
    |---|---|---|
    | `image` | `Box(0, 255, (S, S, 3), uint8)` | camera opposite the arm, S = `image_size` |
    | `proprio` | `Box(-100, 100, (32,), float32)` | what the robot knows of itself, below |

    | `proprio` | Content | Unit |
    |---|---|---|
    | 0-6 | joint angles | rad |
    | 7-13 | joint velocities | rad/s |
    | 14-22 | three points of the hammer, were it held straight, in the robot frame | m |
    | 23-31 | their velocities | m/s |

    The points are the place of the nail in the slot and two points 5 cm behind it, 4.5 cm to the
    left and 4.5 cm up: together they fix position and rotation.

    ## Privileged state

    For teachers, in the `info` of `reset` and `step`; new arrays at each call.

    | Key | Content |
    |---|---|
    | `state` | float64 (32,): as `proprio`, but the true points *relative to their targets* |
    | `pose` | float32 (12,): target, then the true three points: labels for pose regression |
    | `is_success` | bool, the rule below applied to this moment |
    | `success` | the same, at the last step only |

    The points' targets are those of the hammer in place: upright, pointing ahead, the nail in the
    middle of the slot, 3 mm short of its end, the prongs 24 mm under the nail's head. The target in
    `pose` is the middle of the head's underside, in the robot frame; its z is constant.

    ## Cost and reward

    `reward = -env.cost(x_t, u_t, t)` with the state before the action, by default `gps_envs.
    PointCost(w_l2=3.0, alpha=2e-4, ahead=0.03)`: a quadratic and a logarithmic term of the points'
    distance, small terms for joint velocities and torques, growing over the episode. Errors along
    the claw count little, or it would reach the nail before it is low and straight enough and end
    on top of the head, or with a prong on the wrong side of the nail. See `gps_envs.costs`.

    ## Starting state

    The arm rests at `start_angles` plus normal noise of `init_noise` rad, where a hammer that is
    held straight is 15 cm behind the middle of the range, as low as in place. Drawn are:

    | Split | Target and grasp | Scene |
    |---|---|---|
    | `train` | condition m of `num_conditions` of a lattice | as built |
    | `spatial` | condition i: a fixed unseen point anywhere in the range, any grasp | as built |
    | `visual` | condition i: another stream of these | objects, colours, light, texture |

    The training conditions are nested, and the first 15 are the paper's: the corners and the centre
    of the range, each with every grasp. Unseen points are uniform but for 5 mm around each of the
    81 possible training positions. What the visual split shows is fixed by i too.

    Options of `reset`, each for that one episode:

    | Option | Meaning |
    |---|---|
    | `condition` | 0 to `num_conditions` - 1 in `train`, any i >= 0 elsewhere; else drawn |
    | `split` | instead of the environment's |
    | `target` | `[x, y]` in m from the centre of the range, up to 0.05 and 0.035 |
    | `grasp` | angle in rad, -0.3927 (claw up) to 0.3927 (claw down) |
    | `image` | False: images are zeros and none is drawn until the next reset |
    | `random_pose` | True: a random configuration on the way from the start to the nail |

    With `random_pose` target and grasp are any unless one of the others is given.

    ## Success

    The whole of both prongs lies below the underside of the nail's head and above the board, and
    the nail's axis goes through the narrow part of the slot, where each prong reaches under the
    head: so both tips are past the nail, and the nail is between the prongs. 1 mm is allowed for
    elastic bodies. Farther in is as good. Judged by geometry alone, not by the cost.

    ## Episode end

    Never terminated; truncated by `TimeLimit` after 100 steps.

    ## Arguments

    | Argument | Default | Meaning |
    |---|---|---|
    | `split` | `"train"` | `"train"`, `"spatial"` or `"visual"` |
    | `image_size` | 64 | pixels, 64 to 240 |
    | `num_conditions` | None | training conditions, 15 to 243; None: 36 |
    | `visual` | `"medium"` | strength of the visual split: `"mild"`, `"medium"`, `"strong"` |
    | `distractors` | None | number of objects on the table, 0 to 8; None: the split's own |
    | `init_noise` | 0.0 | standard deviation of the starting joint angles in rad |
    | `shadows` | False | draw shadows (20 times slower on a CPU) |
    | `render_mode` | None | `"rgb_array"`: `render()` returns 240 x 240 pixels |
    | `cost` | None | l(x, u, t) instead of the above; called with numpy arrays at each step |

    ## Version history

    * v0: first version
    """

    start_angles: ClassVar = np.array([-0.331, 0.773, -1.749, -1.598, 2.338, -1.385, -1.461])
    object_points: ClassVar = np.array(
        [[PLACE, 0.0, LEVEL], [PLACE - 0.05, 0.045, LEVEL], [PLACE - 0.05, 0.0, LEVEL + 0.045]]
    )
    goal_rotation: ClassVar = np.eye(3)
    goal_points: ClassVar = object_points - [PLACE, 0.0, LEVEL] - [0.0, 0.0, BELOW]
    way_out: ClassVar = np.array([-0.08, 0.0, 0.0])
    target_centre: ClassVar = np.array([0.70, 0.0, -0.43 + 2 * BOARD[2] + SHAFT])
    layout: ClassVar = Layout(
        half=(0.05, 0.035), first=CORNERS_AND_CENTRE, grasps=(-0.3927, 0.0, 0.3927)
    )
    default_conditions: ClassVar = 36
    default_cost: ClassVar = PointCost(w_l2=3.0, alpha=2e-4, ahead=0.03)
    # To both sides of the hammer's way: none is in it, none hides the nail from the camera.
    distractor_area: ClassVar = np.array(
        [[[0.42, -0.30], [0.75, -0.11]], [[0.52, 0.105], [0.66, 0.16]]]
    )
    fixture_radius: ClassVar = 0.09
    _prongs: ClassVar = np.array(  # end points of their axes
        [[[x, s * (y + PRONG), LEVEL] for x, y in ((FRONT, SLOT), (NARROW, SLOT), (TIP, MOUTH))]
         for s in (1, -1)]
    )  # fmt: skip

    def build(self, spec: mujoco.MjSpec) -> None:
        held, fixed = spec.find_default("held"), spec.find_default("fixed")
        box, capsule, cylinder = (
            mujoco.mjtGeom.mjGEOM_BOX,
            mujoco.mjtGeom.mjGEOM_CAPSULE,
            mujoco.mjtGeom.mjGEOM_CYLINDER,
        )
        hammer = spec.body("object")
        hammer.add_geom(held, name="handle", type=box, pos=[0, 0, LEVEL / 2 + 0.015],
                        size=[0.009, 0.009, -LEVEL / 2 + 0.015], rgba=YELLOW)  # fmt: skip
        # The head's underside is that of the claw, and it ends before the nail's head.
        hammer.add_geom(held, name="head", type=box,
                        pos=[(FRONT + FACE) / 2, 0, LEVEL - PRONG + HEIGHT / 2],
                        size=[(FRONT - FACE) / 2, 0.0155, HEIGHT / 2], rgba=RED)  # fmt: skip
        # The end of the slot is no thicker than the prongs, so that it too fits under the nail's
        # head, which is wider than the nail.
        end_of_slot = [[ROOT - PRONG, s * (SLOT + PRONG), LEVEL] for s in (1, -1)]
        for line in (*self._prongs, end_of_slot):
            for a, b in pairwise(line):
                hammer.add_geom(held, type=capsule, fromto=[*a, *b], size=[PRONG, 0, 0],
                                rgba=RED)  # fmt: skip
        nail = spec.worldbody.add_body(name="target", mocap=True, pos=self.target_centre)
        nail.add_geom(fixed, name="board", type=box, pos=[0, 0, -SHAFT - BOARD[2]], size=BOARD,
                      rgba=GREEN)  # fmt: skip
        nail.add_geom(fixed, name="shaft", type=capsule, fromto=[0, 0, -SHAFT, 0, 0, 0],
                      size=[SHAFT_RADIUS, 0, 0], rgba=BLUE)  # fmt: skip
        nail.add_geom(fixed, name="nail_head", type=cylinder, pos=[0, 0, HEAD_THICKNESS / 2],
                      size=[HEAD_RADIUS, HEAD_THICKNESS / 2, 0], rgba=BLUE)  # fmt: skip

        # The robot's left, opposite the arm, where neither hand nor hammer covers the nail.
        camera = spec.camera("scene")
        camera.pos, camera.fovy = CAMERA, 22.5
        back = CAMERA - LOOK_AT
        right = np.cross([0, 0, 1], back)
        camera.alt.xyaxes = [*right, *np.cross(back, right)]

    def in_place(self) -> bool:
        rotation, target = self._rotation(), self.data.mocap_pos[self._target]
        heights = (self.in_world(self._prongs.reshape(-1, 3)) - target)[:, 2]
        level = (np.abs(heights + SHAFT / 2) < SHAFT / 2 - PRONG + SLACK).all()
        axis = rotation[2]  # of the nail, in the frame of the object
        if not (level and axis[2] > 0.5):  # lying on its side or upside down it is no claw
            return False
        # Where the nail's axis goes through the plane of the claw.
        point = (target - self.data.xpos[self._object]) @ rotation
        x, y, _ = point + (LEVEL - point[2]) / axis[2] * axis
        between = abs(y) < SLOT - SHAFT_RADIUS + SLACK
        return bool(between and ROOT + SHAFT_RADIUS - SLACK < x < NARROW)
