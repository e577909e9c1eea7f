"""Train from images, evaluate, and leave model, learning curve, video and figures in a folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_gps.commands.options import parse_options, print_success, require

if TYPE_CHECKING:
    from sb3_gps.protocol import Protocol

FILMED = {"spatial": 4, "visual": 4}  # episodes of each split


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``demo``."""
    parser.add_argument("--out", type=Path, default=Path("results/demo"), help="folder to write")
    parser.add_argument("--env", default="GPS/ShapeCube-v0", help="id of the task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--conditions", type=int, help="training positions [the task's own]")
    parser.add_argument("--quick", action="store_true", help="evaluate on fewer positions")
    parser.add_argument(
        "--curve", action="store_true", help="follow the student's success while it learns (slower)"
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="keywords of GPS")


def main(args: argparse.Namespace) -> int:
    """Run it and say what was found."""
    require("imageio", "matplotlib", "rich")
    from sb3_gps.paper import PAPER_TASKS
    from sb3_gps.protocol import BY_THE_BOOK, QUICK

    print(f"Training on {args.env} from images; everything goes to {args.out}", flush=True)
    record, files = run_demo(
        args.env,
        args.out,
        args.seed,
        parse_options(args.set),
        conditions=args.conditions,
        protocol=QUICK if args.quick else BY_THE_BOOK,
        curve=args.curve,
    )
    print_success(record)
    seconds = record["seconds"]
    print(
        f"{record['num_conditions']} training positions, seed {record['seed']}. Training took "
        f"{seconds['training']:.0f} s, evaluation {seconds['evaluation']:.0f} s."
    )
    if record["env"] in PAPER_TASKS:
        print("The paper's figures are those of a real PR2 robot, these of a simulated arm.")
    print(f"\n{args.out} holds")
    for path, words in files.items():
        print(f"  {path.name:<20} {words}")
    print(f"\nHow it came to that: python -m sb3_gps plot {args.out}")
    return 0


def run_demo(
    env_id: str,
    out: Path,
    seed: int,
    options: dict[str, Any],
    *,
    conditions: int | None,
    protocol: Protocol,
    filmed: dict[str, int] = FILMED,
    curve: bool = False,
    progress_bar: bool = True,
) -> tuple[dict[str, Any], dict[Path, str]]:
    """Train, evaluate, write.

    :param options: keywords of ``GPS``
    :param filmed: episodes of each split in the video
    :return: the run's record, and the files with what each is
    """
    from sb3_gps.experiment import run_experiment, save_policy
    from sb3_gps.files import write_json
    from sb3_gps.plotting import plot_learning_curve
    from sb3_gps.protocol import splits_of
    from sb3_gps.video import film_splits, write_video

    trained, record = run_experiment(
        env_id,
        seed,
        options,
        num_conditions=conditions,
        protocol=protocol,
        progress_bar=progress_bar,
        curve=curve,
        folder=out,
    )
    model_path, figures = out / "model.zip", out / "result.json"
    save_policy(trained.model, model_path)
    write_json(figures, record)
    picture = out / "learning_curve.png"
    plot_learning_curve(record, picture)
    filmed = {split: filmed[split] for split in splits_of(record) if split in filmed}
    frames = film_splits(trained.model, env_id, filmed, init_noise=protocol.init_noise)
    video = write_video(frames, out / "episodes.mp4")
    return record, {
        model_path: "the policy: GPS.load(...), python -m sb3_gps evaluate ...",
        picture: "cost and success over the trials, and the final success",
        video: "unseen positions; left the scene, right what the student sees",
        figures: "all figures of the run",
    }
