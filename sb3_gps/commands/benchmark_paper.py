"""The paper's table, with ours beside it: every task, every way of training, several seeds."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sb3_gps.commands.options import require
from sb3_gps.hardware import cores
from sb3_gps.page import Table
from sb3_gps.runs import Run, records, report_failures, run_missing
from sb3_gps.ways import WAYS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``benchmark paper``."""
    names = list(_tasks())
    parser.add_argument("--tasks", nargs="+", default=names, choices=names, metavar="TASK",
                        help=f"of {', '.join(names)}")  # fmt: skip
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS, metavar="WAY",
                        help=f"of training: {', '.join(WAYS)}")  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--trials",
        nargs="+",
        default=["paper"],
        choices=("paper", "300"),
        help="at most: the paper's number for the task, or 300",
    )
    parser.add_argument("--jobs", type=int, default=cores(), help="runs at once")
    parser.add_argument("--out", type=Path, default=Path("results/paper"))


def main(args: argparse.Namespace) -> int:
    """Run what is missing, then write and print the table of all that the folder holds."""
    require("matplotlib", "rich")
    failed = run_missing(list(plan(args)), args.jobs)
    if done := records(args.out):
        write_summary(done, args.out)
        print(table(done))
    return report_failures(failed)


def plan(args: argparse.Namespace) -> Iterator[Run]:
    """Every run that was asked for: a seed of all tasks and ways before the next seed."""
    tasks = _tasks()
    for seed in args.seeds:
        for name in args.tasks:
            env, paper = tasks[name]
            for budget in args.trials:
                trials = paper.trials if budget == "paper" else int(budget)
                conditions, iterations = paper.layouts[trials]
                for way in args.ways:
                    path = args.out / name / f"{way}_{trials}_seed{seed}.json"
                    yield Run(path, env, seed, conditions, {"iterations": iterations}, way)


def _tasks() -> dict[str, tuple[str, Any]]:
    """Short name -> (id, the paper's figures) of the tasks that are there."""
    import gymnasium as gym

    from sb3_gps.paper import PAPER_TASKS, short_name

    there = {env: paper for env, paper in PAPER_TASKS.items() if env in gym.registry}
    return {short_name(env): (env, paper) for env, paper in there.items()}


def write_summary(runs: Sequence[dict[str, Any]], out: Path) -> None:
    """``summary.md`` and ``success.png`` in a folder."""
    from sb3_gps.files import rewrite_text
    from sb3_gps.plotting import plot_paper_table
    from sb3_gps.provenance import conditions_of_measurement

    words = [
        table(runs),
        "Mean ± standard deviation over the seeds [worst seed] in percent, and the paper's figure "
        "in brackets: of a real PR2 robot, ours of a simulated arm. Seconds are the median from "
        "zero to an evaluated policy.",
        conditions_of_measurement(runs),
        "![success beside the paper's](success.png)",
    ]
    rewrite_text(out / "summary.md", "\n\n".join(words) + "\n")
    plot_paper_table(runs, out / "success.png")


def grouped(
    runs: Sequence[dict[str, Any]],
) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """Records by (env, way, trials), in the order of the paper's table."""
    from sb3_gps.paper import PAPER_TASKS

    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    order = {env: i for i, env in enumerate(PAPER_TASKS)}
    for r in sorted(runs, key=lambda r: (order[r["env"]], WAYS.index(r["way"]), r["trials"])):
        groups.setdefault((r["env"], r["way"], r["trials"]), []).append(r)
    return groups


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row for each task, way and budget, a column for each split."""
    from sb3_gps.paper import PAPER_TASKS, short_name
    from sb3_gps.protocol import SPLITS

    header = ["task", "way", "positions", "trials", "seeds", *SPLITS.values(), "pose error, cm"]
    rows = []
    for (env, way, trials), group in grouped(runs).items():
        paper = PAPER_TASKS[env]
        cells = [
            short_name(env),
            way,
            str(group[0]["num_conditions"]),
            f"{trials} ({paper.trials})",
        ]
        cells.append(str(len(group)))
        for split in SPLITS:
            rates = np.array([r["success"][split]["success"] for r in group])
            percent = paper.percent(way, split)
            theirs = "–" if percent is None else f"{percent:.1f}"
            cells.append(
                f"**{rates.mean():.1f}** ± {rates.std():.1f} [{rates.min():.1f}] ({theirs})"
            )
        cells.append(f"{np.mean([r['pose_error_cm'] for r in group]):.2f}")
        cells.append(f"{np.median([r['seconds']['total'] for r in group]):.0f}")
        rows.append(cells)
    return Table([*header, "seconds"], rows).markdown()
