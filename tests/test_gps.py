"""The run: that it learns, stops, goes on, reports, and is reproducible."""

from __future__ import annotations

import io
import os
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    ProgressBarCallback,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from toy_envs import HORIZON, QUICK, SMALL_POLICY, ImagePointMass, PointMass, cost

from sb3_gps import GPS
from sb3_gps.policies import GPSPolicy
from sb3_gps.snapshots import digest
from sb3_gps.supervised import student_actions

M = 4
STEPS = M * HORIZON  # of one iteration


def model(env="PointMass", **options) -> GPS:
    env = gym.make(f"Toy/{env}-v0") if isinstance(env, str) else env
    images = isinstance(env.observation_space, gym.spaces.Dict)
    extra = {"policy_kwargs": SMALL_POLICY} if images else {}
    return GPS("CnnPolicy" if images else "MlpPolicy", env, **{**QUICK, **extra, **options})


def observation_of(gps: GPS, seed: int = 0):
    """Observations as ``predict`` takes them, far from where anything was trained too."""
    gps.observation_space.seed(seed)
    samples = [gps.observation_space.sample() for _ in range(5)]
    if isinstance(samples[0], dict):
        return {key: np.stack([s[key] for s in samples]) for key in samples[0]}
    return np.stack(samples)


def assert_same_weights(a: GPS, b: GPS) -> None:
    left, right = a.policy.state_dict(), b.policy.state_dict()
    assert left.keys() == right.keys()
    different = [name for name in left if not th.equal(left[name], right[name])]
    assert not different


# ---------------------------------------------------------------- learning

RULES = {
    "badmm": dict(update="badmm"),
    "badmm adapting nu": dict(update="badmm", adapt_nu=True),
    "dual gradient": dict(update="badmm", kl_penalty=False),
    "mdgps": dict(update="mdgps"),
    "mdgps on-policy": dict(update="mdgps", sampling="student"),
    "mdgps on-policy global": dict(update="mdgps", sampling="student", step_rule="global"),
    "mdgps global": dict(update="mdgps", step_rule="global"),
    "mdgps new starts": dict(update="mdgps", sampling="global"),
}


@pytest.mark.parametrize("prior", ["pooled", "mixture"])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_learns(rule, prior):
    gps = model(**RULES[rule], prior=prior, iterations=5, last_head_steps=200)
    gps.learn()
    costs = [row["gps/cost"] for row in gps.history]
    assert costs[-1] < 0.35 * costs[0]
    # The student does as well as its teachers, without their noise.
    mean_return, _ = evaluate_policy(gps, gps.get_env(), n_eval_episodes=2)
    assert -mean_return < 0.35 * costs[0]
    batch = gps.batches[-1]
    actions = student_actions(gps.policy, batch.observations.reshape(-1, 4))
    learned = gps.teachers.fit.controller  # that the last fit was to, not what is next
    teacher = learned[:, None].mean(batch.samples.X).reshape(-1, 2)
    error, scale = (np.sqrt(np.square(a).mean()) for a in (actions - teacher, teacher))
    assert error < 0.3 * scale


@pytest.mark.parametrize("options", [{}, {"prior": "network"}, {"sampling": "global"}])
def test_without_a_cost_and_with_episodes_that_end(options):
    """From rewards alone, which nobody gets outside of a disc that many first trials leave."""
    gps = model("Rewarded", iterations=6, initial_std=1.0, **options)
    lengths = []
    original = gps._sample

    def spy(*args):
        episodes = original(*args)
        lengths.append(episodes.length)
        return episodes

    gps._sample = spy
    gps.learn()
    assert lengths[0].min() < HORIZON == lengths[-1].min()
    assert gps.num_timesteps == np.sum(lengths)
    assert gps.trials == 6 * M and gps.history[-1]["gps/reward_error"] < 0.2
    assert np.isnan(gps.history[0]["gps/reward_error"])
    # The cost is what the trials were paid, in units of the rewards' first deviation.
    assert gps.learned_cost.scale > 0
    mean_return, _ = evaluate_policy(gps, gps.get_env(), n_eval_episodes=4)
    best = 3.0 * HORIZON
    assert mean_return > 0.8 * best


