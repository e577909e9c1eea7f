"""Many runs in processes of their own, a JSON file each: resumable, and no failure stops the rest.

A run whose file exists is not repeated, so what was interrupted goes on where it stopped, and seeds
or budgets can be added later.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """One run of ``experiment.run_experiment``, and the file of its record."""

    path: Path
    env: str
    seed: int
    conditions: int
    options: dict[str, Any] = field(default_factory=dict)  # keywords of GPS
    way: str = "end-to-end"  # of ways.WAYS


def run_missing(runs: Sequence[Run], jobs: int) -> list[tuple[Run, str]]:
    """Do the runs whose file does not exist, with a progress bar.

    :param jobs: runs at once, sharing the cores
    :return: those that failed, and why
    :raises ValueError: ``jobs`` below 1, or a file that is that of another run
    """
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    for run in runs:
        check_same(run)
    missing = [run for run in runs if not run.path.exists()]
    for run in runs:
        if run not in missing:
            print(f"present, skipped: {run.path}")
    return run_all(missing, jobs)


def records(folder: Path) -> list[dict[str, Any]]:
    """The records of all runs that are finished below a folder, by their files' names.

    All, not those that were asked for last, so that a benchmark done in pieces has one table.
    """
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("*_seed*.json"))]


def check_same(run: Run) -> None:
    """
    :raises ValueError: when the run's file exists but is that of another run
    """
    from sb3_gps.experiment import plain_options

    if not run.path.exists():
        return
    there = json.loads(run.path.read_text())
    way = there.get("way", "end-to-end")
    found = (there["env"], way, there["num_conditions"], there["options"])
    wanted = (run.env, run.way, run.conditions, plain_options(run.options))
    if found != wanted:
        raise ValueError(
            f"{run.path} is of a run with {found}, not {wanted}; remove it or choose another --out"
        )


def run_one(run: Run, threads: int, jobs: int) -> None:
    """Train, evaluate and write one run; in a process of its own."""
    import torch as th

    th.set_num_threads(threads)
    from sb3_gps.experiment import run_experiment, write_json

    _, record = run_experiment(
        run.env, run.seed, run.options, num_conditions=run.conditions, way=run.way
    )
    write_json(run.path, {**record, "runs_at_once": jobs})


def run_all(runs: Sequence[Run], jobs: int) -> list[tuple[Run, str]]:
    """Run them, ``jobs`` at once, with a progress bar; returns those that failed, and why."""
    from rich.console import Console
    from rich.progress import Progress

    # Read once, when a child loads its libraries. With more threads than cores, BLAS and torch wait
    # for each other: a run that has the machine to itself is then faster than two at once.
    threads = max(1, (os.cpu_count() or 1) // jobs)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    failed = []
    # spawn: a child that is forked after the parent has drawn an image hangs.
    context = multiprocessing.get_context("spawn")
    with (
        Progress(console=Console(stderr=True)) as progress,
        ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool,
    ):
        bar = progress.add_task("runs", total=len(runs))
        futures = {pool.submit(run_one, run, threads, jobs): run for run in runs}
        for future in as_completed(futures):
            try:
                future.result()
            except Exception as error:  # one failed run does not end the others
                failed.append((futures[future], repr(error)))
            progress.advance(bar)
    return failed


def report_failures(failed: Sequence[tuple[Run, str]]) -> int:
    """Print them; the exit status of a benchmark."""
    for run, error in failed:
        print(f"failed: {run.path.name}: {error}")
    return 1 if failed else 0
