"""Train the teachers alone, without a student, and follow their mean controllers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``teachers``."""
    parser.add_argument("--env", default="GPS/ShapeCube-v0", help="id of the task")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--conditions", type=int, default=9, help="training positions")
    parser.add_argument("--iterations", type=int, default=35)
    parser.add_argument("--samples", type=int, default=1, help="trials a position and iteration")
    parser.add_argument("--prior", choices=("pooled", "mixture"), default="pooled")
    parser.add_argument("--out", type=Path, default=Path("results/teachers"))


def run_teachers(
    env_id: str, seed: int, conditions: int, iterations: int, samples: int, prior: str
) -> dict[str, Any]:
    """One run: after each iteration the mean controllers are executed once, without noise.

    Those executions only report; nothing is learned from them.
    """
    from stable_baselines3.common.env_util import make_vec_env

    from sb3_gps.core.badmm import BADMM
    from sb3_gps.core.types import LinearGaussianController
    from sb3_gps.environment import describe_task, without_image
    from sb3_gps.exploration import action_noise, teacher_actor
    from sb3_gps.rollout import run_episodes
    from sb3_gps.teachers import TeacherOptions, Teachers, first_controller

    env = make_vec_env(env_id, n_envs=conditions, env_kwargs={"num_conditions": conditions})
    task = describe_task(env, state=None, cost=None, conditions=conditions, horizon=None, seed=seed)
    if task.cost is None:
        raise ValueError(f"{env_id} has no cost, and teachers alone do not learn one; use `train`")
    rng = np.random.default_rng(seed)
    teachers = Teachers(first_controller(task), task.cost, BADMM(), TeacherOptions(prior=prior))

    def execute(controller: LinearGaussianController, noise: bool) -> Any:
        order = np.repeat(np.arange(conditions), samples if noise else 1)
        starts = [without_image(task.starts[m]) for m in order]
        offset = action_noise(controller.C, order, 2.0, rng) if noise else 0.0
        actor = teacher_actor(controller, order, offset)
        return run_episodes(env, starts, actor, task.horizon, task.read_state, False)

    cost, solved = [], []
    for _ in range(iterations):
        batch, _ = execute(teachers.controller, noise=True).by_condition(conditions)
        cost.append(float(teachers.observe(batch, rng).sampled_cost.mean()))
        teachers.improve(None, rng)
        solved.append(execute(teachers.controller, noise=False).success > 0.5)
    env.close()
    first = np.where(np.any(solved, axis=0), np.argmax(solved, axis=0) + 1, -1)
    return {
        "env": env_id,
        "seed": seed,
        "prior": prior,
        "conditions": conditions,
        "samples": samples,
        "trials_to_first_success": [int(n) * samples if n > 0 else None for n in first],
        "success": [float(np.mean(s)) for s in solved],
        "cost": cost,
    }


def main(args: argparse.Namespace) -> int:
    """Run every seed and print when each was solved, and how it held."""
    from sb3_gps.files import write_json
    from sb3_gps.hardware import one_blas_thread
    from sb3_gps.provenance import machine

    for seed in args.seeds:
        path = args.out / f"teachers_{args.prior}_seed{seed}.json"
        with one_blas_thread():
            record = run_teachers(
                args.env, seed, args.conditions, args.iterations, args.samples, args.prior
            )
        write_json(path, {**record, "machine": machine()})
        success = record["success"]
        late = success[-15:]
        print(
            f"seed {seed}: trials a position to the first success "
            f"{record['trials_to_first_success']}, last {len(late)} iterations "
            f"{100 * np.mean(late):.1f} % (worst {100 * min(late):.1f} %)"
        )
    return 0
