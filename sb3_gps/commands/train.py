"""Train GPS on a task, evaluate it, and leave model, figures and learning curve in a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from sb3_gps.commands.options import parse_options, parse_pairs, print_success, require
from sb3_gps.ways import WAYS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``train``."""
    parser.add_argument("--env", default="GPS/ShapeCube-v0", help="id of the task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--way", choices=WAYS, default=WAYS[0], help="of training, the paper's three"
    )
    parser.add_argument("--conditions", type=int, help="training positions [the task's own]")
    parser.add_argument("--n-envs", type=int, default=1, help="environments in the VecEnv")
    parser.add_argument("--out", type=Path, default=Path("results/train"), help="folder to write")
    parser.add_argument("--protocol", choices=("full", "quick"), default="full")
    parser.add_argument(
        "--curve", action="store_true", help="follow the student's success while it learns (slower)"
    )
    parser.add_argument(
        "--policy-only", action="store_true", help="save what acts, not what further training needs"
    )
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="keywords of GPS, such as iterations=8 update=mdgps",
    )
    parser.add_argument(
        "--env-set", nargs="*", default=[], metavar="KEY=VALUE", help="arguments of the task"
    )


def main(args: argparse.Namespace) -> int:
    """Run it."""
    require("rich", "matplotlib")
    from sb3_gps.experiment import run_experiment, save_policy
    from sb3_gps.files import write_json
    from sb3_gps.plotting import plot_learning_curve
    from sb3_gps.protocol import BY_THE_BOOK, QUICK

    trained, record = run_experiment(
        args.env,
        args.seed,
        parse_options(args.set),
        way=args.way,
        num_conditions=args.conditions,
        n_envs=args.n_envs,
        protocol=QUICK if args.protocol == "quick" else BY_THE_BOOK,
        env_kwargs=parse_pairs(args.env_set, "--env-set"),
        progress_bar=True,
        curve=args.curve,
        folder=args.out,
    )
    if args.way == "pose-prediction":
        print("no model.zip: this way acts with two networks; sb3_gps.ways.train returns both")
    elif args.policy_only:
        save_policy(trained.model, args.out / "model.zip")
    else:
        trained.model.save(args.out / "model.zip")
    write_json(args.out / "result.json", record)
    plot_learning_curve(record, args.out / "learning_curve.png")
    print_success(record)
    seconds = record["seconds"]["total"]
    print(f"{seconds:.0f} s; see {args.out}, or: python -m sb3_gps plot {args.out}")
    return 0
