"""How far the teacher may move: epsilon follows how well the last improvement was predicted.

Model the cost along the step s (1 = the step taken) as a line, what was predicted, plus a
quadratic, what the prediction missed: improvement(s) = predicted s - (predicted - actual) s^2. Its
maximum,
    s* = predicted / (2 (predicted - actual)),
scales epsilon. Source: Levine et al. 2016, App. A; Montgomery & Levine 2016, sec. 5.2.
The *classic* rule takes both costs of the teacher, the *global* one the student's actual cost, so
that epsilon also shrinks when the student cannot follow.
"""

from __future__ import annotations

import numpy as np


def broke(
    cost: np.ndarray | float, best: np.ndarray | float, rollback: float, slack: float
) -> np.ndarray:
    """Whether a cost is so much above the best so far that the last step is to be undone.

    :param rollback: share of the best cost by which it may be worse
    :param slack: the same in units of cost, for costs near zero
    """
    return np.asarray(cost > best + rollback * np.abs(best) + slack)


def adapt_step(
    multiplier: np.ndarray,
    predicted: np.ndarray,
    actual: np.ndarray,
    bounds: tuple[float, float] = (0.05, 2.0),
    change: tuple[float, float] = (0.1, 5.0),
) -> np.ndarray:
    """The next multiplier of epsilon, (M,).

    :param predicted: improvement of the cost that the model promised, (M,)
    :param actual: improvement that was seen, (M,)
    :param bounds: of the multiplier
    :param change: of its change at once
    """
    missed = predicted - actual
    # An improvement at or above the promise has no maximum along the step: take the largest.
    ratio = np.where(
        missed > 0,
        predicted / (2.0 * np.maximum(missed, 1e-12)),
        np.where(predicted > 0, change[1], 1.0),
    )
    return np.clip(multiplier * np.clip(ratio, *change), *bounds)
