"""What every test shares: a known seed, and one thread, so that the machine does not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed_torch() -> None:
    """Networks start from torch's global generator: the order of the tests must not matter."""
    torch.manual_seed(0)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed; numpy's global one is never used."""
    return np.random.default_rng(0)