def test_new_starts_come_from_plain_resets():
    """The trials of the student begin where nobody has begun, and its older batches teach on."""
    env = gym.make("Toy/PointMass-v0", init_noise=0.5)
    gps = model(env, sampling="global", iterations=5, student_batches=4)
    starts, original = [], gps._sample

    def spy(task, *args):
        episodes = original(task, *args)
        starts.append(episodes.X[:, 0].copy())
        return episodes

    gps._sample = spy
    gps.learn()
    first, later = starts[:2], np.concatenate(starts[2:])
    assert len(np.unique(later.round(9), axis=0)) == len(later)  # no start came twice
    assert not (later[:, None] == np.concatenate(first)[None]).all(-1).any()
    settled = [batch.targets is not None for batch in gps.batches]
    assert settled == [True, True, True, False]
    assert gps.history[-1]["gps/rolled_back"] == 0


@pytest.mark.parametrize("update", ["badmm", "mdgps"])
def test_images_and_pretraining(update):
    gps = model("ImagePointMass", update=update, iterations=5, end_to_end_steps=30)
    rendered = []
    original = gps._iterate

    def spy(*args):
        original(*args)
        rendered.append(gps.batches[-1].observations is not None)

    gps._iterate = spy
    gps.learn()
    assert gps.blind_iterations == 2 and gps.state_policy is not None
    assert gps.pose_images_used == 40 and gps.pose_error_cm > 0
    costs = [row["gps/cost"] for row in gps.history]
    assert costs[-1] < 0.35 * costs[0]
    # Only what the policy is trained on was rendered: the last blind batch, and what followed.
    assert rendered == [False] + [True] * 4
    assert len(gps.batches) == 2
    assert gps.batches[-1].observations["image"].shape == (M, 1, HORIZON, 3, 36, 36)


def test_phases_can_be_left_out():
    gps = model(
        "ImagePointMass",
        iterations=2,
        pose_images=0,
        teacher_iterations=0,
        last_head_steps=0,
        last_end_to_end_steps=0,
    )
    gps.learn()
    assert gps.pose_images_used == 0 and gps.pose_error_cm is None
    assert gps.state_policy is None
    assert gps._n_updates == 2 * (60 + 10)


def test_several_samples_a_condition():
    gps = model(samples_per_condition=3, conditions=2, iterations=3).learn()
    assert gps.trials == 3 * 2 * 3
    assert gps.batches[-1].samples.X.shape == (2, 3, HORIZON, 4)


def test_the_student_needs_no_state():
    """The velocity is in info alone: without it, the student acts the same."""
    gps = model("PositionOnly").learn()
    assert gps.observation_space.shape == (2,)
    with_state, without = gym.make("Toy/PositionOnly-v0"), gym.make("Toy/PositionOnly-v0")
    without.unwrapped.info = dict
    paths = []
    for env in (with_state, without):
        observation, info = env.reset(options={"condition": 2})
        assert ("state" in info) == (env is with_state)
        path = []
        for _ in range(HORIZON):
            action, _ = gps.predict(observation, deterministic=True)
            observation = env.step(action)[0]
            path.append(action)
        paths.append(path)
    np.testing.assert_array_equal(*paths)


def test_a_learning_rate_that_falls_to_zero_still_teaches_at_the_end():
    gps = model(learning_rate=lambda remaining: 1e-3 * remaining, iterations=4)
    rates = []
    original = gps._iterate

    def spy(*args):
        original(*args)
        rates.append(gps.student_rate)

    gps._iterate = spy
    gps.learn()
    np.testing.assert_allclose(rates, [1e-3, 0.75e-3, 0.5e-3, 0.25e-3])


# ---------------------------------------------------------------- budget and workers


def test_total_timesteps_are_rounded_to_iterations():
    for steps, iterations in ((1, 1), (int(1.4 * STEPS), 1), (int(1.6 * STEPS), 2)):
        gps = model(head_steps=1, last_head_steps=0, last_end_to_end_steps=0)
        gps.learn(total_timesteps=steps)
        assert (gps.iteration, gps.num_timesteps) == (iterations, iterations * STEPS)
        assert gps.trials == iterations * M


def test_total_timesteps_are_those_that_were_lived():
    """Where episodes end early, there are more iterations, until the steps are used up."""
    gps = model("Rewarded", initial_std=1.0, head_steps=5)
    remaining, original = [], gps._iterate

    def spy(*args):
        original(*args)
        remaining.append(gps._current_progress_remaining)

    gps._iterate = spy
    gps.learn(total_timesteps=3 * STEPS)
    assert gps.iteration > 3 and 2.5 * STEPS < gps.num_timesteps < 3.5 * STEPS
    assert min(remaining) >= 0.0


