"""Regression of the student, pose pretraining, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_gps.augmentation import Augmentation
from sb3_gps.core.types import StudentTargets
from sb3_gps.features import VisuomotorExtractor
from sb3_gps.policies import GPSPolicy
from sb3_gps.pretraining import pretrain_pose
from sb3_gps.supervised import batches, fit_student, pooled_covariance, student_actions

SMALL = dict(filters=(8, 8), kernel_sizes=(5, 5), strides=(2, 2), precision="float32")
DU = 2


def vector_policy(**kwargs) -> GPSPolicy:
    space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    return GPSPolicy(space, spaces.Box(-1, 1, (DU,), np.float32), lambda _: 1e-3, **kwargs)


def image_policy() -> GPSPolicy:
    space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (3, 36, 36), np.uint8),
            "joints": spaces.Box(-np.inf, np.inf, (2,), np.float32),
        }
    )
    actions = spaces.Box(-1, 1, (DU,), np.float32)
    return GPSPolicy(space, actions, lambda _: 1e-3, features_extractor_kwargs=SMALL)


def blobs(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3, 36, 36) of a red square on a dark ground, and its position in [-1, 1]."""
    images = rng.integers(0, 60, (n, 3, 36, 36), dtype=np.uint8)
    corners = rng.integers(0, 31, (n, 2))
    for image, (x, y) in zip(images, corners, strict=True):
        image[0, y : y + 6, x : x + 6] = 250
    return images, corners / 15.0 - 1.0


def random_targets(mean: np.ndarray, rng: np.random.Generator) -> StudentTargets:
    root = rng.normal(size=(len(mean), DU, DU))
    return StudentTargets(mean, root @ root.transpose(0, 2, 1) / DU + 0.2 * np.eye(DU))


