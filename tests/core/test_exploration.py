"""Smoothed noise: each value standard normal, neighbours correlated, actions independent."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sb3_gps.core.exploration import smooth_noise

N, T = 20_000, 15


@pytest.mark.parametrize("smoothing", [0.0, 0.7, 2.0, 50.0])
def test_each_value_has_unit_variance(rng, smoothing):
    noise = smooth_noise((N, T, 2), smoothing, rng)
    # Standard deviations of a sample mean and of a sample variance of normals.
    assert abs(noise.mean(axis=0)).max() < 5.0 / np.sqrt(N)
    assert abs(noise.var(axis=0) - 1.0).max() < 5.0 * np.sqrt(2.0 / N)


def test_neighbours_are_correlated_as_the_filter_says(rng):
    noise = smooth_noise((N, 41, 1), 2.0, rng)[..., 0]
    # A Gaussian filter's autocorrelation: exp(-lag^2 / (4 smoothing^2)).
    for lag in (1, 2, 4):
        found = (noise[:, 20] * noise[:, 20 + lag]).mean()
        assert_allclose(found, np.exp(-(lag**2) / 16.0), atol=0.005 + 5.0 / np.sqrt(N))


def test_actions_and_samples_are_independent(rng):
    noise = smooth_noise((N, T, 2), 2.0, rng)
    assert abs((noise[..., 0] * noise[..., 1]).mean(axis=0)).max() < 5.0 / np.sqrt(N)
    assert abs((noise[1:] * noise[:-1]).mean(axis=0)).max() < 5.0 / np.sqrt(N - 1)


def test_without_smoothing_it_is_white(rng):
    noise = smooth_noise((N, T, 1), 0.0, rng)[..., 0]
    assert abs((noise[:, 1:] * noise[:, :-1]).mean(axis=0)).max() < 5.0 / np.sqrt(N)


def test_leading_axes_and_seed():
    a, b = (smooth_noise((2, 3, 5, 4), 1.0, np.random.default_rng(7)) for _ in range(2))
    assert a.shape == (2, 3, 5, 4)
    assert_array_equal(a, b)


def test_a_single_step(rng):
    assert np.isfinite(smooth_noise((4, 1, 2), 2.0, rng)).all()