def test_the_student_acts_only_after_it_has_learned_from_the_last_improvement():
    """On its own trials it is improved first, and then follows."""
    order = []
    gps = model(sampling="student", iterations=4, inner_iterations=1)
    for owner, name in ((gps, "_sample"), (gps, "_study")):
        original = getattr(owner, name)

        def spy(*args, original=original, name=name, **kwargs):
            order.append(name)
            return original(*args, **kwargs)

        setattr(owner, name, spy)
    set_up = gps._set_up_teachers

    def with_spy(*args):
        set_up(*args)
        improve = gps.teachers.improve
        gps.teachers.improve = lambda *a: (order.append("improve"), improve(*a))[1]

    gps._set_up_teachers = with_spy
    gps.learn()
    teachers_act = ["_sample", "improve", "_sample", "_study", "improve"]
    student_acts = ["_sample", "improve", "_study"]
    assert order == [*teachers_act, *student_acts, *student_acts, "_study"]


def make_toy(**kwargs):
    return lambda: TimeLimit(PointMass(**kwargs), HORIZON)


@pytest.mark.parametrize("n_envs", [1, 3])
def test_the_number_of_workers_does_not_change_the_result(n_envs):
    """With initial-state noise: each episode has a seed of its own."""
    env = DummyVecEnv([make_toy(init_noise=0.05)] * n_envs)
    gps = model(env, iterations=2, horizon=HORIZON).learn()
    alone = model(DummyVecEnv([make_toy(init_noise=0.05)]), iterations=2, horizon=HORIZON).learn()
    assert gps.trials == alone.trials == 2 * M
    assert gps.batches[0].samples.X[:, 0, 0].std(axis=0)[0] > 0
    for a, b in zip(gps.batches, alone.batches, strict=True):
        # Nets and controllers see batches of other sizes: equal but for rounding.
        np.testing.assert_allclose(a.samples.X, b.samples.X, atol=1e-6)


def test_trials_of_longer_episodes_are_cut():
    """And are the same as where the episodes have that length."""
    longer = DummyVecEnv([lambda: TimeLimit(PointMass(init_noise=0.05), 4 * HORIZON)])
    gps, whole = (
        model(env, iterations=2, horizon=HORIZON).learn()
        for env in (longer, DummyVecEnv([make_toy(init_noise=0.05)]))
    )
    assert gps.num_timesteps == whole.num_timesteps == 2 * STEPS
    assert_same_weights(gps, whole)


def test_environments_that_fill_the_last_round_are_no_trials():
    """Four trials on three environments: two rounds, six episodes, four of them real."""
    gps = model(DummyVecEnv([lambda: Monitor(make_toy()())] * 3), iterations=2, horizon=HORIZON)
    remaining = []
    original = gps._iterate

    def spy(*args):
        original(*args)
        remaining.append(gps._current_progress_remaining)

    gps._iterate = spy
    gps.learn()
    assert len(gps.ep_info_buffer) == gps.trials == 2 * M
    assert gps.num_timesteps == 2 * 6 * HORIZON
    np.testing.assert_allclose(remaining, [0.5, 0.0])  # or a schedule would turn negative


def test_vec_normalize():
    env = DummyVecEnv([make_toy()])
    with pytest.raises(ValueError, match=r"standardises its inputs itself.*norm_obs=False"):
        model(VecNormalize(env))
    normalised = VecNormalize(env, norm_obs=False)
    gps = model(normalised, iterations=2, horizon=HORIZON).learn()
    plain = model(DummyVecEnv([make_toy()]), iterations=2, horizon=HORIZON).learn()
    assert_same_weights(gps, plain)  # rewards are not what it learns from
    with pytest.raises(ValueError, match="norm_obs=False"):
        gps.set_env(VecNormalize(env))


# ---------------------------------------------------------------- callbacks and the log


