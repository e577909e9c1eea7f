"""Train over several seeds, and compare.

A run whose file exists is not repeated, so an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
from importlib import import_module

from sb3_gps.commands.options import SHARED

BENCHMARKS = {  # name -> (module, help)
    "trials": ("sb3_gps.commands.benchmark_trials", "success against trials, on one task"),
    "paper": ("sb3_gps.commands.benchmark_paper", "the paper's table: tasks and ways of training"),
    "environments": (
        "sb3_gps.commands.benchmark_environments",
        "return against steps beside PPO and SAC, on standard environments",
    ),
    "compare": (
        "sb3_gps.commands.benchmark_compare",
        "success on unseen positions against steps, beside what is used today",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every benchmark."""
    subparsers = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)
    for name, (module, help_line) in BENCHMARKS.items():
        subparser = subparsers.add_parser(
            name, help=help_line, description=help_line, parents=[SHARED]
        )
        import_module(module).add_arguments(subparser)


def main(args: argparse.Namespace) -> int:
    """Run the one that was asked for."""
    return int(import_module(BENCHMARKS[args.benchmark][0]).main(args))
