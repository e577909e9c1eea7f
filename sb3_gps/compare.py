"""Success on unseen positions against environment steps: GPS, and what is used for this today.

    ppo, sac, tqc            learn from the images, with the network of GPS's student
    ppo-nature               the same with SB3's own network of images
    ppo-state, sac-state     learn from the full state, and need it to act: an upper reference
    ppo-state-time           PPO on the state and the time, which the cost depends on
    sac-asymmetric           critic on the state, actor on the images (Pinto et al. 2018)
    dagger                   SAC learns from the state; then a student of the images imitates it

All have one cost, one protocol and one count of steps: pose images of GPS and the training of
DAgger's expert are in it.
"""

from __future__ import annotations

import copy
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium.wrappers import TimeAwareObservation
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.type_aliases import PolicyPredictor
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, VecTransposeImage

from sb3_gps.baselines import OnEvaluation, train_gps, train_resumably
from sb3_gps.curves import Curve, Point
from sb3_gps.dagger import dagger
from sb3_gps.environment import optional_attribute
from sb3_gps.evaluation import evaluate_split, offered_splits
from sb3_gps.features import VisuomotorExtractor
from sb3_gps.gps import DEFAULT_AUGMENTATION
from sb3_gps.policies import MultiInputPolicy
from sb3_gps.privileged import STATE, AsymmetricSACPolicy, InfoObservation
from sb3_gps.rollout import Start

IMAGES = dict(features_extractor_class=VisuomotorExtractor)
STATE_ALONE = dict(images=False, vectors=False)
_SAC = dict(learning_starts=1_000, gamma=0.98)
# Transitions hold two images each. Batches are those of SAC-AE (Yarats et al. 2021), half SB3's.
_FROM_IMAGES = dict(_SAC, buffer_size=50_000, batch_size=128)
_PPO = dict(n_steps=250, batch_size=250, n_epochs=10, gamma=0.98, gae_lambda=0.95)


@dataclass(frozen=True)
class Opponent:
    """An algorithm of SB3 or sb3-contrib, and what it sees.

    :param algorithm: "module:class"
    :param adds: keywords of an ``InfoObservation`` around the task; None: none
    :param time: whether it sees the share of the episode that has passed
    :param policy: None: the one that the observation asks for, "MultiInputPolicy"
    :param options: keywords of the algorithm
    :param n_envs: environments that it learns in
    :param normalize: whether rewards and vectors are normalised by what has been seen
    """

    algorithm: str
    adds: dict[str, Any] | None = None
    time: bool = False
    policy: Any = "MultiInputPolicy"
    options: dict[str, Any] = field(default_factory=dict)
    n_envs: int = 1
    normalize: bool = False

    @property
    def kind(self) -> type[BaseAlgorithm]:
        """Its class.

        :raises ValueError: where its package is missing
        """
        module, name = self.algorithm.split(":")
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError as error:
            package = module.replace("_", "-")
            raise ValueError(f"{name} needs {package}: pip install {package}") from error

    @property
    def sees_images(self) -> bool:
        """Whether it acts on images."""
        return self.adds is None or self.adds.get("images", True)

    def make_env(
        self,
        env_id: str,
        n_envs: int,
        seed: int | None = None,
        env_kwargs: dict[str, Any] | None = None,
    ) -> VecEnv:
        """The task as it sees it."""
        env = make_vec_env(
            env_id, n_envs, seed=seed, wrapper_class=self._seen, env_kwargs=env_kwargs
        )
        if not self.normalize:
            return env
        assert isinstance(env.observation_space, gym.spaces.Dict)
        parts = env.observation_space.spaces
        return VecNormalize(env, norm_obs_keys=[k for k in parts if not is_image_space(parts[k])])

    def _seen(self, env: gym.Env) -> gym.Env:
        seen = env if self.adds is None else InfoObservation(env, **self.adds)
        if not self.time:
            return seen
        return TimeAwareObservation(seen, flatten=False, normalize_time=True)


