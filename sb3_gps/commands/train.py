"""Train GPS on a task, evaluate it, and leave model, figures and learning curve in a folder."""

from __future__ import annotations

import argparse
import ast
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``train``."""
    parser.add_argument("--env", default="GPS/ShapeCube-v0", help="id of the task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--conditions", type=int, default=25, help="training positions")
    parser.add_argument("--n-envs", type=int, default=1, help="environments sampled in parallel")
    parser.add_argument("--out", type=Path, default=Path("results/train"), help="folder to write")
    parser.add_argument("--protocol", choices=("full", "quick"), default="full")
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="keywords of GPS, such as iterations=8 update=mdgps",
    )


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """``["a=1", "b=x"]`` as {"a": 1, "b": "x"}; values are Python literals or plain strings."""
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--set takes KEY=VALUE, got {pair!r}")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    return options


def main(args: argparse.Namespace) -> int:
    """Run it."""
    from sb3_gps.experiment import QUICK, Protocol, run_experiment, write_json

    model, record = run_experiment(
        args.env,
        args.seed,
        parse_options(args.set),
        num_conditions=args.conditions,
        n_envs=args.n_envs,
        protocol=QUICK if args.protocol == "quick" else Protocol(),
        progress_bar=True,
    )
    model.save(args.out / "model.zip")
    write_json(args.out / "result.json", record)
    for split, figures in record["success"].items():
        print(f"{split:8s} {figures['success']:5.1f} % of {figures['episodes']}")
    print(f"{record['trials']} trials, {record['seconds']['total']:.0f} s; see {args.out}")
    return 0
