"""Plans with actions that are bounded, by a controller that knows of no bounds.

    u = clip(w):  x' = F [x; u] + f,  l(x, u)   as functions of the wanted action w

A linear-Gaussian controller wants what it wants, and an environment executes as much of it as there
is. Models of what was executed, planned with as if it were what was wanted, promise a force that is
not there: the plan of a controller that wants too much is no longer the trial that it made. As
models of w they hold to it, and a plan gains little from going further beyond a bound.

This is the idea of the clamped directions of Tassa, Mansard & Todorov 2014 ("Control-limited
differential dynamic programming") without their quadratic programs. The value is that of the clip,
the slope that of a softer one, which is a heuristic: with its own, an action beyond a bound would
have no effect at all, and there were no way back.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import ndtr

from sb3_gps.core.improvement import Fit
from sb3_gps.core.types import QuadraticCost, after_its_end

# Deviation of the noise that softens a bound, in half ranges of the action: about twice as far to
# each side, an action counts in full or not at all.
SOFT = 0.25


def within_bounds(fit: Fit, bounds: tuple[np.ndarray, np.ndarray]) -> Fit:
    """The models of a fit as functions of the actions that are wanted, which are clipped.

    About what a controller wanted, w, where v was executed, u is replaced by v + s (u - w), with s
    the slope of a soft clip: d E[clip(w + e)] / dw, e of a deviation of ``SOFT`` half ranges. It is
    1 in the middle, 1/2 on a bound and 0 far beyond, where a plan stays as it was: what it costs to
    act has no hold on w there, and the noise of a step keeps its size.

    :param fit: of one trial a condition; its controller wants, its samples say what was executed
    :param bounds: lowest and highest action, (dU,) each
    :return: its samples are still what was executed
    """
    samples, (low, high) = fit.samples, bounds
    assert samples.X.shape[1] == 1
    x = samples.X[:, 0]
    wanted = fit.controller.mean(x)
    deviation = SOFT * 0.5 * (high - low)
    slope = ndtr((high - wanted) / deviation) - ndtr((low - wanted) / deviation)
    # z = scale z' + shift, with the state as it is.
    scale = np.concatenate([np.ones_like(x), slope], axis=-1)
    shift = np.concatenate([np.zeros_like(x), samples.U[:, 0] - slope * wanted], axis=-1)
    dynamics, cost = fit.dynamics, fit.cost
    moved = np.einsum("mtxz,mtz->mtx", dynamics.F, shift[:, :-1])
    gradient = cost.g + np.einsum("mtyz,mtz->mty", cost.H, shift)
    constant = cost.c + 0.5 * np.einsum("mtz,mtz->mt", cost.g + gradient, shift)
    dynamics = replace(dynamics, F=dynamics.F * scale[:, :-1, None], f=dynamics.f + moved)
    cost = QuadraticCost(
        constant, scale * gradient, scale[..., :, None] * cost.H * scale[..., None, :]
    )
    # Where a trial is over nothing was wanted: as those of a fit, models of its middle.
    return replace(
        fit,
        dynamics=after_its_end(dynamics, samples.lived),
        cost=after_its_end(cost, samples.lived),
    )
