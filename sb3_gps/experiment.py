"""One run by the book: train with a seed, evaluate on every split, and write the figures down."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import stable_baselines3
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

import sb3_gps
from sb3_gps.evaluation import evaluate_split
from sb3_gps.gps import GPS

Z95 = 1.96


@dataclass(frozen=True)
class Protocol:
    """What a trained policy is tried on. Test positions are for reporting only."""

    train_repeats: int = 4
    spatial: int = 200
    visual: int = 200
    init_noise: float = 0.01  # rad, deviation of each joint at the start


QUICK = Protocol(train_repeats=1, spatial=40, visual=40)


def make_training_env(env_id: str, num_conditions: int, n_envs: int, **env_kwargs: Any) -> VecEnv:
    """The environments that a run samples from."""
    return make_vec_env(
        env_id, n_envs=n_envs, env_kwargs={"num_conditions": num_conditions, **env_kwargs}
    )


def evaluate_policy_on_splits(
    model: GPS,
    env_id: str,
    num_conditions: int,
    protocol: Protocol,
    n_envs: int = 16,
    **env_kwargs: Any,
) -> dict[str, Any]:
    """Success in percent, with its 95 % half-width, on train, spatial and visual positions."""
    env = make_vec_env(
        env_id,
        n_envs=n_envs,
        env_kwargs={
            "num_conditions": num_conditions,
            "init_noise": protocol.init_noise,
            **env_kwargs,
        },
    )
    figures: dict[str, Any] = {}
    plan = [
        ("train", num_conditions, protocol.train_repeats),
        ("spatial", protocol.spatial, 1),
        ("visual", protocol.visual, 1),
    ]
    for split, positions, repeats in plan:
        result = evaluate_split(model, env, split, positions, repeats)
        n = len(result.success)
        half_width = Z95 * np.sqrt(max(result.rate * (1 - result.rate), 1e-12) / n)
        figures[split] = {
            "success": round(100 * result.rate, 2),
            "half_width_95": round(100 * float(half_width), 2),
            "episodes": n,
            "failed": np.flatnonzero(~result.success).tolist(),
        }
    env.close()
    return figures


def machine() -> dict[str, Any]:
    """Versions and hardware that a figure belongs to."""
    return {
        "python": platform.python_version(),
        "torch": th.__version__,
        "numpy": np.__version__,
        "gymnasium": gym.__version__,
        "stable_baselines3": stable_baselines3.__version__,
        "mujoco": mujoco.__version__,
        "sb3_gps": sb3_gps.__version__,
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "torch_threads": th.get_num_threads(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def write_json(path: Path, value: Any) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    temporary.replace(path)


def run_experiment(
    env_id: str,
    seed: int,
    options: dict[str, Any],
    *,
    num_conditions: int = 25,
    n_envs: int = 1,
    protocol: Protocol = Protocol(),
    env_kwargs: dict[str, Any] | None = None,
    verbose: int = 0,
    progress_bar: bool = False,
    callback: Any = None,
) -> tuple[GPS, dict[str, Any]]:
    """Train one model from scratch and evaluate it.

    :param options: keywords of ``GPS``
    :param num_conditions: training positions
    :param n_envs: environments in the training VecEnv
    :return: the model, and a JSON-able record of the run
    """
    env_kwargs = env_kwargs or {}
    begin = time.perf_counter()
    env = make_training_env(env_id, num_conditions, n_envs, **env_kwargs)
    model = GPS("CnnPolicy", env, seed=seed, verbose=verbose, **options)
    model.learn(progress_bar=progress_bar, callback=callback)
    trained = time.perf_counter()
    figures = evaluate_policy_on_splits(model, env_id, num_conditions, protocol, **env_kwargs)
    finished = time.perf_counter()
    env.close()
    record = {
        "env": env_id,
        "env_kwargs": env_kwargs,
        "seed": seed,
        "num_conditions": num_conditions,
        "options": {k: repr(v) if not _plain(v) else v for k, v in options.items()},
        "trials": model.trials,
        "env_steps": model.num_timesteps,
        "pose_images": model.pose_images_used,
        "pose_error_cm": getattr(model, "pose_error_cm", None),
        "seconds": {
            "training": round(trained - begin, 1),
            "evaluation": round(finished - trained, 1),
            "total": round(finished - begin, 1),
            **{k: round(v, 1) for k, v in getattr(model, "seconds", {}).items()},
        },
        "history": getattr(model, "history", []),
        "success": figures,
        "machine": machine(),
    }
    return model, record


def _plain(value: Any) -> bool:
    return isinstance(value, (int, float, str, bool, type(None), list, dict))
