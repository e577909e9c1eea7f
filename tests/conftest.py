"""What every test shares: a known seed, and one thread, so that the machine does not matter."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from sb3_gps.hardware import cores

torch.set_num_threads(1)


def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``: as many as this process may use, not those of the machine."""
    return cores()


@pytest.fixture(autouse=True)
def _seed_torch() -> None:
    """Networks start from torch's global generator: the order of the tests must not matter."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _short_regressions(monkeypatch) -> None:
    """A quarter of the steps, to save time; what all of them gain has a test of its own."""
    monkeypatch.setattr("sb3_gps.regression.STEPS", 800)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed; numpy's global one is never used."""
    return np.random.default_rng(0)


@pytest.fixture
def here(monkeypatch) -> Iterator[list[list[str]]]:
    """Runs of a curve are done in this process; the names of the files of each call."""
    called: list[list[str]] = []

    def do_here(work, items, jobs, engine):
        called.append([item.path.name for item in items])
        for item in items:
            work(item)
        return []

    monkeypatch.setattr("sb3_gps.curves.in_own_processes", do_here)
    yield called
    torch.set_num_threads(1)  # a run takes its share of the cores
