"""What the student regresses on, what it looks like to a teacher, and how batches are kept."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from sb3_gps.core.badmm import BADMM
from sb3_gps.core.mirror_descent import MirrorDescent
from sb3_gps.core.types import Gaussian, LinearGaussianController, Trajectories
from sb3_gps.student import (
    Batch,
    Student,
    StudentOptions,
    batch_targets,
    flatten,
    linearized_student,
    read_state,
    student_targets,
    trust,
)

M, N, T, DX, DU = 3, 4, 6, 5, 2


def controller(rng: np.random.Generator) -> LinearGaussianController:
    root = rng.normal(size=(M, T, DU, DU))
    C = root @ np.swapaxes(root, -1, -2) + 0.1 * np.eye(DU)
    return LinearGaussianController(
        rng.normal(size=(M, T, DU, DX)), rng.normal(size=(M, T, DU)), 0.1 * C
    )


def batch(rng: np.random.Generator, scale: float = 1.0) -> Batch:
    X = scale * rng.normal(size=(M, N, T, DX))
    return Batch(Trajectories(X, rng.normal(size=(M, N, T, DU))), X.astype(np.float32))


def marginals_of(rng: np.random.Generator) -> Gaussian:
    dZ = DX + DU
    return Gaussian(rng.normal(size=(M, T, dZ)), np.tile(np.eye(dZ), (M, T, 1, 1)))


def test_trust_is_one_on_the_plan_and_falls_with_the_feedback(rng):
    p, z = controller(rng), marginals_of(rng)
    plan = np.broadcast_to(z.mean[:, None, :, :DX], (M, N, T, DX))
    np.testing.assert_allclose(trust(plan, p, z, 2.0), 1.0)
    direction = rng.normal(size=(M, N, T, DX))
    near, far = (trust(plan + s * direction, p, z, 2.0) for s in (0.1, 10.0))
    assert near.shape == (M, N, T)
    assert (far < near).all() and far.min() > 0 and near.max() <= 1
    assert (trust(plan + direction, p, z, 1.0) <= trust(plan + direction, p, z, 4.0)).all()


def test_trust_by_hand():
    """One dimension: feedback 3, exploration 1.5, so r = 2 and 1 / (1 + (2 / 2)^2)^2 = 1 / 4."""
    p = LinearGaussianController(
        np.full((1, 1, 1, 1), 3.0), np.zeros((1, 1, 1)), np.full((1, 1, 1, 1), 2.25)
    )
    z = Gaussian(np.array([[[5.0, 0.0]]]), np.eye(2)[None, None])
    np.testing.assert_allclose(trust(np.full((1, 1, 1, 1), 6.0), p, z, 2.0), 0.25)


@pytest.mark.parametrize("rule", [BADMM(nu=0.01), BADMM(nu=3.0), MirrorDescent()], ids=repr)
def test_targets_are_scaled_to_one_a_dimension(rule, rng):
    p, z, batches = controller(rng), marginals_of(rng), [batch(rng), batch(rng, 3.0)]
    duals = rule.initial_duals(M, T, DU)
    targets = student_targets([batch_targets(rule, b, p, duals, z, 2.0) for b in batches])
    n = 2 * M * N * T
    assert targets.mean.shape == (n, DU) and targets.precision.shape == (n, DU, DU)
    assert np.trace(targets.precision, axis1=1, axis2=2).mean() == pytest.approx(DU)
    # In the order of `flatten`, and without multipliers the teacher's own actions.
    X = flatten([b.observations for b in batches])
    wanted = np.concatenate([p[:, None].mean(b.samples.X).reshape(-1, DU) for b in batches])
    np.testing.assert_array_equal(X[: M * N * T], batches[0].observations.reshape(-1, DX))
    np.testing.assert_allclose(targets.mean, wanted)
    # Where a state is trusted half as much, it weighs half as much.
    weight = np.concatenate([trust(b.samples.X, p, z, 2.0).ravel() for b in batches])
    full = np.concatenate(
        [np.broadcast_to(np.linalg.inv(p.C)[:, None], (M, N, T, DU, DU)).reshape(-1, DU, DU)] * 2
    )
    ratio = targets.precision[:, 0, 0] / (weight * full[:, 0, 0])
    np.testing.assert_allclose(ratio, ratio[0])


@dataclass
class Executed:
    controller: LinearGaussianController


def test_the_last_fit_learns_what_was_executed(rng, monkeypatch):
    """Or what was promised, where it was itself that acted."""
    executed, promised = controller(rng), controller(rng)
    teachers = SimpleNamespace(fit=Executed(executed), proposal=Executed(promised))
    taught = []
    monkeypatch.setattr(Student, "fit", lambda self, teacher, *_, **__: taught.append(teacher))
    student = Student(SimpleNamespace(), read_state, StudentOptions())
    student.finish(teachers, [batch(rng)], on_policy=False)
    student.finish(teachers, [batch(rng)], on_policy=True)
    assert [fit.controller for fit in taught] == [executed, promised]


def test_linearised_student_recovers_a_linear_policy(rng):
    K, k = rng.normal(size=(DU, DX)), rng.normal(size=DU)
    batches = [batch(rng), batch(rng)]
    actions = [b.samples.X @ K.T + k for b in batches]
    covariance = np.array([[0.3, 0.1], [0.1, 0.2]])
    pi = linearized_student(batches, actions, covariance, window=6, strength=10.0, ridge=1e-9)
    np.testing.assert_allclose(pi.K, np.broadcast_to(K, (M, T, DU, DX)), atol=1e-5)
    np.testing.assert_allclose(pi.k, np.broadcast_to(k, (M, T, DU)), atol=1e-5)
    np.testing.assert_allclose(pi.C, np.broadcast_to(covariance, (M, T, DU, DU)), atol=1e-5)


def images(rng: np.random.Generator) -> dict[str, np.ndarray]:
    # As flat as rendered scenes are.
    image = np.repeat(rng.integers(0, 256, (M, N, T, 3, 6, 6), dtype=np.uint8), 6, axis=-1)
    return {"image": image, "joints": rng.normal(size=(M, N, T, 7)).astype(np.float32)}


@pytest.mark.parametrize("kind", ["dict", "image", "vector", "none"])
@pytest.mark.parametrize("how", [copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))])
def test_batches_survive_pickling_bit_by_bit(kind, how, rng):
    observations = {
        "dict": images(rng),
        "image": images(rng)["image"],
        "vector": images(rng)["joints"],
        "none": None,
    }[kind]
    before = Batch(batch(rng).samples, observations)
    after = how(before)
    np.testing.assert_array_equal(after.samples.X, before.samples.X)
    if kind == "none":
        assert after.observations is None
        return
    pairs = (
        [(after.observations[key], value) for key, value in observations.items()]
        if kind == "dict"
        else [(after.observations, observations)]
    )
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype and a.flags.writeable


def test_pickled_images_are_small(rng):
    observations = images(rng)
    size = len(pickle.dumps(Batch(batch(rng).samples, observations)))
    assert size < 0.5 * observations["image"].nbytes