class Recorder(BaseCallback):
    """Notes what it is told, and stops after some steps."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.events: list[str] = []
        self.stop_after = stop_after

    def _on_training_start(self) -> None:
        assert self.locals["total_timesteps"] % STEPS == 0
        assert self.locals["self"] is self.model
        self.events.append("start")

    def _on_rollout_start(self) -> None:
        self.events.append("rollout start")

    def _on_step(self) -> bool:
        assert {"total_timesteps", "new_obs", "rewards", "dones", "infos"} <= self.locals.keys()
        assert len(self.locals["infos"]) == self.model.n_envs
        assert self.num_timesteps == self.model.num_timesteps
        self.events.append("step")
        return self.stop_after is None or self.n_calls < self.stop_after

    def _on_rollout_end(self) -> None:
        self.events.append("rollout end")

    def _on_training_end(self) -> None:
        self.events.append("end")


def test_order_of_callbacks():
    recorder = Recorder()
    gps = model(iterations=2)
    gps.learn(callback=recorder)
    iteration = ["rollout start", *["step"] * STEPS, "rollout end"]
    assert recorder.events == ["start", *iteration, *iteration, "end"]
    assert gps.num_timesteps == 2 * STEPS
    assert gps._current_progress_remaining == pytest.approx(0.0)


def test_a_callback_stops_the_run_at_once():
    recorder = Recorder(stop_after=STEPS + 7)
    gps = model(iterations=3)
    gps.learn(callback=recorder)
    assert gps.num_timesteps == STEPS + 7
    assert recorder.events[-2:] == ["step", "end"]
    assert gps.iteration == 1
    gps.learn(total_timesteps=STEPS)  # what was sampled in part is dropped; the run goes on
    assert gps.iteration == 2


def test_stop_while_blind_then_go_on():
    gps = model("ImagePointMass", iterations=7, teacher_iterations=4)
    gps.learn(callback=Recorder(stop_after=2 * STEPS - 1))
    assert gps.iteration == 1
    gps.learn(total_timesteps=STEPS)  # still blind: there is nothing for the policy to learn from
    assert gps.iteration == 2


def test_eval_and_checkpoint_callbacks(tmp_path):
    evaluate = EvalCallback(
        make_vec_env("Toy/PointMass-v0"),
        n_eval_episodes=1,
        eval_freq=STEPS,
        best_model_save_path=str(tmp_path / "best"),
        verbose=0,
    )
    checkpoint = CheckpointCallback(STEPS, str(tmp_path), name_prefix="toy")
    gps = model(iterations=2)
    gps.learn(callback=[evaluate, checkpoint])
    names = {path.name for path in tmp_path.rglob("*.zip")}
    assert names == {"best_model.zip", f"toy_{STEPS}_steps.zip", f"toy_{2 * STEPS}_steps.zip"}
    assert np.isfinite(evaluate.last_mean_reward)
    half_way = GPS.load(tmp_path / f"toy_{STEPS}_steps", gym.make("Toy/PointMass-v0"))
    half_way.learn(total_timesteps=STEPS)


@pytest.mark.filterwarnings("ignore:rich is experimental")
def test_progress_bars():
    pytest.importorskip("rich")
    model(iterations=1).learn(progress_bar=True)
    pytest.importorskip("tqdm")
    model(iterations=1).learn(callback=ProgressBarCallback())


class Log(KVWriter):
    """Keeps every dump."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def write(self, key_values, key_excluded, step=0) -> None:
        self.rows.append(dict(key_values))

    def close(self) -> None:
        pass


@pytest.mark.parametrize("sampling", ["teacher", "student"])
def test_the_log(sampling):
    log = Log()
    # A rolled back condition would improve on its best cost, not on its last.
    gps = model(update="mdgps", sampling=sampling, rollback_slack=1e9)
    gps.set_logger(Logger(folder=None, output_formats=[log]))
    gps.learn()
    assert len(log.rows) == 4
    expected = {f"gps/cost_{m}" for m in range(M)}
    expected |= {
        f"gps/{name}"
        for name in (
            "cost kl kl_met eta epsilon nu entropy predicted_improvement actual_improvement "
            f"rolled_back held_out_error trials iteration {sampling}_success"
        ).split()
    }
    expected |= {"rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/success_rate"}
    expected |= {"time/fps", "time/time_elapsed", "time/total_timesteps"}
    expected |= {"train/loss", "train/learning_rate", "train/n_updates"}
    assert expected <= log.rows[-1].keys()
    assert all(np.isfinite(value) for row in log.rows for value in row.values())
    last = log.rows[-1]
    assert last["gps/trials"] == last["gps/iteration"] * M == 4 * M
    assert last["rollout/ep_len_mean"] == HORIZON
    costs = [last[f"gps/cost_{m}"] for m in range(M)]
    assert np.mean(costs) == pytest.approx(last["gps/cost"])
    # Monitor's return is the negative cost, averaged over all episodes so far.
    seen = np.mean([row["gps/cost"] for row in log.rows])
    assert -last["rollout/ep_rew_mean"] == pytest.approx(seen, rel=1e-4)
    assert last["gps/actual_improvement"] == pytest.approx(
        log.rows[-2]["gps/cost"] - last["gps/cost"], rel=1e-6
    )


