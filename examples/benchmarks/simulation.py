"""Control steps a second: with the student's image, without, and over processes.

    python examples/benchmarks/simulation.py

ShapeCube at 64 x 64 pixels, random actions, one thread a process. Limits, in the same run: the
physics alone (``mj_step``), and frames alone. Prints and writes rates and ratios, and where the
time of a step with an image goes.
"""

import time
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv
from teacher_update import profile

from gps_envs.rendering import describe_gl
from sb3_gps.files import write_json
from sb3_gps.hardware import cores
from sb3_gps.provenance import machine

ENV, STEPS, HORIZON = "GPS/ShapeCube-v0", 1000, 100


def episodes(env: gym.Env, image: bool) -> Callable[[], None]:
    """``STEPS`` steps, in whole episodes."""
    actions = np.random.default_rng(0).uniform(-1, 1, (HORIZON, 7)).astype(np.float32)

    def work() -> None:
        for condition in range(STEPS // HORIZON):
            env.reset(options={"condition": condition, "image": image})
            for action in actions:
                env.step(action)

    return work


def physics(env: gym.Env) -> Callable[[], None]:
    """The same steps of MuJoCo, and nothing else."""
    task = env.unwrapped

    def work() -> None:
        for _ in range(STEPS):
            mujoco.mj_step(task.model, task.data, nstep=task.frame_skip)

    return work


def rate(work: Callable[[], None], steps: int = STEPS, repeats: int = 3) -> float:
    """Steps a second, the median of some calls."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return steps / float(np.median(times))


def processes(n: int) -> float:
    """Steps a second of n environments in processes of their own, images sent to this one."""
    env = make_vec_env(ENV, n, vec_env_cls=SubprocVecEnv)
    env.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (300, n, 7)).astype(np.float32)

    def work() -> None:
        for action in actions:
            env.step(action)

    result = rate(work, n * len(actions))
    env.close()
    return result


def main() -> None:
    """Measure, print, write."""
    env = gym.make(ENV)
    seen = episodes(env, image=True)
    result = {
        "with image": rate(seen),
        "without image": rate(episodes(env, image=False)),
        "physics alone": rate(physics(env)),
        "frames alone": describe_gl(env.unwrapped.model, env.unwrapped.data)["frames_per_second"],
    }
    numbers = sorted({1, cores()})
    scaling = {f"{n} processes": processes(n) for n in numbers}
    for name, value in {**result, **scaling}.items():
        print(f"{name:16} {value:8.0f} a second")
    limit = 1 / (1 / result["physics alone"] + 1 / result["frames alone"])
    ratios = {
        "of the limit of physics and frames": result["with image"] / limit,
        "without image, times faster": result["without image"] / result["with image"],
        **{f"{n} processes, times one": scaling[f"{n} processes"] / scaling["1 processes"]
           for n in numbers[1:]},
    }  # fmt: skip
    for name, value in ratios.items():
        print(f"{value:8.2f} {name}")
    where = profile(seen)
    print(f"profile of the steps with an image:\n{where}")
    record = {"a_second": {**result, **scaling}, "ratios": ratios, "profile": where}
    write_json(Path("examples/results/timing/simulation.json"), {**record, "machine": machine()})


if __name__ == "__main__":
    main()
