"""Callbacks for ``GPS.learn``."""

from __future__ import annotations

import io

import gymnasium as gym
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Image
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_gps.environment import optional_attribute
from sb3_gps.evaluation import evaluate_split, evaluate_starts, what_is_seen
from sb3_gps.feature_points import (
    FeaturePoints,
    every_moment,
    moments_of_an_episode,
    read_feature_points,
)
from sb3_gps.gif import FPS, write_gif
from sb3_gps.gps import GPS
from sb3_gps.observations import Observations
from sb3_gps.rollout import Start


class StudentSuccessCallback(BaseCallback):
    """Success of the student alone, without noise, after each iteration that has fitted it.

    ``gps/student_success`` is the share of successful episodes from the starts of the training
    conditions, by ``info["is_success"]`` at the last step, and ``gps/student_validation`` that from
    unseen positions. They are taken as the next iteration begins and logged with it. Where the
    student acts in the trials itself (``sampling="student"``), the log's ``gps/student_success`` is
    that of the trials; ``rows`` always has this one.

    It takes time and changes nothing: its episodes have an environment and seeds of their own, are
    no trials, and nothing is learned from them.

    :param eval_env: as the training environment was made, but another; or its id. The episodes run
        in parallel in a ``VecEnv``
    :param repeats: episodes from each start, which differ by the noise of the initial state
    :param split: of unseen positions, as in ``reset(options={"split": ..., "condition": i})``;
        None: none are tried
    :param positions: how many of them
    :param first: the first of them. Options that are chosen by their success should not have seen
        those that are reported, which are counted from 0
    :param last: whether to try the student after ``learn`` as well
    """

    def __init__(
        self,
        eval_env: gym.Env | VecEnv | str,
        repeats: int = 1,
        split: str | None = None,
        positions: int = 16,
        first: int = 1000,
        last: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("repeats", repeats), ("positions", positions)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.eval_env = _vectorised(eval_env)
        self.repeats = repeats
        self.split, self.positions, self.first = split, positions, first
        self.last = last
        self.rows: list[dict[str, float]] = []  # trials so far; "train" and "validation" in percent

    def _init_callback(self) -> None:
        self._gps()
        if _identities(self.eval_env) & _identities(self.training_env):
            raise ValueError(
                "the student is to be tried in an environment of its own, got the one that it is "
                "trained in: make another"
            )
        has, needs = (
            optional_attribute(env, "num_conditions") for env in (self.eval_env, self.training_env)
        )
        if has != needs:
            raise ValueError(
                f"the student is to be tried on the {needs} conditions that it is trained on, got "
                f"an environment with {has}: make it with the same arguments"
            )

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._evaluate()

    def _on_training_end(self) -> None:
        if self.last and self._evaluate():
            self.logger.dump(self.num_timesteps)

    def _evaluate(self) -> bool:
        """Whether there was something new to try."""
        model = self._gps()
        tried = bool(self.rows) and self.rows[-1]["trials"] == model.trials
        if tried or not model.policy_fitted:
            return False
        task = model.task
        train = evaluate_starts(
            model, self.eval_env, task.starts, self.repeats, horizon=task.horizon
        ).rate
        row = {"trials": model.trials, "train": round(100 * train, 2)}
        self.logger.record("gps/student_success", train)
        if self.split is not None:
            unseen = evaluate_split(
                model,
                self.eval_env,
                self.split,
                self.positions,
                self.repeats,
                self.first,
                horizon=task.horizon,
            ).rate
            row["validation"] = round(100 * unseen, 2)
            self.logger.record("gps/student_validation", unseen)
        self.rows.append(row)
        return True

    def _gps(self) -> GPS:
        if not isinstance(self.model, GPS):
            raise ValueError(
                f"{type(self).__name__} is for GPS, got {type(self.model).__name__}; SB3's "
                "EvalCallback is for every algorithm"
            )
        return self.model


class FeaturePointsCallback(BaseCallback):
    """Feature points as images in the log: some moments of an episode of the policy alone.

    For any algorithm whose policy has a spatial softmax; they are logged as ``feature_points/KEY``
    for each image KEY of the observation, for TensorBoard.

    :param eval_env: as the training environment was made, but another; or its id
    :param every: steps of the environment between two of them, at least; 0: each rollout
    :param start: of the episode, ``reset``'s seed and options; None: seed 0
    :param points: shown, the most influential first
    :param moments: of the episode, from its first to its last step
    :param video: also log the whole episode, as an animation ``feature_points/KEY_video``
    """

    def __init__(
        self,
        eval_env: gym.Env | VecEnv | str,
        every: int = 0,
        start: Start | None = None,
        points: int = 12,
        moments: int = 4,
        video: bool = False,
    ) -> None:
        super().__init__()
        self.eval_env = _vectorised(eval_env)
        self.every, self.start = every, start or Start(seed=0)
        self.points, self.moments, self.video = points, moments, video
        self._next = 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        fitted = getattr(self.model, "policy_fitted", True)  # of GPS alone
        if fitted and self.num_timesteps >= self._next:
            self._next = self.num_timesteps + max(self.every, 1)
            self._log()

    def _on_training_end(self) -> None:
        self._log()
        self.logger.dump(self.num_timesteps)

    def _log(self) -> None:
        horizon = getattr(self.model, "horizon", None)  # of GPS alone
        seen = what_is_seen(self.model, self.eval_env, self.start, horizon)
        for read in read_feature_points(self.model.policy, seen):
            strip = moments_of_an_episode(read, seen, self.points, self.moments)
            self.logger.record(
                f"feature_points/{read.image}",
                Image(strip, "HWC"),
                exclude=("stdout", "log", "json", "csv"),
            )
            if self.video:
                self._animate(f"feature_points/{read.image}_video", read, seen)

    def _animate(self, tag: str, points: FeaturePoints, seen: Observations) -> None:
        """TensorBoard's own way of a video is a GIF, but the package that it makes one with is old.

        That is why it goes to the file directly, and not through the logger.
        """
        writers = [o.writer for o in self.logger.output_formats if hasattr(o, "writer")]
        if not writers:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        frames = every_moment(points, seen, self.points)
        gif = io.BytesIO()
        write_gif(frames[::2], gif, FPS // 2)
        height, width, _ = frames[0].shape
        image = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=gif.getvalue()
        )
        summary = Summary(value=[Summary.Value(tag=tag, image=image)])
        for writer in writers:
            writer._get_file_writer().add_summary(summary, self.num_timesteps)


def _vectorised(env: gym.Env | VecEnv | str) -> VecEnv:
    made = maybe_make_env(env, verbose=0)
    return made if isinstance(made, VecEnv) else DummyVecEnv([lambda: made])


def _identities(env: VecEnv) -> set[int]:
    """Of its environments, or of itself where they are in processes of their own."""
    base = env.unwrapped
    return {id(e.unwrapped) for e in base.envs} if isinstance(base, DummyVecEnv) else {id(base)}
