"""The arm that all tasks share: a Gymnasium environment seen by a camera and driven by torques.

A task adds what the arm holds and the fixture that it goes to (`build`), three points of the held
object with their targets, the layout of its conditions, a starting configuration, and the geometric
rule of success.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium import spaces

from gps_envs import conditions, rendering
from gps_envs.costs import ACTION_DIM, POINTS, STATE_DIM, PointCost
from gps_envs.distractors import SLOTS, STRENGTHS, Appearance, prepare

_ARM = Path(__file__).parent / "assets" / "arm.xml"
_RENDER_SIZE = 240  # of render(), whatever the size of the observed image
_PROPRIO_BOUND = 100.0  # far above what the damped joints reach: checkers object to infinity
_OPTIONS = ("condition", "split", "target", "grasp", "image", "random_pose")
_APPEARANCE_STREAM = len(conditions.SPLITS)  # beside the streams of the unseen positions
GRIP = (0.0975, 0.0, 0.0)  # m, between the fingers, in the hand

Observation = np.ndarray | dict[str, np.ndarray]


class ArmEnv(gym.Env[Observation, np.ndarray]):
    """Base of the tasks; see `ShapeCubeEnv` for spaces, arguments and reset options.

    World frame = robot frame: x ahead, y left, z up, origin on the torso axis at shoulder height.
    A task's model has a mocap body "target" (the fixture, never rotated) and geoms in the body
    "object", which is fixed in the arm's body "hand": between the fingers, turned about the axis
    from finger to finger (y of the hand) by the angle of the grasp. With a grasp of 0 its axes are
    those of the hand, whose x axis points along the tool.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    horizon: ClassVar[int] = 100
    dt: ClassVar[float] = 0.05  # s
    state_dim: ClassVar[int] = STATE_DIM
    image_on_demand: ClassVar[bool] = True  # reset(options={"image": False}) draws no images
    # Indices in the state of the joints that actions 0 .. 6 push, and of their velocities.
    actuated: ClassVar[tuple[np.ndarray, np.ndarray]] = (np.arange(7), np.arange(7, 14))
    random_poses: ClassVar[bool] = True  # reset(options={"random_pose": True}) is understood

    # What a task says about itself. Lengths in m, in the frame of the object or of the target.
    start_angles: ClassVar[np.ndarray]  # (7,)
    object_points: ClassVar[np.ndarray]  # (3, 3) in the object
    # Where those are in the state, from their targets.
    point_dims: ClassVar = np.arange(POINTS.start, POINTS.stop)
    goal_points: ClassVar[np.ndarray]  # (3, 3) of the object in place, relative to the target
    goal_rotation: ClassVar[np.ndarray]  # (3, 3) of the object in place
    way_out: ClassVar[np.ndarray]  # (3,) from the place to where the object is free
    target_centre: ClassVar[np.ndarray]  # (3,) of the range of the target, in the world
    frame_skip: ClassVar[int] = 5  # steps of the physics in one of control, 10 ms each
    layout: ClassVar[conditions.Layout]
    default_conditions: ClassVar[int] = 25
    default_cost: ClassVar[PointCost] = PointCost(horizon=horizon)
    hold: ClassVar[int] = 1  # steps that the object has to be in place
    distractor_area: ClassVar[np.ndarray]  # ((x, y) low, (x, y) high) in the world, or several
    fixture_radius: ClassVar[float]  # kept free of distractors
    splits: ClassVar[tuple[str, ...]] = conditions.SPLITS

    def __init__(
        self,
        *,
        split: str = "train",
        image_size: int = 64,
        num_conditions: int | None = None,
        visual: str = "medium",
        distractors: int | None = None,
        init_noise: float = 0.0,
        shadows: bool = False,
        render_mode: str | None = None,
        cost: Callable[[Any, Any, Any], Any] | None = None,
    ) -> None:
        self.split = self._check_split(split)
        self.image_size = _check_int("image_size", image_size, 64, _RENDER_SIZE, "pixels")
        self.num_conditions = _check_int(
            "num_conditions",
            self.default_conditions if num_conditions is None else num_conditions,
            self.layout.fewest,
            self.layout.most,
        )
        if not (isinstance(visual, str) and visual in STRENGTHS):
            raise ValueError(f"visual {visual!r} does not exist; available: {list(STRENGTHS)}")
        self.visual = visual
        if distractors is not None:
            distractors = _check_int("distractors", distractors, 0, SLOTS)
        self.distractors = distractors
        if not (_is_number(init_noise) and 0 <= init_noise <= 0.5):
            raise ValueError(
                f"init_noise must be a standard deviation from 0 to 0.5 rad, got {init_noise!r}; "
                "try 0.02"
            )
        self.init_noise = float(init_noise)
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f'render_mode must be None or "rgb_array", got {render_mode!r}')
        self.render_mode = render_mode
        if cost is not None and (isinstance(cost, type) or not callable(cost)):
            raise ValueError(
                f"cost must be a callable l(x, u, t), got {cost!r}; try gps_envs.PointCost(...)"
            )
        self.cost = self.default_cost if cost is None else cost

        self.model = self._compile(bool(shadows))
        self.data = mujoco.MjData(self.model)
        self._looks = Appearance(self.model)
        self._hand, self._object = self.model.body("hand").id, self.model.body("object").id
        self._target = self.model.body("target").mocapid[0]
        self._camera = self.model.camera("scene").id
        # In the hand, as if every grasp were 0: what the robot knows without seeing.
        self._hand_points = self.model.body("object").pos + self.object_points
        self.observation_space = self._make_observation_space()
        self.action_space = spaces.Box(-1.0, 1.0, (ACTION_DIM,), np.float32)
        self._state: np.ndarray | None = None  # x of the last observation
        self._t = 0
        self._held = 0  # steps in place without a break
        self._blind = False

    # ---- what a task defines

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add geoms to the body "object", and the fixture as a mocap body "target"."""
        raise NotImplementedError

    def in_place(self) -> bool:
        """Whether the object is in place now, by geometry."""
        raise NotImplementedError

    def stays_in_place(self) -> bool:
        """A last check, where the episode has ended with the object in place; changes nothing."""
        return True

    # ---- Gymnasium's interface

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        options = _check_options(options)
        if options.get("random_pose", False) and not self.random_poses:
            raise ValueError("this task offers no random_pose: nothing in it is seen by camera")
        split = self._check_split(options.get("split", self.split))
        (x, y, grasp), index = self._choose_condition(split, options)
        self._t, self._held, self._blind = 0, 0, not options.get("image", True)

        mujoco.mj_resetData(self.model, self.data)
        self.data.mocap_pos[self._target] = self.target_centre + np.array([x, y, 0.0])
        self.model.body_quat[self._object] = np.cos(grasp / 2), 0.0, np.sin(grasp / 2), 0.0
        self._decorate(split, index)
        if options.get("random_pose", False):
            self.data.qpos[:] = self._random_angles()
        else:
            noise = self.np_random.normal(size=ACTION_DIM) if self.init_noise else 0.0
            self.data.qpos[:] = self.start_angles + self.init_noise * noise
        self._update_kinematics()
        mujoco.mj_camlight(self.model, self.data)
        return self._observe()

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        if self._state is None:
            raise ValueError("step() came before the first reset(): call reset() first")
        u = np.asarray(action, dtype=np.float64)
        if u.shape != (ACTION_DIM,) or not np.isfinite(u).all():
            raise ValueError(
                f"action must be {ACTION_DIM} finite numbers in [-1, 1], got {action!r} "
                f"at step {self._t}"
            )
        u = np.clip(u, -1.0, 1.0)
        cost = float(self.cost(self._state, u, self._t))
        self.data.ctrl[:] = u
        mujoco.mj_step(self.model, self.data, nstep=self.frame_skip)
        self._t += 1
        observation, info = self._observe()
        if self._t == self.horizon:
            info["success"] = info["is_success"] = info["is_success"] and self.stays_in_place()
        return observation, -cost, False, False, info

    def render(self) -> np.ndarray | None:
        """The camera's view as (240, 240, 3) uint8, or None without a render mode."""
        if self.render_mode is None:
            return None
        return rendering.render(self.model, self.data, self._camera, _RENDER_SIZE)

    # ---- observation

    def _update_kinematics(self) -> None:
        """Bring positions and velocities up to the joints: mj_step leaves them a substep behind."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_comVel(self.model, self.data)

    def in_world(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 3) of the object in the world."""
        return self.data.xpos[self._object] + points @ self._rotation().T

    def _rotation(self) -> np.ndarray:
        """Of the object in the world, (3, 3)."""
        return self.data.xmat[self._object].reshape(3, 3)

    def _moving_points(self, body: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities in the world of points (3, 3) that are fixed in a body."""
        arms = points @ self.data.xmat[body].reshape(3, 3).T
        velocity = np.empty(6)  # angular, linear
        kind = mujoco.mjtObj.mjOBJ_XBODY
        mujoco.mj_objectVelocity(self.model, self.data, kind, body, velocity, 0)
        wx, wy, wz = velocity[:3]
        spin = np.array([[0.0, -wz, wy], [wz, 0.0, -wx], [-wy, wx, 0.0]])
        return self.data.xpos[body] + arms, velocity[3:] + arms @ spin.T

    def state(self) -> np.ndarray:
        """x, from positions and velocities of the joints in ``data`` as they are now."""
        self._update_kinematics()
        points, velocities = self._moving_points(self._object, self.object_points)
        error = points - (self.data.mocap_pos[self._target] + self.goal_points)
        return np.concatenate([self.data.qpos, self.data.qvel, error.ravel(), velocities.ravel()])

    def _observe(self) -> tuple[Observation, dict[str, Any]]:
        self._state = self.state()
        self._held = self._held + 1 if self.in_place() else 0
        target, points = self.data.mocap_pos[self._target], self.in_world(self.object_points)
        info = {
            "state": self._state.copy(),
            "pose": np.concatenate([target, points.ravel()]).astype(np.float32),
            "is_success": self._held >= self.hold,
        }
        return self._make_observation(), info

    def _make_observation_space(self) -> spaces.Space:
        side = self.image_size
        return spaces.Dict(
            {
                "image": spaces.Box(0, 255, (side, side, 3), np.uint8),
                "proprio": spaces.Box(-_PROPRIO_BOUND, _PROPRIO_BOUND, (STATE_DIM,), np.float32),
            }
        )

    def _make_observation(self) -> Observation:
        side = self.image_size
        if self._blind:
            image = np.zeros((side, side, 3), np.uint8)
        else:
            image = rendering.render(self.model, self.data, self._camera, side)
        points, velocities = self._moving_points(self._hand, self._hand_points)
        proprio = [self.data.qpos, self.data.qvel, points.ravel(), velocities.ravel()]
        return {"image": image, "proprio": np.concatenate(proprio).astype(np.float32)}

    # ---- how an episode starts

    def _check_split(self, split: Any) -> str:
        if split not in self.splits:
            raise ValueError(f"split {split!r} does not exist; available: {list(self.splits)}")
        return split

    def _choose_condition(self, split: str, options: dict[str, Any]) -> tuple[np.ndarray, int]:
        """(x, y, grasp), x and y from the centre of the range, and the number of the looks."""
        half, grasps = self.layout.half, self.layout.grasps
        index = options.get("condition")
        if index is None:
            several = self.num_conditions if split == "train" else 2**31 - 1
            index = int(self.np_random.integers(several))
        else:
            top = self.num_conditions - 1 if split == "train" else None
            index = _check_int(f'options["condition"] of split "{split}"', index, 0, top)
        anywhere = options.get("random_pose", False) and "condition" not in options
        if anywhere:
            chosen = np.array([*self.np_random.uniform(-1, 1, 2) * half, grasps[0]])
            if len(grasps) > 1:
                chosen[2] = grasps[self.np_random.integers(len(grasps))]
        elif split == "train":
            chosen = self.layout.training[index].copy()
        else:
            chosen = self.layout.unseen(split, index)
        if "target" in options:
            chosen[:2] = _check_target(options["target"], half)
        if "grasp" in options:
            chosen[2] = _check_grasp(options["grasp"], grasps)
        return chosen, index

    def _decorate(self, split: str, index: int) -> None:
        self._looks.restore(self.model)
        rng = np.random.default_rng([_APPEARANCE_STREAM, index])
        strength = STRENGTHS[self.visual]
        if split == "visual":
            self._looks.recolour(self.model, rng, strength)
        count = self.distractors
        if count is None:
            count = int(rng.integers(*strength.objects)) if split == "visual" else 0
        x, y, _ = self.data.mocap_pos[self._target]
        fixture = (x, y, self.fixture_radius)
        self._looks.place(
            self.model, self.data, rng, count, strength, fixture, self.distractor_area
        )

    def _random_angles(self) -> np.ndarray:
        """A configuration (7,) somewhere on the object's way from the start to its place.

        The elbow varies with where the search for the joint angles begins.
        """
        rng = self.np_random
        self.data.qpos[:] = self.start_angles
        self._update_kinematics()
        start = self.in_world(self.object_points[:1])[0], self._rotation().copy()
        goal = self.data.mocap_pos[self._target] + self.goal_points[0], self.goal_rotation
        for _ in range(20):
            point, rotation = self.random_placement(start, goal, rng)
            begin = self.start_angles + rng.normal(0.0, 0.2, ACTION_DIM)
            angles = self._inverse_kinematics(begin, point, rotation)
            if angles is not None and self._is_free(angles):
                return angles
        return self.start_angles.copy()

    def random_placement(
        self,
        start: tuple[np.ndarray, np.ndarray],
        goal: tuple[np.ndarray, np.ndarray],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Somewhere on the way from `start` to `goal`, both (point (3,), rotation (3, 3)).

        A quarter are in place or just outside and nearly aligned; the others spread along the
        straight way, wider towards the start.
        """
        if rng.random() < 0.25:
            part, spread, tilt = 0.0, 0.002, 0.01
            point = goal[0] + rng.uniform() * self.way_out
        else:
            part = rng.uniform(0.15, 1.1)
            spread, tilt = 0.01 + 0.04 * part, 0.15
            point = goal[0] + part * (start[0] - goal[0])
        point = point + rng.normal(0.0, spread, 3)
        turn = turned(rng.normal(0.0, tilt, 3))
        return point, turn @ between(goal[1], start[1], part)

    def _inverse_kinematics(
        self, angles: np.ndarray, point: np.ndarray, rotation: np.ndarray, tolerance: float = 1e-3
    ) -> np.ndarray | None:
        """Joint angles (7,) that bring the object's first point and its rotation there.

        Damped least squares from `angles`; None where 50 steps don't reach it within the limits.

        :param tolerance: in m and rad
        """
        model, data = self.model, self.data
        jacobian, error = np.empty((6, model.nv)), np.empty(6)
        limited = model.jnt_limited.astype(bool)
        low = np.where(limited, model.jnt_range[:, 0] + 0.02, -np.inf)
        high = np.where(limited, model.jnt_range[:, 1] - 0.02, np.inf)
        angles = np.clip(angles, low, high)
        for _ in range(50):
            data.qpos[:] = angles
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            here = self.in_world(self.object_points[:1])[0]
            error[:3] = point - here
            error[3:] = rotation_vector(rotation @ self._rotation().T)
            if np.abs(error).max() < tolerance:
                return angles
            mujoco.mj_jac(model, data, jacobian[:3], jacobian[3:], here, self._object)
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(6), error)
            angles = np.clip(angles + step * min(1.0, 0.3 / np.abs(step).max()), low, high)
        return None

    def _is_free(self, angles: np.ndarray, depth: float = 0.001) -> bool:
        """Whether nothing is deeper than `depth` (m) inside something else."""
        self.data.qpos[:] = angles
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_collision(self.model, self.data)
        return not (self.data.contact.dist < -depth).any()

    def _compile(self, shadows: bool) -> mujoco.MjModel:
        spec = mujoco.MjSpec.from_file(str(_ARM))
        spec.body("hand").add_body(name="object", pos=GRIP)
        self.build(spec)
        prepare(spec)
        if shadows:
            spec.visual.quality.shadowsize = 1024
            spec.light("lamp").castshadow = True
        return spec.compile()


