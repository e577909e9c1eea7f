"""Film a saved model: the scene, beside what it sees, with its feature points upon it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sb3_gps.commands.options import parse_pairs, require, task_of

# SB3's names; all that have a network of ours, as a features extractor or of their own.
ALGORITHMS = ("gps", "ppo", "a2c", "sac", "td3", "ddpg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``film``."""
    parser.add_argument("model", type=Path, help="model.zip")
    parser.add_argument("--algo", choices=ALGORITHMS, default="gps", help="that saved it")
    parser.add_argument("--env", help="id of the task [what it was trained on]")
    parser.add_argument("--split", nargs="+", help="of the task [all but that of training]")
    parser.add_argument("--episodes", type=int, default=2, help="of each split")
    parser.add_argument("--first", type=int, default=500, help="condition, or seed, of the first")
    parser.add_argument(
        "--points", type=int, default=12, help="feature points shown, those that matter most first"
    )
    parser.add_argument("--out", type=Path, default=Path("film.mp4"), help=".mp4 or .gif")
    parser.add_argument(
        "--env-set", nargs="*", default=[], metavar="KEY=VALUE", help="arguments of the task"
    )


def main(args: argparse.Namespace) -> int:
    """Run it."""
    require("imageio")
    if args.out.suffix not in (".mp4", ".gif"):
        raise ValueError(f"--out must end in .mp4 or .gif, got {args.out}")
    if not args.model.is_file():
        raise ValueError(f"{args.model} is not a file; python -m sb3_gps train writes one")
    import stable_baselines3

    from sb3_gps import GPS
    from sb3_gps.feature_points import has_feature_points
    from sb3_gps.protocol import splits_of_task
    from sb3_gps.video import film_splits, write_video

    kind: Any = GPS if args.algo == "gps" else getattr(stable_baselines3, args.algo.upper())
    model = kind.load(args.model, device="cpu")
    env_id = task_of(model, args.model, args.env)
    env_kwargs = parse_pairs(args.env_set, "--env-set")
    unseen = [split for split in splits_of_task(env_id, env_kwargs) if split != "train"]
    episodes = dict.fromkeys(args.split or unseen or [""], args.episodes)
    points = args.points if has_feature_points(model.policy) else 0
    frames = film_splits(model, env_id, episodes, args.first, points=points, **env_kwargs)
    print(write_video(frames, args.out))
    return 0
