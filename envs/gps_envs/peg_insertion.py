"""A peg into a slot, from the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import mujoco
import numpy as np
from gymnasium import spaces

from gps_envs.base import ArmEnv, Observation
from gps_envs.conditions import CORNERS, Layout
from gps_envs.costs import STATE_DIM
from gps_envs.fixtures import add_well

# Lengths in m. The frame of the target: origin in the middle of the slot, in the plane of the rim.
SLOT, DEPTH = 0.0135, 0.080  # half-width, depth
SIZE, HEIGHT = 0.050, 0.090  # half-width and height of the block with the slot
RADIUS, LENGTH = 0.011, 0.110  # of the peg
TIP = 0.1025  # of the peg, along the object's x axis
SEATED = 0.060  # depth of the peg's tip in place
INSERTED = 0.050  # depth from which it counts
CHAMFER = 0.006
SLACK = 0.001  # by which the peg may sink into the elastic wall
RED, BLUE, YELLOW, DARK = (
    [0.85, 0.10, 0.12, 1], [0.08, 0.38, 0.78, 1], [0.98, 0.80, 0.15, 1], [0.05, 0.10, 0.20, 1],
)  # fmt: skip
_BOUND = 100.0  # far above what the damped joints reach: checkers object to infinity


class PegInsertionEnv(ArmEnv):
    """
    ## Description

    A 7-DoF arm of PR2 proportions puts a round peg of 22 mm into a square slot of 27 mm: 2.5 mm of
    clearance on each side, 80 mm deep, with a rim chamfered by 6 mm. No camera: the observation is
    the full state. Four slots are for training; the policy is tested on others. Torque control at
    20 Hz; 100 steps = 5 s. After the simulated 3-D peg insertion of Levine & Abbeel, *Learning
    Neural Network Policies with Guided Policy Search under Unknown Dynamics*, NeurIPS 2014.

    The world frame is the robot's: x ahead, y left, z up, origin on the torso axis at the height of
    the shoulder (the shoulder is at y = -0.188 m). There is no gravity.

    ## Action space

    `Box(-1, 1, (7,), float32)`: joint torques as parts of their limits, as in `ShapeCubeEnv`.
    Values outside are clipped, NaN is refused.

    ## Observation space

    `Box(-100, 100, (32,), float32)`:

    | Index | Content | Unit |
    |---|---|---|
    | 0-6 | joint angles | rad |
    | 7-13 | joint velocities | rad/s |
    | 14-22 | three points of the peg (x, y, z each) relative to their targets | m |
    | 23-31 | their velocities | m/s |

    The points are the centre of the peg's tip and two points 5 cm further up, 4.5 cm to two sides:
    together they fix position and rotation.

    ## Privileged state

    None that is not seen: `info["state"]` is the observation in float64 (32,), and `info["pose"]`
    the slot and the points in the robot frame, float32 (12,). `info["is_success"]` is the rule
    below applied to this moment, `info["success"]` the same at the last step only.

    ## Cost and reward

    `reward = -env.cost(x_t, u_t, t)` with the state before the action, by default
    `gps_envs.PointCost()`: a quadratic and a logarithmic term of the points' distance, small terms
    for joint velocities and torques, growing over the episode. See `gps_envs.costs`.

    ## Starting state

    The arm rests at `start_angles` plus normal noise of `init_noise` rad; the slot is drawn:

    | Split | Slot |
    |---|---|
    | `train` | condition m of `num_conditions` lattice points, by default the four corners |
    | `spatial` | condition i: a fixed unseen point anywhere in the range |

    Unseen points are uniform but for 5 mm around each of the 81 possible training positions.

    Options of `reset`, each for that one episode:

    | Option | Meaning |
    |---|---|
    | `condition` | 0 to `num_conditions` - 1 in `train`, any i >= 0 in `spatial`; else drawn |
    | `split` | instead of the environment's |
    | `target` | `[x, y]` in m from the centre of the range, up to 0.08 and 0.05 |

    ## Success

    The centre of the peg's tip is at least 50 mm deep in the slot, and the tip laterally inside it
    (1 mm is allowed for the elastic walls). Judged by geometry alone, not by the cost.

    ## Episode end

    Never terminated; truncated by `TimeLimit` after 100 steps.

    ## Arguments

    | Argument | Default | Meaning |
    |---|---|---|
    | `split` | `"train"` | `"train"` or `"spatial"` |
    | `num_conditions` | None | training slots, 4 to 81; None: 4 |
    | `init_noise` | 0.0 | standard deviation of the starting joint angles in rad |
    | `render_mode` | None | `"rgb_array"`: `render()` returns 240 x 240 pixels |
    | `cost` | None | l(x, u, t) instead of `PointCost()`; called with numpy arrays at each step |

    ## Version history

    * v0: first version
    """

    image_on_demand: ClassVar = False  # there are none
    random_poses: ClassVar = False

    start_angles: ClassVar = np.array([-0.211, -0.08, -1.579, -1.357, -1.491, -1.58, -1.996])
    object_points: ClassVar = np.array(
        [[TIP, 0.0, 0.0], [TIP - 0.05, 0.045, 0.0], [TIP - 0.05, 0.0, 0.045]]
    )
    goal_rotation: ClassVar = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    goal_points: ClassVar = (object_points - [TIP, 0, 0]) @ goal_rotation.T - [0, 0, SEATED]
    way_out: ClassVar = np.array([0.0, 0.0, 0.1])
    target_centre: ClassVar = np.array([0.62, 0.0, -0.34])
    layout: ClassVar = Layout(half=(0.08, 0.05), first=CORNERS)
    default_conditions: ClassVar = 4
    splits: ClassVar = ("train", "spatial")
    distractor_area: ClassVar = np.array([[0.44, -0.2], [0.78, 0.16]])
    fixture_radius: ClassVar = 0.09

    def __init__(
        self,
        split: str = "train",
        num_conditions: int | None = None,
        init_noise: float = 0.0,
        render_mode: str | None = None,
        cost: Callable[[Any, Any, Any], Any] | None = None,
    ) -> None:
        super().__init__(
            split=split,
            num_conditions=num_conditions,
            init_noise=init_noise,
            render_mode=render_mode,
            cost=cost,
        )

    def build(self, spec: mujoco.MjSpec) -> None:
        spec.body("object").add_geom(
            spec.find_default("held"), name="peg", type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            fromto=[TIP - LENGTH, 0, 0, TIP, 0, 0], size=[RADIUS, 0, 0], rgba=RED,
        )  # fmt: skip
        block = spec.worldbody.add_body(name="target", mocap=True, pos=self.target_centre)
        add_well(
            spec, block, hole=SLOT, depth=DEPTH, size=SIZE, height=HEIGHT, chamfer=CHAMFER,
            colours=(BLUE, YELLOW, DARK),
        )  # fmt: skip

    def in_place(self) -> bool:
        x, y, z = self.in_world(self.object_points[:1])[0] - self.data.mocap_pos[self._target]
        return bool(z <= -INSERTED and max(abs(x), abs(y)) < SLOT - RADIUS + SLACK)

    def _make_observation_space(self) -> spaces.Space:
        return spaces.Box(-_BOUND, _BOUND, (STATE_DIM,), np.float32)

    def _make_observation(self) -> Observation:
        assert self._state is not None
        return self._state.astype(np.float32)