def test_log_interval():
    log = Log()
    gps = model(iterations=4, head_steps=1)
    gps.set_logger(Logger(folder=None, output_formats=[log]))
    gps.learn(log_interval=2)
    assert [row["gps/iteration"] for row in log.rows] == [2, 4]


# ---------------------------------------------------------------- saving and going on


@pytest.mark.parametrize("env", ["PointMass", "ImagePointMass"])
def test_save_and_load(env, tmp_path):
    gps = model(env).learn()
    gps.save(tmp_path / "toy")
    assert [path.name for path in tmp_path.iterdir()] == ["toy.zip"]
    observation = observation_of(gps)
    alone = GPS.load(tmp_path / "toy")
    np.testing.assert_array_equal(
        gps.predict(observation, deterministic=True)[0],
        alone.predict(observation, deterministic=True)[0],
    )
    th.manual_seed(3)
    noisy = gps.predict(observation, deterministic=False)[0]
    th.manual_seed(3)
    np.testing.assert_array_equal(noisy, alone.predict(observation, deterministic=False)[0])
    with pytest.raises(ValueError, match="set_env"):
        alone.learn()
    again = GPS.load(tmp_path / "toy.zip", gym.make(f"Toy/{env}-v0"))
    assert (again.iteration, again.trials) == (4, 16)
    before = again.history[-1]["gps/cost"]
    again.learn(total_timesteps=2 * STEPS)
    assert again.iteration == 6 and again.history[-1]["gps/cost"] < 1.3 * before + 1.0
    again.learn(total_timesteps=STEPS, reset_num_timesteps=False)
    assert again.num_timesteps == 3 * STEPS


