"""Success on unseen positions against environment steps, beside what is used today."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sb3_gps.commands.options import require
from sb3_gps.curves import CurveRun, reached, run_curves

ALGORITHMS = (
    "gps",
    "ppo",
    "sac",
    "tqc",
    "ppo-state",
    "sac-state",
    "sac-asymmetric",
    "dagger",
)
WANTED = 90.0  # percent that an algorithm is to reach


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``benchmark compare``."""
    parser.add_argument("--tasks", nargs="+", default=["ShapeCube"], help="names as in GPS/NAME-v0")
    parser.add_argument(
        "--algos", nargs="+", default=["gps", "ppo", "sac"], choices=ALGORITHMS, metavar="ALGO"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=200_000, help="of all but GPS")
    parser.add_argument("--expert-steps", type=int, default=100_000, help="of DAgger's expert")
    parser.add_argument("--every", type=int, default=10_000, help="steps between two evaluations")
    parser.add_argument("--positions", type=int, default=100, help="unseen, of an evaluation")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, sharing the cores")
    parser.add_argument("--out", type=Path, default=Path("results/compare"))


def main(args: argparse.Namespace) -> int:
    """Run what is missing, then write and print the table of all that the folder holds."""
    require("matplotlib", "rich")
    if "tqc" in args.algos:
        require("sb3_contrib", extra="benchmark")
    wanted = [
        CompareRun(
            args.out,
            task if "/" in task else f"GPS/{task}-v0",
            algorithm,
            seed,
            args.steps,
            args.jobs,
            args.expert_steps,
            args.every,
            args.positions,
        )
        for seed in args.seeds
        for algorithm in args.algos
        for task in args.tasks
    ]
    return run_curves(do, wanted, write_summary)


@dataclass(frozen=True)
class CompareRun(CurveRun):
    """
    :param expert_steps: of DAgger's expert
    :param every: steps between two evaluations
    :param positions: unseen ones, of an evaluation
    """

    expert_steps: int
    every: int
    positions: int


def do(run: CompareRun) -> None:
    """Train, evaluate and write one run; in a process of its own."""
    from sb3_gps.compare import OPPONENTS, Trial, run_dagger, run_gps, run_opponent

    trial = Trial(run.positions, run.every)
    write = partial(run.write, positions=run.positions)
    if opponent := OPPONENTS.get(run.algorithm):
        so_far = partial(write, options=opponent.options, before={})
        run_opponent(opponent, run.env, run.seed, run.steps, run.folder, trial, so_far)
        return
    if run.algorithm == "gps":
        options: dict[str, Any] = {}
        outcome = run_gps(run.env, run.seed, trial, options)
    else:
        options = {"expert_steps": run.expert_steps}
        outcome = run_dagger(run.env, run.seed, run.steps, run.folder, trial, **options)
    write(outcome.curve, outcome.seconds, options, before=outcome.before)


def write_summary(runs: Sequence[dict[str, Any]], out: Path) -> None:
    """``summary.md`` and ``success.png`` in a folder."""
    from sb3_gps.files import rewrite_text
    from sb3_gps.plotting import plot_success_vs_steps

    words = (
        f"Success on unseen positions in percent, mean over the seeds [worst seed], at the last "
        f"evaluation; *steps to {WANTED:.0f} %*: of the environment, pose images and experts among "
        "them, until the mean over the seeds is there; –: never.",
        "![success against steps](success.png)",
    )
    rewrite_text(out / "summary.md", "\n\n".join([table(runs), *words]) + "\n")
    plot_success_vs_steps(runs, out / "success.png")


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row for each task and algorithm."""
    lines = [
        f"| task | algorithm | seeds | steps | of them before | success | steps to {WANTED:.0f} % "
        "| hours |",
        "|---" * 8 + "|",
    ]
    for env in dict.fromkeys(r["env"] for r in runs):
        for name in ALGORITHMS:
            own = [r for r in runs if (r["env"], r["algorithm"]) == (env, name)]
            if not own:
                continue
            last = [r["curve"][-1][1] for r in own]
            there = reached(own, WANTED)
            before = ", ".join(f"{n:,} {what}" for what, n in own[0]["before"].items())
            cells = [
                env,
                name,
                str(len(own)),
                f"{max(r['curve'][-1][0] for r in own):,}",
                before,
                f"{np.mean(last):.1f} [{min(last):.1f}]",
                "–" if there is None else f"{there:,.0f}",
                f"{np.mean([r['seconds'] for r in own]) / 3600:.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
