"""``python -m sb3_gps COMMAND``: finds the module of a command and runs it.

A command is a module with ``add_arguments(parser)`` and ``main(args) -> int``, the exit status. It
is imported only when it is the one that was asked for, so that ``--help`` stays quick and a command
whose optional packages are missing breaks no other.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from gymnasium.error import DependencyNotInstalled, UnregisteredEnv

from sb3_gps import __version__
from sb3_gps.commands.options import SHARED

COMMANDS: dict[str, tuple[str, str]] = {  # name -> (module, help)
    "demo": ("sb3_gps.commands.demo", "train from images, evaluate, and write curve and video"),
    "train": ("sb3_gps.commands.train", "train one model on a task and evaluate it"),
    "evaluate": ("sb3_gps.commands.evaluate", "measure the success of a saved model"),
    "plot": ("sb3_gps.commands.plot", "write a report of a run that opens in a browser"),
    "film": ("sb3_gps.commands.film", "film a saved model, with its feature points"),
    "benchmark": ("sb3_gps.commands.benchmark", "train over several seeds and budgets"),
    "doctor": ("sb3_gps.commands.doctor", "report versions, processor, rendering and what to fix"),
    "teachers": ("sb3_gps.commands.teachers", "train the teachers alone, over several seeds"),
}


def make_parser(command: str | None = None) -> argparse.ArgumentParser:
    """
    The parser with the options of one command; the others appear with their help line only.

    :param command: name of the command whose module is imported, None for none
    """
    parser = argparse.ArgumentParser(
        prog="python -m sb3_gps", description="Guided policy search: from images to torques."
    )
    parser.set_defaults(traceback=False)
    parser.add_argument("--version", action="version", version=f"sb3-gps {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, help_line) in COMMANDS.items():
        subparser = subparsers.add_parser(
            name, help=help_line, description=help_line, parents=[SHARED]
        )
        if name == command:
            import_module(module).add_arguments(subparser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """
    Runs one command and returns its exit status.

    :param argv: arguments without the program's name; None: those of the process
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    command = argv[0] if argv and argv[0] in COMMANDS else None
    args = make_parser(command).parse_args(argv)
    try:
        return int(import_module(COMMANDS[args.command][0]).main(args))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, UnregisteredEnv, DependencyNotInstalled) as error:
        # What a user gave, and files, tasks or their packages that are not there; anything else is
        # a defect and keeps its traceback.
        if args.traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
