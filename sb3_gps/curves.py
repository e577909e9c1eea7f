"""Runs whose record is a curve, of something against environment steps.

A run that can be stopped anywhere writes its record at every evaluation, so that what was cut short
can be seen, and a longer run asked for later goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sb3_gps.hardware import cores
from sb3_gps.runs import in_own_processes, read_record, records, report_failures

# "steps" of the environment so far, "seconds" of training, and what was measured then.
Point = dict[str, float]
Curve = list[Point]
WHOLE = ("gps", "dagger")  # algorithms whose runs cannot be made longer


@dataclass(frozen=True)
class CurveRun:
    """One run of one algorithm, and where its record goes.

    :param steps: that it is to go, where it can be stopped anywhere
    :param jobs: runs at once, sharing the cores
    """

    out: Path
    env: str
    algorithm: str
    seed: int
    steps: int
    jobs: int

    @property
    def path(self) -> Path:
        """Of its record."""
        return self.out / self.env.replace("/", "_") / f"{self.algorithm}_seed{self.seed}.json"

    @property
    def folder(self) -> Path:
        """Of what it needs to go on."""
        return self.path.with_suffix("")

    @property
    def settings(self) -> dict[str, Any]:
        """What a record of it must agree in, JSON-able: how it learns, and how it is judged."""
        raise NotImplementedError

    @property
    def finished(self) -> bool:
        """Whether its record reaches as far as it is to go.

        :raises ValueError: when the record is that of a run with other settings, or of one that
            cannot be made longer
        """
        if not self.path.exists():
            return False
        there = read_record(self.path)
        for name, wanted in self.settings.items():
            if there.get(name) != wanted:
                raise ValueError(
                    f"{self.path} is of a run with {name} {there.get(name)}, not {wanted}; remove "
                    "it and the folder beside it, or choose another --out"
                )
        if self.algorithm in WHOLE:
            return there.get("whole", True)
        done = there["curve"][-1]["steps"]
        if done < self.steps and not (self.folder / "model.zip").exists():
            raise ValueError(
                f"{self.path} ends after {done:,} steps, and {self.folder} has no model to go on "
                f"from: ask for at most {done:,} steps, remove the record, or choose another --out"
            )
        return done >= self.steps

    def write(self, curve: Curve, **more: Any) -> None:
        """Its record, so far.

        :param more: JSON-able entries; ``whole=False`` where one of ``WHOLE`` is still going
        """
        from sb3_gps.files import write_json
        from sb3_gps.provenance import machine

        record = {
            "env": self.env,
            "algorithm": self.algorithm,
            "seed": self.seed,
            **self.settings,
            **more,
            "curve": curve,
            "machine": machine(),
            "runs_at_once": self.jobs,
        }
        write_json(self.path, record)


def run_curves(
    do: Callable[[Any], None],
    wanted: Sequence[CurveRun],
    write_summary: Callable[[list[dict[str, Any]], Path], None],
    engine: str = "processes",
) -> int:
    """Do what is missing, then write the summary of all that their folder holds, and print it.

    :param do: trains, evaluates and writes one run; picklable
    :param wanted: runs of one folder
    :param write_summary: of records, as ``summary.md`` and pictures in a folder
    :param engine: that runs are done on, one of ``runs.ENGINES``
    :return: the exit status of the command
    """
    out, jobs = wanted[0].out, wanted[0].jobs
    missing = [run for run in wanted if not run.finished]
    failed = in_own_processes(partial(in_its_share, do), missing, jobs, engine)
    if done := records(out):
        write_summary(done, out)
        print((out / "summary.md").read_text())
    return report_failures(failed)


def in_its_share(do: Callable[[Any], None], run: CurveRun) -> None:
    """A run with its share of the cores; in a process of its own."""
    import torch as th

    th.set_num_threads(max(1, cores() // run.jobs))
    do(run)


def array(runs: Sequence[dict[str, Any]], *keys: str) -> np.ndarray:
    """The curves of some seeds as far as all of them go, (seeds, points, 1 + keys): steps first.

    Where episodes end early, seeds are evaluated after different numbers of steps: at each where
    one of them was, every seed is as it was found last.
    """
    curves = [np.array([[p[key] for key in ("steps", *keys)] for p in r["curve"]]) for r in runs]
    begin = max(curve[0, 0] for curve in curves)
    end = max(begin, min(curve[-1, 0] for curve in curves))
    points = np.unique(np.concatenate([curve[:, 0] for curve in curves]))
    points = points[(begin <= points) & (points <= end)]
    held = [curve[np.searchsorted(curve[:, 0], points, side="right") - 1] for curve in curves]
    return np.stack([np.column_stack([points, curve[:, 1:]]) for curve in held])


def reached(runs: Sequence[dict[str, Any]], key: str, wanted: float) -> float | None:
    """Steps after which the mean of some seeds' curves is at least so high, None: never."""
    steps, values = array(runs, key).mean(axis=0).T
    good = np.flatnonzero(values >= wanted)
    return float(steps[good[0]]) if len(good) else None
