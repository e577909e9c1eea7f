"""Load a saved model and measure its success on the task's splits, or its return."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path

from sb3_gps.commands.options import parse_pairs, print_success, require, task_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``evaluate``."""
    parser.add_argument("model", type=Path, help="file that GPS.save wrote")
    parser.add_argument("--env", help="id of the task [that of training]")
    parser.add_argument("--protocol", choices=("full", "quick"), default="full")
    parser.add_argument("--out", type=Path, help="JSON file to write [only print]")
    parser.add_argument("--video", type=Path, help="MP4 or GIF of a few episodes to write")
    parser.add_argument(
        "--env-set",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="arguments of the task, such as chamfer=0",
    )


def main(args: argparse.Namespace) -> int:
    """Run it."""
    require("rich", *(["imageio"] if args.video else []))
    if args.video and args.video.suffix not in (".mp4", ".gif"):
        raise ValueError(f"--video must end in .mp4 or .gif, got {args.video}")
    if not args.model.is_file():
        raise ValueError(f"{args.model} is not a file; python -m sb3_gps train writes one")
    from sb3_gps import GPS
    from sb3_gps.experiment import trained_conditions
    from sb3_gps.files import write_json
    from sb3_gps.protocol import BY_THE_BOOK, QUICK, evaluate_by_the_book, splits_of
    from sb3_gps.provenance import machine

    env_kwargs = parse_pairs(args.env_set, "--env-set")
    protocol = (QUICK if args.protocol == "quick" else BY_THE_BOOK).given(env_kwargs)
    model = GPS.load(args.model)
    env_id = task_of(model, args.model, args.env)
    begin = time.perf_counter()
    record = {
        "model": str(args.model),
        "env": env_id,
        "env_kwargs": env_kwargs,
        "trials": model.trials,
        "pose_images": model.pose_images_used,
        "protocol": asdict(protocol),
        **evaluate_by_the_book(
            model, env_id, trained_conditions(model), protocol, progress_bar=True, **env_kwargs
        ),
        "seconds": round(time.perf_counter() - begin, 1),
        "machine": machine(),
    }
    if args.out is not None:
        write_json(args.out, record)
    print_success(record)
    if args.video:
        from sb3_gps.commands.demo import FILMED
        from sb3_gps.video import film_splits, write_video

        filmed = {split: FILMED[split] for split in splits_of(record) if split in FILMED}
        if filmed:
            env_kwargs = {"init_noise": protocol.init_noise, **env_kwargs}
        else:  # the task has no splits
            filmed = {"": 3}
        print(write_video(film_splits(model, env_id, filmed, **env_kwargs), args.video))
    return 0
