"""One run by the book: train with a seed, evaluate on every split, and write the figures down."""

from __future__ import annotations

import platform
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import stable_baselines3
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.type_aliases import PolicyPredictor

import sb3_gps
from sb3_gps.augmentation import Augmentation
from sb3_gps.callbacks import StudentSuccessCallback
from sb3_gps.evaluation import SuccessRate, evaluate_returns, evaluate_split, offered_splits
from sb3_gps.gps import GPS
from sb3_gps.hardware import cores, peak_memory, processor
from sb3_gps.progress import RunProgress
from sb3_gps.recording import RunRecorder
from sb3_gps.ways import Trained, make_env, train

Z95 = 1.96
SPLITS = {  # name -> in words
    "train": "training positions",
    "spatial": "unseen positions",
    "visual": "unseen with distractors",
}
_TRAINING_ONLY = (*GPS.run_state, "state_policy")  # of no use to a policy that only acts


@dataclass(frozen=True)
class Protocol:
    """What a trained policy is tried on. Test positions are for reporting only.

    A task without splits is tried on as many episodes as there are ``spatial`` positions.
    """

    train_repeats: int = 4
    spatial: int = 200
    visual: int = 200
    init_noise: float = 0.01  # rad, deviation of each joint at the start

    def given(self, env_kwargs: dict[str, Any]) -> Protocol:
        """With the noise that a task is given: what is written down is what was used."""
        return replace(self, init_noise=env_kwargs.get("init_noise", self.init_noise))


QUICK = Protocol(train_repeats=1, spatial=40, visual=40)


def trained_conditions(model: GPS) -> int:
    """How many initial conditions a model was trained on."""
    if not model.history:
        raise ValueError("the model was never trained: call learn() first")
    return len(model.history[-1]["gps/costs"])


def evaluate_policy_on_splits(
    model: PolicyPredictor,
    env_id: str,
    num_conditions: int,
    protocol: Protocol,
    n_envs: int = 16,
    progress_bar: bool = False,
    **env_kwargs: Any,
) -> dict[str, Any]:
    """Success in percent, with its 95 % interval, on train, spatial and visual positions.

    :param model: anything with SB3's ``predict``
    :param num_conditions: that it was trained on
    :param env_kwargs: of the task; an ``init_noise`` among them replaces the protocol's
    """
    env_kwargs = {"init_noise": protocol.init_noise, **env_kwargs, "num_conditions": num_conditions}
    env = make_vec_env(env_id, n_envs=n_envs, env_kwargs=env_kwargs)
    plan = {
        "train": (num_conditions, protocol.train_repeats),
        "spatial": (protocol.spatial, 1),
        "visual": (protocol.visual, 1),
    }
    offered = offered_splits(env)
    plan = {split: counts for split, counts in plan.items() if split in offered}
    total = sum(positions * repeats for positions, repeats in plan.values())
    progress = RunProgress(total, progress_bar, "evaluation")

    def on_step(locals_: dict[str, Any]) -> bool:
        progress.advance(int((locals_["dones"] & locals_["real"]).sum()))
        return True

    try:
        return {
            split: summarise(evaluate_split(model, env, split, positions, repeats, on_step=on_step))
            for split, (positions, repeats) in plan.items()
        }
    finally:
        progress.close()
        env.close()


def evaluate_by_the_book(
    model: PolicyPredictor,
    env_id: str,
    num_conditions: int,
    protocol: Protocol,
    progress_bar: bool = False,
    **env_kwargs: Any,
) -> dict[str, Any]:
    """What a record says of a policy: its "success" on the task's splits, or its "returns".

    :param num_conditions: as the other arguments, of ``evaluate_policy_on_splits``
    """
    if SPLITS.keys() & splits_of_task(env_id, env_kwargs):
        success = evaluate_policy_on_splits(
            model, env_id, num_conditions, protocol, progress_bar=progress_bar, **env_kwargs
        )
        return {"success": success}
    env = make_vec_env(env_id, n_envs=min(16, protocol.spatial), env_kwargs=env_kwargs)
    with closing(RunProgress(protocol.spatial, progress_bar, "evaluation")) as progress:
        returns = evaluate_returns(
            model, env, protocol.spatial, lambda here, _: progress.advance(int(here["done"]))
        )
    env.close()
    mean, deviation = (round(float(figure), 3) for figure in (returns.mean(), returns.std()))
    return {"success": {}, "returns": {"mean": mean, "std": deviation, "episodes": len(returns)}}


