"""Train over several seeds, budgets and updates; write a JSON a run, a table and a plot.

A run whose file exists is not repeated, so an interrupted benchmark goes on where it stopped, and
budgets can be added later. A run that fails does not stop the others.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from sb3_gps.commands.options import parse_options, require

# trials -> (training positions, iterations); samples a position: one
BUDGETS = {85: (21, 4), 120: (30, 4), 171: (34, 5), 300: (60, 5)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``benchmark``."""
    parser.add_argument("--env", default="GPS/ShapeCube-v0", help="id of the task")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--trials", type=int, nargs="+", default=[300], choices=sorted(BUDGETS), help="budgets"
    )
    parser.add_argument("--update", nargs="+", default=["mdgps"], choices=("badmm", "mdgps"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, sharing the cores")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark"))
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="further keywords of GPS"
    )


def main(args: argparse.Namespace) -> int:
    """Run what is missing, then write and print the table."""
    require("matplotlib", "rich")
    if args.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {args.jobs}")
    jobs = list(plan(args))
    for job in jobs:
        check_same_options(job)
    missing = [job for job in jobs if not job["path"].exists()]
    for job in jobs:
        if job not in missing:
            print(f"present, skipped: {job['path']}")
    failed = run_all(missing, args.jobs)
    for job, error in failed:
        print(f"failed: {job['path'].name}: {error}")
    records = [json.loads(job["path"].read_text()) for job in jobs if job["path"].exists()]
    if records:
        write_summary(records, args.out)
        print(table(records))
    return 1 if failed else 0


def plan(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every run that was asked for."""
    threads = max(1, (os.cpu_count() or 1) // args.jobs)
    for update in args.update:
        for trials in args.trials:
            conditions, iterations = BUDGETS[trials]
            for seed in args.seeds:
                yield {
                    "env": args.env,
                    "seed": seed,
                    "conditions": conditions,
                    "options": {
                        "update": update,
                        "iterations": iterations,
                        **parse_options(args.set),
                    },
                    "threads": threads,
                    "jobs": args.jobs,
                    "path": args.out / f"{update}_{trials}_seed{seed}.json",
                }


def check_same_options(job: dict[str, Any]) -> None:
    """
    :raises ValueError: when the run's file exists but is that of another run
    """
    from sb3_gps.experiment import plain_options

    if not job["path"].exists():
        return
    there = json.loads(job["path"].read_text())
    found = (there["env"], there["num_conditions"], there["options"])
    wanted = (job["env"], job["conditions"], plain_options(job["options"]))
    if found != wanted:
        raise ValueError(
            f"{job['path']} is of a run with {found}, not {wanted}; remove it or choose another "
            "--out"
        )


def run_one(job: dict[str, Any]) -> None:
    """Train, evaluate and write one run; in a process of its own."""
    import torch as th

    th.set_num_threads(job["threads"])
    from sb3_gps.experiment import run_experiment, write_json

    _, record = run_experiment(
        job["env"], job["seed"], job["options"], num_conditions=job["conditions"]
    )
    write_json(job["path"], {**record, "runs_at_once": job["jobs"]})


def run_all(jobs: list[dict[str, Any]], at_once: int) -> list[tuple[dict[str, Any], str]]:
    """Run them, with a progress bar; returns those that failed, and why."""
    from rich.console import Console
    from rich.progress import Progress

    # Read once, when a child loads its libraries. With more threads than cores, BLAS and torch wait
    # for each other: a run that has the machine to itself is then faster than two at once.
    threads = max(1, (os.cpu_count() or 1) // at_once)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    failed = []
    # spawn: a child that is forked after the parent has drawn an image hangs.
    context = multiprocessing.get_context("spawn")
    with (
        Progress(console=Console(stderr=True)) as progress,
        ProcessPoolExecutor(at_once, mp_context=context, max_tasks_per_child=1) as pool,
    ):
        bar = progress.add_task("runs", total=len(jobs))
        futures = {pool.submit(run_one, job): job for job in jobs}
        for future in as_completed(futures):
            try:
                future.result()
            except Exception as error:  # one failed run does not end the others
                failed.append((futures[future], repr(error)))
            progress.advance(bar)
    return failed


def write_summary(records: list[dict[str, Any]], out: Path) -> None:
    """``summary.md`` and ``success_vs_trials.png`` in a folder."""
    from sb3_gps.files import rewrite
    from sb3_gps.plotting import plot_success_vs_trials

    here = records[0]["machine"]
    words = [
        table(records),
        "Mean ± standard deviation over the seeds (and the worst seed), in percent; seconds are "
        "the median from zero to an evaluated policy.",
        f"{here['processor']}, {here['cpu_count']} cores, {records[0]['runs_at_once']} runs at "
        f"once; torch {here['torch']}, mujoco {here['mujoco']}.",
        "One of the runs, as a command:",
        f"    {records[0]['command']}",
        "![success against trials](success_vs_trials.png)",
    ]
    text = "\n\n".join(words) + "\n"
    rewrite(out / "summary.md", lambda temporary: temporary.write_text(text))
    plot_success_vs_trials(records, out / "success_vs_trials.png")


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: mean, spread and worst seed of success, by update and trials; then the paper's."""
    from sb3_gps.experiment import PAPER, SPLITS

    groups: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for record in records:
        key = (record["update"], record["trials"], record["pose_images"])
        groups.setdefault(key, []).append(record)
    lines = [
        f"| update | trials | pose images | seeds | {' | '.join(SPLITS.values())} | seconds |",
        "|---" * (5 + len(SPLITS)) + "|",
    ]
    for (update, trials, images), group in sorted(groups.items()):
        cells = [update, str(trials), str(images), str(len(group))]
        for split in SPLITS:
            rates = np.array([r["success"][split]["success"] for r in group])
            cells.append(f"{rates.mean():.1f} ± {rates.std():.1f} ({rates.min():.1f})")
        cells.append(f"{np.median([r['seconds']['total'] for r in group]):.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    if records and records[0]["env"] == PAPER["env"]:
        paper = [PAPER["success"][split] for split in SPLITS]
        cells = ["paper (real PR2)", PAPER["trials"], PAPER["pose_images"], "", *paper, ""]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
