"""The student's regression on its teachers (Levine et al. 2016, sec. 4 and 5.2).

    min_theta  1/n sum_i 1/2 (mu_theta(o_i) - m_i)' P_i (mu_theta(o_i) - m_i)

with the desired actions m_i and precisions P_i of :class:`StudentTargets`. First the fully
connected layers alone, on features that are computed once, which costs next to nothing; then the
whole network on images. The covariance has a closed form, Sigma = (1/n sum_i P_i)^-1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import torch as th
from stable_baselines3.common.preprocessing import preprocess_obs

from sb3_gps.core.types import StudentTargets
from sb3_gps.features import split_space
from sb3_gps.hardware import one_torch_thread
from sb3_gps.observations import Observations, TensorObs, map_observation, parts_of
from sb3_gps.policies import GPSPolicy

Augment = Callable[[th.Tensor, th.Generator], th.Tensor]
Progress = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True)
class FitResult:
    """How well the student follows its targets on the training data, and the time that it took."""

    loss: float  # the objective
    error: float  # root mean square of mu - m over observations and action dimensions
    seconds_head: float
    seconds_end_to_end: float


def fit_student(
    policy: GPSPolicy,
    observations: Observations,
    targets: StudentTargets,
    *,
    head_steps: int,
    end_to_end_steps: int,
    rng: np.random.Generator,
    batch_size: int = 64,
    head_batch_size: int = 256,
    learning_rate: float = 1e-3,
    augment: Augment | None = None,
    progress: Progress | None = None,
) -> FitResult:
    """Train the mean of the policy on the targets; the covariance is left alone.

    :param policy: changed in place.
    :param observations: (n, ...) or a dict of such; images uint8, channels-first.
    :param targets: mean (n, dU) and precision (n, dU, dU).
    :param head_steps: steps of the fully connected layers alone.
    :param end_to_end_steps: steps of the whole network. With a policy that has no weights below
        its fully connected layers, these are further steps of the head.
    :param rng: draws the batches and the augmentation.
    :param batch_size: of an end-to-end step.
    :param head_batch_size: of a step of the head.
    :param learning_rate: at the start of each of the two phases.
    :param augment: changes a batch of images (B, C, H, W), such as ``Augmentation``; end-to-end
        steps only.
    :param progress: called after each step with the steps done and those in all.
    :raises ValueError: shapes that do not agree, or a value that is not finite.
    """
    mean, precision = _check(policy, observations, targets)
    optimizer = policy.optimizer  # whose moments carry over from fit to fit
    generator = th.Generator().manual_seed(int(rng.integers(2**63)))
    total = head_steps + end_to_end_steps
    if not any(p.requires_grad for p in policy.features_extractor.parameters()):
        head_steps, end_to_end_steps = total, 0
    images, _ = split_space(policy.observation_space, not policy.normalize_images)
    data = to_tensors(observations)
    mean_t = th.from_numpy(mean).float()
    precision_t = th.from_numpy(precision).float()

    def descend(
        action_mean: Callable[[th.Tensor], th.Tensor], steps: int, size: int, done: int
    ) -> None:
        for step, index in enumerate(batches(len(mean), size, steps, generator)):
            rate = learning_rate * schedule((step + 0.5) / steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            weights = mean_t[index].to(policy.device), precision_t[index].to(policy.device)
            loss = _objective(action_mean(index), *weights)
            # To None, not to zero: Adam then leaves parameters that have no part in this phase,
            # and their moments, untouched.
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if progress is not None:
                progress(done + step + 1, total)

    def augmented(index: th.Tensor) -> TensorObs:
        batch = select(data, index)
        if augment is None:
            return batch
        if isinstance(batch, dict):
            return {k: augment(v, generator) if k in images else v for k, v in batch.items()}
        return augment(batch, generator) if images else batch

    policy.set_training_mode(True)
    start = time.perf_counter()
    if head_steps:
        features = _features(policy, data)
        with one_torch_thread():
            descend(
                lambda index: policy.action_mean(features[index].to(policy.device)),
                head_steps,
                head_batch_size,
                0,
            )
    middle = time.perf_counter()
    if end_to_end_steps:
        descend(
            lambda index: policy.action_mean(_extract(policy, augmented(index))),
            end_to_end_steps,
            batch_size,
            head_steps,
        )
    end = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    policy.set_training_mode(False)

    actions = th.from_numpy(student_actions(policy, observations))
    loss = _objective(actions, th.from_numpy(mean), th.from_numpy(precision))
    error = (actions - th.from_numpy(mean)).square().mean().sqrt()
    return FitResult(float(loss), float(error), middle - start, end - middle)


def student_actions(
    policy: GPSPolicy, observations: Observations, batch_size: int = 256
) -> np.ndarray:
    """Mean actions mu_theta(o_i), not clipped to the action space, (n, dU) float64."""
    data = to_tensors(observations)
    features = _features(policy, data, batch_size)
    with th.no_grad():
        return policy.action_mean(features.to(policy.device)).cpu().double().numpy()


def action_jacobian(policy: GPSPolicy, observations: np.ndarray) -> np.ndarray:
    """d mu_theta / d o of vectors (n, dO), (n, dU, dO) float64."""
    o = th.from_numpy(np.ascontiguousarray(observations)).float().requires_grad_()
    actions = policy.action_mean(_extract(policy, o))
    rows = [
        th.autograd.grad(actions[:, i].sum(), o, retain_graph=True)[0]
        for i in range(actions.shape[1])
    ]
    return th.stack(rows, dim=1).double().cpu().numpy()


def pooled_covariance(precision: np.ndarray) -> np.ndarray:
    """The optimal covariance of the student, (1/n sum_i P_i)^-1, (dU, dU).

    :param precision: (n, dU, dU), the *unscaled* precisions of the teachers if the covariance is
        to be that of their noise.
    :raises ValueError: their mean is singular
    """
    pooled = np.asarray(precision, dtype=np.float64).mean(axis=0)
    values, vectors = np.linalg.eigh(0.5 * (pooled + pooled.T))
    if values[0] <= 0:
        raise ValueError(f"the mean precision must be positive definite, got eigenvalues {values}")
    covariance = (vectors * (1.0 / values)) @ vectors.T
    return 0.5 * (covariance + covariance.T)


def to_tensors(observations: Observations) -> TensorObs:
    """Bulk observations as tensors that share their memory."""
    return map_observation(lambda a: th.from_numpy(np.ascontiguousarray(a)), observations)


def select(data: TensorObs, index: th.Tensor | slice) -> TensorObs:
    """The observations at an index of the leading axis."""
    return map_observation(itemgetter(index), data)


def first_non_finite(array: np.ndarray) -> int | None:
    """The first index of the leading axis at which a value is not finite."""
    if not np.issubdtype(array.dtype, np.floating):
        return None
    bad = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
    return int(np.argmax(bad)) if bad.any() else None


def check_observations(observations: Observations, n: int) -> None:
    """ValueError unless every part has n finite entries."""
    for key, value in parts_of(observations).items():
        name = "observations" if observations is value else f"observations['{key}']"
        if len(value) != n:
            raise ValueError(f"{name} must have n = {n} entries, got {len(value)}")
        index = first_non_finite(value)
        if index is not None:
            raise ValueError(f"{name} is not finite at index {index}: {value[index]}")


def _check(
    policy: GPSPolicy, observations: Observations, targets: StudentTargets
) -> tuple[np.ndarray, np.ndarray]:
    mean, precision = np.asarray(targets.mean), np.asarray(targets.precision)
    n, dU = len(mean), policy.action_covariance.shape[0]
    if mean.shape != (n, dU) or precision.shape != (n, dU, dU) or n == 0:
        raise ValueError(
            f"targets must have mean (n, dU) = (n, {dU}) and precision (n, dU, dU) = (n, {dU}, "
            f"{dU}) with n > 0, got {mean.shape} and {precision.shape}"
        )
    for name, value in (("mean", mean), ("precision", precision)):
        index = first_non_finite(value)
        if index is not None:
            raise ValueError(f"targets.{name} is not finite at index {index}: {value[index]}")
    check_observations(observations, n)
    return mean.astype(np.float64), precision.astype(np.float64)


def _extract(policy: GPSPolicy, batch: TensorObs) -> th.Tensor:
    """Features of a batch of raw observations, (B, features_dim)."""
    on_device = map_observation(lambda part: part.to(policy.device), batch)
    scaled = preprocess_obs(on_device, policy.observation_space, policy.normalize_images)
    return policy.pi_features_extractor(scaled)


def _features(policy: GPSPolicy, data: TensorObs, batch_size: int = 256) -> th.Tensor:
    """Features of all observations, in evaluation mode and without gradients, on the CPU."""
    n = len(next(iter(parts_of(data).values())))
    training = policy.training
    policy.set_training_mode(False)
    with th.no_grad():
        features = th.cat(
            [
                _extract(policy, select(data, slice(i, i + batch_size))).cpu()
                for i in range(0, n, batch_size)
            ]
        )
    policy.set_training_mode(training)
    return features


def _objective(actions: th.Tensor, mean: th.Tensor, precision: th.Tensor) -> th.Tensor:
    difference = (actions - mean)[:, :, None]
    return 0.5 * (difference * (precision @ difference)).sum() / len(mean)


def schedule(progress: float) -> float:
    """1, and in the second half a straight line to 0: the last steps average out their noise."""
    return min(1.0, 2.0 * (1.0 - progress))


@contextmanager
def torch_drawn_by(rng: np.random.Generator) -> Iterator[None]:
    """What torch's own generator draws in the block, such as first weights, follows from rng."""
    with th.random.fork_rng(devices=[]):
        th.manual_seed(int(rng.integers(2**63)))
        yield


def batches(n: int, size: int, steps: int, generator: th.Generator) -> Iterator[th.Tensor]:
    """Indices of ``steps`` batches: one shuffled pass over the data after another."""
    size = min(size, n)
    order, position = th.randperm(n, generator=generator), 0
    for _ in range(steps):
        if position + size > n:
            order, position = th.randperm(n, generator=generator), 0
        yield order[position : position + size]
        position += size
