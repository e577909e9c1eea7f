"""Where a figure comes from: hardware, versions and commit, the options, the command of its run."""

from __future__ import annotations

import platform
import shlex
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import stable_baselines3
import torch as th

import sb3_gps
from sb3_gps.augmentation import Augmentation
from sb3_gps.hardware import cores, processor


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
        "commit": commit(),
        "processor": processor(),
        "cpu_count": cores(),
        "gpu": th.cuda.get_device_name() if th.cuda.is_available() else None,
        "torch_threads": th.get_num_threads(),
    }


@cache
def commit() -> str | None:
    """The last commit that changed the code, "+" if that is not all; None where there is no git.

    Asked for these folders alone: an installed package may lie in the repository of its user.
    """
    here = Path(sb3_gps.__file__).parent
    code = [str(here), str(here.parent / "envs")]

    def git(*words: str) -> str:
        line = ["git", "-C", str(here), *words, "--", *code]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    try:
        last, changed = git("log", "-1", "--format=%h"), git("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return None
    return (last + "+" * bool(changed)) or None


def command_line(
    env_id: str,
    seed: int,
    options: dict[str, Any],
    way: str = "end-to-end",
    num_conditions: int | None = None,
    n_envs: int = 1,
    env_kwargs: dict[str, Any] | None = None,
) -> str:
    """The command that repeats a run, but for the episodes that it is evaluated on."""
    words = ["python", "-m", "sb3_gps", "train", "--env", env_id, "--seed", str(seed)]
    if way != "end-to-end":
        words += ["--way", way]
    if num_conditions is not None:
        words += ["--conditions", str(num_conditions)]
    if n_envs != 1:
        words += ["--n-envs", str(n_envs)]
    for flag, pairs in (("--set", options), ("--env-set", env_kwargs)):
        if pairs:
            words += [flag, *(f"{name}={_typed(value)}" for name, value in pairs.items())]
    return shlex.join(words)


def _typed(value: Any) -> Any:
    """A value as a user would type it: an augmentation is a dict there."""
    return asdict(value) if isinstance(value, Augmentation) else value


def plain_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options as JSON gives them back; a class by its name, what else JSON has not as its repr."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, type):
            return value.__qualname__
        return value if isinstance(value, (int, float, str, type(None))) else repr(value)

    return {key: plain(value) for key, value in options.items()}


def conditions_of_measurement(records: Sequence[dict[str, Any]]) -> str:
    """Markdown: the hardware and versions of some runs, and the command of one of them."""

    def words(record: dict[str, Any]) -> str:
        here = record["machine"]
        gpu = f", {here['gpu']}" if here.get("gpu") else ""
        return (
            f"{here['processor']}, {here['cpu_count']} cores{gpu}, {record['runs_at_once']} runs "
            f"at once; torch {here['torch']}, mujoco {here['mujoco']}, "
            f"sb3_gps {here.get('commit') or here['sb3_gps']}"
        )

    machines = Counter(map(words, records))
    lines = [f"- {count} runs: {machine}" for machine, count in machines.items()]
    return "\n".join(lines) + f"\n\nOne of the runs, as a command:\n\n    {records[0]['command']}"