def splits_of_task(env_id: str, env_kwargs: dict[str, Any]) -> tuple[str, ...]:
    """The splits of a task's positions; none where it has no such thing."""
    env = make_vec_env(env_id, env_kwargs=env_kwargs)
    try:
        return offered_splits(env)
    finally:
        env.close()


def summarise(result: SuccessRate) -> dict[str, Any]:
    """Figures of one split in percent, JSON-able."""
    n = len(result.success)
    return {
        "success": round(100 * result.rate, 2),
        "interval_95": [round(100 * bound, 2) for bound in wilson(result.rate, n)],
        "episodes": n,
        "failed": np.flatnonzero(~result.success).tolist(),
    }


def wilson(rate: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Interval of a share, by Wilson's score: unlike the normal one, not empty at 0 and 1."""
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


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


def save_policy(model: GPS, path: Path) -> None:
    """Save what acts, without the teachers and samples that only further training needs."""
    model.save(path, exclude=_TRAINING_ONLY)


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


def run_experiment(
    env_id: str,
    seed: int,
    options: dict[str, Any],
    *,
    way: str = "end-to-end",
    num_conditions: int | None = None,
    n_envs: int = 1,
    protocol: Protocol = Protocol(),
    env_kwargs: dict[str, Any] | None = None,
    progress_bar: bool = False,
    curve: bool = False,
    folder: Path | None = None,
) -> tuple[Trained, dict[str, Any]]:
    """Train one model from scratch and evaluate it.

    :param options: keywords of ``GPS``
    :param way: of training, one of ``ways.WAYS``
    :param num_conditions: training positions, by default the task's own
    :param n_envs: environments in the training VecEnv
    :param curve: whether to follow the student's success while it learns, which takes time
    :param folder: where ``RunRecorder`` writes what happens in the run; None: nowhere
    :return: the policy, and a JSON-able record of the run
    :raises ValueError: a curve of a task without splits
    """
    env_kwargs = env_kwargs or {}
    if curve and "spatial" not in splits_of_task(env_id, env_kwargs):
        raise ValueError(
            f"the curve is of the success on a task's splits, and {env_id} has none called "
            "'spatial': its returns are in the log (rollout/ep_rew_mean)"
        )
    protocol = protocol.given(env_kwargs)
    begin = time.perf_counter()
    configuration = {
        "env": env_id,
        "env_kwargs": env_kwargs,
        "seed": seed,
        "way": way,
        "command": command_line(env_id, seed, options, way, num_conditions, n_envs, env_kwargs),
        "options": plain_options(options),
        "machine": machine(),
    }
    recorder = None if folder is None else RunRecorder(folder, configuration)
    follow = None
    if curve:  # but for the last point, which the evaluation adds
        another = make_env(way, env_id, num_conditions, n_envs=16, env_kwargs=env_kwargs)
        follow = StudentSuccessCallback(another, split="spatial", last=False)
    trained = train(
        way,
        env_id,
        seed,
        options,
        num_conditions=num_conditions,
        n_envs=n_envs,
        env_kwargs=env_kwargs,
        progress_bar=progress_bar,
        callback=[c for c in (follow, recorder) if c is not None] or None,
    )
    if follow is not None:
        follow.eval_env.close()
    model = trained.model
    middle = time.perf_counter()
    M = trained_conditions(model)
    figures = evaluate_by_the_book(
        trained.actor, env_id, M, protocol, progress_bar=progress_bar, **env_kwargs
    )
    finished = time.perf_counter()
    record = {
        **configuration,
        "num_conditions": M,
        "update": model.update,
        "trials": model.trials,
        "env_steps": model.num_timesteps,
        "pose_images": trained.pose_images,
        "pose_error_cm": trained.pose_error_cm,
        "seconds": {
            "training": round(middle - begin, 1),
            "evaluation": round(finished - middle, 1),
            "total": round(finished - begin, 1),
            **{phase: round(seconds, 1) for phase, seconds in trained.seconds.items()},
        },
        "peak_memory_mb": peak_memory(),
        "history": model.history,
        **({"curve": follow.rows} if follow else {}),
        "protocol": asdict(protocol),
        **figures,
    }
    return trained, record


def splits_of(record: dict[str, Any]) -> dict[str, str]:
    """The splits that a record has figures of, in words."""
    return {split: words for split, words in SPLITS.items() if split in record["success"]}


def in_words(returns: dict[str, Any]) -> str:
    """The "returns" of a record."""
    return f"{returns['mean']:.1f} ± {returns['std']:.1f} in {returns['episodes']} episodes"


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
