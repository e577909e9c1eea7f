"""Plans with actions that are bounded, by a controller that knows of no bounds.

    u = clip(w):  x' = F [x; u] + f,  l(x, u)   as functions of the wanted action w

A linear-Gaussian controller wants what it wants, and an environment executes as much of it as there
is. Models of what was executed, planned with as if it were what was wanted, promise a force that is
not there: the plan of a controller that wants too much is no longer the trial that it made. To
first order about that trial, they are models of w. A plan gains nothing from going further beyond a
bound then (the clamped directions of Tassa, Mansard & Todorov 2014, "Control-limited differential
dynamic programming", without their quadratic programs, and soft, so that there is a way back).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import ndtr

from sb3_gps.core.improvement import Fit
from sb3_gps.core.types import QuadraticCost

SOFT = 0.25  # half ranges of the action over which a bound takes hold


def within_bounds(fit: Fit, bounds: tuple[np.ndarray, np.ndarray]) -> Fit:
    """The models of a fit as functions of the actions that are wanted, which are clipped.

    About what a controller wanted, w, where v was executed, u is replaced by v + s (u - w), with s
    the slope of a soft clip: d E[clip(w + e)] / dw, e of a deviation of ``SOFT`` half ranges. It is
    1 in the middle, 1/2 on a bound and 0 far beyond. The plan of the controller itself is then the
    trial, however far beyond the bounds it wants to go. Where a trial is over, nothing changes.

    :param fit: of one trial a condition; its controller wants, its samples say what was executed
    :param bounds: lowest and highest action, (dU,) each
    """
    samples, (low, high) = fit.samples, bounds
    wanted = fit.controller.mean(samples.X[:, 0])
    deviation = SOFT * 0.5 * (high - low)
    slope = ndtr((high - wanted) / deviation) - ndtr((low - wanted) / deviation)
    running = samples.running[:, 0, :, None]
    slope = np.where(running, slope, 1.0)
    offset = np.where(running, samples.U[:, 0] - slope * wanted, 0.0)
    # z = scale z' + shift, with the state as it is.
    still = np.zeros_like(samples.X[:, 0])
    scale, shift = (
        np.concatenate(pair, axis=-1) for pair in ((still + 1.0, slope), (still, offset))
    )
    dynamics, cost = fit.dynamics, fit.cost
    moved = np.einsum("mtxz,mtz->mtx", dynamics.F, shift[:, :-1])
    gradient = cost.g + np.einsum("mtyz,mtz->mty", cost.H, shift)
    constant = cost.c + 0.5 * np.einsum("mtz,mtz->mt", cost.g + gradient, shift)
    return replace(
        fit,
        dynamics=replace(dynamics, F=dynamics.F * scale[:, :-1, None], f=dynamics.f + moved),
        cost=QuadraticCost(
            constant, scale * gradient, scale[..., :, None] * cost.H * scale[..., None, :]
        ),
    )
