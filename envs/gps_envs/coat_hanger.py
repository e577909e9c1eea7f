"""A coat hanger onto the bar of a clothes rack."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any, ClassVar

import mujoco
import numpy as np

from gps_envs.base import ArmEnv
from gps_envs.conditions import Layout
from gps_envs.costs import PointCost

# Lengths in m. The frame of the target: origin on the bar's axis, in the middle between the posts.
BAR, SPAN = 0.012, 0.24  # radius of the bar, half of its length
POST, FOOT = 0.010, 0.10  # radius of the posts, half-length of the feet
HEIGHT, TABLE = 0.31, -0.43  # of the bar's axis above the table, of the table in the world
# The frame of the object: origin between the fingers, x along the tool, z towards the hook.
WIRE = 0.006  # radius
MOUTH = 0.025  # half of what is free between stem and tip
ARCH = MOUTH + WIRE  # radius of the arch's centre line
PLANE = 0.028  # x of the hanger's body and of the stem, just ahead of the fingers
SEAT = np.array([PLANE + ARCH, 0.0, 0.105])  # centre of the arch, and of the bar in place
LIP = SEAT + np.array([ARCH + 0.008, 0.0, -0.016])  # lowest point of the tip, which flares
# Its end is bent up, like that of most hangers: where it meets the bar from the side, it climbs.
TIP = LIP + np.array([0.008, 0.0, 0.008])
SHOULDER = np.array([PLANE, 0.15, -0.045])  # end of the left shoulder
SLACK = 0.001  # by which the bar may sink into the elastic wire
PULL, PULL_STEPS = 5.0, 100  # N along each of two axes, in steps of the physics (10 ms)
RED, BLUE, ORANGE, DARK = (
    [0.90, 0.12, 0.12, 1], [0.12, 0.35, 0.80, 1], [0.85, 0.55, 0.20, 1], [0.15, 0.16, 0.20, 1],
)  # fmt: skip


class CoatHangerEnv(ArmEnv):
    """
    ## Description

    A 7-DoF arm of PR2 proportions holds a coat hanger by its neck and hangs it on the bar of a
    clothes rack. The mouth of the hook is 50 mm wide, 58 mm at the flared tip, and the bar 24 mm
    thick; the tip reaches 22 mm below the axis of the bar in place. The rack stands anywhere in a
    range of 20 cm ahead of the robot; at the start its bar is 24 to 27 cm below the hook and up to
    25 cm farther ahead. The hanger sits in the hand in one of two ways, 35 degrees apart about the
    axis from finger to finger, so that the hand has to pitch up or down for it to hang upright.
    Only the image tells where the rack is and how the hanger is held. Torque control at 20 Hz; 100
    steps = 5 s. After the coat hanger task of Levine et al., *End-to-End Training of Deep
    Visuomotor Policies*, JMLR 2016.

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

    `Dict`, nothing in it but the image depends on the rack or on the grasp:

    | Key | Space | Content |
    |---|---|---|
    | `image` | `Box(0, 255, (S, S, 3), uint8)` | camera opposite the arm, S = `image_size` |
    | `proprio` | `Box(-100, 100, (32,), float32)` | what the robot knows of itself, below |

    | `proprio` | Content | Unit |
    |---|---|---|
    | 0-6 | joint angles | rad |
    | 7-13 | joint velocities | rad/s |
    | 14-22 | three points of the hanger (x, y, z each) as if held straight, robot frame | m |
    | 23-31 | their velocities | m/s |

    The points are the middle of the hook, where the bar's axis is in place, and two points 5 cm
    below it, 5 cm to two sides: together they fix position and rotation.

    ## Privileged state

    For teachers, in the `info` of `reset` and `step`; new arrays at each call.

    | Key | Content |
    |---|---|
    | `state` | float64 (32,): as `proprio`, but with the true points *relative to their targets* |
    | `pose` | float32 (12,): target, then the three true points: labels for pose regression |
    | `is_success` | bool, whether the hanger has been in place for 10 steps (below) |
    | `success` | at the last step only: the same, and it stays there when pulled at |

    The points' targets are those of the hanger upright, the axis of the bar in the middle of the
    hook: 13 mm from the wire on each side and above. The target in `pose` is the middle of the
    bar's axis in the robot frame; its y and z are constant.

    ## Cost and reward

    `reward = -env.cost(x_t, u_t, t)` with the state before the action, by default
    `gps_envs.PointCost(w_l2=5.0, w_log=1.0, alpha=5e-3, lateral=10.0)`: a quadratic and a
    logarithmic term of the points' distance, small terms for joint velocities and torques, growing
    over the episode. Errors in x and y weigh ten times those in z, so that the tip is over the bar
    before it comes down. See `gps_envs.costs`.

    ## Starting state

    The arm rests at `start_angles` plus normal noise of `init_noise` rad; rack and grasp are drawn:

    | Split | Rack and grasp | Scene |
    |---|---|---|
    | `train` | condition m of `num_conditions`: a lattice point with a grasp | as built |
    | `spatial` | condition i: a fixed unseen distance, one of the grasps | as built |
    | `visual` | condition i: another stream of them | objects, colours, light, texture |

    The training conditions are nested, and the first six are the paper's: three distances 10 cm
    apart, each with both grasps. Unseen distances are uniform but for 5 mm around each of the 13
    possible training distances. What the visual split shows is fixed by i too.

    Options of `reset`, each for that one episode:

    | Option | Meaning |
    |---|---|
    | `condition` | 0 to `num_conditions` - 1 in `train`, any i >= 0 elsewhere; else drawn |
    | `split` | instead of the environment's |
    | `target` | `[x, 0.0]` in m from the centre of the range, x up to 0.10 |
    | `grasp` | angle in rad by which the hanger is turned in the hand, -0.305 to 0.305 |
    | `image` | False: images are zeros and none is drawn until the next reset |
    | `random_pose` | True: a random configuration on the way from the start onto the bar |

    With `random_pose` the rack is anywhere in the range unless one of the others is given.

    ## Success

    During the last 10 steps the bar is in the hook: where its axis crosses the plane of the hook,
    the whole bar lies between stem and tip and below the arch (1 mm is allowed for the elastic
    walls), its axis above the lowest point of the tip, in the frame of the hanger and in the
    world's, between the posts. After the last step the hanger is pulled at in a copy of the scene,
    5 N down and 5 N back, then 5 N down and 5 N ahead, for a second each without any motor torque:
    the bar is still in the hook. Judged by geometry alone, not by the cost.

    ## Episode end

    Never terminated; truncated by `TimeLimit` after 100 steps. The last check of success is made
    after step 100, so it is not with another `max_episode_steps`.

    ## Arguments

    | Argument | Default | Meaning |
    |---|---|---|
    | `split` | `"train"` | `"train"`, `"spatial"` or `"visual"` |
    | `image_size` | 64 | pixels, 64 to 240 |
    | `num_conditions` | None | training conditions, 6 to 10; None: 10 |
    | `visual` | `"medium"` | strength of the visual split: `"mild"`, `"medium"`, `"strong"` |
    | `distractors` | None | number of objects on the table, 0 to 8; None: the split's own |
    | `init_noise` | 0.0 | standard deviation of the starting joint angles in rad |
    | `shadows` | False | draw shadows (20 times slower on a CPU) |
    | `render_mode` | None | `"rgb_array"`: `render()` returns 240 x 240 pixels |
    | `cost` | None | l(x, u, t) instead of the default; called with numpy arrays at each step |

    ## Version history

    * v0: first version
    """

    start_angles: ClassVar = np.array([-0.25, -0.104, -1.538, -2.068, -3.029, -1.819, -1.55])
    object_points: ClassVar = SEAT + np.array([[0, 0, 0], [0, 0.05, -0.05], [0, -0.05, -0.05]])
    goal_rotation: ClassVar = np.eye(3)
    goal_points: ClassVar = object_points - SEAT
    way_out: ClassVar = np.array([0.0, 0.0, 0.06])
    target_centre: ClassVar = np.array([0.68, 0.0, TABLE + HEIGHT])
    # 5 cm apart: most unseen racks are farther from a trained one than the hook has clearance.
    layout: ClassVar = Layout(
        half=(0.10, 0.0), first=((-1, 0), (0, 0), (1, 0)), points=(5, 1), grasps=(-0.305, 0.305)
    )
    default_conditions: ClassVar = 10
    # Straight for the bar, with equal weights, the tip meets it from the side and stays below it.
    # alpha grows with the weight: with 1e-3 the gains are so stiff that the teachers oscillate.
    default_cost: ClassVar = PointCost(w_l2=5.0, w_log=1.0, alpha=5e-3, lateral=10.0)
    hold: ClassVar = 10
    # Behind the rack, seen from the camera: in view, and in front of nothing.
    distractor_area: ClassVar = np.array([[0.50, -0.52], [0.88, -0.30]])
    fixture_radius: ClassVar = 0.0

    def build(self, spec: mujoco.MjSpec) -> None:
        # From ahead and above, across the bar: the arm hides neither bar nor hook.
        camera = spec.camera("scene")
        camera.pos, camera.fovy = [1.13, 0.85, 0.41], 30
        camera.alt.xyaxes = [-0.866, 0.501, 0, -0.217, -0.374, 0.902]
        capsule, box = mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_BOX
        hanger = spec.body("object")
        rack = spec.worldbody.add_body(name="target", mocap=True, pos=self.target_centre)
        held, fixed = spec.find_default("held"), spec.find_default("fixed")

        def rod(body: Any, kind: Any, start: Any, end: Any, radius: float, rgba: Any) -> None:
            body.add_geom(kind, type=capsule, fromto=[*start, *end], size=[radius, 0, 0], rgba=rgba)

        # The hook in one line: stem, arch, tip.
        angles = np.linspace(np.pi, 0, 7)
        arch = SEAT + ARCH * np.stack([np.cos(angles), np.zeros(7), np.sin(angles)], axis=1)
        line = np.array([[PLANE, 0, 0.01], *arch, LIP, TIP])
        for start, end in pairwise(line):
            rod(hanger, held, start, end, WIRE, RED)
        # What the fingers hold, and the body. It lies along the bar, clear of the hand and the arm.
        hanger.add_geom(held, name="neck", type=box, pos=[0.008, 0, 0.002],
                        size=[0.026, 0.0185, 0.014], rgba=ORANGE)  # fmt: skip
        left, right = SHOULDER, SHOULDER * [1, -1, 1]
        for end in (left, right):
            rod(hanger, held, [PLANE, 0, -0.005], end, 0.008, RED)
        rod(hanger, held, left, right, WIRE, RED)

        rod(rack, fixed, [0, -SPAN, 0], [0, SPAN, 0], BAR, BLUE)
        floor = POST - HEIGHT
        for y in (-SPAN, SPAN):
            rod(rack, fixed, [0, y, 0], [0, y, floor], POST, DARK)
            rod(rack, fixed, [-FOOT, y, floor], [FOOT, y, floor], POST, DARK)

    def in_place(self) -> bool:
        return self._is_hooked(self.data)

    def stays_in_place(self) -> bool:
        """Whether the hook holds on a copy of the scene when the hanger is pulled at.

        Down and ahead, and down and back, while no motor resists: a hook that only hovers over the
        bar comes down on it, one that is barely over it slips off.
        """
        for ahead in (-PULL, PULL):
            data = copy.copy(self.data)
            data.ctrl[:] = 0.0
            data.xfrc_applied[self._object, :3] = ahead, 0.0, -PULL
            mujoco.mj_step(self.model, data, nstep=PULL_STEPS)
            mujoco.mj_kinematics(self.model, data)
            if not self._is_hooked(data):
                return False
        return True

    def _is_hooked(self, data: mujoco.MjData) -> bool:
        """Whether the whole bar is inside the hook, above the lowest point of its tip."""
        bar = data.mocap_pos[self._target]
        rotation = data.xmat[self._object].reshape(3, 3)
        offset, axis = rotation.T @ (bar - data.xpos[self._object]), rotation[1]
        if axis[1] < 0.5:  # turned by more than 60 degrees: not across the bar
            return False
        # Where the bar's axis (y in the world) meets the plane of the hook, y = 0 of the object.
        along = -offset[1] / axis[1]
        x, _, z = offset + along * axis - SEAT
        lip = data.xpos[self._object] + rotation @ LIP
        inside = np.hypot(x, max(z, 0.0)) < MOUTH - BAR + SLACK and z > LIP[2] - SEAT[2]
        return bool(inside and lip[2] < bar[2] and abs(along) < SPAN)
