"""What users of Stable-Baselines3 rely on, behaviour by behaviour."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)
from toy_envs import HORIZON, QUICK, SMALL_POLICY, ImagePointMass, PointMass, Rewarded

from sb3_gps import GPS
from sb3_gps.feature_points import read_feature_points
from sb3_gps.features import VisuomotorExtractor
from sb3_gps.observations import parts_of
from sb3_gps.policies import GPSPolicy

M = 4
STEPS = M * HORIZON
FAST = {**QUICK, "iterations": 2, "head_steps": 4, "end_to_end_steps": 2, "last_head_steps": 4,
        "last_end_to_end_steps": 2}  # fmt: skip


class DictPointMass(PointMass):
    """A Dict of vectors, no images."""

    def make_observation_space(self):
        box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        return spaces.Dict({"position": box, "velocity": box})

    def observe(self):
        parts = {"position": self.q, "velocity": self.v}
        return {key: value.astype(np.float32) for key, value in parts.items()}


class OnlyImage(ImagePointMass):
    """An image and nothing else; the state is in info."""

    image_on_demand = False

    def make_observation_space(self):
        return spaces.Box(0, 255, (36, 36, 3), np.uint8)

    def observe(self):
        return super().observe()["image"]


# What is observed, and the policy for it.
KINDS: dict[str, tuple[type[PointMass], str]] = {
    "vector": (PointMass, "MlpPolicy"),
    "dict": (DictPointMass, "MultiInputPolicy"),
    "image": (OnlyImage, "CnnPolicy"),
    "dict with image": (ImagePointMass, "MultiInputPolicy"),
}


def limited(env_class: type[PointMass], **kwargs):
    return lambda: TimeLimit(env_class(**kwargs), HORIZON)


def make(kind: str, env=None, **options) -> GPS:
    env_class, policy = KINDS[kind]
    extra = {} if kind in ("vector", "dict") else {"policy_kwargs": SMALL_POLICY}
    env = limited(env_class)() if env is None else env
    return GPS(policy, env, **{**FAST, "horizon": HORIZON, **extra, **options})


# ---------------------------------------------------------------- construction


def test_an_environment_is_an_id_an_env_a_vec_env_or_comes_later():
    single = gym.make("Toy/PointMass-v0")
    for env in ("Toy/PointMass-v0", single, make_vec_env("Toy/PointMass-v0", 2)):
        gps = GPS("MlpPolicy", env, **FAST)
        assert isinstance(gps, BaseAlgorithm) and isinstance(gps.get_env(), DummyVecEnv)
    without = GPS("MlpPolicy", None, _init_setup_model=False, **FAST)
    assert without.get_env() is None
    with pytest.raises(ValueError, match=r"no environment: pass one to GPS or to GPS\.load"):
        without.learn()


def test_a_policy_is_a_name_or_a_class():
    class Mine(GPSPolicy):
        pass

    assert type(GPS(Mine, "Toy/PointMass-v0", **FAST).policy) is Mine
    for name in ("MlpPolicy", "CnnPolicy", "MultiInputPolicy"):
        assert name in GPS.policy_aliases
    with pytest.raises(ValueError, match="subclass of GPSPolicy"):
        GPS(PPO.policy_aliases["MlpPolicy"], "Toy/PointMass-v0")


def test_the_model_may_be_set_up_later():
    gps = make("vector", _init_setup_model=False)
    assert not hasattr(gps, "policy")
    gps._setup_model()
    gps.learn()


def test_policy_kwargs_reach_the_policy():
    gps = make(
        "vector",
        policy_kwargs=dict(
            net_arch=[7, 5],
            activation_fn=th.nn.Tanh,
            optimizer_class=th.optim.AdamW,
            optimizer_kwargs=dict(weight_decay=0.01),
        ),
    )
    linear = [m.out_features for m in gps.policy.mlp_extractor.policy_net if hasattr(m, "weight")]
    assert linear == [7, 5]
    assert any(isinstance(m, th.nn.Tanh) for m in gps.policy.mlp_extractor.policy_net)
    assert isinstance(gps.policy.optimizer, th.optim.AdamW)
    gps.learn()


def test_a_features_extractor_of_the_users_own_and_normalize_images():
    from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN

    own = dict(features_extractor_class=NatureCNN, features_extractor_kwargs=dict(features_dim=9))
    gps = make("image", policy_kwargs={**own, "normalize_images": True}).learn()
    assert isinstance(gps.policy.features_extractor, NatureCNN)
    assert gps.policy.features_dim == 9 and gps.pose_images_used == 0
    own = dict(features_extractor_class=CombinedExtractor)
    make("dict", policy_kwargs=own).learn()


class FloatImage(OnlyImage):
    """Channels first, and scaled already."""

    def make_observation_space(self):
        return spaces.Box(0, 1, (3, 36, 36), np.float32)

    def observe(self):
        return super().observe().transpose(2, 0, 1).astype(np.float32) / 255


def test_images_that_are_floats_already():
    """The same student as of the same images as bytes."""
    scaled = {**SMALL_POLICY, "normalize_images": False}
    floats = make("image", limited(FloatImage)(), policy_kwargs=scaled, augmentation=None).learn()
    plain = make("image", augmentation=None).learn()
    assert floats.pose_images_used == plain.pose_images_used > 0
    image = OnlyImage().reset()[0].transpose(2, 0, 1)
    (points,) = read_feature_points(floats.policy, np.float32(image)[None] / 255)
    assert points.position.shape[1:] == (8, 2)
    actions = [
        gps.predict(seen, deterministic=True)[0]
        for gps, seen in ((floats, np.float32(image) / 255), (plain, image))
    ]
    np.testing.assert_allclose(*actions, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="normalize_images=False is for images that are floats"):
        make("image", policy_kwargs=scaled)
    with pytest.raises(ValueError, match="normalize_images=False"):
        make("image", limited(FloatImage)())


def test_an_extractor_that_knows_nothing_of_scaled_images():
    class Mine(VisuomotorExtractor):
        def __init__(self, observation_space):
            super().__init__(observation_space, **SMALL_POLICY["features_extractor_kwargs"])

    gps = make("image", policy_kwargs=dict(features_extractor_class=Mine))
    assert isinstance(gps.policy.features_extractor, Mine)


def test_learning_rate_is_a_number_or_a_schedule():
    for rate in (2e-3, lambda remaining: 2e-3 * remaining):
        gps = make("vector", learning_rate=rate)
        assert gps.lr_schedule(1.0) == 2e-3
        gps.learn()


def test_repr_and_attributes_that_other_tools_read():
    gps = make("vector", verbose=0, stats_window_size=7, tensorboard_log=None)
    for name in ("policy", "env", "observation_space", "action_space", "n_envs", "device"):
        assert getattr(gps, name) is not None
    assert gps.num_timesteps == 0 and gps.ep_info_buffer is None
    gps.learn()
    assert gps.ep_info_buffer.maxlen == 7 and gps.num_timesteps == 2 * STEPS


# ---------------------------------------------------------------- environments


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_envs", [1, 2])
def test_every_kind_of_observation_learns_predicts_and_is_evaluated(kind, n_envs, tmp_path):
    env = DummyVecEnv([limited(KINDS[kind][0])] * n_envs)
    gps = make(kind, env)
    assert gps.learn() is gps
    assert gps.num_timesteps == 2 * STEPS and gps.trials == 2 * M
    space = gps.action_space
    single = KINDS[kind][0]().reset(options={"condition": 1})[0]
    for deterministic in (True, False):
        action, state = gps.predict(single, deterministic=deterministic)
        assert action.shape == space.shape and action.dtype == space.dtype and state is None
        assert space.contains(action)
    observation = gps.get_env().reset()
    action, _ = gps.predict(observation, deterministic=True)
    assert action.shape == (n_envs, *space.shape) and space.contains(action[0])
    mean, _ = evaluate_policy(gps, env, n_eval_episodes=2, warn=False)
    assert np.isfinite(mean)
    gps.save(tmp_path / "model")
    again = GPS.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(observation, deterministic=True)[0], action)
    gps.policy.save(tmp_path / "policy.pth")
    alone = GPSPolicy.load(tmp_path / "policy.pth")
    np.testing.assert_array_equal(alone.predict(observation, deterministic=True)[0], action)


def test_actions_in_the_environments_own_range():
    """Two and five, not one: what ``predict`` gives is in the units of the environment."""

    class Wide(PointMass):
        def __init__(self):
            super().__init__()
            self.action_space = spaces.Box(
                np.array([-2, 1], np.float32), np.array([2, 5], np.float32)
            )

        def step(self, action):
            assert self.action_space.contains(np.asarray(action, self.action_space.dtype))
            return super().step((action - [0.0, 3.0]) / 2.0)

    gps = GPS("MlpPolicy", TimeLimit(Wide(), HORIZON), **{**QUICK, "horizon": HORIZON}).learn()
    action, _ = gps.predict(np.array([3.0, -3.0, 2.0, 2.0], np.float32), deterministic=True)
    assert gps.action_space.contains(action)
    costs = [row["gps/cost"] for row in gps.history]
    assert costs[-1] < 0.5 * costs[0]


@pytest.mark.parametrize("kind", KINDS)
def test_worker_processes_and_monitors(kind):
    env = VecMonitor(SubprocVecEnv([limited(KINDS[kind][0])] * 2, start_method="forkserver"))
    try:
        parallel = make(kind, env).learn()
    finally:
        env.close()
    serial = make(kind, DummyVecEnv([limited(KINDS[kind][0])] * 2)).learn()
    np.testing.assert_equal(parallel.history, serial.history)
    assert parallel.num_timesteps == 2 * STEPS
    assert [info["l"] for info in parallel.ep_info_buffer] == [HORIZON] * 2 * M


@pytest.mark.parametrize("kind", [*KINDS, "image, channels first"])
def test_frames_that_are_stacked(kind):
    kind, *transposed = kind.split(", ")
    single = DummyVecEnv([limited(KINDS[kind][0])] * 2)
    frames = VecFrameStack(VecTransposeImage(single) if transposed else single, n_stack=3)
    gps = make(kind, frames).learn()
    shapes = {
        "vector": (12,),
        "dict": {"position": (6,), "velocity": (6,)},
        "image": (9, 36, 36),
        "dict with image": {"image": (9, 36, 36), "velocity": (6,)},
    }
    seen = gps.batches[-1].observations
    if isinstance(seen, dict):
        assert {key: part.shape[3:] for key, part in seen.items()} == shapes[kind]
    else:
        assert seen.shape == (M, 1, HORIZON, *shapes[kind])
        assert gps.observation_space.shape == shapes[kind]
    # The state is the environment's own, of one frame.
    assert gps.batches[-1].samples.X.shape == (M, 1, HORIZON, 4)
    for name, part in parts_of(seen).items():
        older, now = np.split(part[:, 0, 0], [2 * part.shape[3] // 3], axis=1)
        assert not older.any()  # nothing of the episode before
        assert now.any() == (name != "velocity")  # which begins with zero


def test_normalised_rewards():
    rewards = VecNormalize(DummyVecEnv([limited(PointMass)]), norm_obs=False, norm_reward=True)
    gps = make("vector", rewards).learn()
    assert gps.get_vec_normalize_env() is rewards
    learned = VecNormalize(DummyVecEnv([limited(Rewarded)]), norm_obs=False, norm_reward=True)
    gps = make("vector", learned)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"its cost from the rewards.*norm_reward=False"):
            gps.learn()
    learned.norm_reward = False
    gps.learn()


def test_channels_are_moved_first_once():
    plain = make("image")
    assert plain.observation_space.shape == (3, 36, 36)
    wrapped = make("image", VecTransposeImage(DummyVecEnv([limited(OnlyImage)])))
    assert wrapped.observation_space == plain.observation_space
    image = OnlyImage().reset()[0]  # channels last, as the environment gives it
    assert plain.predict(image)[0].shape == plain.predict(image.transpose(2, 0, 1))[0].shape


@pytest.mark.parametrize("n_envs", [1, 2])
def test_gymnasiums_vector_env_is_refused_by_name(n_envs, tmp_path):
    env = gym.make_vec("Toy/PointMass-v0", num_envs=n_envs, vectorization_mode="sync")
    with pytest.raises(ValueError, match=rf"got Gymnasium's SyncVectorEnv.*n_envs={n_envs}"):
        GPS("MlpPolicy", env)
    model = make("vector")
    with pytest.raises(ValueError, match="make_vec_env"):
        model.set_env(env)
    model.save(tmp_path / "a")
    with pytest.raises(ValueError, match="make_vec_env"):
        GPS.load(tmp_path / "a", env)


# ---------------------------------------------------------------- callbacks


class Count(BaseCallback):
    def _on_step(self) -> bool:
        return True


def test_callbacks_are_lists_functions_and_events():
    seen = []

    def function(locals_, globals_):
        seen.append((locals_["self"].num_timesteps, "GPS" in globals_))
        return True

    make("vector").learn(callback=function)
    assert seen[-1] == (2 * STEPS, True) and len(seen) == 2 * STEPS
    count = Count()
    every = EveryNTimesteps(STEPS, count)
    make("vector").learn(callback=[every, CallbackList([Count()])])
    assert count.n_calls == 2


def test_callbacks_that_stop():
    gps = make("vector", make_vec_env("Toy/PointMass-v0"))
    gps.learn(callback=StopTrainingOnMaxEpisodes(3))
    assert gps.num_timesteps == 3 * HORIZON
    evaluate = EvalCallback(
        make_vec_env("Toy/PointMass-v0"),
        callback_on_new_best=StopTrainingOnRewardThreshold(-1e9),
        eval_freq=HORIZON,
        n_eval_episodes=1,
        verbose=0,
    )
    gps = make("vector").learn(callback=evaluate)
    assert gps.num_timesteps == HORIZON


def test_trials_that_are_cut_or_idle_are_told_as_such_to_callbacks():
    """Cut trials are episodes; what an environment does to fill the last round is none."""
    gps = make("vector", limited(PointMass)(), horizon=HORIZON - 5)
    gps.learn(callback=StopTrainingOnMaxEpisodes(3))
    assert gps.num_timesteps == 3 * (HORIZON - 5)
    count = StopTrainingOnMaxEpisodes(1000)
    gps = make("vector", DummyVecEnv([limited(PointMass)] * 3)).learn(callback=count)
    assert count.n_episodes == gps.trials == FAST["iterations"] * M
    assert count.locals["actions"].shape == (3, 2)


def test_steps_are_counted_on_or_from_zero():
    gps = make("vector").learn(total_timesteps=STEPS)
    assert gps.num_timesteps == STEPS
    gps.learn(total_timesteps=STEPS, reset_num_timesteps=False)
    assert gps.num_timesteps == 2 * STEPS and gps.iteration == 2
    gps.learn(total_timesteps=STEPS)
    assert gps.num_timesteps == STEPS and gps.iteration == 3


def test_logger_and_tensorboard(tmp_path):
    gps = make("vector")
    gps.set_logger(configure(str(tmp_path / "own"), ["csv", "json"]))
    gps.learn()
    gps.logger.close()
    header = (tmp_path / "own" / "progress.csv").read_text().splitlines()[0].split(",")
    assert {"gps/cost", "time/fps", "time/total_timesteps", "train/loss"} <= set(header)
    pytest.importorskip("tensorboard")
    make("vector", tensorboard_log=str(tmp_path / "tb")).learn(tb_log_name="mine").logger.close()
    assert list((tmp_path / "tb" / "mine_1").glob("events*"))


# ---------------------------------------------------------------- parameters, saving, loading


def test_parameters_come_and_go():
    one, other = make("vector").learn(), make("vector", seed=5)
    parameters = one.get_parameters()
    assert parameters.keys() == {"policy", "policy.optimizer"}
    other.set_parameters(parameters)
    observation = one.get_env().reset()
    np.testing.assert_array_equal(
        *(g.predict(observation, deterministic=True)[0] for g in (one, other))
    )
    with pytest.raises(ValueError, match="actor is an invalid"):
        other.set_parameters({"actor": {}})


def test_load_with_and_without_an_environment(tmp_path):
    gps = make("vector", learning_rate=2e-3).learn()
    gps.save(tmp_path / "a")
    lower = GPS.load(tmp_path / "a", custom_objects={"learning_rate": 1e-4})
    assert lower.learning_rate == 1e-4
    assert GPS.load(tmp_path / "a", kl_step=0.5).kl_step == 0.5
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        GPS.load(tmp_path / "a", limited(DictPointMass)())
    with pytest.raises(ValueError, match="do not equal the stored"):
        GPS.load(tmp_path / "a", policy_kwargs=dict(net_arch=[3]))
    gps.save(tmp_path / "b", exclude=["history"], include=["_task"])
    again = GPS.load(tmp_path / "b", limited(PointMass)())
    assert again.history == []
    again.learn(total_timesteps=STEPS)


def elsewhere():
    """Put the global generators where nobody expects them."""
    th.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002


@pytest.mark.parametrize("kind", ["vector", "dict with image"])
def test_the_same_seed_is_the_same_run_whatever_came_before(kind):
    options = dict(noise_smoothing=0.0, iterations=3, teacher_iterations=2)
    first = make(kind, **options).learn()
    elsewhere()
    again = make(kind, **options)
    elsewhere()  # as another model would
    again.learn()
    np.testing.assert_equal(first.history, again.history)
    for name, value in first.policy.state_dict().items():
        assert th.equal(value, again.policy.state_dict()[name]), name
    observation, drawn = first.get_env().reset(), []
    for gps in (first, again):
        gps.set_random_seed(3)
        drawn.append(gps.predict(observation, deterministic=False)[0])
    np.testing.assert_array_equal(*drawn)


def test_set_random_seed_is_that_of_the_run():
    runs = []
    for first in (1, 2):
        gps = make("vector", seed=first)
        gps.set_random_seed(7)
        gps.set_random_seed(None)  # as SB3's: nothing
        runs.append(gps.learn().history[0]["gps/cost"])
    assert runs[0] == runs[1] != make("vector", seed=1).learn().history[0]["gps/cost"]
    again = []
    for seed in (8, 9):  # also of what comes after the end of a run
        gps = make("vector").learn()
        gps.set_random_seed(seed)
        again.append(gps.learn(total_timesteps=STEPS).history[-1]["gps/cost"])
    assert again[0] != again[1]


# ---------------------------------------------------------------- on to PPO


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_go_on_under_ppo(kind):
    gps = make(kind, DummyVecEnv([limited(KINDS[kind][0])])).learn()
    env = DummyVecEnv([limited(KINDS[kind][0])])
    ppo = PPO(
        type(gps.policy), env, n_steps=64, policy_kwargs=gps.policy_kwargs, seed=0, device="cpu"
    )
    ppo.policy.load_state_dict(gps.policy.state_dict())
    observation = env.reset()
    np.testing.assert_array_equal(
        *(a.predict(observation, deterministic=True)[0] for a in (gps, ppo))
    )
    ppo.learn(STEPS)
