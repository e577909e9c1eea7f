"""A batch of trials: its order, its noise, who acts, and what an error names."""

from __future__ import annotations

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from toy_envs import HORIZON, SMALL_POLICY

from sb3_gps import GPS
from sb3_gps.environment import describe_task
from sb3_gps.rollout import EpisodeError, Episodes
from sb3_gps.sampling import sample_trials
from sb3_gps.teachers import first_controller

M, N = 4, 2


def sample(name: str = "PointMass", student=None, seed: int = 0, **options) -> Episodes:
    kwargs = options.pop("env_kwargs", {})
    env = make_vec_env(f"Toy/{name}-v0", n_envs=3, env_kwargs=kwargs)
    task = describe_task(env, state=None, cost=None, conditions=None, horizon=None, seed=0)
    settings = dict(samples_per_condition=N, smoothing=2.0, seen=True, iteration=3)
    return sample_trials(
        env,
        task,
        first_controller(task),
        student,
        **{**settings, **options},
        rng=np.random.default_rng(seed),
        on_step=lambda locals_: True,
    )


def test_trials_are_in_the_order_of_conditions():
    trials = sample()
    assert trials.X.shape == (M * N, HORIZON, 4)
    samples, _ = trials.by_condition(M)
    np.testing.assert_array_equal(samples.X[:, 0, 0], samples.X[:, 1, 0])
    assert len(np.unique(samples.X[:, 0, 0], axis=0)) == M
    assert (samples.U[:, 0] != samples.U[:, 1]).any(axis=(1, 2)).all()  # noise of its own


def test_the_generator_decides():
    noisy = dict(env_kwargs={"init_noise": 0.1})
    first, again, other = sample(**noisy), sample(**noisy), sample(seed=1, **noisy)
    np.testing.assert_array_equal(first.X, again.X)
    assert (first.X[:, 0, :2] != other.X[:, 0, :2]).all()


def test_unseen_trials_keep_no_observations():
    seen, blind = sample("ImagePointMass"), sample("ImagePointMass", seen=False)
    assert blind.observations is None
    assert seen.observations["image"].shape == (M * N, HORIZON, 36, 36, 3)
    np.testing.assert_array_equal(seen.X, blind.X)


def test_the_student_acts_with_its_own_noise():
    gps = GPS("CnnPolicy", "Toy/ImagePointMass-v0", policy_kwargs=SMALL_POLICY)
    policy = gps.policy
    policy.set_action_covariance(1e-12 * np.eye(2))
    trials = sample("ImagePointMass", student=policy)
    wanted = policy.predict(
        {key: value[:, 0] for key, value in trials.observations.items()}, deterministic=True
    )[0]
    np.testing.assert_allclose(trials.U[:, 0], wanted, atol=1e-4)
    policy.set_action_covariance(0.01 * np.eye(2))
    with th.no_grad():
        noise = sample("ImagePointMass", student=policy).U[:, 0] - wanted
    assert 0.03 < noise.std() < 0.3


def test_an_error_names_iteration_and_condition():
    with pytest.raises(EpisodeError, match=r"finite state.*\(iteration 3, condition 1\)") as error:
        sample(env_kwargs={"fault": "nan_state"})
    assert error.value.episode // N == 1
