"""One progress bar for work of several kinds: steps, network steps, images, episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class RunProgress:
    """A rich bar for the run and one for the phase at hand; silent when disabled.

    :param total: of what is counted, in the whole run
    :param enabled: False shows nothing
    :param label: what is counted
    """

    def __init__(self, total: int, enabled: bool, label: str) -> None:
        self._bar: Any = None
        if not enabled:
            return
        try:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
        except ImportError as error:
            raise ImportError(
                "progress_bar=True needs the package rich; pip install 'sb3-gps[extra]'"
            ) from error
        self._bar = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bar.start()
        self._run = self._bar.add_task(label, total=total)

    def advance(self, count: int) -> None:
        """Count on."""
        if self._bar is not None:
            self._bar.advance(self._run, count)

    @contextmanager
    def phase(self, description: str, total: int) -> Iterator[Callable[[int, int], None]]:
        """A bar for one phase; yields what to call with the steps done and those in all."""
        if self._bar is None:
            yield lambda done, total: None
            return
        task = self._bar.add_task(description, total=total)
        try:
            yield lambda done, total: self._bar.update(task, completed=done)
        finally:
            self._bar.remove_task(task)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
