"""What a process may do to a benchmark."""

from __future__ import annotations

import os
from pathlib import Path


def work(path: Path) -> None:
    """Write the file, raise, or die without a word, as its name says."""
    if path.name == "raises":
        raise ValueError("no such task")
    if path.name == "dies":
        os._exit(9)
    path.write_text(str(os.getpid()))
