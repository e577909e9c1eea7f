"""Tables that the pages of benchmarks share, made of the records of runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sb3_gps.page import Table


def options_table(runs: Sequence[dict[str, Any]], *keys: str) -> Table:
    """What was given, by entries of the records that name who it was given to."""
    given = {tuple(r[key] for key in keys): r["options"] for r in runs}
    rows = [
        [*names, ", ".join(f"{key}={value}" for key, value in options.items())]
        for names, options in given.items()
    ]
    return Table([*keys, "options"], rows)


def machines_table(runs: Sequence[dict[str, Any]]) -> Table:
    """Where records were made, and by which code."""
    keys = ("processor", "cpu_count", "torch", "mujoco", "stable_baselines3", "commit")
    counts = Counter(
        (*(str(r["machine"][key]) for key in keys), str(r["runs_at_once"])) for r in runs
    )
    rows = [[str(count), *cells] for cells, count in counts.items()]
    return Table(["runs", *keys, "at once"], rows)
