"""Pose pretraining of the convolutions (Levine et al. 2016, sec. 5.2).

Convolutions + feature points (or another head) + one linear layer regress the pose of target and
arm on images of random poses. The student starts from these convolutions: it then looks at what
matters from the first fit on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from sb3_gps.features import ImageExtractor
from sb3_gps.observations import Observations, parts_of
from sb3_gps.progress import RunProgress
from sb3_gps.reporting import timed
from sb3_gps.rollout import random_poses
from sb3_gps.supervised import (
    Augment,
    Progress,
    batches,
    check_observations,
    first_non_finite,
    schedule,
    torch_drawn_by,
)


@dataclass(frozen=True, eq=False)
class PoseResult:
    """How well the feature points tell the pose on images that were held out."""

    error_cm: float  # mean Euclidean error of the 3-vectors
    error_cm_by_point: np.ndarray  # (d/3,) of each 3-vector
    images: int  # in all, held-out ones included
    seconds: float
    estimator: PoseEstimator


@dataclass(frozen=True, eq=False)
class PoseEstimator:
    """The pose that an extractor and one linear layer tell from images.

    :param extractor: a trained image extractor
    :param readout: features of its images -> pose in metres
    """

    extractor: ImageExtractor
    readout: nn.Linear

    def __call__(self, observations: Observations, batch_size: int = 256) -> np.ndarray:
        """The poses in metres, (n, d) float64.

        :param observations: as for ``pretrain_pose``
        """
        images = _as_tensors(self.extractor, observations)
        n = len(next(iter(images.values())))
        self.extractor.eval()
        with th.no_grad():
            predicted = [
                self.forward({key: value[i : i + batch_size] for key, value in images.items()})
                for i in range(0, n, batch_size)
            ]
        return th.cat(predicted).cpu().double().numpy()

    def errors_cm(self, observations: Observations, poses: np.ndarray) -> np.ndarray:
        """Euclidean error of each 3-vector of a pose, (n, d/3)."""
        difference = self(observations) - poses
        return 100.0 * np.linalg.norm(difference.reshape(len(poses), -1, 3), axis=2)

    def forward(self, images: dict[str, th.Tensor]) -> th.Tensor:
        """(B, d) of images (B, C, H, W), uint8 or in [0, 1], with gradients."""
        device = self.readout.weight.device
        scaled = {
            key: value.to(device).float() / (255.0 if value.dtype == th.uint8 else 1.0)
            for key, value in images.items()
        }
        return self.readout(self.extractor.image_features(scaled))


def pretrain_on_random_poses(
    env: VecEnv,
    extractor: ImageExtractor,
    *,
    images: int,
    rng: np.random.Generator,
    seconds: dict[str, float],
    progress: RunProgress,
    steps: int,
    **options: Any,
) -> PoseResult:
    """``pretrain_pose`` on images that the environment draws of random poses.

    :param env: resets with the option ``random_pose``
    :param seconds: of the two phases, added to
    """
    with timed(seconds, "pose images"), progress.phase("pose images", images) as step:
        observations, poses = random_poses(env, images, rng, step)
    with timed(seconds, "pretraining"), progress.phase("pretraining", steps) as step:
        return pretrain_pose(
            extractor, observations, poses, steps=steps, rng=rng, progress=step, **options
        )


def pretrain_pose(
    extractor: ImageExtractor,
    observations: Observations,
    poses: np.ndarray,
    *,
    steps: int,
    rng: np.random.Generator,
    batch_size: int = 64,
    learning_rate: float = 5e-3,
    augment: Augment | None = None,
    progress: Progress | None = None,
) -> PoseResult:
    """Train the convolutions of the extractor on the poses, in place.

    :param observations: (n, C, H, W) uint8, or a dict with the extractor's images; vectors in it
        are ignored.
    :param poses: (n, d) in metres, d/3 points. Coordinates that never change are allowed.
    :param steps: training steps.
    :param rng: draws the held-out tenth, the batches and the augmentation.
    :param batch_size: images a step.
    :param learning_rate: at the start. From scratch, 250 steps at 1e-3 leave two to three times
        the error of 3e-3 to 1e-2.
    :param augment: changes a batch of images, such as ``Augmentation``; the held-out images are
        left as they are.
    :param progress: called after each step with the steps done and those in all.
    :raises ValueError: shapes that do not agree, too few images, or a value that is not finite.
    """
    poses = np.asarray(poses, dtype=np.float64)
    if poses.ndim != 2 or poses.shape[1] % 3 or not poses.shape[1]:
        raise ValueError(f"poses must be (n, d) with d a multiple of 3, got {poses.shape}")
    n, d = poses.shape
    if n < 10:
        raise ValueError(f"at least 10 images are needed (one of ten is held out), got {n}")
    bad = first_non_finite(poses)
    if bad is not None:
        raise ValueError(f"poses is not finite at index {bad}: {poses[bad]}")
    data = _as_tensors(extractor, observations)
    check_observations({key: value.numpy() for key, value in data.items()}, n)

    start = time.perf_counter()
    generator = th.Generator().manual_seed(int(rng.integers(2**63)))
    held_out, training = th.from_numpy(rng.permutation(n)).split([n // 10, n - n // 10])
    device = next(extractor.parameters()).device
    mean, std = poses.mean(axis=0), poses.std(axis=0)
    std[std < 1e-6] = 1.0  # a coordinate that never changes: nothing to learn, no division by 0
    labels = th.from_numpy((poses - mean) / std).float()

    weights = [*extractor.convolutions.parameters(), *extractor.heads.parameters()]
    with torch_drawn_by(rng):
        readout = nn.Linear(extractor.image_dim, d).to(device)
    estimator = PoseEstimator(extractor, readout)
    optimizer = th.optim.Adam([*weights, *readout.parameters()], lr=learning_rate, fused=True)
    extractor.train()
    for step, index in enumerate(batches(len(training), batch_size, steps, generator)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * schedule((step + 0.5) / steps)
        chosen = training[index]
        batch = {key: value[chosen] for key, value in data.items()}
        if augment is not None:
            batch = {key: augment(value, generator) for key, value in batch.items()}
        loss = (estimator.forward(batch) - labels[chosen].to(device)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if progress is not None:
            progress(step + 1, steps)
    extractor.zero_grad(set_to_none=True)
    extractor.eval()

    with th.no_grad():
        # In metres from here on.
        scale, offset = th.from_numpy(std).float(), th.from_numpy(mean).float()
        readout.weight.mul_(scale[:, None].to(device))
        readout.bias.mul_(scale.to(device)).add_(offset.to(device))
    errors = estimator.errors_cm(
        {key: value[held_out].numpy() for key, value in data.items()}, poses[held_out.numpy()]
    )
    by_point = errors.mean(axis=0)
    return PoseResult(float(by_point.mean()), by_point, n, time.perf_counter() - start, estimator)


def _as_tensors(extractor: ImageExtractor, observations: Observations) -> dict[str, th.Tensor]:
    """The extractor's images among the observations, (n, C, H, W) each."""
    keys = list(extractor.convolutions)
    if not keys:
        raise ValueError("the extractor has no convolutions: there is no image to train on")
    parts = parts_of(observations)
    missing = [key for key in keys if key not in parts]
    if missing:
        raise ValueError(f"observations lack the images {missing}, got {list(parts)}")
    return {key: th.from_numpy(np.ascontiguousarray(parts[key])) for key in keys}
