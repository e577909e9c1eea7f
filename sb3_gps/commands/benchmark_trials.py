"""Success against the number of trials, for each update: a JSON a run, a table and a plot."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from sb3_gps.commands.options import parse_options, require
from sb3_gps.page import Table
from sb3_gps.runs import Run, records, report_failures, run_missing

# trials -> (training positions, iterations); samples a position: one
BUDGETS = {85: (21, 4), 120: (30, 4), 171: (34, 5), 300: (60, 5)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``benchmark trials``."""
    parser.add_argument("--env", default="GPS/ShapeCube-v0", help="id of the task")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--trials", type=int, nargs="+", default=[300], choices=sorted(BUDGETS), help="budgets"
    )
    parser.add_argument("--update", nargs="+", default=["mdgps"], choices=("badmm", "mdgps"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, sharing the cores")
    parser.add_argument("--out", type=Path, default=Path("results/trials"))
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="further keywords of GPS"
    )


def main(args: argparse.Namespace) -> int:
    """Run what is missing, then write and print the table of all that the folder holds."""
    require("matplotlib", "rich")
    failed = run_missing(list(plan(args)), args.jobs)
    if done := records(args.out):
        write_summary(done, args.out)
        print(table(done))
    return report_failures(failed)


def plan(args: argparse.Namespace) -> Iterator[Run]:
    """Every run that was asked for.

    :raises ValueError: more training positions than the task has
    """
    options = parse_options(args.set)
    most = max(BUDGETS[trials][0] for trials in args.trials)
    gym.make(args.env, num_conditions=most).close()  # the task's own words, before the first run
    for update in args.update:
        for trials in args.trials:
            conditions, iterations = BUDGETS[trials]
            for seed in args.seeds:
                yield Run(
                    args.out / f"{update}_{trials}_seed{seed}.json",
                    args.env,
                    seed,
                    conditions,
                    {"update": update, "iterations": iterations, **options},
                )


def write_summary(runs: list[dict[str, Any]], out: Path) -> None:
    """``summary.md`` and ``success_vs_trials.png`` in a folder."""
    from sb3_gps.files import rewrite_text
    from sb3_gps.plotting import plot_success_vs_trials
    from sb3_gps.provenance import conditions_of_measurement

    words = [
        table(runs),
        "Mean ± standard deviation over the seeds (and the worst seed), in percent; seconds are "
        "the median from zero to an evaluated policy.",
        conditions_of_measurement(runs),
        "![success against trials](success_vs_trials.png)",
    ]
    rewrite_text(out / "summary.md", "\n\n".join(words) + "\n")
    plot_success_vs_trials(runs, out / "success_vs_trials.png")


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: mean, spread and worst seed of success, by update and trials; then the paper's."""
    from sb3_gps.paper import PAPER_TASKS, POSE_IMAGES
    from sb3_gps.protocol import splits_of

    groups: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for record in runs:
        key = (record["update"], record["trials"], record["pose_images"])
        groups.setdefault(key, []).append(record)
    splits = splits_of(runs[0])
    header = ["update", "trials", "pose images", "seeds", *splits.values(), "seconds"]
    rows = []
    for (update, trials, images), group in sorted(groups.items()):
        cells = [update, str(trials), str(images), str(len(group))]
        for split in splits:
            rates = np.array([r["success"][split]["success"] for r in group])
            cells.append(f"{rates.mean():.1f} ± {rates.std():.1f} ({rates.min():.1f})")
        cells.append(f"{np.median([r['seconds']['total'] for r in group]):.0f}")
        rows.append(cells)
    if paper := PAPER_TASKS.get(runs[0]["env"]):
        success = paper.success["end-to-end"]
        budget = [str(paper.trials), str(POSE_IMAGES)]
        rows.append(["paper (real PR2)", *budget, "", *map(str, success), ""])
    return Table(header, rows).markdown()