def test_save_keeps_sb3_names_and_files(tmp_path):
    gps = model()
    gps.save(str(tmp_path / "new" / "deep" / "a"))
    gps.save(tmp_path / "b.model")
    gps.save(tmp_path / "b.model")  # over itself
    buffer = io.BytesIO()
    gps.save(buffer)
    buffer.seek(0)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.zip", "b.model"]
    for source in (tmp_path / "new/deep/a", tmp_path / "b.model", buffer):
        assert_same_weights(gps, GPS.load(source))


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    gps = model()
    gps.save(tmp_path / "a")
    before = (tmp_path / "a.zip").read_bytes()

    def broken(path, **kwargs):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("stable_baselines3.common.base_class.save_to_zip_file", broken)
    with pytest.raises(OSError, match="disk full"):
        gps.save(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    assert (tmp_path / "a.zip").read_bytes() == before


def test_an_interrupted_save_of_the_policy_leaves_the_old_file(tmp_path, monkeypatch):
    policy, path = model().policy, tmp_path / "policy.pth"
    policy.save(path)
    before = path.read_bytes()
    policy.save(str(path))
    assert path.read_bytes() == before  # nothing of the time or the process is in it

    def broken(saved, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("torch.save", broken)
    with pytest.raises(OSError, match="disk full"):
        policy.save(str(path))
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == before
    monkeypatch.undo()
    with open(path, "wb") as file:
        policy.save(file)
    assert GPSPolicy.load(path).action_space == policy.action_space


@pytest.mark.parametrize("env", ["PointMass", "ImagePointMass"])
def test_a_saved_model_is_no_larger_than_what_it_must_keep(env, tmp_path):
    """What follows from other things is not stored, nor is anything stored twice."""
    T = 100
    options = dict(end_to_end_steps=2, iterations=5, last_head_steps=0, last_end_to_end_steps=0)
    env = gym.make(f"Toy/{env}-v0", init_noise=0.05, max_episode_steps=T, num_conditions=6)
    gps = model(env, **options, rollback=0.0, rollback_slack=0.0).learn()
    for _ in range(20):  # until some conditions, not all, are rolled back
        if len(gps.teachers.evidence) > 1:
            break
        gps.learn(total_timesteps=6 * T, reset_num_timesteps=False)
    gps.save(tmp_path / "whole")
    gps.save(tmp_path / "policy", exclude=GPS.run_state)
    whole, policy = (os.path.getsize(tmp_path / f"{name}.zip") for name in ("whole", "policy"))

    teachers = gps.teachers
    sources = [*teachers.recent, *(s for e in teachers.evidence.values() for s in e.recent)]
    samples = {id(s): s.Z.nbytes for s in sources}
    controllers = [teachers.controller, teachers.current.controller, teachers.best.controller]
    dU, dX = teachers.controller.K.shape[-2:]
    one = 6 * T * (dU * dX + dU + dU * (dU + 1) // 2) * 8  # K, k, and C once a pair
    kept = sum(samples.values()) + len(controllers) * one + teachers.duals.lam.nbytes
    for batch in gps.batches:
        parts = batch.observations
        parts = list(parts.values()) if isinstance(parts, dict) else [parts]
        # Successive images are nearly the same.
        kept += sum(p.nbytes // (10 if p.dtype == np.uint8 else 1) for p in parts)
    assert len(samples) <= 5 and len(teachers.evidence) > 1
    assert whole - policy < kept
    again = GPS.load(tmp_path / "policy")
    assert again.teachers is None and again.batches == []
    assert "_task" not in gps.__dict__.keys() - set(gps._excluded_save_params())


def test_an_environment_whose_cost_is_a_method_can_be_saved(tmp_path):
    class Unpicklable(PointMass):
        def __init__(self):
            super().__init__()
            self.handle = open(os.devnull)  # noqa: SIM115  cannot be pickled

        def cost(self, x, u, t):
            return cost(x, u, t)

    env = TimeLimit(Unpicklable(), HORIZON)
    gps = model(env, iterations=2, horizon=HORIZON).learn()
    gps.save(tmp_path / "a")
    again = GPS.load(tmp_path / "a", env)
    again.learn(total_timesteps=STEPS)
    assert again.teachers.cost.function == env.unwrapped.cost
    env.unwrapped.handle.close()


def test_an_environment_of_another_shape_is_refused():
    gps = model(iterations=1).learn()
    gps.set_env(gym.make("Toy/PointMass-v0", num_conditions=3))
    with pytest.raises(ValueError, match=r"\(4, 15, 2, 4\).*\(3, 15, 2, 4\).*new GPS"):
        gps.learn()


def test_set_env_looks_the_task_up_again():
    gps = model(iterations=1).learn()
    gps.set_env(gym.make("Toy/PointMass-v0", init_noise=0.3))
    gps.learn(total_timesteps=STEPS)
    assert gps.batches[-1].samples.X[0, 0, 0, 0] != 1.0


# ---------------------------------------------------------------- the same again

STOCHASTIC = {
    "badmm": ("PointMass", dict(adapt_nu=True)),
    "mdgps on-policy": ("PointMass", dict(update="mdgps", sampling="student", step_rule="global")),
    "mixture": ("PointMass", dict(prior="mixture")),
    "rollback": ("PointMass", dict(sampling="student", rollback=0.0, rollback_slack=0.0)),
    "images": ("ImagePointMass", dict(teacher_iterations=1)),
    "learned cost": ("Rewarded", dict(prior="network")),
    "global sampling": ("PointMass", dict(sampling="global", prior="network")),
    "rollback, new starts": ("PointMass", dict(sampling="global")),
    "practice": (
        "PointMass",
        dict(sampling="global", prior="network", imagined_rounds=1, imagined_conditions=4),
    ),
    "rollback, practice": (
        "PointMass",
        dict(sampling="global", prior="network", imagined_rounds=1, imagined_conditions=4),
    ),
}


@pytest.mark.parametrize("case", STOCHASTIC)
def test_same_seed_same_result(case):
    env, options = STOCHASTIC[case]
    runs = []
    for _ in range(2):
        gps = model(gym.make(f"Toy/{env}-v0", init_noise=0.05), **options, iterations=3)
        runs.append(gps.learn())
    assert_same_weights(*runs)
    other = model(
        gym.make(f"Toy/{env}-v0", init_noise=0.05), **{**options, "seed": 1}, iterations=3
    )
    other.learn()
    assert runs[0].history[0]["gps/cost"] != other.history[0]["gps/cost"]


@pytest.mark.parametrize("case", STOCHASTIC)
def test_a_resumed_run_equals_the_uninterrupted_one(case, tmp_path, monkeypatch):
    """Bit for bit, though torch's and numpy's global generators stand elsewhere.

    The last fit at the half leaves no trace.
    """
    env, options = STOCHASTIC[case]
    if case.startswith("rollback, "):  # a student that is always worse than the best before it
        monkeypatch.setattr("sb3_gps.gps.broke", lambda *_: True)

    def make_env():
        return gym.make(f"Toy/{env}-v0", init_noise=0.05)

    whole = model(make_env(), **options)
    whole.learn(total_timesteps=4 * STEPS)
    half = model(make_env(), **options)
    half.learn(total_timesteps=2 * STEPS)
    half.save(tmp_path / "half")
    th.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    resumed = GPS.load(tmp_path / "half", make_env())
    resumed.learn(total_timesteps=2 * STEPS, reset_num_timesteps=False)
    np.testing.assert_equal(resumed.history, whole.history)
    assert_same_weights(resumed, whole)
    for a, b in zip(resumed.batches, whole.batches, strict=True):
        np.testing.assert_array_equal(a.samples.X, b.samples.X)
    np.testing.assert_array_equal(resumed.teachers.controller.K, whole.teachers.controller.K)
    assert resumed.num_timesteps == whole.num_timesteps == 4 * STEPS
    if "rollback" in case:
        assert sum(row["gps/rolled_back"] for row in whole.history[2:]) > 0
    if "practice" in case:
        assert whole.history[-1]["gps/imagined_steps"] > 0
    moments, wanted = (g.policy.optimizer.state_dict()["state"] for g in (resumed, whole))
    assert moments.keys() == wanted.keys() and moments
    for key in moments:
        assert all(th.equal(moments[key][name], wanted[key][name]) for name in moments[key])


def test_going_on_after_the_weights_were_changed_keeps_them():
    """Only where the policy is still what the last fit left, it is undone."""
    gps = model(iterations=2).learn()
    weights = {name: value + 0.1 for name, value in gps.get_parameters()["policy"].items()}
    gps.set_parameters({"policy": weights}, exact_match=False)
    gps.learn(callback=Recorder(stop_after=3))
    assert all(th.equal(gps.policy.state_dict()[name], weights[name]) for name in weights)


def test_a_learn_that_is_stopped_at_once_leaves_what_was_there():
    """The end of the last one, which going on undoes first; and then it goes on as if never."""
    gps, whole = (model(iterations=2).learn() for _ in range(2))
    before = digest(gps.policy)
    gps.learn(callback=Recorder(stop_after=3))
    assert digest(gps.policy) == before
    for run in (gps, whole):
        run.learn(total_timesteps=STEPS)
    assert digest(gps.policy) == digest(whole.policy) != before
    np.testing.assert_equal(gps.history, whole.history)


def test_a_learn_that_is_stopped_while_it_learns_keeps_its_trials(monkeypatch):
    """They are in the fits already: to go on is to go on with others."""
    gps = model(sampling="student", iterations=3).learn()

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("sb3_gps.student.Student.approach", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gps.learn(total_timesteps=STEPS)
    gps.learn(total_timesteps=STEPS)
    before, after = (batch.samples.U for batch in gps.batches[-2:])
    assert (before != after).any()


def test_budgets_that_are_no_whole_iterations_add_up():
    whole, parts = model(), model()
    whole.learn(total_timesteps=5 * STEPS)
    for _ in range(3):  # 1.4, 2.8 and 4.2 iterations' worth
        parts.learn(total_timesteps=int(1.4 * STEPS), reset_num_timesteps=False)
    assert parts.iteration == 4 and parts.num_timesteps == 4 * STEPS
    parts.learn(total_timesteps=int(0.8 * STEPS), reset_num_timesteps=False)
    np.testing.assert_equal(parts.history, whole.history)
    parts.learn(total_timesteps=STEPS, callback=Recorder(stop_after=3), reset_num_timesteps=False)
    assert parts.steps_owed == 0  # it was not meant to be longer
    short = model()
    for done in (1, 2, 3):  # at least one iteration each
        short.learn(total_timesteps=STEPS // 2, reset_num_timesteps=False)
        assert short.iteration == done and short.steps_owed == -done * STEPS // 2


@pytest.mark.parametrize("sampling", ["teacher", "global"])
def test_a_checkpoint_in_the_middle_of_a_batch_repeats_it(sampling, tmp_path):
    """What SB3's callback saves is as good a start: the batch it interrupted is sampled again."""
    before = 3 * STEPS  # the student acts in the last of four

    def make_env():
        return gym.make("Toy/PointMass-v0", init_noise=0.05)

    whole = model(make_env(), sampling=sampling)
    whole.learn(callback=CheckpointCallback(before + 7, str(tmp_path), name_prefix="toy"))
    resumed = GPS.load(tmp_path / f"toy_{before + 7}_steps", make_env())
    assert resumed.iteration == 3
    resumed.learn(total_timesteps=STEPS)
    np.testing.assert_equal(resumed.history, whole.history)
    assert_same_weights(resumed, whole)


def test_a_run_stopped_in_its_first_iteration_is_pretrained_once(tmp_path):
    gps = model("ImagePointMass", iterations=3)
    gps.learn(callback=Recorder(stop_after=7))
    assert gps.iteration == 0 and gps.pose_images_used == 40
    gps.save(tmp_path / "a")
    again = GPS.load(tmp_path / "a", gym.make("Toy/ImagePointMass-v0"))
    gps.learn(total_timesteps=STEPS)
    again.learn(total_timesteps=STEPS)
    assert gps.pose_images_used == again.pose_images_used == 40
    np.testing.assert_equal(again.history, gps.history)
    assert_same_weights(again, gps)


def test_a_model_without_its_teachers_acts_but_does_not_learn(tmp_path):
    gps = model(iterations=2).learn()
    gps.save(tmp_path / "policy", exclude=["teachers", "batches"])
    alone = GPS.load(tmp_path / "policy", gym.make("Toy/PointMass-v0"))
    assert_same_weights(alone, gps)
    with pytest.raises(ValueError, match=r"without its teachers after 2 iterations.*new GPS"):
        alone.learn()


def test_image_env_without_offers_of_its_own():
    """No blind resets and no random poses: everything is rendered, nothing pretrained."""

    class Plain(ImagePointMass):
        image_on_demand = False
        random_poses = False

    gps = model(TimeLimit(Plain(), HORIZON), iterations=3, horizon=HORIZON).learn()
    assert gps.pose_images_used == 0
    assert all(batch.observations is not None for batch in gps.batches)


def test_a_student_that_broke_goes_back_to_its_best():
    """Where starts are always new: by the mean of its own trials, and with half the step."""
    gps = model(sampling="global", iterations=4, rollback_slack=0.0).learn()
    best = gps.champion
    assert np.isfinite(best.cost) and gps.teachers.stride == 1.0
    weights = {name: value.clone() for name, value in gps.policy.state_dict().items()}
    with th.no_grad():
        gps.policy.action_net.bias.add_(3.0)  # pushes to one side, wherever it is
    acted, original = [], gps._back_to_the_champion

    def spy(student, observed, linearised):
        acted.append({name: v.clone() for name, v in gps.policy.state_dict().items()})
        chosen, tried, went_back = original(student, observed, linearised)
        restored = gps.policy.state_dict()
        assert all(th.equal(restored[name], best.policy.weights[name]) for name in restored)
        assert went_back and observed.rolled_back.all() and chosen is not linearised
        assert tried is best.policy
        assert len(gps.batches) > 1
        for batch in gps.batches[:-1]:  # what led away from it is forgotten
            np.testing.assert_array_equal(batch.targets[0], student.actions(batch))
        return chosen, tried, went_back

    gps._back_to_the_champion = spy
    gps.learn(total_timesteps=STEPS, reset_num_timesteps=False)
    assert not th.equal(acted[0]["action_net.bias"], weights["action_net.bias"])
    assert gps.champion is best and gps.teachers.stride == 0.5
    assert (gps.teachers.multiplier == 0.5).all()
    assert gps.history[-1]["gps/rolled_back"] == M
    goes_on = gps.unfinished.policy.weights  # with another mean, and no more noise
    assert th.equal(goes_on["action_covariance"], best.policy.weights["action_covariance"])
    assert not th.equal(goes_on["action_net.bias"], best.policy.weights["action_net.bias"])


class Acting(BaseCallback):
    """Digests of the policies that acted."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self.seen.append(digest(self.model.policy))


@pytest.mark.parametrize("iterations", [3, 4])
def test_what_is_left_acted_in_the_last_trials_where_starts_are_new(iterations):
    gps, acted = model(sampling="global"), Acting()
    gps.learn(iterations * STEPS, acted)
    assert digest(gps.policy) == acted.seen[-1] != acted.seen[-2]
    # The run goes on from what was learned from these trials.
    gps.learn(STEPS, acted, reset_num_timesteps=False)
    assert acted.seen[-1] not in acted.seen[:-1]
    assert digest(gps.policy) == acted.seen[-1]
