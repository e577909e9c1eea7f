"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def rewrite(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under a temporary name, then rename it.

    :param write: called with a temporary path of the same suffix
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".partial_{os.getpid()}_{path.name}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def rewrite_text(path: Path, text: str) -> None:
    """The same for a text."""
    rewrite(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all; what is not finite becomes null."""
    rewrite_text(path, json.dumps(_finite(value), indent=1, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
