"""What several commands share: KEY=VALUE options, optional packages, the table of success."""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Of every command. Suppressed: the default of an inner parser would undo what the outer one read.
SHARED = argparse.ArgumentParser(add_help=False)
SHARED.add_argument(
    "--traceback", action="store_true", default=argparse.SUPPRESS, help="show where an error arose"
)


def require(*packages: str, extra: str = "extra") -> None:
    """
    :param extra: of the package, that brings them
    :raises ValueError: when optional packages are missing, before any work is lost
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ValueError(f"this command needs {', '.join(missing)}: pip install 'sb3-gps[{extra}]'")


def parse_pairs(pairs: Sequence[str], flag: str) -> dict[str, Any]:
    """``["a=1", "b=x"]`` as {"a": 1, "b": "x"}; values are Python literals or plain strings."""
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise ValueError(f"{flag} takes KEY=VALUE, got {pair!r}; try {flag} {pair}=1")
        if key in options:
            raise ValueError(f"{flag} got {key!r} twice")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    return options


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Keywords of ``GPS`` from ``--set``; an augmentation is a dict, as {"shapes": 3}.

    :raises ValueError: not KEY=VALUE, or not a keyword of ``GPS``
    """
    from sb3_gps import GPS, Augmentation

    options = parse_pairs(pairs, "--set")
    given_elsewhere = ("self", "policy", "env", "seed", "_init_setup_model")
    valid = [name for name in inspect.signature(GPS).parameters if name not in given_elsewhere]
    for name in options:
        if name not in valid:
            close = difflib.get_close_matches(name, valid, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"--set {name}: GPS has no such option; {hint}Available: {', '.join(valid)}"
            )
    if isinstance(options.get("augmentation"), dict):
        options["augmentation"] = Augmentation(**options["augmentation"])
    return options


def task_of(model: Any, path: Path, asked: str | None) -> str:
    """The id of the task that a saved model is to act in.

    :param path: of the model
    :param asked: by ``--env``; None: what it was trained on
    :raises ValueError: where it does not say, or no such task is registered
    """
    import gymnasium as gym

    if asked is not None:
        return asked
    env_id: str | None = getattr(model, "env_id", None)
    if env_id is None:
        raise ValueError(f"{path} does not say what it was trained on: give --env")
    if env_id not in gym.registry:
        raise ValueError(
            f"{path} was trained on {env_id}, which is not registered: give --env with the module "
            f"that does so, as my_module:{env_id}"
        )
    return env_id


def print_success(record: dict[str, Any]) -> None:
    """A table of success on each split, with the paper's figures where the task is the paper's.

    Of a task without splits, a line with its return.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from sb3_gps.paper import PAPER_TASKS, POSE_IMAGES
    from sb3_gps.protocol import in_words, splits_of

    paper = PAPER_TASKS.get(record["env"])
    way = record.get("way", "end-to-end")
    if returns := record.get("returns"):
        print(f"return {in_words(returns)}, after {record['trials']} trials")
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("success, %")
    table.add_column("this run", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("episodes", justify="right")
    if paper:
        table.add_column("paper (real PR2)", justify="right")
    for split, words in splits_of(record).items():
        figures = record["success"][split]
        low, high = figures["interval_95"]
        row = [words, f"{figures['success']:.1f}", f"{low:.1f} to {high:.1f}"]
        row.append(str(figures["episodes"]))
        table.add_row(*row, *([_percent(paper.percent(way, split))] if paper else []))
    table.add_section()
    for key, words, of_paper in (
        ("trials", "trials", paper and paper.trials),
        ("pose_images", "pose images", POSE_IMAGES),
    ):
        table.add_row(words, str(record[key]), "", "", *([f"{of_paper:,}"] if paper else []))
    Console().print(table)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
