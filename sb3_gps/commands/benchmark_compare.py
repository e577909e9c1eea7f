"""Success on unseen positions against environment steps, beside what is used today."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sb3_gps.commands.options import require
from sb3_gps.commands.tables import machines_table, options_table
from sb3_gps.curves import CurveRun, reached, run_curves
from sb3_gps.page import Table

if TYPE_CHECKING:
    from sb3_gps.statistics import Comparison

ALGORITHMS = (
    "gps",
    "ppo",
    "ppo-nature",
    "sac",
    "tqc",
    "ppo-state",
    "ppo-state-time",
    "sac-state",
    "sac-asymmetric",
    "dagger",
)
# Of GPS, where a task is not for its defaults: the iterations of ``benchmark paper``.
GPS_OPTIONS: dict[str, dict[str, Any]] = {"GPS/BottleCap-v0": {"iterations": 9}}
WANTED = 90.0  # percent that an algorithm is to reach
WORDS = (
    "Success in percent, mean over the seeds [worst seed], at the last evaluation. Steps are those "
    "of the environment, pose images and experts among them; steps to "
    f"{WANTED:.0f} %: until the mean over the seeds is there on unseen positions; –: never."
)

OTHER_OPTIONS = (
    "Not named: the algorithm's defaults. PPO learns in 8 environments, whose rewards and vectors "
    "are normalised (VecNormalize); the asymmetric SAC has a policy of its own "
    "(sb3_gps.privileged), DAgger 16 episodes a round, and SAC on the state as its expert."
)


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
    parser.add_argument(
        "--engine",
        choices=("processes", "ray"),
        default="processes",
        help="ray: on the machines of a cluster, which share the folder of --out",
    )
    parser.add_argument("--out", type=Path, default=Path("results/compare"))


def main(args: argparse.Namespace) -> int:
    """Run what is missing, then write and print the table of all that the folder holds."""
    require("jinja2", "matplotlib", "rich")
    require("rliable", extra="benchmark")
    if "tqc" in args.algos:
        require("sb3_contrib", extra="benchmark")
    if args.engine == "ray":
        require("ray", extra="ray")
    wanted = [
        CompareRun(
            out=args.out.resolve(),
            env=task if "/" in task else f"GPS/{task}-v0",
            algorithm=algorithm,
            seed=seed,
            steps=args.steps,
            jobs=args.jobs,
            expert_steps=args.expert_steps,
            every=args.every,
            positions=args.positions,
            filmed=seed == args.seeds[0],
        )
        for seed in args.seeds
        for algorithm in args.algos
        for task in args.tasks
    ]
    return run_curves(do, wanted, write_summary, args.engine)


@dataclass(frozen=True)
class CompareRun(CurveRun):
    """
    :param expert_steps: of DAgger's expert
    :param every: steps between two evaluations
    :param positions: unseen ones, of an evaluation
    :param filmed: whether to film its policy at the end
    """

    expert_steps: int
    every: int
    positions: int
    filmed: bool

    @property
    def settings(self) -> dict[str, Any]:
        from sb3_gps.compare import OPPONENTS
        from sb3_gps.provenance import plain_options

        if opponent := OPPONENTS.get(self.algorithm):
            options = opponent.options
        elif self.algorithm == "dagger":
            options = {"expert_steps": self.expert_steps, "steps": self.steps}
        else:
            options = GPS_OPTIONS.get(self.env, {})
        return {"options": plain_options(options), "positions": self.positions}


def do(run: CompareRun) -> None:
    """Train, evaluate and write one run; in a process of its own."""
    from sb3_gps.compare import OPPONENTS, Outcome, Trial, run_dagger, run_gps, run_opponent

    video = run.path.with_suffix(".mp4") if run.filmed else None
    trial = Trial(run.positions, run.every, video=video)
    where = (run.env, run.seed)
    if opponent := OPPONENTS.get(run.algorithm):
        so_far = partial(run.write, before={})
        run_opponent(opponent, *where, run.steps, run.folder, trial, so_far)
        return
    if run.algorithm == "gps":
        outcome = run_gps(*where, trial, GPS_OPTIONS.get(run.env, {}))
        run.write(outcome.curve, before=outcome.before)
        return

    def write(outcome: Outcome, whole: bool = False) -> None:
        run.write(outcome.curve, before=outcome.before, expert=outcome.expert, whole=whole)

    steps, length = run.steps, run.expert_steps
    write(run_dagger(*where, steps, run.folder, trial, write, expert_steps=length), whole=True)


def write_summary(runs: Sequence[dict[str, Any]], out: Path) -> None:
    """``summary.md``, pictures and ``index.html`` in a folder."""
    from sb3_gps.files import rewrite_text
    from sb3_gps.page import Section, write_page
    from sb3_gps.plotting import plot_profiles, plot_success_vs_seconds, plot_success_vs_steps

    plot_success_vs_steps(runs, out / "success.png")
    plot_success_vs_seconds(runs, out / "seconds.png")
    sections = [
        Section("Success", [WORDS], [table(runs)]),
        Section(
            "Against steps and time",
            [],
            [],
            [
                ("success.png", "Mean and range of the seeds. Bars below: spent before a policy "
                 "learns, on pose images or an expert."),
                ("seconds.png", "The same against the seconds of training, without evaluation."),
            ],
        ),
    ]  # fmt: skip
    if any(r["algorithm"] == "gps" for r in runs) and len({r["algorithm"] for r in runs}) > 1:
        words, figures, comparison = over_tasks(runs)
        plot_profiles(comparison, out / "profiles.png")
        pictures = [("profiles.png", "Share of runs that end above a success (95 % intervals).")]
        sections.append(Section("Over all tasks", [words], [figures], pictures))
    markdown = [
        paragraph
        for section in sections
        for paragraph in (
            *[t.markdown() for t in section.tables],
            *section.text,
            *[f"![{caption}]({file})" for file, caption in section.pictures],
        )
    ]
    rewrite_text(out / "summary.md", "\n\n".join(markdown) + "\n")
    ordered = sorted(runs, key=lambda run: ALGORITHMS.index(run["algorithm"]))
    options = options_table(ordered, "algorithm")
    videos = [
        (str(path.relative_to(out)), f"{path.parent.name}, {path.stem}: unseen positions")
        for path in sorted(out.rglob("*_seed*.mp4"))
    ]
    write_page(
        out / "index.html",
        "Guided policy search beside what is used today",
        [
            *sections,
            Section("Policies at the end of a run", pictures=videos),
            Section("Options", [OTHER_OPTIONS], [options]),
            Section("Machines", tables=[machines_table(runs)]),
        ],
    )


def table(runs: Sequence[dict[str, Any]]) -> Table:
    """A row for each task and algorithm."""
    header = ["task", "algorithm", "seeds", "steps", "of them before", "unseen", "training",
              "distractors", f"steps to {WANTED:.0f} %", "hours"]  # fmt: skip
    rows = []
    for env in dict.fromkeys(r["env"] for r in runs):
        for name in ALGORITHMS:
            own = [r for r in runs if (r["env"], r["algorithm"]) == (env, name)]
            if not own:
                continue
            there = reached(own, "spatial", WANTED)
            cells = [
                env,
                name,
                str(len(own)),
                f"{max(r['curve'][-1]['steps'] for r in own):,}",
                ", ".join(f"{n:,} {what}" for what, n in own[0]["before"].items()) + _expert(own),
                *(_final(own, split) for split in ("spatial", "train", "visual")),
                "–" if there is None else f"{there:,.0f}",
                f"{np.mean([r['curve'][-1]['seconds'] for r in own]) / 3600:.2f}",
            ]
            rows.append(cells)
    return Table(header, rows)


def _final(runs: Sequence[dict[str, Any]], split: str) -> str:
    last = [run["curve"][-1].get(split) for run in runs]
    if None in last:
        return ""
    return f"{np.mean(last):.1f} [{min(last):.1f}]"


def _expert(runs: Sequence[dict[str, Any]]) -> str:
    """What the experts of some runs were worth to begin with, where it was recorded."""
    last = [run["expert"][-1]["spatial"] for run in runs if run.get("expert")]
    return f" (at {np.mean(last):.0f} %)" if last else ""


def over_tasks(runs: Sequence[dict[str, Any]]) -> tuple[str, Table, Comparison]:
    """What all tasks together say, in words and figures."""
    from sb3_gps.statistics import compare

    scores: dict[str, dict[str, list[float]]] = {}
    for run in sorted(runs, key=lambda run: ALGORITHMS.index(run["algorithm"])):
        of_task = scores.setdefault(run["algorithm"], {}).setdefault(run["env"], [])
        of_task.append(run["curve"][-1]["spatial"] / 100.0)
    comparison = compare(scores, "gps")
    rows = [
        [name, str(mean), str(comparison.improvement.get(name, ""))]
        for name, mean in comparison.iqm.items()
    ]
    words = (
        f"Success on unseen positions at the end of the runs, on {', '.join(comparison.tasks)}, "
        "with 95 % stratified bootstrap intervals: interquartile mean, and the probability that a "
        "run of GPS is better. With one run of an algorithm there is no spread to draw from."
    )
    if comparison.left_out:
        words += f" Not here, for want of a task: {', '.join(comparison.left_out)}."
    return words, Table(["algorithm", "IQM", "P(GPS is better)"], rows), comparison
