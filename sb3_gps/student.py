"""The student's side of an iteration: what it regresses on, and what it looks like to a teacher.

A batch keeps what one iteration's samples showed; the student trains on the recent ones under the
newest teachers. In states far from where a teacher would go its action extrapolates and is noise:
such states count less (``trust``), instead of being dropped blindly with their batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sb3_gps.core.duals import Duals, UpdateRule
from sb3_gps.core.fitting import linearize_policy, pooled_prior, running
from sb3_gps.core.gaussian import floor_deviations
from sb3_gps.core.improvement import Fit, closed_loop
from sb3_gps.core.types import (
    Gaussian,
    LinearGaussianController,
    StudentTargets,
    Trajectories,
)
from sb3_gps.features import StandardisedExtractor, input_statistics
from sb3_gps.observations import Observations, map_observation
from sb3_gps.policies import GPSPolicy
from sb3_gps.supervised import (
    Augment,
    Progress,
    action_jacobian,
    fit_student,
    pooled_covariance,
    student_actions,
)
from sb3_gps.teachers import Teachers


@dataclass
class Batch:
    """Samples of one iteration, with what the student saw (None where nothing was rendered)."""

    samples: Trajectories
    observations: Observations | None  # (M, N, T, ...)
    # Actions (M, N, T, dU) and their precision (M, N, T, dU, dU) that stay what they are, where its
    # conditions have no teachers any more; None: those of the newest teachers.
    targets: tuple[np.ndarray, np.ndarray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Images are compressed: they would make up most of a saved model."""
        packed = None if self.observations is None else map_observation(_pack, self.observations)
        return {"samples": self.samples, "observations": packed, "targets": self.targets}

    def __setstate__(self, state: dict[str, Any]) -> None:
        packed = state["observations"]
        self.samples, self.targets = state["samples"], state["targets"]
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


def student_targets(targets: list[tuple[np.ndarray, np.ndarray]]) -> StudentTargets:
    """Those of all batches, ``Batch.targets``, in the order of ``flatten``.

    Precisions are scaled to a mean of one a dimension, so that learning rates keep their meaning
    while nu and the exploration change.
    """
    mean = np.concatenate([m.reshape(-1, m.shape[-1]) for m, _ in targets])
    P = np.concatenate([p.reshape(-1, *p.shape[-2:]) for _, p in targets])
    return StudentTargets(mean, P / np.trace(P, axis1=-2, axis2=-1).mean() * P.shape[-1])


