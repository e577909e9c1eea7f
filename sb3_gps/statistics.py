"""What a few runs of several algorithms say, with intervals (Agarwal et al. 2021), by rliable.

Intervals are 95 % stratified bootstrap intervals: runs are drawn anew within each task.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

THRESHOLDS = np.linspace(0.0, 1.0, 51)


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; of several figures, arrays (n,)."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Comparison:
    """Of scores in [0, 1] at the end of the runs.

    :param tasks: those that every algorithm here has runs of
    :param left_out: algorithms that lack one of the tasks that the first algorithm has
    :param iqm: interquartile mean over runs and tasks
    :param improvement: probability that a run of the first algorithm is better than one of another,
        ties counted half
    :param profiles: share of runs above each of ``THRESHOLDS``
    """

    tasks: list[str]
    left_out: list[str] = field(default_factory=list)
    iqm: dict[str, Estimate] = field(default_factory=dict)
    improvement: dict[str, Estimate] = field(default_factory=dict)
    profiles: dict[str, Estimate] = field(default_factory=dict)


def compare(
    scores: Mapping[str, Mapping[str, Sequence[float]]], first: str, reps: int = 2000, seed: int = 0
) -> Comparison:
    """
    :param scores: algorithm -> task -> a score in [0, 1] of each run; where tasks differ in the
        number of runs, the smallest counts
    :param first: the algorithm that others are compared with
    :param reps: of the bootstrap
    :raises ValueError: where there is no run of ``first``
    """
    from rliable import library as rly
    from rliable import metrics

    if not scores.get(first):
        raise ValueError(f"expected runs of {first}, got runs of {', '.join(scores) or 'nothing'}")
    tasks = list(scores[first])
    whole = {name: own for name, own in scores.items() if set(tasks) <= set(own)}
    matrices = {name: _matrix(own, tasks) for name, own in whole.items()}

    def estimates(which: dict[str, Any], figure: Callable[..., Any]) -> dict[str, Estimate]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of how rliable calls arch
            values, intervals = rly.get_interval_estimates(
                which,
                lambda *scores: np.atleast_1d(figure(*scores)),
                reps=reps,
                random_state=np.random.RandomState(seed),  # rliable takes no other
            )
        return {
            name: Estimate(values[name].squeeze(), *np.squeeze(intervals[name])) for name in which
        }

    others = {name: m for name, m in matrices.items() if name != first}
    return Comparison(
        tasks=tasks,
        left_out=[name for name in scores if name not in whole],
        iqm=estimates(matrices, metrics.aggregate_iqm),
        improvement=estimates(
            {name: (matrices[first], other) for name, other in others.items()},
            metrics.probability_of_improvement,
        ),
        profiles=estimates(matrices, lambda m: rly.score_distributions(m, THRESHOLDS)),
    )


def _matrix(scores: Mapping[str, Sequence[float]], tasks: Sequence[str]) -> np.ndarray:
    """(runs, tasks)"""
    runs = min(len(scores[task]) for task in tasks)
    return np.array([scores[task][:runs] for task in tasks], dtype=np.float64).T
