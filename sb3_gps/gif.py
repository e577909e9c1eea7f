"""Animations in a format that every viewer has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

FPS = 20  # of the tasks' control, so that videos run in real time


def write_gif(frames: Sequence[np.ndarray], path: Path | IO[bytes], fps: int) -> None:
    """Write a looping GIF in 64 colours."""
    pages = [Image.fromarray(frame).quantize(64) for frame in frames]
    pages[0].save(
        path, format="GIF", save_all=True, append_images=pages[1:], duration=1000 // fps, loop=0
    )
