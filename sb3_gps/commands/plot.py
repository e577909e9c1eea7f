"""A report of a run, as a page that opens from disk: curves, teachers, feature points, videos."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from sb3_gps.commands.options import require


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``plot``."""
    parser.add_argument("run", type=Path, help="folder that train or demo wrote to")
    parser.add_argument("--out", type=Path, help="folder of the page [RUN/report]")
    parser.add_argument("--no-video", action="store_true", help="do not film the saved model")
    parser.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=10.0,
        metavar="SECONDS",
        help="write it again whenever the run has moved on, until it is done [10]",
    )


def main(args: argparse.Namespace) -> int:
    """Write it, once or until the run is done."""
    require("imageio", "jinja2", "matplotlib")
    from sb3_gps.report import finished, write_report

    if args.watch is not None and args.watch <= 0:
        raise ValueError(f"--watch takes seconds above zero, got {args.watch}; try --watch 10")
    if args.watch is not None:
        _watch(args.run, args.out, args.watch)
    page = write_report(args.run, args.out, videos=not args.no_video)
    print(page if finished(args.run) else f"{page} (the run goes on: --watch follows it)")
    return 0


def _watch(run: Path, out: Path | None, seconds: float) -> None:
    """Write the report at each change, without videos, until the run is done."""
    from sb3_gps.report import finished, write_report

    progress, seen = run / "progress.json", 0.0
    while not progress.exists():  # it has yet to begin
        time.sleep(seconds)
    while not finished(run):
        if (changed := progress.stat().st_mtime) != seen:
            seen = changed
            page = write_report(run, out, videos=False, refresh=round(seconds) or 1)
            print(page, flush=True)
        time.sleep(seconds)
