"""The student's side of an iteration: what it regresses on, and what it looks like to a teacher.

A batch keeps what one iteration's samples showed; the student trains on the recent ones under the
newest teachers. In states far from where a teacher would go its action extrapolates and is noise:
such states count less (``trust``), instead of being dropped blindly with their batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sb3_gps.core.duals import Duals, UpdateRule
from sb3_gps.core.fitting import linearize_policy, pooled_prior
from sb3_gps.core.types import (
    Gaussian,
    LinearGaussianController,
    StudentTargets,
    Trajectories,
)
from sb3_gps.features import StandardisedExtractor, input_statistics
from sb3_gps.policies import GPSPolicy
from sb3_gps.rollout import Observation, map_observation
from sb3_gps.supervised import FitResult, fit_student, student_actions


@dataclass
class Batch:
    """Samples of one iteration, with what the student saw (None where nothing was rendered)."""

    samples: Trajectories
    observations: Observation | None  # (M, N, T, ...)

    def __getstate__(self) -> dict[str, Any]:
        """Images are compressed: they would make up most of a saved model."""
        packed = None if self.observations is None else map_observation(_pack, self.observations)
        return {"samples": self.samples, "observations": packed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        packed = state["observations"]
        self.samples = state["samples"]
        self.observations = None if packed is None else map_observation(_unpack, packed)


def _pack(array: np.ndarray) -> Any:
    if array.dtype != np.uint8:
        return array
    change = array.copy()  # over time: successive images are alike, which halves them again
    change[:, :, 1:] -= array[:, :, :-1]
    return zlib.compress(change.tobytes(), level=1), array.shape


def _unpack(packed: Any) -> np.ndarray:
    if isinstance(packed, np.ndarray):
        return packed
    data, shape = packed
    change = np.frombuffer(zlib.decompress(data), np.uint8).reshape(shape)
    return np.cumsum(change, axis=2, dtype=np.uint8)


def flatten(observations: list[Any]) -> Any:
    """Observations of several batches, (M, N, T, ...) each, as (n, ...)."""
    flat = [map_observation(lambda a: a.reshape(-1, *a.shape[3:]), o) for o in observations]
    if isinstance(flat[0], dict):
        return {key: np.concatenate([o[key] for o in flat]) for key in flat[0]}
    return np.concatenate(flat)


def trust(
    X: np.ndarray, teacher: LinearGaussianController, z: Gaussian, tolerance: float
) -> np.ndarray:
    """How much a teacher's action at a state is to be believed, in (0, 1], (M, N, T).

    1 / (1 + (r / tolerance)^2)^2 with r^2 = d' C^-1 d / dU: the feedback d = K (x - E[x]) by which
    the teacher would depart from its plan, in units of its own exploration. A heuristic: with equal
    weights, the training error grew with each older batch that was kept.

    :param X: states, (M, N, T, dX)
    :param z: the teacher's marginals of [x; u], (M, T, dX+dU)
    """
    dX = X.shape[-1]
    feedback = np.einsum("mtux,mntx->mntu", teacher.K, X - z.mean[:, None, :, :dX])
    whitened = np.linalg.solve(teacher.C[:, None], feedback[..., None])[..., 0]
    r2 = np.maximum((feedback * whitened).mean(axis=-1), 0.0)
    return 1.0 / (1.0 + r2 / tolerance**2) ** 2


def student_targets(
    rule: UpdateRule,
    batches: list[Batch],
    teacher: LinearGaussianController,
    duals: Duals,
    z: Gaussian,
    trust_radius: float,
) -> StudentTargets:
    """Targets at every state of the batches, in the order of ``flatten``.

    Precisions are scaled to a mean of one a dimension, so that learning rates keep their meaning
    while nu and the exploration change.
    """
    means, precisions = [], []
    for batch in batches:
        X = batch.samples.X
        mean, precision = rule.student_targets(X, teacher, duals)
        weight = trust(X, teacher, z, trust_radius)
        means.append(mean.reshape(-1, mean.shape[-1]))
        weighted = weight[..., None, None] * precision[:, None]
        precisions.append(weighted.reshape(-1, *precision.shape[-2:]))
    P = np.concatenate(precisions)
    P = P / np.trace(P, axis1=-2, axis2=-1).mean() * P.shape[-1]
    return StudentTargets(np.concatenate(means), P)


def linearized_student(
    batches: list[Batch],
    actions: list[np.ndarray],
    covariance: np.ndarray,
    window: int,
    strength: float,
    ridge: float,
) -> LinearGaussianController:
    """pi(u|x) about the newest batch, with a prior pooled over the batches it was evaluated on.

    :param actions: the student's mean actions on each batch, (M, N, T, dU)
    """
    points = [
        np.concatenate([b.samples.X, a], axis=-1) for b, a in zip(batches, actions, strict=True)
    ]
    prior = pooled_prior(points, window, strength)
    return linearize_policy(batches[-1].samples.X, actions[-1], covariance, prior, ridge)


def read_observations(batch: Batch) -> Observation | None:
    """What the policy sees of a batch; None where nothing was rendered."""
    return batch.observations


def read_state(batch: Batch) -> Observation:
    """The full state, for the student that stands in for the policy at first."""
    return batch.samples.X.astype(np.float32)


@dataclass(frozen=True)
class Student:
    """A network of the run, and what it reads of a batch."""

    policy: GPSPolicy
    read: Callable[[Batch], Observation | None]

    def visible(self, batches: list[Batch], count: int) -> list[Batch]:
        """The newest ``count`` batches that it can be trained on."""
        return [b for b in batches if self.read(b) is not None][-count:]

    def actions(self, batch: Batch) -> np.ndarray:
        """Its mean actions on a batch, (M, N, T, dU)."""
        actions = student_actions(self.policy, flatten([self.read(batch)]))
        return actions.reshape(batch.samples.U.shape)

    def linearized(
        self, batches: list[Batch], window: int, strength: float, ridge: float
    ) -> tuple[LinearGaussianController, np.ndarray]:
        """pi(u|x) about the newest of the batches, and the mean actions (M, N, T, dU) there."""
        covariance = self.policy.action_covariance.double().cpu().numpy()
        actions = [self.actions(b) for b in batches]
        pi = linearized_student(batches, actions, covariance, window, strength, ridge)
        return pi, actions[-1]

    def fit(self, batches: list[Batch], targets: StudentTargets, **options: Any) -> FitResult:
        """Train it on the targets of the batches; ``options`` as for ``fit_student``.

        Its vector inputs are standardised by the data that it is about to be fitted to.
        """
        inputs = flatten([self.read(b) for b in batches])
        extractor = self.policy.features_extractor
        if isinstance(extractor, StandardisedExtractor):
            extractor.set_input_statistics(input_statistics(inputs))
        return fit_student(self.policy, inputs, targets, **options)
