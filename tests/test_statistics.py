"""Figures over runs and tasks, against what can be said by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rliable")

from sb3_gps.statistics import THRESHOLDS, compare

SCORES = {
    "gps": {"cube": [0.9, 1.0, 0.95, 0.97], "cap": [0.8, 0.9, 0.85, 0.9]},
    "sac": {"cube": [0.1, 0.2], "cap": [0.9, 0.0, 0.7]},
    "ppo": {"cube": [0.5]},
}


def test_figures_are_what_they_are_called():
    result = compare(SCORES, "gps", reps=200)
    assert result.tasks == ["cube", "cap"] and result.left_out == ["ppo"]
    assert list(result.iqm) == ["gps", "sac"]
    # Of eight, the middle four.
    middle = np.sort([0.9, 1.0, 0.95, 0.97, 0.8, 0.9, 0.85, 0.9])[2:6].mean()
    assert result.iqm["gps"].value == pytest.approx(middle)
    # On the cube all pairs are won; on the cap, of (0.9, 0.0): two ties, two losses, four wins.
    assert result.improvement["sac"].value == pytest.approx((1.0 + (4 + 0.5 * 2) / 8) / 2)
    profile = result.profiles["sac"].value
    assert profile.shape == THRESHOLDS.shape and profile[0] == 0.75 and profile[-1] == 0.0
    for estimate in (*result.iqm.values(), *result.improvement.values()):
        assert estimate.low <= estimate.value <= estimate.high
    assert result.iqm["sac"].high > result.iqm["sac"].low


def test_the_same_runs_give_the_same_intervals():
    first, again = (compare(SCORES, "gps", reps=100).iqm["sac"] for _ in range(2))
    assert (first.low, first.high) == (again.low, again.high)
    assert str(first).startswith(f"{first.value:.2f} [")


def test_without_the_first_there_is_no_comparison():
    with pytest.raises(ValueError, match="expected runs of gps, got runs of sac, ppo"):
        compare({k: v for k, v in SCORES.items() if k != "gps"}, "gps")
