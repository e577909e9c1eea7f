"""One run by the book: train with a seed, evaluate on every split, and write the figures down."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sb3_gps.callbacks import StudentSuccessCallback
from sb3_gps.gps import GPS
from sb3_gps.hardware import peak_memory
from sb3_gps.protocol import BY_THE_BOOK, Protocol, evaluate_by_the_book, splits_of_task
from sb3_gps.provenance import command_line, machine, plain_options
from sb3_gps.recording import RunRecorder
from sb3_gps.ways import Trained, make_env, train

_TRAINING_ONLY = (*GPS.run_state, "state_policy")  # of no use to a policy that only acts


def trained_conditions(model: GPS) -> int:
    """How many initial conditions a model was trained on."""
    if not model.history:
        raise ValueError("the model was never trained: call learn() first")
    return len(model.history[-1]["gps/costs"])


def save_policy(model: GPS, path: Path) -> None:
    """Save what acts, without the teachers and samples that only further training needs."""
    model.save(path, exclude=_TRAINING_ONLY)


def run_experiment(
    env_id: str,
    seed: int,
    options: dict[str, Any],
    *,
    way: str = "end-to-end",
    num_conditions: int | None = None,
    n_envs: int = 1,
    protocol: Protocol = BY_THE_BOOK,
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
