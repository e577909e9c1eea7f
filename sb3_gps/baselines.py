"""Other algorithms on the same environments: return against environment steps, in resumable runs.

PPO and SAC of Stable-Baselines3 with the options that RL Baselines3 Zoo tuned for an environment
(its next version's name where it has no entry for ours), else SB3's defaults.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import PolicyPredictor
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_gps.curves import Curve, Point
from sb3_gps.evaluation import evaluate_returns
from sb3_gps.files import rewrite
from sb3_gps.gps import GPS
from sb3_gps.ways import policy_for

CHUNK = 10_000  # steps between two evaluations, after each of which a run can be resumed
OnEvaluation = Callable[[Curve], None]
ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "sac": SAC}

# Keywords of an algorithm; "n_envs" and "normalize" are those of its environment.
ZOO: dict[str, dict[str, dict[str, Any]]] = {
    "sac": {
        "Pendulum-v1": dict(learning_rate=1e-3),
        "Swimmer-v5": dict(learning_starts=10_000, gamma=0.9999),
    },
    "ppo": {
        "Pendulum-v1": dict(
            n_envs=4, n_steps=1024, gae_lambda=0.95, gamma=0.9, n_epochs=10, ent_coef=0.0,
            learning_rate=1e-3, clip_range=0.2, use_sde=True, sde_sample_freq=4,
        ),
        "InvertedPendulum-v5": dict(
            normalize=True, batch_size=64, n_steps=32, gamma=0.999, learning_rate=2.22425e-4,
            ent_coef=1.37976e-7, clip_range=0.4, n_epochs=5, gae_lambda=0.9, max_grad_norm=0.3,
            vf_coef=0.19816,
        ),
        "InvertedDoublePendulum-v5": dict(
            normalize=True, batch_size=512, n_steps=128, gamma=0.98, learning_rate=1.55454e-4,
            ent_coef=1.05057e-6, clip_range=0.4, n_epochs=10, gae_lambda=0.8, max_grad_norm=0.5,
            vf_coef=0.695929,
        ),
        "Reacher-v5": dict(
            normalize=True, batch_size=32, n_steps=512, gamma=0.9, learning_rate=1.04019e-4,
            ent_coef=7.52585e-8, clip_range=0.3, n_epochs=5, gae_lambda=1.0, max_grad_norm=0.9,
            vf_coef=0.950368,
        ),
        "Swimmer-v5": dict(normalize=True, gamma=0.9999),
        "Pusher-v5": dict(normalize=True),
        "GPS/PegInsertion-v0": dict(normalize=True),
    },
}  # fmt: skip


def options_of(algorithm: str, env_id: str) -> dict[str, Any]:
    """The tuned options of an algorithm on an environment; none: its defaults."""
    return copy.deepcopy(ZOO[algorithm].get(env_id, {}))


def mean_return(model: PolicyPredictor, env: VecEnv, episodes: int) -> dict[str, float]:
    """Of deterministic episodes, the same at each call, as "return"."""
    return {"return": float(evaluate_returns(model, env, episodes).mean())}


class CurveCallback(BaseCallback):
    """What a student is worth as each iteration of GPS begins; pose images count as steps.

    :param measure: of the model
    """

    def __init__(self, measure: Callable[[GPS], Point]) -> None:
        super().__init__()
        self.measure = measure
        self.curve: Curve = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        assert isinstance(self.model, GPS)
        if self.model.policy_fitted:
            self.add(self.model)

    def add(self, model: GPS) -> None:
        """A point of the curve."""
        steps = model.pose_images_used + model.num_timesteps
        seconds = round(sum(model.seconds.values()), 3)
        self.curve.append({"steps": steps, "seconds": seconds, **self.measure(model)})


def train_gps(
    env_id: str,
    seed: int,
    steps: int | None,
    options: dict[str, Any],
    measure: Callable[[GPS], Point],
) -> tuple[GPS, Curve]:
    """Train once, judged after each iteration.

    :param steps: of the environment, to the nearest iteration; None: those of the options
    :param options: keywords of ``GPS``
    :param measure: what a model is worth, by name
    """
    env = make_vec_env(env_id)
    callback = CurveCallback(measure)
    model = GPS(policy_for(env.observation_space), env, seed=seed, **options)
    model.learn(steps, callback)
    callback.add(model)
    return model, callback.curve


def run_gps(env_id: str, seed: int, steps: int, options: dict[str, Any], episodes: int) -> Curve:
    """``train_gps`` by returns.

    :param episodes: of an evaluation
    """
    apart = make_vec_env(env_id, n_envs=min(episodes, 10))
    measure = partial(mean_return, env=apart, episodes=episodes)
    return train_gps(env_id, seed, steps, options, measure)[1]


def run_sb3(
    algorithm: str,
    env_id: str,
    seed: int,
    steps: int,
    episodes: int,
    folder: Path,
    on_evaluation: OnEvaluation | None = None,
) -> Curve:
    """Train PPO or SAC, going on from ``folder`` where an earlier run stopped.

    :param steps: of the environment, in all
    :param episodes: of an evaluation
    :param folder: of what a run needs to go on; its files are those of the last evaluation
    :param on_evaluation: called with the curve so far
    :return: a point every ``CHUNK`` steps
    """
    options = options_of(algorithm, env_id)
    n_envs, normalize = options.pop("n_envs", 1), options.pop("normalize", False)
    env: VecEnv = make_vec_env(env_id, n_envs=n_envs, seed=seed)
    apart: VecEnv = make_vec_env(env_id, n_envs=min(episodes, 10))
    if normalize:
        env = VecNormalize(env, gamma=options.get("gamma", 0.99))  # as the Zoo does
        apart = VecNormalize(apart, training=False, norm_reward=False)
    keywords = dict(policy=policy_for(env.observation_space), seed=seed, device="cpu", **options)
    measure = partial(mean_return, env=apart, episodes=episodes)
    kind = ALGORITHMS[algorithm]
    return train_resumably(kind, keywords, env, apart, measure, steps, CHUNK, folder, on_evaluation)


def train_resumably(
    kind: type[BaseAlgorithm],
    keywords: dict[str, Any],
    env: VecEnv,
    apart: VecEnv,
    measure: Callable[[BaseAlgorithm], Point],
    steps: int,
    chunk: int,
    folder: Path,
    on_evaluation: OnEvaluation | None = None,
) -> Curve:
    """Train an algorithm of SB3 in chunks, each of which a later call can go on from.

    :param keywords: of the algorithm, but for the environment
    :param env: that it is trained in; observations may be normalised (``VecNormalize``)
    :param apart: that ``measure`` uses, normalised alike
    :param measure: what a model is worth, by name
    :param steps: of the environment, in all
    :param chunk: steps between two evaluations
    :param folder: of what a run needs to go on, from the last evaluation. (Each file appears
        whole, one after another: a run that is killed between two has newer transitions or
        statistics than its model)
    :param on_evaluation: called with the curve so far
    :return: a point after each chunk
    """
    saved = folder / "model.zip"
    curve: Curve = []
    seconds = 0.0
    if saved.exists():
        model = kind.load(saved, env, device=keywords.get("device", "auto"))
        # Of ``load``, it would draw the numbers of its beginning once more.
        model.set_random_seed(keywords["seed"] + model.num_timesteps)
        if isinstance(env, VecNormalize):
            env = VecNormalize.load(str(folder / "normalize.pkl"), env.unwrapped)
            model.set_env(env)
        if isinstance(model, OffPolicyAlgorithm):
            model.load_replay_buffer(folder / "replay.pkl")
        curve = model.curve  # type: ignore[attr-defined]
        seconds = curve[-1]["seconds"]
        if on_evaluation is not None:
            on_evaluation(curve)  # the last time it may have come to a stop before that
    else:
        model = kind(env=env, **keywords)
    while model.num_timesteps < steps:
        begin = time.perf_counter()
        model.learn(min(chunk, steps - model.num_timesteps), reset_num_timesteps=False)
        seconds += time.perf_counter() - begin
        if isinstance(env, VecNormalize):
            assert isinstance(apart, VecNormalize)
            apart.obs_rms = env.obs_rms
        point = {"steps": model.num_timesteps, "seconds": round(seconds, 3), **measure(model)}
        curve.append(point)
        # In the same file as what it is the curve of, so that the two never differ.
        model.curve = curve  # type: ignore[attr-defined]
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(model, OffPolicyAlgorithm):
            rewrite(folder / "replay.pkl", model.save_replay_buffer)
        if isinstance(env, VecNormalize):
            rewrite(folder / "normalize.pkl", lambda path: env.save(str(path)))
        rewrite(saved, model.save)
        if on_evaluation is not None:
            on_evaluation(curve)
    return curve