def batch_targets(
    rule: UpdateRule,
    batch: Batch,
    teacher: LinearGaussianController,
    duals: Duals,
    z: Gaussian,
    trust_radius: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Actions (M, N, T, dU) and their precision (M, N, T, dU, dU) at the states of one batch."""
    X = batch.samples.X
    mean, precision = rule.student_targets(X, teacher, duals)
    weight = trust(X, teacher, z, trust_radius) * batch.samples.running
    return mean, weight[..., None, None] * precision[:, None]


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
    X = batches[-1].samples.X
    valid = running([b.samples for b in batches], X.shape[2])
    prior = pooled_prior(points, window, strength, valid)
    newest = None if valid is None else valid[-1]
    return linearize_policy(X, actions[-1], covariance, prior, ridge, newest)


def read_observations(batch: Batch) -> Observations | None:
    """What the policy sees of a batch; None where nothing was rendered."""
    return batch.observations


def read_state(batch: Batch) -> Observations:
    """The full state, for the student that stands in for the policy at first."""
    return batch.samples.X.astype(np.float32)


@dataclass(frozen=True)
class StudentOptions:
    """How the student learns.

    :param student_batches: recent iterations that it is trained on
    :param trust_radius: deviations of a teacher's noise beyond which its feedback counts less
    :param batch_size: images in a step of the network
    :param augmentation: of the images
    :param prior_window: steps to each side that the prior of its linearisation reaches over
    :param prior_strength: of that prior's covariance, in samples
    :param ridge: added to the variances of x in the linearisation
    """

    student_batches: int = 2
    trust_radius: float = 2.0
    batch_size: int = 64
    augmentation: Augment | None = None
    prior_window: int = 6
    prior_strength: float = 10.0
    ridge: float = 1e-6


@dataclass(frozen=True)
class Student:
    """A network of the run, what it reads of a batch, and how it learns."""

    policy: GPSPolicy
    read: Callable[[Batch], Observations | None]
    options: StudentOptions

    def visible(self, batches: list[Batch]) -> list[Batch]:
        """The newest batches that it is trained on."""
        seen = [b for b in batches if self.read(b) is not None]
        return seen[-self.options.student_batches :]

    def actions(self, batch: Batch) -> np.ndarray:
        """Its mean actions on a batch, (M, N, T, dU)."""
        actions = student_actions(self.policy, flatten([self.read(batch)]))
        return actions.reshape(batch.samples.U.shape)

    def linearized(self, batches: list[Batch]) -> tuple[LinearGaussianController, np.ndarray]:
        """pi(u|x) about the newest of the batches, and the mean actions (M, N, T, dU) there."""
        opts = self.options
        covariance = self.policy.action_covariance.double().cpu().numpy()
        batches = self.visible(batches)
        actions = [self.actions(b) for b in batches]
        pi = linearized_student(
            batches, actions, covariance, opts.prior_window, opts.prior_strength, opts.ridge
        )
        return pi, actions[-1]

    def differentiated(self, batch: Batch) -> LinearGaussianController:
        """pi(u|x) about each condition of a batch, by the derivatives of a network that sees x."""
        X = batch.samples.X
        M, _, T, dX = X.shape
        J = action_jacobian(self.policy, flatten([read_state(batch)]))
        K = J.reshape(*X.shape[:3], -1, dX).mean(axis=1)
        k = self.actions(batch).mean(axis=1) - np.einsum("mtux,mtx->mtu", K, X.mean(axis=1))
        C = self.policy.action_covariance.double().cpu().numpy()
        return LinearGaussianController(K, k, np.broadcast_to(C, (M, T, *C.shape)).copy())

    def approach(
        self, teachers: Teachers, batches: list[Batch], **fitting: Any
    ) -> tuple[float, LinearGaussianController]:
        """Learn from the teachers, and charge them and itself for where they still disagree.

        :param fitting: as for ``fit``
        :return: the loss at the end, and pi(u|x) about the newest batch
        """
        loss = self.follow(teachers, batches, **fitting)
        linearised, actions = self.linearized(batches)
        teachers.update_duals(batches[-1].samples.X, actions, linearised)
        return loss, linearised

    def follow(self, teachers: Teachers, batches: list[Batch], **fitting: Any) -> float:
        """Learn the actions of the teachers, and take over their noise.

        :param fitting: as for ``fit``
        :return: the loss at the end
        """
        loss = self.fit(teachers.proposal, teachers, batches, **fitting)
        C = teachers.controller.C
        precision = np.linalg.inv(C).reshape(-1, *C.shape[-2:])
        covariance = floor_deviations(pooled_covariance(precision), teachers.options.min_action_std)
        self.policy.set_action_covariance(covariance)
        return loss

    def settle(self, teacher: Fit, teachers: Teachers, batches: list[Batch]) -> list[Batch]:
        """The batches with what a teacher would do there, where they do not say yet.

        :param teacher: as the other arguments, of ``fit``
        """
        if all(b.targets is not None for b in batches):
            return batches
        p, radius = teacher.controller, self.options.trust_radius
        z = closed_loop(teacher, p)
        return [
            b
            if b.targets is not None
            else replace(b, targets=batch_targets(teachers.rule, b, p, teachers.duals, z, radius))
            for b in batches
        ]

    def held(self, batch: Batch) -> Batch:
        """A batch that says what the student does now: to stay there, whatever else it learns."""
        mean = self.actions(batch)
        P = np.linalg.inv(self.policy.action_covariance.double().cpu().numpy())
        weight = batch.samples.running[..., None, None]
        return replace(batch, targets=(mean, weight * np.broadcast_to(P, (*mean.shape, len(P)))))

    def finish(
        self, teachers: Teachers, batches: list[Batch], on_policy: bool, **fitting: Any
    ) -> float:
        """Learn from the controllers that were executed last; the loss at the end.

        What the last improvement made of them is only a promise: of 34 such controllers, up to five
        failed when they were tried, of those executed none, and a student that had learned from
        them succeeded at 87 instead of 100 % of unseen positions.

        :param on_policy: the student acted last, so that what was executed is itself, and the
            promise all that there is to learn from
        """
        assert teachers.fit is not None
        teacher = teachers.proposal if on_policy else teachers.fit
        return self.fit(teacher, teachers, batches, **fitting)

    def fit(
        self,
        teacher: Fit,
        teachers: Teachers,
        batches: list[Batch],
        *,
        steps: tuple[int, int],
        learning_rate: float,
        rng: np.random.Generator,
        progress: Progress | None = None,
    ) -> float:
        """Train it on what the teachers would do in the batches; the loss at the end.

        Its vector inputs are standardised by the data that it is about to be fitted to.

        :param teacher: whose actions they are
        :param teachers: whose rule and duals say how to follow them
        :param steps: of the fully connected layers alone, and of the whole network
        """
        opts = self.options
        # Where episodes ended early, the rest of them is in here without a weight, and most of what
        # a step sees. Left out, the double pendulum (one seed) no longer learned with as many steps
        # and did with a quarter: along a few lines of states, a close fit is anything beside them.
        batches = self.settle(teacher, teachers, self.visible(batches))
        targets = student_targets([b.targets for b in batches if b.targets is not None])
        inputs = flatten([self.read(b) for b in batches])
        extractor = self.policy.features_extractor
        if isinstance(extractor, StandardisedExtractor):
            extractor.set_input_statistics(input_statistics(inputs))
        return fit_student(
            self.policy,
            inputs,
            targets,
            head_steps=steps[0],
            end_to_end_steps=steps[1],
            batch_size=opts.batch_size,
            learning_rate=learning_rate,
            augment=opts.augmentation,
            rng=rng,
            progress=progress,
        ).loss