OPPONENTS = {
    "ppo": Opponent(
        "stable_baselines3:PPO",
        options=dict(_PPO, policy_kwargs=IMAGES),
        n_envs=8,
        normalize=True,
    ),
    "ppo-nature": Opponent("stable_baselines3:PPO", options=_PPO, n_envs=8, normalize=True),
    "sac": Opponent("stable_baselines3:SAC", options=dict(_FROM_IMAGES, policy_kwargs=IMAGES)),
    "tqc": Opponent("sb3_contrib:TQC", options=dict(_FROM_IMAGES, policy_kwargs=IMAGES)),
    "ppo-state": Opponent(
        "stable_baselines3:PPO", STATE_ALONE, options=_PPO, n_envs=8, normalize=True
    ),
    "ppo-state-time": Opponent(
        "stable_baselines3:PPO", STATE_ALONE, time=True, options=_PPO, n_envs=8, normalize=True
    ),
    "sac-state": Opponent("stable_baselines3:SAC", STATE_ALONE, options=_SAC),
    "sac-asymmetric": Opponent(
        "stable_baselines3:SAC", {}, policy=AsymmetricSACPolicy, options=_FROM_IMAGES
    ),
}


@dataclass(frozen=True)
class Trial:
    """How a run is judged.

    :param positions: unseen ones that a policy is tried on, and as many with distractors; the
        training positions are all tried
    :param every: steps between two evaluations, where the algorithm can be stopped anywhere
    :param n_envs: environments of an evaluation
    :param video: of a few episodes at the end, where the policy sees images; None: none
    """

    positions: int = 100
    every: int = 10_000
    n_envs: int = 16
    video: Path | None = None

    def success(self, model: PolicyPredictor, env: VecEnv) -> Point:
        """In percent, on each split that the task has."""
        plan = dict.fromkeys(_splits(env), self.positions)
        if "train" in plan:
            plan["train"] = optional_attribute(env, "num_conditions")
        return {
            split: 100.0 * evaluate_split(model, env, split, positions).rate
            for split, positions in plan.items()
        }

    def film(
        self, model: PolicyPredictor, env_id: str, make_env: Callable[..., VecEnv] = make_vec_env
    ) -> None:
        """Write its video, of positions that are not judged."""
        if self.video is None:
            return
        from sb3_gps.video import film_splits, write_video

        asked = make_env(env_id, 1)
        filmed = {split: 2 for split in _splits(asked) if split != "train"}
        asked.close()
        write_video(film_splits(model, env_id, filmed, make_env=make_env), self.video)


def _splits(env: VecEnv) -> tuple[str, ...]:
    """The task's own; unseen are the seeds of one that has none."""
    return offered_splits(env) or ("spatial",)


@dataclass
class Outcome:
    """What a run came to.

    :param curve: of the steps in all, and success on each split in percent
    :param before: steps before the policy itself learns, by what they are for
    :param expert: the curve of the expert that it imitates
    """

    curve: Curve
    before: dict[str, int] = field(default_factory=dict)
    expert: Curve = field(default_factory=list)


def run_opponent(
    opponent: Opponent,
    env_id: str,
    seed: int,
    steps: int,
    folder: Path,
    trial: Trial,
    on_evaluation: OnEvaluation | None = None,
) -> Outcome:
    """Train an algorithm of SB3, going on from ``folder`` where an earlier run stopped."""
    env = opponent.make_env(env_id, opponent.n_envs, seed)
    apart = opponent.make_env(env_id, trial.n_envs)
    if isinstance(apart, VecNormalize):
        apart.training, apart.norm_reward = False, False
    # SB3 writes into policy_kwargs.
    keywords = dict(policy=opponent.policy, seed=seed, **copy.deepcopy(opponent.options))
    curve = train_resumably(
        opponent.kind,
        keywords,
        env,
        apart,
        partial(trial.success, env=apart),
        steps,
        trial.every,
        folder,
        on_evaluation,
    )
    if opponent.sees_images and trial.video is not None:
        model = opponent.kind.load(folder / "model.zip", device="cpu")
        trial.film(model, env_id, partial(_as_it_was, opponent, folder))
    return Outcome(curve)


