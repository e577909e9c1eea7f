"""What a user gets wrong is refused at once, with expected, got and what to try."""

from __future__ import annotations

import inspect

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from toy_envs import HORIZON, QUICK, ImagePointMass, PointMass, PositionOnly, nan_cost

from sb3_gps import GPS
from sb3_gps.rollout import EpisodeLengthError, NotFiniteError


def toy(env_class=PointMass, horizon: int = HORIZON, **kwargs) -> gym.Env:
    return TimeLimit(env_class(**kwargs), horizon)


def learn(env, policy="MlpPolicy", **options) -> GPS:
    return GPS(policy, env, **{**QUICK, "horizon": HORIZON, **options}).learn()


# ---------------------------------------------------------------- the constructor

NAN, INF = float("nan"), float("inf")
WHOLE_FROM_1 = (0, -1, 1.5, NAN)
WHOLE_FROM_0 = (-1, 0.5, NAN)
POSITIVE = (0, 0.0, -1.0, NAN, INF)
NOT_NEGATIVE = (-0.1, NAN, INF)
BAD = {
    "learning_rate": POSITIVE,
    "iterations": WHOLE_FROM_1,
    "teacher_iterations": WHOLE_FROM_0,
    "samples_per_condition": WHOLE_FROM_1,
    "inner_iterations": WHOLE_FROM_1,
    "conditions": WHOLE_FROM_1,
    "horizon": (1, *WHOLE_FROM_1),
    "kl_step": POSITIVE,
    "initial_std": POSITIVE,
    "initial_gains": ("pid", (1.0,), (1.0, -0.1), (NAN, 0.3), 1.0, ()),
    "min_eta": POSITIVE,
    "min_action_std": POSITIVE,
    "min_dynamics_variance": POSITIVE,
    "ridge": POSITIVE,
    "rollback_slack": NOT_NEGATIVE,
    "noise_smoothing": NOT_NEGATIVE,
    "prior_batches": WHOLE_FROM_1,
    "prior_strength": POSITIVE,
    "prior_window": WHOLE_FROM_0,
    "rollback": NOT_NEGATIVE,
    "nu": POSITIVE,
    "dual_rate": NOT_NEGATIVE,
    "imagined_rounds": WHOLE_FROM_0,
    "imagined_conditions": (1, *WHOLE_FROM_1),
    "imagined_tries": WHOLE_FROM_1,
    "imagined_horizon": (1, *WHOLE_FROM_1),
    "student_batches": WHOLE_FROM_1,
    "trust_radius": POSITIVE,
    "head_steps": WHOLE_FROM_0,
    "end_to_end_steps": WHOLE_FROM_0,
    "last_head_steps": WHOLE_FROM_0,
    "last_end_to_end_steps": WHOLE_FROM_0,
    "batch_size": WHOLE_FROM_1,
    "pose_images": (*WHOLE_FROM_0, 9),
    "pose_steps": WHOLE_FROM_0,
    "stats_window_size": WHOLE_FROM_1,
    "update": ("gps", None),
    "sampling": ("both",),
    "step_rule": ("laplace",),
    "prior": ("none",),
    "dynamics": ("mjx",),
    "teacher": ("ilqr",),
    "adapt_nu": ("no", 0, None),
    "kl_penalty": ("no", 1),
    "augmentation": ("shapes", {"shapes": 3}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_values_are_refused_by_the_constructor(name):
    env = toy()
    for value in BAD[name]:
        with pytest.raises(ValueError, match=f"{name} must be"):
            GPS("MlpPolicy", env, **{name: value})


def test_every_checked_keyword_is_covered():
    others = {"self", "policy", "env", "state", "cost"}
    others |= {"policy_kwargs", "tensorboard_log", "verbose", "seed", "device"}
    others |= {"_init_setup_model"}
    assert set(inspect.signature(GPS.__init__).parameters) - others == set(BAD)


class Discrete(PointMass):
    def __init__(self):
        super().__init__()
        self.action_space = spaces.Discrete(3)


class Unbounded(PointMass):
    def __init__(self):
        super().__init__()
        self.action_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)


class Nested(PointMass):
    def make_observation_space(self):
        return spaces.Dict({"arm": spaces.Dict({"q": spaces.Box(-1, 1, (2,), np.float32)})})


@pytest.mark.parametrize(
    ("env_class", "message"),
    [
        (Discrete, "Box action space, got Discrete.*use PPO or DQN"),
        (Unbounded, "finite action bounds.*TransformAction"),
        (Nested, r"must be a Box, got \['arm'\].*FlattenObservation"),
    ],
)
def test_wrong_spaces(env_class, message):
    with pytest.raises(ValueError, match=message):
        GPS("MlpPolicy", toy(env_class))


def test_the_way_out_of_actions_without_bounds():
    """The one that the error names; the environment still takes what it is given."""
    bounds = spaces.Box(-1, 1, (2,), np.float32)
    env = gym.wrappers.TransformAction(toy(Unbounded), lambda action: action, bounds)
    gps = learn(env)
    assert np.abs(gps.batches[-1].samples.U).max() <= 1


@pytest.mark.parametrize("steps", [0, -5])
def test_a_budget_of_no_steps(steps):
    with pytest.raises(ValueError, match=f"total_timesteps must be at least 1, got {steps}"):
        GPS("MlpPolicy", toy(PointMass)).learn(steps)


@pytest.mark.parametrize(
    ("policy", "env_class", "message"),
    [
        ("MlpPolicy", ImagePointMass, "use 'CnnPolicy'"),
        ("CnnPolicy", PointMass, "use 'MlpPolicy'"),
        ("PixelPolicy", PointMass, "Available names"),
    ],
)
def test_wrong_policy(policy, env_class, message):
    with pytest.raises(ValueError, match=message):
        GPS(policy, toy(env_class))


# ---------------------------------------------------------------- before the first step


class Stateless(ImagePointMass):
    random_poses = False

    def info(self):
        return {"is_success": False}


def test_state_is_missing_or_misnamed():
    with pytest.raises(ValueError, match=r"needs the full state.*pass `state=`"):
        learn(toy(Stateless), "CnnPolicy")
    with pytest.raises(ValueError, match="state='velocities' is neither"):
        learn(toy(PositionOnly), state="velocities")
    learn(toy(Stateless), "CnnPolicy", state="velocity", cost=lambda x, u, t: u.square().sum(-1),
          iterations=1)  # fmt: skip


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (lambda x, u, t: x.square(), r"one cost a point, \(B,\)"),
        (lambda x, u, t: x[:, 9], "but raised"),
        (lambda x: x.sum(-1), "but raised"),
    ],
)
def test_cost_is_wrong(cost, message):
    with pytest.raises(ValueError, match=message):
        learn(toy(), cost=cost)


