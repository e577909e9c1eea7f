"""Return against environment steps on standard environments: GPS beside PPO and SAC."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.nn import ReLU

from sb3_gps.commands.options import require
from sb3_gps.commands.tables import machines_table, options_table
from sb3_gps.curves import CurveRun, reached, run_curves
from sb3_gps.hardware import cores
from sb3_gps.page import Table

GPS_STEPS = 20_000  # of the environment, to the nearest iteration
SAC_STEPS = 200_000  # after which its return is what GPS is to reach
# Of GPS, where the student sees the state: the same for all.
# With more noise at first the pendulum would swing up more surely, but the arms learn more slowly.
SHARED: dict[str, Any] = dict(
    sampling="global",
    prior="network",
    trust_radius=100.0,
    min_eta=0.002,
    initial_std=0.1,
    min_action_std=0.02,
    imagined_rounds=10,
    student_batches=5,
    policy_kwargs=dict(net_arch=dict(pi=[128, 128, 128], vf=[]), activation_fn=ReLU),
)
# What differs is the number of conditions, and that trials of InvertedDoublePendulum are cut: once
# it balances, an iteration of whole ones takes as many steps as there are, and teaches little more.
# The task of ours is one of contact with four slots, and has options of its own: the shared ones
# stay below -50. A mixture tells free motion from contact, and less noise meets the rims of the
# slots less often.
OPTIONS: dict[str, dict[str, Any]] = {
    "Pendulum-v1": dict(SHARED, conditions=10),
    "Reacher-v5": dict(SHARED, conditions=20),
    "Pusher-v5": dict(SHARED, conditions=20),
    "InvertedPendulum-v5": dict(SHARED, conditions=10),
    "InvertedDoublePendulum-v5": dict(SHARED, conditions=20, horizon=200),
    "Swimmer-v5": dict(SHARED, conditions=4),
    "GPS/PegInsertion-v0": dict(
        samples_per_condition=5,
        student_batches=4,
        prior="mixture",
        min_eta=0.01,
        min_action_std=0.005,
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``benchmark environments``."""
    parser.add_argument("--envs", nargs="+", default=list(OPTIONS), choices=list(OPTIONS))
    parser.add_argument(
        "--algorithms", nargs="+", default=["gps", "sac", "ppo"], choices=("gps", "sac", "ppo")
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=SAC_STEPS, help="of PPO and SAC")
    parser.add_argument("--episodes", type=int, default=20, help="of an evaluation")
    parser.add_argument("--jobs", type=int, default=cores(), help="runs at once")
    parser.add_argument("--out", type=Path, default=Path("results/environments"))


def main(args: argparse.Namespace) -> int:
    """Run what is missing, then write and print the table of all that the folder holds."""
    require("jinja2", "matplotlib", "rich")
    wanted = [
        EnvironmentRun(args.out, env, algorithm, seed, args.steps, args.jobs, args.episodes)
        for seed in args.seeds
        for algorithm in args.algorithms
        for env in args.envs
    ]
    return run_curves(do, wanted, write_summary)


@dataclass(frozen=True)
class EnvironmentRun(CurveRun):
    """
    :param episodes: of an evaluation
    """

    episodes: int

    @property
    def settings(self) -> dict[str, Any]:
        from sb3_gps.baselines import options_of
        from sb3_gps.provenance import plain_options

        gps = self.algorithm == "gps"
        options = OPTIONS[self.env] if gps else options_of(self.algorithm, self.env)
        return {"options": plain_options(options), "episodes": self.episodes}


def do(run: EnvironmentRun) -> None:
    """Train, evaluate and write one run; in a process of its own."""
    from sb3_gps.baselines import run_gps, run_sb3

    if run.algorithm == "gps":
        run.write(run_gps(run.env, run.seed, GPS_STEPS, OPTIONS[run.env], run.episodes))
    else:
        run_sb3(run.algorithm, run.env, run.seed, run.steps, run.episodes, run.folder, run.write)


def write_summary(runs: Sequence[dict[str, Any]], out: Path) -> None:
    """``summary.md``, ``returns.png`` and ``index.html`` in a folder."""
    from sb3_gps.files import rewrite_text
    from sb3_gps.page import Section, write_page
    from sb3_gps.plotting import plot_returns

    returns, picture, caption = table(runs), "returns.png", "return against steps"
    plot_returns(runs, out / picture)
    words = (
        "Mean return of deterministic episodes over the seeds [worst seed]. Reached: the steps "
        f"after which the mean of GPS's seeds is at SAC's return after {SAC_STEPS:,} steps, "
        "and how many times fewer that is; –: never; empty: SAC has not come so far. SAC first "
        "there: the steps after which it was at that return for the first time itself."
    )
    options = options_table(runs, "env", "algorithm")
    paragraphs = (returns.markdown(), words, f"![{caption}]({picture})")
    rewrite_text(out / "summary.md", "\n\n".join(paragraphs) + "\n")
    write_page(
        out / "index.html",
        "Guided policy search on standard environments",
        [
            Section("Returns", [words], [returns], [(picture, caption)]),
            Section("Options", ["Not named: the algorithm's defaults."], [options]),
            Section("Machines", tables=[machines_table(runs)]),
        ],
    )


def table(runs: Sequence[dict[str, Any]]) -> Table:
    """A row for each environment."""
    header = ["environment", "SAC", "PPO", "GPS", "steps of GPS", "reached SAC's after",
              "times fewer", "SAC first there"]  # fmt: skip
    rows = []
    for env in OPTIONS:
        own = {
            name: [r for r in runs if (r["env"], r["algorithm"]) == (env, name)]
            for name in ("sac", "ppo", "gps")
        }
        if not any(own.values()):
            continue
        cells = [env, *(_final(own[name]) for name in ("sac", "ppo", "gps"))]
        gps, sac = own["gps"], own["sac"]
        cells.append(f"{max(_last(gps, 'steps')):,}" if gps else "")
        if not gps or not sac or min(_last(sac, "steps")) < SAC_STEPS:
            cells += ["", "", ""]  # what SAC comes to is not known yet
        else:
            wanted = float(np.mean(_last(sac, "return")))
            after, itself = (reached(runs, "return", wanted) for runs in (gps, sac))
            cells += ["–", "–"] if after is None else [f"{after:,.0f}", f"{SAC_STEPS / after:.0f}"]
            # Never, where a seed that went on longer than the others ended higher.
            cells.append("–" if itself is None else f"{itself:,.0f}")
        rows.append(cells)
    return Table(header, rows)


def _final(runs: Sequence[dict[str, Any]]) -> str:
    """The last return of some seeds."""
    if not runs:
        return ""
    returns = _last(runs, "return")
    return (
        f"{np.mean(returns):.1f} [{min(returns):.1f}] at {max(_last(runs, 'steps')) / 1000:.0f} k"
    )


def _last(runs: Sequence[dict[str, Any]], key: str) -> list[float]:
    return [run["curve"][-1][key] for run in runs]