def _as_it_was(opponent: Opponent, folder: Path, env_id: str, n_envs: int, **kwargs: Any) -> VecEnv:
    """The task as an opponent sees it at the end of its run."""
    env = opponent.make_env(env_id, n_envs, **kwargs)
    if isinstance(env, VecNormalize):
        env = VecNormalize.load(str(folder / "normalize.pkl"), env.venv)
        env.training = False
    return env


def run_gps(env_id: str, seed: int, trial: Trial, options: dict[str, Any]) -> Outcome:
    """Train GPS for the iterations that its options say.

    :param options: keywords of ``GPS``
    """
    apart = make_vec_env(env_id, trial.n_envs)
    model, curve = train_gps(env_id, seed, None, options, partial(trial.success, env=apart))
    trial.film(model, env_id)
    return Outcome(curve, {"pose images": model.pose_images_used})


def run_dagger(
    env_id: str,
    seed: int,
    steps: int,
    folder: Path,
    trial: Trial,
    on_evaluation: Callable[[Outcome], None] | None = None,
    *,
    expert_steps: int,
    episodes: int = 16,
    head_steps: int = 600,
    end_to_end_steps: int = 300,
) -> Outcome:
    """An expert by SAC on the state, then DAgger.

    The expert goes on from ``folder`` where an earlier run stopped; the student begins anew.

    :param steps: in all, those of the expert among them
    :param on_evaluation: called after each round with what it came to so far
    :param expert_steps: that the expert learns for
    :param episodes: of each round, which run at once
    :raises ValueError: where nothing is left for the student
    """
    env = make_vec_env(env_id, episodes, wrapper_class=InfoObservation)
    horizon = env.get_attr("spec")[0].max_episode_steps
    rounds = (steps - expert_steps) // (episodes * horizon)
    if rounds < 1:
        raise ValueError(
            f"{steps} steps leave no round of {episodes} episodes of {horizon} steps after "
            f"{expert_steps} of the expert; raise the steps"
        )
    teacher = OPPONENTS["sac-state"]
    expert_run = run_opponent(teacher, env_id, seed, expert_steps, folder / "expert", trial)
    expert = teacher.kind.load(folder / "expert" / "model.zip", device="cpu")
    apart = make_vec_env(env_id, trial.n_envs)
    seen = VecTransposeImage(env)
    assert isinstance(seen.observation_space, gym.spaces.Dict)
    parts = {key: space for key, space in seen.observation_space.spaces.items() if key != STATE}
    rng = np.random.default_rng(seed)
    th.manual_seed(seed)
    student = MultiInputPolicy(gym.spaces.Dict(parts), seen.action_space, lambda _: 1e-3)
    outcome = Outcome([], {"expert": expert_steps}, expert_run.curve)
    seconds = expert_run.curve[-1]["seconds"]
    starts = [
        [Start(seed=int(s)) for s in rng.integers(2**31, size=episodes)] for _ in range(rounds)
    ]
    begin = time.perf_counter()

    def on_round(number: int) -> None:
        nonlocal seconds, begin
        seconds += time.perf_counter() - begin
        done = expert_steps + (number + 1) * episodes * horizon
        point = {"steps": done, "seconds": round(seconds, 3), **trial.success(student, apart)}
        outcome.curve.append(point)
        if on_evaluation is not None:
            on_evaluation(outcome)
        begin = time.perf_counter()

    dagger(
        student,
        expert,
        seen,
        starts,
        head_steps=head_steps,
        end_to_end_steps=end_to_end_steps,
        rng=rng,
        augment=DEFAULT_AUGMENTATION,
        on_round=on_round,
    )
    trial.film(student, env_id)
    return outcome
