"""What a run leaves in its folder while it goes on, for ``python -m sb3_gps plot``.

    progress.json           configuration, versions and the rows of the log so far
    iterations/0001.npz     teachers and student after the first iteration, arrays as below

    name                    shape                   what
    points                  (M, N, T, 9)            three points of the object from their targets, m
    next_points             (M, T, 9)               the same as the models expect them of the next
    next_covariance         (M, T, 3, 3, 3)           teachers, and the covariance of each point
    teacher_actions         (M, T, dU)              of the teachers that are next, and
    student_actions         (M, T, dU)                of the student, in the states of trial 0
    gain, noise             (M, T)                  norm of K; deviation of the noise, rms
    multiplier, nu          (M, T)                  norm of lambda; weight of the KL penalty
    kl, epsilon, eta        (M,)                    of the last step: nats, its bound, multiplier
    cost                    (M,)                    of the trials
    predicted, actual       (M,)                    improvement by the step before
    rolled_back             (M,) bool
    held_out_error          (T-1,)                  mean over conditions, of the models before

Only tasks that say where their points are in the state (``point_dims``) have those.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from sb3_gps.core.improvement import closed_loop
from sb3_gps.environment import optional_attribute
from sb3_gps.files import rewrite, write_json
from sb3_gps.gps import GPS
from sb3_gps.student import Student, StudentOptions, read_observations, read_state


class RunRecorder(BaseCallback):
    """Writes the files of a run, each of them whole.

    :param folder: of the run
    :param configuration: JSON-able, the first part of ``progress.json``
    """

    def __init__(self, folder: Path, configuration: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.configuration = configuration or {}
        self._written = 0

    def _on_step(self) -> bool:
        return True

    def _on_training_start(self) -> None:
        assert isinstance(self.model, GPS)
        self._written = self.model.iteration
        for number, path in iteration_paths(self.folder).items():
            if number > self.model.iteration:  # of an earlier run
                path.unlink()
        self._write_progress(self.model)

    def _on_rollout_start(self) -> None:
        self._write()

    def _on_training_end(self) -> None:
        self._write()

    def _write(self) -> None:
        model = self.model
        assert isinstance(model, GPS)
        if model.iteration == self._written or model.latest is None:
            return  # nothing is new
        self._written = model.iteration
        dims = optional_attribute(self.training_env, "point_dims")
        arrays = iteration_arrays(model, dims)
        small: dict[str, Any] = {
            k: v.astype(np.float32) if v.dtype == float else v for k, v in arrays.items()
        }
        path = iteration_path(self.folder, model.iteration)
        rewrite(path, lambda name: np.savez_compressed(name, **small))
        self._write_progress(model)

    def _write_progress(self, model: GPS) -> None:
        progress = {**self.configuration, "trials": model.trials, "history": model.history}
        write_json(self.folder / "progress.json", progress)


def iteration_path(folder: Path, iteration: int) -> Path:
    """Of the arrays of an iteration, from 1."""
    return folder / "iterations" / f"{iteration:04d}.npz"


def iteration_paths(folder: Path) -> dict[int, Path]:
    """Those that have been written, by the iteration's number."""
    return {int(p.stem): p for p in sorted((folder / "iterations").glob("[0-9]*.npz"))}


def read_iterations(folder: Path) -> dict[int, dict[str, np.ndarray]]:
    """The arrays of every iteration that has been written, by its number."""
    found = {}
    for number, path in iteration_paths(folder).items():
        with np.load(path) as arrays:
            found[number] = dict(arrays)
    return found


def iteration_arrays(model: GPS, point_dims: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Those of the table above, of the iteration that a model has just finished.

    :param point_dims: of the state, (9,); None: the task does not say
    :raises ValueError: before the first iteration
    """
    teachers, latest = model.teachers, model.latest
    if teachers is None or latest is None or teachers.fit is None:
        raise ValueError("there is nothing to see before the first iteration: call learn() first")
    p, observed, step = teachers.controller, latest.observed, latest.step
    samples = model.batches[-1].samples
    X = samples.X[:, 0]
    arrays = {
        "teacher_actions": np.einsum("mtux,mtx->mtu", p.K, X) + p.k,
        "gain": np.linalg.norm(p.K, axis=(-2, -1)),
        "noise": np.sqrt(np.trace(p.C, axis1=-2, axis2=-1) / p.C.shape[-1]),
        "multiplier": np.linalg.norm(teachers.duals.lam, axis=-1),
        "nu": teachers.duals.nu,
        "kl": step.kl.sum(axis=1),
        "epsilon": teachers.epsilon,
        "eta": teachers.eta,
        "cost": observed.sampled_cost,
        "predicted": observed.predicted_improvement,
        "actual": observed.actual_improvement,
        "rolled_back": observed.rolled_back,
        "held_out_error": observed.held_out_error.mean(axis=0),
    }
    if (actions := _student_actions(model)) is not None:
        arrays["student_actions"] = actions
    if point_dims is not None:
        z = closed_loop(teachers.fit, p)
        blocks = np.reshape(point_dims, (3, 3))
        arrays["points"] = samples.X[..., point_dims]
        arrays["next_points"] = z.mean[..., point_dims]
        arrays["next_covariance"] = np.stack(
            [z.cov[..., block[:, None], block] for block in blocks], axis=2
        )
    return arrays


def _student_actions(model: GPS) -> np.ndarray | None:
    """In the newest trials, (M, T, dU); None: no student has been fitted yet."""
    newest = model.batches[-1]
    if model.policy_fitted and newest.observations is not None:
        student = Student(model.policy, read_observations, StudentOptions())
    elif model.state_policy is not None and model.iteration > 1:
        student = Student(model.state_policy, read_state, StudentOptions())
    else:
        return None
    return student.actions(newest)[:, 0]