# ---- rotations


def turned(vector: np.ndarray) -> np.ndarray:
    """(3, 3) of a rotation vector (3,) in rad."""
    quaternion, matrix = np.array([1.0, 0.0, 0.0, 0.0]), np.empty(9)
    mujoco.mju_quatIntegrate(quaternion, vector, 1.0)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """(3,) in rad of a rotation (3, 3)."""
    quaternion, vector = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quaternion, matrix.ravel())
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector


def between(a: np.ndarray, b: np.ndarray, part: float) -> np.ndarray:
    """The rotation (3, 3) at a part of the way from a to b."""
    return turned(part * rotation_vector(b @ a.T)) @ a


# ---- checks of what a user gives


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _check_int(name: str, value: Any, low: int, high: int | None, unit: str = "") -> int:
    integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not integer or value < low or (high is not None and value > high):
        bounds = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise ValueError(
            f"{name} must be an integer {bounds}{unit and ' '}{unit}, got {value!r}; try {low}"
        )
    return int(value)


def _check_options(options: dict[str, Any] | None) -> dict[str, Any]:
    options = dict(options or {})
    if unknown := sorted(set(options) - set(_OPTIONS), key=str):
        raise ValueError(f"unknown reset options {unknown}; available: {list(_OPTIONS)}")
    for name in ("image", "random_pose"):
        if not isinstance(options.get(name, True), bool | np.bool_):
            raise ValueError(f'options["{name}"] must be True or False, got {options[name]!r}')
    return options


def _check_target(target: Any, half: tuple[float, float]) -> np.ndarray:
    xy = np.asarray(target, dtype=np.float64)
    if xy.shape != (2,) or not (np.abs(xy) <= np.array(half) + 1e-9).all():
        raise ValueError(
            'options["target"] must be [x, y] in m from the centre of the range, '
            f"|x| <= {half[0]} and |y| <= {half[1]}, got {target!r}; try [0.0, 0.0]"
        )
    return xy


def _check_grasp(grasp: Any, grasps: tuple[float, ...]) -> float:
    if not (_is_number(grasp) and grasps[0] - 1e-9 <= grasp <= grasps[-1] + 1e-9):
        raise ValueError(
            f'options["grasp"] must be an angle from {grasps[0]} to {grasps[-1]} rad, got {grasp!r}'
        )
    return float(grasp)