def test_horizon_is_missing():
    with pytest.raises(ValueError, match="pass `horizon=`"):
        learn(PointMass(), horizon=None)


def test_too_many_conditions():
    with pytest.raises(ValueError, match=r"conditions must be in 1\.\.4"):
        learn(toy(), conditions=5)


# ---------------------------------------------------------------- at the step where it arises


def test_an_episode_that_ends_early_names_where():
    with pytest.raises(EpisodeLengthError, match=r"truncated after 5.*iteration 1, condition 1\)"):
        learn(toy(fault="short"))


def test_nan_reward_where_the_cost_is_learned_from_it():
    env = toy()
    broken = gym.wrappers.TransformReward(env, lambda r: np.nan)
    broken.unwrapped.cost = None
    with pytest.raises(NotFiniteError, match=r"finite reward, got nan at step 0.*condition 0\)"):
        learn(broken)


def test_global_sampling_has_no_multipliers():
    with pytest.raises(ValueError, match=r"sampling='global'.*use update='mdgps'"):
        GPS("MlpPolicy", toy(), sampling="global", update="badmm")


def test_nan_state():
    with pytest.raises(NotFiniteError, match=r"finite state.*step 4.*iteration 1, condition 1\)"):
        learn(toy(fault="nan_state"))


def test_state_that_disappears():
    with pytest.raises(ValueError, match="no 'state' in this step"):
        learn(toy(fault="no_state"))


def test_nan_cost():
    with pytest.raises(NotFiniteError, match=r"finite cost, got nan at step 4.*condition 0\)"):
        learn(toy(), cost=nan_cost)


def test_nan_action():
    gps = learn(toy(), iterations=2)
    gps.teachers.controller.k[2, 7] = np.nan
    with pytest.raises(NotFiniteError, match=r"finite action.*step 7.*iteration 3, condition 2\)"):
        gps.learn(total_timesteps=1)


def test_infinite_gradient():
    """A root at zero: the cost is finite, its derivatives are not."""

    def cost(x, u, t):
        return x[:, :2].square().sum(-1) + th.sqrt(u.square().sum(-1) * 0.0)

    with pytest.raises(ValueError, match=r"finite derivatives of the cost.*= \[0, 0, 0\]"):
        learn(toy(), cost=cost)


def test_a_failed_run_leaves_a_usable_model(tmp_path):
    gps = learn(toy(), iterations=2)
    gps.save(tmp_path / "good")
    gps.set_env(toy(fault="nan_state"))
    with pytest.raises(NotFiniteError):
        gps.learn(total_timesteps=1)
    assert gps.iteration == 2
    gps.set_env(toy())
    gps.learn(total_timesteps=1)
    assert gps.iteration == 3
