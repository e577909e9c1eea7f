"""Action noise for a real arm: smooth over time, of the variance that the controller asks for."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d


def smooth_noise(shape: tuple[int, ...], smoothing: float, rng: np.random.Generator) -> np.ndarray:
    """Standard normal noise, smoothed along the axis T by a Gaussian and rescaled to unit variance.

    The rescaling is by the filter's own gain, not by the sample's variance: each value is exactly
    N(0, 1), only correlated with its neighbours (Levine et al. 2016, App. B: smoothed noise).

    :param shape: (..., T, dU)
    :param smoothing: standard deviation of the filter in steps; 0 for white noise
    """
    noise = rng.standard_normal(shape)
    if smoothing <= 0:
        return noise
    T = shape[-2]
    response = gaussian_filter1d(np.eye(T), smoothing, axis=0, mode="nearest")
    gain = np.sqrt((response**2).sum(axis=1))
    return (response / gain[:, None]) @ noise
