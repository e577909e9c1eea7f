"""Manipulation tasks for guided policy search: a torque-controlled arm seen by a camera.

Importing this package registers the tasks with Gymnasium: ``gym.make("GPS/ShapeCube-v0")``.
"""

import os

import gymnasium

try:
    import mujoco  # noqa: F401
except Exception as error:  # its OpenGL module is loaded at once, and fails in unreadable ways
    if not os.environ.get("MUJOCO_GL"):
        raise
    raise ImportError(
        f"MuJoCo could not be imported with MUJOCO_GL={os.environ['MUJOCO_GL']!r} ({error!r}): "
        "unset it, or install what it needs: apt-get install -y libegl1 libgl1 for egl, "
        "apt-get install -y libosmesa6 for osmesa"
    ) from error

from gps_envs.base import ArmEnv
from gps_envs.bottle_cap import BottleCapEnv
from gps_envs.coat_hanger import CoatHangerEnv
from gps_envs.costs import PointCost
from gps_envs.peg_insertion import PegInsertionEnv
from gps_envs.shape_cube import ShapeCubeEnv
from gps_envs.toy_hammer import ToyHammerEnv

__all__ = [
    "ArmEnv",
    "BottleCapEnv",
    "CoatHangerEnv",
    "PegInsertionEnv",
    "PointCost",
    "ShapeCubeEnv",
    "ToyHammerEnv",
]

_TASKS = {
    "GPS/BottleCap-v0": "gps_envs.bottle_cap:BottleCapEnv",
    "GPS/CoatHanger-v0": "gps_envs.coat_hanger:CoatHangerEnv",
    "GPS/PegInsertion-v0": "gps_envs.peg_insertion:PegInsertionEnv",
    "GPS/ShapeCube-v0": "gps_envs.shape_cube:ShapeCubeEnv",
    "GPS/ToyHammer-v0": "gps_envs.toy_hammer:ToyHammerEnv",
}
for _id, _entry_point in _TASKS.items():
    if _id not in gymnasium.registry:
        gymnasium.register(_id, entry_point=_entry_point, max_episode_steps=ArmEnv.horizon)
