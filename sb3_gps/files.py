"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


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
