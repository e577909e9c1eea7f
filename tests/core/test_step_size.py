"""The multiplier of epsilon maximises the improvement that the last step suggests."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize_scalar

from sb3_gps.core.step_size import adapt_step

WIDE = {"bounds": (1e-6, 1e6), "change": (1e-6, 1e6)}


@pytest.mark.parametrize("predicted", [0.5, 3.0, 1e4])
@pytest.mark.parametrize("fraction", [-2.0, 0.0, 0.3, 0.9])
def test_it_is_the_optimum_of_the_model(predicted, fraction):
    actual = fraction * predicted

    def improvement(s):
        return predicted * s - (predicted - actual) * s**2

    assert_allclose(improvement(1.0), actual, atol=1e-12)
    best = minimize_scalar(lambda s: -improvement(s)).x
    found = adapt_step(np.array([2.0]), np.array([predicted]), np.array([actual]), **WIDE)
    assert_allclose(found, 2.0 * best, rtol=1e-6)


def test_half_of_the_promise_keeps_the_step():
    assert_allclose(adapt_step(np.ones(1), np.array([4.0]), np.array([2.0])), 1.0)


@pytest.mark.parametrize(
    ("predicted", "actual", "expected"),
    [
        (1.0, 1.0, 5.0),  # kept in full
        (1.0, 7.0, 5.0),  # exceeded
        (1.0, -100.0, 0.1),  # the cost rose
        (-1.0, -2.0, 0.1),  # a rise was predicted, and came
        (-1.0, 2.0, 1.0),  # a rise was predicted, and did not come: nothing learned
        (0.0, 0.0, 1.0),
    ],
)
def test_change_is_limited(predicted, actual, expected):
    found = adapt_step(np.ones(1), np.array([predicted]), np.array([actual]), bounds=(1e-3, 1e3))
    assert_allclose(found, expected)


def test_multiplier_is_bounded():
    multiplier = np.array([1.9, 0.06, 1.0])
    found = adapt_step(multiplier, np.ones(3), np.array([1.0, -50.0, 0.5]))
    assert_allclose(found, [2.0, 0.05, 1.0])