def weights(module: th.nn.Module) -> dict[str, th.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def test_a_linear_student_reaches_the_weighted_least_squares(rng):
    policy = vector_policy(net_arch=dict(pi=[], vf=[]))
    observations = rng.normal(size=(60, 3)).astype(np.float32)
    targets = random_targets(rng.normal(size=(60, DU)), rng)
    result = fit_student(
        policy,
        observations,
        targets,
        head_steps=1500,
        end_to_end_steps=0,
        head_batch_size=60,
        learning_rate=0.02,
        rng=rng,
    )
    # vec of the weights, row-major: mu_i = (I kron [o_i; 1]') w.
    O1 = np.concatenate([observations.astype(float), np.ones((60, 1))], axis=1)
    design = np.einsum("ab,ij->iabj", np.eye(DU), O1).reshape(60, DU, DU * 4)
    normal = np.einsum("iak,iab,ibl->kl", design, targets.precision, design)
    right = np.einsum("iak,iab,ib->k", design, targets.precision, targets.mean)
    best = design @ np.linalg.solve(normal, right)
    np.testing.assert_allclose(student_actions(policy, observations), best, atol=1e-4)
    residual = best - targets.mean
    loss = 0.5 * np.einsum("ia,iab,ib->", residual, targets.precision, residual) / 60
    assert result.loss == pytest.approx(loss, rel=1e-5)
    assert result.error == pytest.approx(np.sqrt((residual**2).mean()), rel=1e-4)


def test_the_head_alone_leaves_the_rest_and_its_moments_untouched(rng):
    policy = image_policy()
    images, where = blobs(40, rng)
    observations = {"image": images, "joints": rng.normal(size=(40, 2)).astype(np.float32)}
    targets = random_targets(where, rng)
    # A full fit first, so that the optimiser has moments for the convolutions.
    fit_student(policy, observations, targets, head_steps=2, end_to_end_steps=2, rng=rng)
    covariance, before = policy.action_covariance.clone(), weights(policy)
    convolutions = list(policy.features_extractor.parameters())
    moments = [{k: v.clone() for k, v in policy.optimizer.state[p].items()} for p in convolutions]
    assert all(m["step"] == 2 for m in moments)
    fit_student(policy, observations, targets, head_steps=5, end_to_end_steps=0, rng=rng)
    after = weights(policy)
    changed = {name for name in before if not th.equal(before[name], after[name])}
    assert changed == {
        f"{layer}.{part}"
        for layer in ("mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2", "action_net")
        for part in ("weight", "bias")
    }
    for p, saved in zip(convolutions, moments, strict=True):
        assert all(th.equal(policy.optimizer.state[p][k], v) for k, v in saved.items())
    assert th.equal(policy.action_covariance, covariance)


def test_end_to_end_moves_the_convolutions_and_learns(rng):
    policy = image_policy()
    images, where = blobs(300, rng)
    observations = {"image": images, "joints": rng.normal(size=(300, 2)).astype(np.float32)}
    targets = StudentTargets(where, np.tile(np.eye(DU), (300, 1, 1)))
    before = weights(policy)
    seen = []
    result = fit_student(
        policy,
        observations,
        targets,
        head_steps=50,
        end_to_end_steps=150,
        batch_size=50,
        learning_rate=3e-3,
        augment=Augmentation(colour=0.1),
        progress=lambda done, total: seen.append((done, total)),
        rng=rng,
    )
    assert seen == [(i + 1, 200) for i in range(200)]
    after = weights(policy)
    assert not any(th.equal(before[name], after[name]) for name in before if "convolutions" in name)
    # The targets' deviation is 0.6.
    assert result.error < 0.2
    assert not policy.training


def test_actions_are_those_of_predict_unclipped(rng):
    policy = image_policy()
    with th.no_grad():
        policy.action_net.bias.copy_(th.tensor([3.0, 0.2]))
    images, _ = blobs(7, rng)
    observations = {"image": images, "joints": rng.normal(size=(7, 2)).astype(np.float32)}
    actions = student_actions(policy, observations, batch_size=3)
    assert actions.shape == (7, DU)
    assert actions.dtype == np.float64
    assert (actions[:, 0] > 1).all()
    predicted, _ = policy.predict(observations, deterministic=True)
    np.testing.assert_allclose(predicted, actions.clip(-1, 1), atol=1e-6)


def test_same_seed_same_student():
    results = []
    for _ in range(2):
        th.manual_seed(0)
        rng = np.random.default_rng(3)
        policy = image_policy()
        images, where = blobs(30, rng)
        observations = {"image": images, "joints": np.zeros((30, 2), np.float32)}
        fit_student(
            policy,
            observations,
            random_targets(where, rng),
            head_steps=3,
            end_to_end_steps=3,
            augment=Augmentation(shift=2, colour=0.2, shapes=3),
            rng=rng,
        )
        results.append(student_actions(policy, observations))
    np.testing.assert_array_equal(*results)


def test_batches_pass_over_the_data():
    generator = th.Generator().manual_seed(0)
    drawn = list(batches(10, 4, 5, generator))
    assert all(len(index) == 4 for index in drawn)
    assert len(set(th.cat(drawn[:2]).tolist())) == 8
    assert all(len(index) == 10 for index in batches(10, 64, 3, generator))


def test_bad_input_is_named(rng):
    policy = vector_policy()
    observations = rng.normal(size=(20, 3)).astype(np.float32)
    targets = random_targets(rng.normal(size=(20, DU)), rng)

    def fit(o: np.ndarray, t: StudentTargets) -> None:
        fit_student(policy, o, t, head_steps=1, end_to_end_steps=0, rng=rng)

    broken = observations.copy()
    broken[[7, 9], 1] = np.nan
    with pytest.raises(ValueError, match="observations is not finite at index 7"):
        fit(broken, targets)
    mean = targets.mean.copy()
    mean[4, 0] = np.inf
    with pytest.raises(ValueError, match=r"targets\.mean is not finite at index 4"):
        fit(observations, StudentTargets(mean, targets.precision))
    precision = targets.precision.copy()
    precision[11, 1, 1] = np.nan
    with pytest.raises(ValueError, match=r"targets\.precision is not finite at index 11"):
        fit(observations, StudentTargets(targets.mean, precision))
    with pytest.raises(ValueError, match="must have n = 20 entries, got 19"):
        fit(observations[:19], targets)
    with pytest.raises(ValueError, match="targets must have mean"):
        fit(observations, StudentTargets(targets.mean, targets.precision[:, 0]))


def test_pooled_covariance(rng):
    precision = random_targets(np.zeros((30, DU)), rng).precision
    covariance = pooled_covariance(precision)
    np.testing.assert_allclose(covariance @ precision.mean(axis=0), np.eye(DU), atol=1e-12)

    # It minimises tr(P Sigma) - log|Sigma| among its neighbours.
    def objective(sigma):
        return np.trace(precision.mean(axis=0) @ sigma) - np.linalg.slogdet(sigma)[1]

    for _ in range(20):
        step = rng.normal(size=(DU, DU)) * 0.05
        assert objective(covariance + step + step.T) > objective(covariance)
    singular = np.diag([1.0, 0.0])[None]
    with pytest.raises(ValueError, match="positive definite"):
        pooled_covariance(singular)


def test_pose_pretraining_finds_the_object(rng):
    images, where = blobs(300, rng)
    # 10 cm a unit, a second point that is a mirror image, and heights that never change.
    height = np.full((300, 1), 0.7)
    poses = np.concatenate([0.1 * where, height, -0.1 * where, height], axis=1)
    extractor = VisuomotorExtractor(spaces.Box(0, 255, (3, 36, 36), np.uint8), **SMALL)
    before = weights(extractor)
    result = pretrain_pose(
        extractor, images, poses, steps=250, batch_size=50, learning_rate=5e-3, rng=rng
    )
    assert result.images == 300
    assert result.error_cm_by_point.shape == (2,)
    assert result.error_cm == pytest.approx(result.error_cm_by_point.mean())
    assert result.error_cm < 2.0  # a guess at the mean errs by 7.7 cm
    assert not any(th.equal(before[k], v) for k, v in weights(extractor).items())
    error = result.estimator(images) - poses
    assert 100 * np.linalg.norm(error[:, :3], axis=1).mean() < 2.0
    errors = result.estimator.errors_cm(images, poses)
    assert errors[:, 1] == pytest.approx(100 * np.linalg.norm(error[:, 3:], axis=1))


def test_pose_pretraining_explains(rng):
    extractor = VisuomotorExtractor(spaces.Box(0, 255, (3, 36, 36), np.uint8), **SMALL)
    images, _ = blobs(12, rng)

    def pretrain(observations, poses):
        pretrain_pose(extractor, observations, poses, steps=1, rng=rng)

    poses = rng.normal(size=(12, 3))
    with pytest.raises(ValueError, match="multiple of 3"):
        pretrain(images, poses[:, :2])
    with pytest.raises(ValueError, match="at least 10"):
        pretrain(images[:5], poses[:5])
    with pytest.raises(ValueError, match="must have n = 12 entries, got 11"):
        pretrain(images[:11], poses)
    with pytest.raises(ValueError, match="lack the images"):
        pretrain({"joints": np.zeros((12, 3))}, poses)
    poses[3, 0] = np.nan
    with pytest.raises(ValueError, match="poses is not finite at index 3"):
        pretrain(images, poses)
