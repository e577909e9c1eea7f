"""3-D peg insertion from the state: four slots to learn from, two hundred new ones to be tried on.

    python examples/peg_insertion.py --seeds 0 1 2 3 4 --out examples/results/peg_insertion

Writes a JSON a run and a table; a run whose file exists is not repeated. The setting is that of
the simulated comparison in Levine et al. 2016 and in Montgomery & Levine 2016.
"""

import argparse
from pathlib import Path

import numpy as np

from sb3_gps.files import rewrite_text
from sb3_gps.runs import Run, records, report_failures, run_missing

SLOTS = 4
OPTIONS = {"iterations": 12, "samples_per_condition": 5, "student_batches": 4}  # 240 trials


def main() -> int:
    """Run what is missing, then write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--out", type=Path, default=Path("examples/results/peg_insertion"))
    arguments = parser.parse_args()
    runs = [
        Run(arguments.out / f"peg_seed{seed}.json", "GPS/PegInsertion-v0", seed, SLOTS, OPTIONS)
        for seed in arguments.seeds
    ]
    failed = run_missing(runs, arguments.jobs)
    lines = ["| seed | trials | training slots | new slots | seconds |", "|---|---|---|---|---|"]
    rates = []
    for record in records(arguments.out):
        train, new = (record["success"][split]["success"] for split in ("train", "spatial"))
        rates.append((train, new))
        lines.append(
            f"| {record['seed']} | {record['trials']} | {train:.1f} | {new:.1f} "
            f"| {record['seconds']['total']:.0f} |"
        )
    if rates:
        means = " | ".join(f"{rate:.1f}" for rate in np.mean(rates, axis=0))
        lines.append(f"| mean | | {means} | |")
        table = "\n".join(lines) + "\n"
        rewrite_text(arguments.out / "summary.md", table)
        print(table)
    return report_failures(failed)


if __name__ == "__main__":  # its runs are processes that import this file again
    raise SystemExit(main())
