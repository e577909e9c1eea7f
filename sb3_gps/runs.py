"""Many runs in processes of their own, a JSON file each: resumable, and no failure stops the rest.

A run whose file exists is not repeated, so what was interrupted goes on where it stopped, and seeds
or budgets can be added later.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sb3_gps.hardware import cores

Item = TypeVar("Item")


@dataclass(frozen=True)
class Run:
    """One run of ``experiment.run_experiment``, and the file of its record."""

    path: Path
    env: str
    seed: int
    conditions: int
    options: dict[str, Any] = field(default_factory=dict)  # keywords of GPS
    way: str = "end-to-end"  # of ways.WAYS


def run_missing(runs: Sequence[Run], jobs: int) -> list[tuple[Run, BaseException]]:
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
    # A name that begins with a dot is that of a file which is being written.
    paths = [path for path in folder.rglob("*_seed*.json") if not path.name.startswith(".")]
    return [read_record(path) for path in sorted(paths)]


def read_record(path: Path) -> dict[str, Any]:
    """
    :raises ValueError: naming a file that holds no record
    """
    try:
        record = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not JSON ({error}); remove it, and its run is done again"
        ) from error
    if not isinstance(record, dict):
        raise ValueError(f"expected the record of a run in {path}, got a {type(record).__name__}")
    return record


def check_same(run: Run) -> None:
    """
    :raises ValueError: when the run's file exists but is that of another run
    """
    from sb3_gps.protocol import BY_THE_BOOK
    from sb3_gps.provenance import plain_options

    if not run.path.exists():
        return
    there = read_record(run.path)
    keys = ("env", "way", "num_conditions", "options", "protocol")
    found = tuple(there.get(key) for key in keys)
    options, protocol = plain_options(run.options), asdict(BY_THE_BOOK)
    wanted = (run.env, run.way, run.conditions, options, protocol)
    if found != wanted:
        raise ValueError(
            f"{run.path} is of a run with {found}, not {wanted}; remove it or choose another --out"
        )


def run_one(run: Run, threads: int, jobs: int) -> None:
    """Train, evaluate and write one run; in a process of its own."""
    import torch as th

    th.set_num_threads(threads)
    from sb3_gps.experiment import run_experiment
    from sb3_gps.files import write_json

    _, record = run_experiment(
        run.env, run.seed, run.options, num_conditions=run.conditions, way=run.way
    )
    write_json(run.path, {**record, "runs_at_once": jobs})


def run_all(runs: Sequence[Run], jobs: int) -> list[tuple[Run, BaseException]]:
    """Run them, ``jobs`` at once, with a progress bar; returns those that failed, and why."""
    threads = max(1, cores() // jobs)
    return in_own_processes(partial(run_one, threads=threads, jobs=jobs), runs, jobs)


def in_own_processes(
    work: Callable[[Item], Any], items: Sequence[Item], jobs: int, engine: str = "processes"
) -> list[tuple[Item, BaseException]]:
    """Do them, ``jobs`` at once, sharing the cores, with a progress bar.

    :param work: picklable
    :param jobs: runs at once on a machine
    :param engine: one of ``ENGINES``
    :return: those that failed, and why
    """
    from rich.console import Console
    from rich.progress import Progress

    # Read once, when a child loads its libraries. With more threads than cores, BLAS and torch wait
    # for each other: a run that has the machine to itself is then faster than two at once.
    threads = max(1, cores() // jobs)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    failed = []
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("runs", total=len(items))
        for item, error in ENGINES[engine](work, items, jobs):
            if error is not None:
                failed.append((item, error))
            progress.advance(bar)
    return failed


def in_processes(
    work: Callable[[Item], Any], items: Sequence[Item], jobs: int
) -> Iterator[tuple[Item, BaseException | None]]:
    """Each item as it is done, in a process of its own, and what went wrong there.

    A pool of one for each: the death of a process breaks its whole pool.

    :param work: picklable
    :param jobs: processes at once
    """
    # spawn: a child that is forked after the parent has drawn an image hangs.
    context = multiprocessing.get_context("spawn")

    def apart(item: Item) -> None:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            pool.submit(work, item).result()

    with ThreadPoolExecutor(jobs) as slots:
        futures = {slots.submit(apart, item): item for item in items}
        try:
            for future in as_completed(futures):
                yield futures[future], future.exception()
        finally:  # interrupted: those that have not begun never do
            slots.shutdown(wait=False, cancel_futures=True)


def on_ray(
    work: Callable[[Item], Any], items: Sequence[Item], jobs: int
) -> Iterator[tuple[Item, BaseException | None]]:
    """As ``in_processes``, on the machines of a Ray cluster: that of RAY_ADDRESS, else this one.

    What ``work`` writes is written where it runs: give it a folder that all machines share.

    :param jobs: on each machine, so that a run takes that part of this one's cores
    """
    import ray

    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:

        def apart(item: Item) -> None:
            work(item)

        # Once only: a run that fails by itself would fail again, and a process that is used again
        # keeps the threads and the rendering of the run before.
        share = max(1, cores() // jobs)
        remote = ray.remote(num_cpus=share, max_retries=0, max_calls=1)(apart)
        waiting = {remote.remote(item): item for item in items}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            try:
                ray.get(done)
                error = None
            except ray.exceptions.RayError as failure:
                error = failure
            yield waiting.pop(done), error
    finally:
        ray.shutdown()


ENGINES = {"processes": in_processes, "ray": on_ray}


def report_failures(failed: Sequence[tuple[Any, BaseException]]) -> int:
    """Print them; the exit status of a benchmark.

    :param failed: runs, which have a ``path``
    """
    for run, error in failed:
        print(f"failed: {run.path}\n{''.join(traceback.format_exception(error))}")
    return 1 if failed else 0
