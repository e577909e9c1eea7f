"""The method on the real task, as small as it still says something."""

from __future__ import annotations

import numpy as np
import pytest

from sb3_gps.commands.teachers import run_teachers


@pytest.mark.slow
def test_teachers_solve_shape_cube():
    """Nine positions, one trial each an iteration; mean controllers, executed without noise."""
    record = run_teachers(
        "GPS/ShapeCube-v0", seed=0, conditions=9, iterations=5, samples=1, prior="pooled"
    )
    assert record["success"][-1] >= 8 / 9
    assert record["cost"][-1] < 0.5 * record["cost"][0]
    assert np.isfinite(record["cost"]).all()
