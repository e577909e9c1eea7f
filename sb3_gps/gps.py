"""GPS: guided policy search as a stable-baselines3 algorithm. The run, and nothing numeric.

    repeat  sample episodes from the teachers                             sampling
            fit local dynamics, judge the last step, roll back what broke     teachers.observe
            repeat  fit the student to the teachers' actions, linearise it,
                    update the duals                                          student.approach
                    improve the teachers within a KL bound                    teachers.improve
            on request, the same in a learned model, without trials           imagination
    finally fit the student once more, longer                             student.finish
        or, where it acted from new starts itself, leave what was tried   snapshots

Student of the first iterations is a small network of the full state (Levine et al. 2016, sec. 5.2:
teachers learn the task before the vision does); the policy itself takes over once images count.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm, maybe_make_env
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.vec_env import VecEnv

from sb3_gps.augmentation import Augmentation
from sb3_gps.autodiff import CostFunction
from sb3_gps.core.lqr import LQRResult
from sb3_gps.core.step_size import broke
from sb3_gps.core.types import LinearGaussianController, Trajectories
from sb3_gps.environment import (
    State,
    Task,
    check_rewards,
    check_spaces,
    check_vectorised,
    check_wrapper,
    describe_task,
    optional_attribute,
    sees_images,
)
from sb3_gps.features import ImageExtractor
from sb3_gps.hardware import one_blas_thread
from sb3_gps.imagination import ImaginationOptions, acts, practise, trusted_steps
from sb3_gps.learned_cost import LearnedCost
from sb3_gps.options import check_options, pick
from sb3_gps.policies import GPSPolicy, MlpPolicy, policy_aliases, resolve_policy
from sb3_gps.pretraining import pretrain_on_random_poses
from sb3_gps.progress import RunProgress
from sb3_gps.reporting import located, record_iteration, record_rollouts, record_time, timed
from sb3_gps.rollout import Episodes, StopTraining
from sb3_gps.sampling import random_starts, sample_trials
from sb3_gps.saving import ResumableAlgorithm
from sb3_gps.snapshots import Champion, Snapshot, Unfinished, digest
from sb3_gps.student import Batch, Student, StudentOptions, read_observations, read_state
from sb3_gps.supervised import torch_drawn_by
from sb3_gps.teachers import (
    Latest,
    Observed,
    Teachers,
    figures,
    first_teachers,
    teacher_options,
)


@dataclass(frozen=True)
class Session:
    """What one call of ``learn`` has of its own.

    :param total_timesteps: after which it ends, those of earlier calls among them
    """

    total_timesteps: int
    callback: BaseCallback
    progress: RunProgress


SelfGPS = TypeVar("SelfGPS", bound="GPS")
Learned = TypeVar("Learned")  # by a student

# Pasted shapes and changed colours are what keeps unseen objects and light from distracting the
# student. With half of the colour, some seeds of the hanger failed in dark and in bright scenes;
# with more, the cap loses precision.
DEFAULT_AUGMENTATION = Augmentation(shapes=3, colour=0.2)


class GPS(ResumableAlgorithm):
    """Guided policy search (Levine et al. 2016; Montgomery & Levine 2016).

    M conditions, N samples of each, T steps, actions of dU dimensions. Where no source of a default
    is named, it was found by trial on ``GPS/ShapeCube-v0`` at 64 x 64 pixels.

    :param policy: "CnnPolicy" or "MultiInputPolicy" (images, with or without vectors), "MlpPolicy"
        (a vector), or a subclass of ``GPSPolicy``
    :param env: environment with a Box action space and a fixed horizon, or its id
    :param learning_rate: of the student (Adam), or a schedule of the remaining progress
    :param update: how teachers and student are driven to agree: "mdgps", mirror descent (Montgomery
        & Levine 2016), or "badmm", with multipliers (Levine et al. 2016, sec. 4)
    :param teacher: how teachers improve: "lqr", on fitted dynamics
    :param sampling: who acts in the trials: "teacher", or "student" with its own noise once it is
        trained (on-policy, Montgomery & Levine 2016), or "global": the student, from new random
        starts in every iteration (Chebotar et al. 2017), with samples that do not grow with the
        number of starts that are learned from; it is then left as it acted last, with no last fit
    :param step_rule: which actual cost adapts the KL step: the samples' ("classic") or the
        student's under the fitted models ("global", Montgomery & Levine 2016)
    :param iterations: of sampling and improving, in a ``learn()`` without ``total_timesteps``
    :param teacher_iterations: the first of them train a student of the full state in place of the
        policy and draw no images, but for the last that the policy's first fit needs; None: half,
        and 0 where the policy sees no images
    :param samples_per_condition: N, trials of each condition in an iteration
    :param inner_iterations: alternations of student and teachers on the same samples
    :param conditions: M, initial conditions; None: the environment's ``num_conditions``, else 4
        reset seeds
    :param horizon: T, steps of a trial, in which longer episodes are cut; None:
        ``spec.max_episode_steps``
    :param state: where the teachers read the full state: a key of info or of the observation, or a
        callable (observation, info) -> (dX,); None: ``info["state"]``, the observation's "state",
        or the flat observation itself
    :param cost: l(x, u, t) on batched torch tensors; None: the environment's ``cost``, else one
        that is learned from the rewards
    :param kl_step: bound on KL(p || previous p), nats in a step of time; adapted per condition
        between 0.05 and 2 times this, or, where starts are always new, of all conditions at once
        between 0.05 times and this. With "mdgps" the previous p is the linearised student, so that
        each of the ``inner_iterations`` may go this far
    :param initial_std: of the first controllers' noise, in half the range of the action
    :param initial_gains: kp and kd of the first controllers, action per unit of position and of
        velocity, or "lqr" for those of unit masses; used where the environment names its
        ``actuated`` states
    :param min_eta: floor of the KL's multiplier, in units of cost a nat: without it converged
        teachers take over-greedy steps
    :param min_action_std: floor of the teachers' noise in every direction of the action, in half
        its range, so that covariances never vanish
    :param min_dynamics_variance: floor of the fitted dynamics' noise, in units of the state squared
    :param noise_smoothing: deviation of the Gaussian that smooths noise over time, in steps; 0:
        white noise
    :param dynamics: that teachers plan with: "fitted" to the trials, or the derivatives of the
        simulator itself, "mujoco", which ``SimulatorState`` around an environment gives
    :param prior: of the fitted dynamics: "pooled" over conditions and neighbouring steps, the
        paper's Gaussian "mixture", or a "network" of all transitions, for states far apart
    :param prior_batches: recent iterations that the prior is made of; the network's is of all
    :param prior_strength: of the pooled prior's covariance, in samples; the mixture's is 1, as in
        the paper
    :param prior_window: steps to each side that the pooled prior reaches over
    :param ridge: added to the variances of [x; u] in the fits: 1e-4 is too much where coordinates
        of the state are redundant
    :param rollback: a condition whose cost exceeds its best by this share of it, and by
        ``rollback_slack``, goes back to its best controller, with half the step
    :param rollback_slack: in units of cost, for costs near zero
    :param imagined_rounds: of practice in the learned model after each iteration, which costs no
        step of the environment: the student acts in it, teachers improve on that, the student
        follows. Needs ``sampling="global"``, ``prior="network"`` and a student that sees the state.
        The model is used where it foresaw the newest trials for half of ``imagined_horizon``. Where
        episodes have ended early it is used only if the rewards tell where they end, and then a
        fifth is enough
    :param imagined_conditions: trials in such a round
    :param imagined_tries: of each of them; in all but the first the student is pushed, or mistaken
        about its state, at first, which may lead another way that is cheaper; 1: one way alone
    :param imagined_horizon: their steps
    :param nu: weight of BADMM's KL between teacher and student, 0.01 as in the paper
    :param dual_rate: of BADMM's multipliers, 0.1 as in the paper
    :param adapt_nu: adapt nu in each step of time by its share of the KL, as in the paper
    :param kl_penalty: False drops BADMM's KL penalty from the teachers: the dual-gradient form
    :param student_batches: recent iterations that the student is trained on: in older states the
        newest teachers extrapolate
    :param trust_radius: a teacher's action counts less where its feedback exceeds this many
        deviations of its own noise
    :param head_steps: of the fully connected layers alone, in each student phase
    :param end_to_end_steps: of the whole network, in each student phase
    :param last_head_steps: the same for the last fit, after the last iteration
    :param last_end_to_end_steps: the same for the last fit; both 0: no last fit
    :param batch_size: images in a step of the network
    :param pose_images: images of random poses for pose pretraining, 0: none (the paper: 1,000)
    :param pose_steps: of the network on them
    :param augmentation: random changes of the training images; None: none
    :param policy_kwargs: for the policy, such as ``net_arch`` or ``features_extractor_kwargs``
    :param stats_window_size: episodes that ``rollout/`` means are taken over
    :param tensorboard_log: folder of TensorBoard's files; None: none
    :param verbose: 0: silent, 1: print the log
    :param seed: of everything random
    :param device: of the student's network; the teachers are numpy
    :raises ValueError: an option without a meaning, or spaces that GPS cannot use
    """

    policy_aliases = policy_aliases
    policy: GPSPolicy
    # Which only further training reads.
    run_state = ("teachers", "batches", "linearised", "learned_cost", "unfinished", "champion")

    def __init__(
        self,
        policy: str | type[GPSPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 1e-3,
        update: str = "mdgps",
        teacher: str = "lqr",
        sampling: str = "teacher",
        step_rule: str = "classic",
        iterations: int = 5,
        teacher_iterations: int | None = None,
        samples_per_condition: int = 1,
        inner_iterations: int = 2,
        conditions: int | None = None,
        horizon: int | None = None,
        state: State = None,
        cost: CostFunction | None = None,
        kl_step: float = 2.0,
        initial_std: float = 0.316,
        initial_gains: tuple[float, float] | str = (1.0, 0.3),
        min_eta: float = 0.02,
        min_action_std: float = 0.05,
        min_dynamics_variance: float = 1e-8,
        noise_smoothing: float = 2.0,
        dynamics: str = "fitted",
        prior: str = "pooled",
        prior_batches: int = 4,
        prior_strength: float = 10.0,
        prior_window: int = 6,
        ridge: float = 1e-6,
        rollback: float = 0.5,
        rollback_slack: float = 2.0,
        imagined_rounds: int = 0,
        imagined_conditions: int = 100,
        imagined_tries: int = 16,
        imagined_horizon: int = 50,
        nu: float = 0.01,
        dual_rate: float = 0.1,
        adapt_nu: bool = False,
        kl_penalty: bool = True,
        student_batches: int = 2,
        trust_radius: float = 2.0,
        head_steps: int = 600,
        end_to_end_steps: int = 150,
        last_head_steps: int = 1500,
        last_end_to_end_steps: int = 500,
        batch_size: int = 64,
        pose_images: int = 2000,
        pose_steps: int = 1000,
        augmentation: Augmentation | None = DEFAULT_AUGMENTATION,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        self.update, self.teacher = update, teacher
        self.sampling, self.step_rule = sampling, step_rule
        self.iterations, self.teacher_iterations = iterations, teacher_iterations
        self.samples_per_condition, self.inner_iterations = samples_per_condition, inner_iterations
        self.conditions, self.horizon = conditions, horizon
        self.state, self.cost = state, cost
        self.kl_step, self.min_eta = kl_step, min_eta
        self.initial_std, self.initial_gains = initial_std, initial_gains
        self.min_action_std = min_action_std
        self.min_dynamics_variance = min_dynamics_variance
        self.noise_smoothing, self.ridge = noise_smoothing, ridge
        self.dynamics = dynamics
        self.prior, self.prior_batches = prior, prior_batches
        self.prior_strength, self.prior_window = prior_strength, prior_window
        self.rollback, self.rollback_slack = rollback, rollback_slack
        self.imagined_rounds = imagined_rounds
        self.imagined_conditions = imagined_conditions
        self.imagined_tries = imagined_tries
        self.imagined_horizon = imagined_horizon
        self.nu, self.dual_rate = nu, dual_rate
        self.adapt_nu, self.kl_penalty = adapt_nu, kl_penalty
        self.student_batches, self.trust_radius = student_batches, trust_radius
        self.head_steps, self.end_to_end_steps = head_steps, end_to_end_steps
        self.last_head_steps = last_head_steps
        self.last_end_to_end_steps = last_end_to_end_steps
        self.pose_images, self.pose_steps = pose_images, pose_steps
        self.batch_size, self.augmentation = batch_size, augmentation
        others = {"learning_rate": learning_rate, "stats_window_size": stats_window_size}
        check_options({**vars(self), **others})
        if env is not None:
            check_vectorised(env)
            env = maybe_make_env(env, verbose)
            check_spaces(env.observation_space, env.action_space)

        self.rng = np.random.default_rng(seed)
        self.iteration = 0
        self.trials = 0
        self.pose_images_used = 0
        self.teachers: Teachers | None = None
        self.batches: list[Batch] = []
        self.linearised: LinearGaussianController | None = None
        self.learned_cost: LearnedCost | None = None  # where the task has none
        self.unfinished: Unfinished | None = None  # the policy before the end
        self.champion: Champion | None = None  # the best so far, where starts are always new
        self.state_policy: GPSPolicy | None = None
        self.blind_iterations = 0
        self.student_rate = 0.0  # learning rate of the iteration at hand
        self.pose_error_cm: float | None = None
        self.steps_owed = 0  # by the last ``learn``, whose iterations were whole
        self.seconds: dict[str, float] = {}  # of each phase
        self.history: list[dict[str, Any]] = []  # a row an iteration
        self.latest: Latest | None = None  # what the row of the last one is a summary of
        self._task: Task | None = None
        self.env_id: str | None = None  # of what it was trained on last

        super().__init__(
            policy="MultiInputPolicy" if isinstance(policy, str) else policy,
            env=env,
            learning_rate=learning_rate,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
        )
        if self.env is not None:
            check_wrapper(self._vec_normalize_env)
            scaled = self.policy_kwargs.get("normalize_images", True)
            self.policy_class = resolve_policy(policy, self.observation_space, scaled)
        if _init_setup_model:
            self._setup_model()

    # ---------------------------------------------------------------- as SB3 asks for it

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        super().set_random_seed(self.seed)  # ``load`` comes here, and has its own generator
        self.policy = self.policy_class(
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        ).to(self.device)  # type: ignore[assignment]  # SB3 knows it as a BasePolicy

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        check_vectorised(env)
        return BaseAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def set_random_seed(self, seed: int | None = None) -> None:
        """As SB3's, with the generator that all else is drawn from; None: leaves them as they are.

        Conditions that are reset seeds stay those of the constructor's ``seed``.
        """
        super().set_random_seed(seed)
        if seed is not None:
            self.rng = np.random.default_rng(seed)
            if self.unfinished is not None:  # going on begins with its generator
                self.unfinished.rng = self.rng

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """As SB3's; the task is looked up again at the next ``learn``."""
        super().set_env(env, force_reset)
        check_wrapper(self._vec_normalize_env)
        self._task = None

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        """As SB3's, but not below zero: whole iterations may be more than what was asked for."""
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        self._current_progress_remaining = max(self._current_progress_remaining, 0.0)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []

    def _excluded_save_params(self) -> list[str]:
        # The environment has the task; what is of the last iteration alone is for callbacks.
        return [*super()._excluded_save_params(), "_task", "latest"]

    def dump_logs(self) -> None:
        """Write what was recorded, with SB3's own rollout and time keys."""
        record_rollouts(self.logger, self.ep_info_buffer or (), self.ep_success_buffer or ())
        seconds = (time.time_ns() - self.start_time) / 1e9
        record_time(self.logger, self.num_timesteps, self._num_timesteps_at_start, seconds)
        self.logger.dump(step=self.num_timesteps)

    # ---------------------------------------------------------------- the run

    def learn(
        self: SelfGPS,
        total_timesteps: int | None = None,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "GPS",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfGPS:
        """Train; call it again to go on from where it stopped.

        :param total_timesteps: environment steps, rounded to whole iterations (conditions x samples
            x horizon where no episode ends early), at least one; None: ``iterations`` of them. The
            steps of environments that have nothing to do count as well, as SB3 counts them
        :param callback: called after every step of the environment
        :param log_interval: iterations between two dumps of the log
        :param tb_log_name: name of the run in TensorBoard
        :param reset_num_timesteps: whether to count steps from zero; else what the last ``learn``
            did more or less than its ``total_timesteps`` is made up for
        :param progress_bar: show steps and phases (needs rich)
        :return: self
        """
        if total_timesteps is not None and total_timesteps < 1:
            raise ValueError(f"total_timesteps must be at least 1, got {total_timesteps}")
        task = self.task
        assert self.env is not None
        check_rewards(self._vec_normalize_env, task.cost)
        self.env_id = getattr(optional_attribute(self.env, "spec"), "id", None)
        trials = task.M * self.samples_per_condition  # of one iteration
        # The last round of an iteration keeps all environments busy, whether needed or not.
        steps = -(-trials // self.n_envs) * self.n_envs * task.horizon
        iterations, wanted = self.iterations, self.iterations * steps
        if total_timesteps is not None:
            wanted = total_timesteps + (0 if reset_num_timesteps else self.steps_owed)
            iterations = max(1, round(wanted / steps))  # at least as many: episodes may end early
        self.steps_owed = 0
        total, callback = self._setup_learn(
            max(1, wanted), callback, reset_num_timesteps, tb_log_name
        )
        self._set_up_teachers(task, iterations)
        self._update_current_progress_remaining(self.num_timesteps, total)
        progress = RunProgress(total - self.num_timesteps, progress_bar, "steps")
        session = Session(total, callback, progress)
        callback.on_training_start({**locals(), **vars(session)}, globals())
        try:
            with one_blas_thread():
                number = iterations if total_timesteps is None else None
                self._run(task, number, log_interval, session)
            if total_timesteps is not None:
                self.steps_owed = wanted - (self.num_timesteps - self._num_timesteps_at_start)
        except StopTraining:
            pass
        finally:
            progress.close()
        callback.on_training_end()
        return self

    def _run(self, task: Task, iterations: int | None, log_interval: int, session: Session) -> None:
        """Pretraining, the iterations, and the last fit.

        :param iterations: None: as many as the total of the steps is nearest to
        """
        redo_the_end = self._undo_the_end()
        if self.iteration == 0:
            self._pretrain(task, session.progress)
        for done in count(1):
            before, trials = self.num_timesteps, self.trials
            try:
                tried = self._iterate(task, session)
            except BaseException:
                if done == 1 and self.trials == trials:  # there was nothing new to learn from
                    redo_the_end()
                raise
            if log_interval and self.iteration % log_interval == 0:
                self.dump_logs()
            half = (self.num_timesteps - before) / 2
            enough = self.num_timesteps + half > session.total_timesteps
            if enough if iterations is None else done >= iterations:
                break
        student = self._student(task, blind=False)
        last = (self.last_head_steps, self.last_end_to_end_steps)
        if tried is None and not (any(last) and student.visible(self.batches)):
            return
        self.unfinished = Unfinished.of(self.policy, self.rng, self._n_updates)
        if tried is not None:
            tried.restore(self.policy)
        else:
            finish = partial(student.finish, on_policy=self._on_policy(self.iteration - 1))
            self._study(finish, last, session.progress)
        self.unfinished.finished = digest(self.policy)

    def _undo_the_end(self) -> Callable[[], None]:
        """Back to before the end of the last ``learn``.

        :return: undoes that
        """
        unfinished, self.unfinished = self.unfinished, None
        if unfinished is None or not unfinished.concerns(self.policy):
            return lambda: None
        finished, rng, updates = Snapshot.of(self.policy), self.rng, self._n_updates
        self.rng, self._n_updates = unfinished.restore(self.policy)

        def redo() -> None:
            finished.restore(self.policy)
            self.unfinished, self.rng, self._n_updates = unfinished, rng, updates

        return redo

    @property
    def task(self) -> Task:
        """What the run knows of its environment, looked up at the first use."""
        if self.env is None:
            raise ValueError(
                "there is no environment: pass one to GPS or to GPS.load, or call set_env(env) "
                "after a load without"
            )
        if self._task is None:
            self._task = describe_task(
                self.env,
                state=self.state,
                cost=self.cost,
                conditions=self.conditions,
                horizon=self.horizon,
                seed=0 if self.seed is None else self.seed,
                dynamics=self.dynamics,
            )
        return self._task

    def _set_up_teachers(self, task: Task, iterations: int) -> None:
        if self.teachers is None:
            if self.iteration > 0:
                raise ValueError(
                    f"this model was saved without its teachers after {self.iteration} iterations, "
                    "so it can act but not go on learning: load a file that GPS.save wrote without "
                    "`exclude`, or begin with a new GPS"
                )
            if self.imagined_rounds and not task.observed:
                raise ValueError(
                    "imagined_rounds needs a student that sees the state of the teachers, which is "
                    "all that there is in a learned model; here it sees "
                    f"{self.observation_space}: set imagined_rounds=0"
                )
            self.teachers = first_teachers(task, vars(self))
            if sees_images(self.observation_space):  # else the policy learns from the start
                half = iterations // 2
                wanted = half if self.teacher_iterations is None else self.teacher_iterations
                self.blind_iterations = min(wanted, iterations - 1)
        if task.cost is None and self.learned_cost is None:
            self.learned_cost = LearnedCost(task.initial_states.shape[1], task.dU, self.rng)
        self.teachers.cost = task.cost or self.learned_cost  # not part of a saved model
        self.teachers.options = teacher_options(task, vars(self))  # as ``load`` may give others
        self.teachers.check_fit(task)

    def _pretrain(self, task: Task, progress: RunProgress) -> None:
        """Pose regression of the convolutions on random poses (Levine et al. 2016, sec. 5.2)."""
        extractor = self.policy.features_extractor
        if not (sees_images(self.observation_space) and self.pose_images and task.random_poses):
            return
        if self.pose_error_cm is not None:
            return  # done before the run was stopped in its first iteration
        if not isinstance(extractor, ImageExtractor):
            return  # a features extractor of the user's own is trained end to end alone
        assert self.env is not None
        result = pretrain_on_random_poses(
            self.env,
            extractor,
            images=self.pose_images,
            steps=self.pose_steps,
            batch_size=self.batch_size,
            augment=self.augmentation,
            rng=self.rng,
            seconds=self.seconds,
            progress=progress,
        )
        self.pose_images_used += result.images
        self.pose_error_cm = result.error_cm
        self.logger.record("gps/pose_error_cm", result.error_cm)
        self.logger.record("gps/pose_images", self.pose_images_used)

    def _iterate(self, task: Task, session: Session) -> Snapshot | None:
        """Sample, fit the models, and let student and teachers approach each other.

        :return: the policy that was tried, or the best so far where that was broken; None: teachers
            acted, or starts were not new
        """
        assert self.teachers is not None
        teachers = self.teachers
        # From here, so that a schedule that falls to zero leaves the last iteration something.
        self.student_rate = self.lr_schedule(self._current_progress_remaining)
        blind = self.iteration < self.blind_iterations
        student = self._student(task, blind)
        on_policy = self._on_policy(self.iteration)
        always_new = on_policy and self.sampling == "global"
        # The last blind batches are seen already, for the policy's first fit.
        seen = self.iteration >= self.blind_iterations - (self.student_batches - 1)
        with timed(self.seconds, "sampling"):
            episodes = self._sample(task, seen or not task.blind, on_policy, session)
        if always_new:
            # What teachers say of earlier trials, before they come to have other conditions.
            self.batches = student.settle(teachers.proposal, teachers, self.batches)
            teachers.renew()
        batch = Batch(*episodes.by_condition(task.M))
        self.batches = [*self.batches, batch][-self.student_batches :]
        costs, reward_error = self._learn_cost(task, episodes, batch)
        acted = student.linearized(self.batches)[0] if on_policy else None
        # Before the model learns from them.
        imagined_steps = self._trusted(task, batch.samples, student if on_policy else None)
        with timed(self.seconds, "teachers"), located(self.iteration + 1):
            observed = teachers.observe(batch.samples, self.rng, self.linearised, acted, costs)
        tried, went_back = None, False
        if always_new:
            acted, tried, went_back = self._back_to_the_champion(student, observed, acted)
        # Where there is a model to practise in, the teachers of the few real trials are not
        # followed: in single runs they undid what practice had reached. One step of theirs is for
        # the log.
        followed = not (on_policy and imagined_steps)
        step, loss, linearised = self._alternate(student, acted, blind, followed, session)
        if went_back and followed and tried is not None:
            # Each time a student went back to its best, its noise grew, until no trial was like its
            # student any more: of a short step, it is mostly the error of the linearisation.
            self.policy.set_action_covariance(tried.weights["action_covariance"].numpy())
        imagined_cost = float("nan")
        if imagined_steps:
            imagined_cost = self._practise(task, student, imagined_steps, session)
        if not followed:
            self.batches = [student.held(b) for b in self.batches]
        # Only the global step rule looks back at it.
        self.linearised = linearised if self.step_rule == "global" else None
        self.iteration += 1
        row = {
            "gps/iteration": self.iteration,
            "gps/trials": self.trials,
            f"gps/{'student' if on_policy else 'teacher'}_success": float(episodes.success.mean()),
            **figures(teachers, observed, step),
            "gps/reward_error": reward_error,
            "gps/imagined_steps": imagined_steps,
            "gps/imagined_cost": imagined_cost,
            "train/loss": loss,
            "train/learning_rate": self.student_rate,
            "train/n_updates": self._n_updates,
        }
        self.latest = Latest(observed, step)
        self.history.append({**row, "gps/costs": observed.sampled_cost.tolist()})
        record_iteration(self.logger, row, observed.sampled_cost)
        return tried

    def _learn_cost(
        self, task: Task, episodes: Episodes, batch: Batch
    ) -> tuple[np.ndarray | None, float]:
        """From the rewards, where the task has no cost of its own.

        :return: what the trials cost by their rewards, (M, N), and the error of the rewards that
            were foreseen; None and nan where there is nothing to learn
        """
        if task.cost is not None:
            return None, float("nan")
        assert self.learned_cost is not None
        rewards = episodes.rewards.reshape(task.M, -1, task.horizon)
        with timed(self.seconds, "cost"):
            error = self.learned_cost.fit(batch.samples, rewards, self.rng)
        return self.learned_cost.costs(rewards), error

    def _alternate(
        self,
        student: Student,
        acted: LinearGaussianController | None,
        blind: bool,
        followed: bool,
        session: Session,
    ) -> tuple[LQRResult, float, LinearGaussianController | None]:
        """Student and teachers approach each other on the same samples.

        :param acted: the student that did, linearised; None: the teachers acted
        :param followed: whether the student learns from the teachers where it acted itself
        :return: the last improvement, the loss of the last fit (nan: there was none), and the
            student as it is linearised last
        """
        assert self.teachers is not None
        steps = (self.head_steps, 0 if blind else self.end_to_end_steps)
        on_policy = acted is not None
        loss, linearised = float("nan"), acted
        for _ in range(self.inner_iterations if self.iteration > 0 and followed else 1):
            # Whoever acted has to be followed first: teachers by the student, or it by them.
            if self.iteration > 0 and not on_policy:
                loss, linearised = self._study(student.approach, steps, session.progress)
            with timed(self.seconds, "teachers"), located(self.iteration + 1):
                step = self.teachers.improve(linearised, self.rng)
            if on_policy and followed:
                loss, linearised = self._study(student.approach, steps, session.progress)
        return step, loss, linearised

    def _trusted(self, task: Task, samples: Trajectories, acted: Student | None) -> int:
        """Steps of imagined trials, as the last model foresaw these; 0: there are to be none.

        :param acted: in these; None: the teachers
        """
        assert self.teachers is not None
        if not self.imagined_rounds or self.teachers.learned is None:
            return 0
        falling = self.teachers.learned.ended_early or bool(samples.ended_early.any())
        told = task.cost is None and self.learned_cost is not None and not self.learned_cost.untold
        if falling and not told:
            return 0
        act = None if acted is None else partial(acts, acted.policy)
        bounds = task.action_low, task.action_high
        trusted = trusted_steps(self.teachers.learned, samples, act, bounds)
        return pick(ImaginationOptions, vars(self)).horizon(task.horizon, trusted, falling)

    def _practise(self, task: Task, student: Student, horizon: int, session: Session) -> float:
        """Rounds in the learned model; what the last one cost."""
        assert self.teachers is not None
        rounds = self.imagined_rounds
        self._n_updates += rounds * self.head_steps
        done = count(1)
        with (
            timed(self.seconds, "imagination"),
            located(self.iteration + 1),
            session.progress.phase("imagination", rounds) as step,
        ):
            return practise(
                student,
                self.teachers,
                (task.action_low, task.action_high),
                horizon,
                pick(ImaginationOptions, vars(self)),
                self.rng,
                lambda: step(next(done), rounds),
                ended=None if self.learned_cost is None else self.learned_cost.end_rule(),
                steps=(self.head_steps, 0),
                learning_rate=self.student_rate,
            )

    def _back_to_the_champion(
        self, student: Student, observed: Observed, acted: LinearGaussianController | None
    ) -> tuple[LinearGaussianController | None, Snapshot, bool]:
        """The student that is improved next, linearised and itself: who acted, unless broken.

        :return: the two, and whether it went back
        """
        assert self.teachers is not None
        cost = float(observed.sampled_cost.mean())
        if self.champion is not None and broke(
            cost, self.champion.cost, self.rollback, self.rollback_slack
        ):
            self.champion.policy.restore(self.policy)
            # What led away from it is not to be learned again.
            self.batches[:-1] = [
                batch if student.read(batch) is None else student.held(batch)
                for batch in self.batches[:-1]
            ]
            self.teachers.change_stride(0.5)
            observed.rolled_back[:] = True
            return student.linearized(self.batches)[0], self.champion.policy, True
        tried = Snapshot.of(self.policy)
        if self.champion is None or cost < self.champion.cost:
            self.champion = Champion(tried, cost)
            self.teachers.change_stride(1.5)
        return acted, tried, False

    @property
    def policy_fitted(self) -> bool:
        """Whether an iteration has fitted the policy, which must not act before."""
        return self.iteration > self._first_fit

    @property
    def _first_fit(self) -> int:
        """The iteration (from 0) that fits the policy first: 1, or the first not to be blind."""
        return max(1, self.blind_iterations)

    def _on_policy(self, iteration: int) -> bool:
        """Whether it is the student that acts in the trials of an iteration."""
        return self.sampling != "teacher" and iteration > self._first_fit

    def _sample(self, task: Task, seen: bool, on_policy: bool, session: Session) -> Episodes:
        """One batch of trials of the teachers, or of the student with its own noise."""
        assert self.env is not None and self.teachers is not None

        def on_step(locals_: dict[str, Any]) -> bool:
            assert self.env is not None
            self.num_timesteps += self.env.num_envs
            # Environments that repeat an episode to fill the last round are no trials.
            real = np.flatnonzero(locals_["real"])
            ends = locals_["ends"]
            self._update_info_buffer([locals_["infos"][i] for i in real], ends[real])
            self._update_current_progress_remaining(self.num_timesteps, session.total_timesteps)
            session.progress.advance(self.env.num_envs)
            acted = {"actions": locals_["action"], "clipped_actions": locals_["action"]}
            session.callback.update_locals({**locals_, **acted, "dones": ends, **vars(session)})
            return bool(session.callback.on_step())

        # The run's generator moves on with the complete batch: a model that a callback saves in the
        # middle, like one that was stopped there, then repeats the batch as it was.
        rng = copy.deepcopy(self.rng)
        if on_policy and self.sampling == "global":
            task = replace(task, starts=random_starts(task.M, rng))
        session.callback.on_rollout_start()
        episodes = sample_trials(
            self.env,
            task,
            self.teachers.controller,
            self.policy if on_policy else None,
            samples_per_condition=self.samples_per_condition,
            smoothing=self.noise_smoothing,
            seen=seen,
            rng=rng,
            on_step=on_step,
            iteration=self.iteration + 1,
        )
        session.callback.on_rollout_end()
        self.rng = rng
        self.trials += len(episodes.success)
        return episodes

    def _student(self, task: Task, blind: bool) -> Student:
        """The policy, or the small network of the full state that stands in for it at first."""
        options = pick(StudentOptions, vars(self))
        if not blind:
            return Student(self.policy, read_observations, options)
        if self.state_policy is None:
            dX = task.initial_states.shape[1]
            space = spaces.Box(-np.inf, np.inf, (dX,), np.float32)
            with torch_drawn_by(self.rng):
                self.state_policy = MlpPolicy(space, self.action_space, self.lr_schedule)
        return Student(self.state_policy, read_state, options)

    def _study(
        self, learn: Callable[..., Learned], steps: tuple[int, int], progress: RunProgress
    ) -> Learned:
        """One student phase: ``learn`` is what the student does in it."""
        self._n_updates += sum(steps)
        with timed(self.seconds, "student"), progress.phase("student", sum(steps)) as step:
            return learn(
                self.teachers,
                self.batches,
                steps=steps,
                learning_rate=self.student_rate,
                rng=self.rng,
                progress=step,
            )
