"""A block into the hole of a shape-sorting cube."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import mujoco
import numpy as np

from gps_envs.base import ArmEnv
from gps_envs.conditions import Layout
from gps_envs.fixtures import BOX, add_well

# Lengths in m. The frame of the target: origin in the middle of the hole, in the plane of the rim.
HOLE, DEPTH = 0.0215, 0.060  # half-width, depth
SIZE, HEIGHT = 0.060, 0.080  # half-width and height of the cube
BLOCK, LENGTH = 0.018, 0.080  # half-width and length of the block
BOTTOM = 0.0825  # of the block, along the object's x axis
SEATED = 0.045  # depth of the block's bottom in place
MAX_CHAMFER = 0.020
RED, BLUE, YELLOW, DARK = (
    [0.85, 0.10, 0.12, 1], [0.08, 0.38, 0.78, 1], [0.98, 0.80, 0.15, 1], [0.05, 0.10, 0.20, 1],
)  # fmt: skip
SLACK = 0.001  # by which the block's corners may sink into the elastic wall


class ShapeCubeEnv(ArmEnv):
    """
    ## Description

    A 7-DoF arm of PR2 proportions holds a block of 36 x 36 x 80 mm and puts it into the square hole
    of a shape-sorting cube: 43 x 43 mm, 60 mm deep, so 3.5 mm of clearance on each side, with a
    chamfered rim. The cube stands anywhere in a range of 16 x 10 cm on a table, 25 cm below the
    block, and only the image tells where. Torque control at 20 Hz; 100 steps = 5 s. After the shape
    cube task of Levine et al., *End-to-End Training of Deep Visuomotor Policies*, JMLR 2016.

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
    | 14-22 | three points of the block (x, y, z each) in the robot frame | m |
    | 23-31 | their velocities | m/s |

    The points are the centre of the block's bottom face and two points 5 cm further up, 4.5 cm to
    two sides: together they fix position and rotation.

    ## Privileged state

    For teachers, in the `info` of `reset` and `step`; new arrays at each call.

    | Key | Content |
    |---|---|
    | `state` | float64 (32,): as `proprio`, but with the points *relative to their targets* |
    | `pose` | float32 (12,): target, then the three points: labels for pose regression |
    | `is_success` | bool, the rule below applied to this moment |
    | `success` | the same, at the last step only |

    The points' targets are those of the block in place: centred, upright, 45 mm deep. The target in
    `pose` is the middle of the hole in the plane of the rim, in the robot frame; its z is constant.

    ## Cost and reward

    `reward = -env.cost(x_t, u_t, t)` with the state before the action, by default
    `gps_envs.PointCost()`: a quadratic and a logarithmic term of the points' distance, small terms
    for joint velocities and torques, growing over the episode. See `gps_envs.costs`.

    ## Starting state

    The arm rests at `start_angles` plus normal noise of `init_noise` rad; the target is drawn:

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
    | `random_pose` | True: a random configuration on the way from the start into the hole |

    With `random_pose` the target is anywhere in the range unless one of the others is given.

    ## Success

    All four corners of the block's bottom face lie below the lower end of the chamfer (the rim if
    there is none) and laterally inside the hole; 1 mm is allowed for the elastic walls. Deeper is
    as good. Judged by geometry alone, not by the cost.

    ## Episode end

    Never terminated; truncated by `TimeLimit` after 100 steps.

    ## Arguments

    | Argument | Default | Meaning |
    |---|---|---|
    | `split` | `"train"` | `"train"`, `"spatial"` or `"visual"` |
    | `image_size` | 64 | pixels, 64 to 240 |
    | `num_conditions` | None | training positions, 9 to 81; None: 25 |
    | `chamfer` | 0.012 | width and height of the chamfer in m, 0 to 0.02; 0 is the hard version |
    | `visual` | `"medium"` | strength of the visual split: `"mild"`, `"medium"`, `"strong"` |
    | `distractors` | None | number of objects on the table, 0 to 8; None: the split's own |
    | `init_noise` | 0.0 | standard deviation of the starting joint angles in rad |
    | `shadows` | False | draw shadows (20 times slower on a CPU) |
    | `render_mode` | None | `"rgb_array"`: `render()` returns 240 x 240 pixels |
    | `cost` | None | l(x, u, t) instead of `PointCost()`; called with numpy arrays at each step |

    ## Version history

    * v0: first version
    """

    start_angles: ClassVar = np.array([-0.211, -0.08, -1.579, -1.357, -1.491, -1.58, -1.996])
    object_points: ClassVar = np.array(
        [[BOTTOM, 0.0, 0.0], [BOTTOM - 0.05, 0.045, 0.0], [BOTTOM - 0.05, 0.0, 0.045]]
    )
    goal_rotation: ClassVar = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    goal_points: ClassVar = (object_points - [BOTTOM, 0, 0]) @ goal_rotation.T - [0, 0, SEATED]
    way_out: ClassVar = np.array([0.0, 0.0, 0.08])
    target_centre: ClassVar = np.array([0.62, 0.0, -0.35])
    layout: ClassVar = Layout(half=(0.08, 0.05))
    distractor_area: ClassVar = np.array([[0.44, -0.2], [0.78, 0.16]])
    fixture_radius: ClassVar = 0.09
    _corners: ClassVar = np.array(
        [[BOTTOM, BLOCK * a, BLOCK * b] for a in (-1, 1) for b in (-1, 1)]
    )

    def __init__(
        self,
        split: str = "train",
        image_size: int = 64,
        num_conditions: int | None = None,
        chamfer: float = 0.012,
        visual: str = "medium",
        distractors: int | None = None,
        init_noise: float = 0.0,
        shadows: bool = False,
        render_mode: str | None = None,
        cost: Callable[[Any, Any, Any], Any] | None = None,
    ) -> None:
        number = isinstance(chamfer, int | float | np.number) and not isinstance(chamfer, bool)
        if not (number and 0 <= chamfer <= MAX_CHAMFER):
            raise ValueError(
                f"chamfer must be a length from 0 to {MAX_CHAMFER} m, got {chamfer!r}; "
                "try 0.012, or 0 for the hard version"
            )
        self.chamfer = float(chamfer)
        super().__init__(
            split=split,
            image_size=image_size,
            num_conditions=num_conditions,
            visual=visual,
            distractors=distractors,
            init_noise=init_noise,
            shadows=shadows,
            render_mode=render_mode,
            cost=cost,
        )

    def build(self, spec: mujoco.MjSpec) -> None:
        block_pos, block_size = [BOTTOM - LENGTH / 2, 0, 0], [LENGTH / 2, BLOCK, BLOCK]
        spec.body("object").add_geom(
            spec.find_default("held"), name="block", type=BOX, pos=block_pos, size=block_size,
            rgba=RED,
        )  # fmt: skip
        cube = spec.worldbody.add_body(name="target", mocap=True, pos=self.target_centre)
        add_well(
            spec, cube, hole=HOLE, depth=DEPTH, size=SIZE, height=HEIGHT, chamfer=self.chamfer,
            colours=(BLUE, YELLOW, DARK),
        )  # fmt: skip

    def in_place(self) -> bool:
        corners = self.in_world(self._corners) - self.data.mocap_pos[self._target]
        below = (corners[:, 2] < -self.chamfer).all()
        return bool(below and (np.abs(corners[:, :2]) < HOLE + SLACK).all())
