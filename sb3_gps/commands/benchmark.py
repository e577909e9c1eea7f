"""Train over several seeds and budgets, one JSON a run, and print the table of success.

A run whose file exists is not repeated, so an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

# trials -> (training positions, iterations); samples a position: one
BUDGETS = {85: (17, 5), 120: (20, 6), 171: (24, 7), 300: (36, 8)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``benchmark``."""
    parser.add_argument("--env", default="GPS/ShapeCube-v0", help="id of the task")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--trials", type=int, nargs="+", default=[300], choices=sorted(BUDGETS), help="budgets"
    )
    parser.add_argument("--update", nargs="+", default=["badmm"], choices=("badmm", "mdgps"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, sharing the cores")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark"))
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="further keywords of GPS"
    )


def run_one(job: dict[str, Any]) -> Path:
    """Train, evaluate and write one run; in a process of its own."""
    import torch as th

    th.set_num_threads(job["threads"])
    from sb3_gps.experiment import run_experiment, write_json

    _, record = run_experiment(
        job["env"], job["seed"], job["options"], num_conditions=job["conditions"]
    )
    record["runs_at_once"] = job["jobs"]
    write_json(job["path"], record)
    return job["path"]


def main(args: argparse.Namespace) -> int:
    """Run what is missing, then print the table."""
    import os

    from rich.console import Console
    from rich.progress import Progress

    from sb3_gps.commands.train import parse_options

    cores = os.cpu_count() or 1
    jobs = []
    for update in args.update:
        for trials in args.trials:
            conditions, iterations = BUDGETS[trials]
            for seed in args.seeds:
                jobs.append(
                    {
                        "env": args.env,
                        "seed": seed,
                        "conditions": conditions,
                        "options": {
                            "update": update,
                            "iterations": iterations,
                            **parse_options(args.set),
                        },
                        "threads": max(1, cores // args.jobs),
                        "jobs": args.jobs,
                        "path": args.out / f"{update}_{trials}_seed{seed}.json",
                    }
                )
    missing = [job for job in jobs if not job["path"].exists()]
    failed = []
    # spawn: a child that is forked after the parent has drawn an image hangs.
    context = multiprocessing.get_context("spawn")
    with (
        Progress(console=Console(stderr=True)) as progress,
        ProcessPoolExecutor(args.jobs, mp_context=context, max_tasks_per_child=1) as pool,
    ):
        bar = progress.add_task("runs", total=len(jobs), completed=len(jobs) - len(missing))
        futures = {pool.submit(run_one, job): job for job in missing}
        for future in as_completed(futures):
            job = futures[future]
            try:
                future.result()
            except Exception as error:  # one failed run does not end the others
                failed.append((job["path"].name, repr(error)))
            progress.advance(bar)
    for name, reason in failed:
        print(f"failed: {name}: {reason}")
    print(table([job["path"] for job in jobs if job["path"].exists()]))
    return 1 if failed else 0


def table(paths: list[Path]) -> str:
    """Markdown: mean and worst seed of success on each split, by update and trials."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for path in paths:
        record = json.loads(path.read_text())
        key = (record["options"].get("update", "badmm"), record["trials"])
        groups.setdefault(key, []).append(record)
    lines = [
        "| update | trials | seeds | train | spatial | visual | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for (update, trials), records in sorted(groups.items()):
        cells = []
        for split in ("train", "spatial", "visual"):
            rates = np.array([r["success"][split]["success"] for r in records])
            cells.append(f"{rates.mean():.1f} ± {rates.std():.1f} (worst {rates.min():.1f})")
        seconds = np.median([r["seconds"]["total"] for r in records])
        lines.append(
            f"| {update} | {trials} | {len(records)} | {' | '.join(cells)} | {seconds:.0f} |"
        )
    return "\n".join(lines)
