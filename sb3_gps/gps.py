"""GPS: guided policy search as a stable-baselines3 algorithm. The run, and nothing numeric.

    repeat  sample episodes from the teachers
            fit local dynamics, judge the last step, roll back what broke     teachers.observe
            repeat  fit the student to the teachers' actions                  supervised.fit_student
                    linearise it, update the duals                            student, core
                    improve the teachers within a KL bound                    teachers.improve
    finally fit the student once more, to the best teachers

Student of the first iterations is a small network of the full state (Levine et al. 2016, sec. 5.2:
teachers learn the task before the vision does); the policy itself takes over once images count.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule

from sb3_gps.augmentation import Augmentation
from sb3_gps.autodiff import CostFunction
from sb3_gps.core.badmm import BADMM
from sb3_gps.core.duals import UpdateRule
from sb3_gps.core.exploration import smooth_noise
from sb3_gps.core.initial import pd_controller, random_controller
from sb3_gps.core.lqr import entropy, kl_divergence, marginals
from sb3_gps.core.mirror_descent import MirrorDescent
from sb3_gps.core.types import LinearGaussianController
from sb3_gps.environment import State, Task, check_spaces, describe_task, without_image
from sb3_gps.policies import GPSPolicy, MlpPolicy, policy_aliases, resolve_policy
from sb3_gps.pretraining import pretrain_pose
from sb3_gps.progress import RunProgress
from sb3_gps.rollout import Episodes, Start, StopTraining, map_observation, reset_episodes, run_episodes
from sb3_gps.student import Batch, flatten, set_input_statistics, linearized_student, student_targets
from sb3_gps.supervised import fit_student, pooled_covariance, student_actions
from sb3_gps.teachers import Observed, TeacherOptions, Teachers

SelfGPS = TypeVar("SelfGPS", bound="GPS")


class GPS(BaseAlgorithm):
    """Guided policy search (Levine et al. 2016; Montgomery & Levine 2016).

    :param policy: "CnnPolicy" or "MultiInputPolicy" (images, with or without vectors), "MlpPolicy"
        (a vector), or a subclass of ``GPSPolicy``
    :param env: environment with a Box action space and a fixed horizon, or its id
    :param learning_rate: of the student, or a schedule of the remaining progress
    :param update: "badmm" or "mdgps"
    """

    policy_aliases = policy_aliases
    policy: GPSPolicy

    def __init__(
        self,
        policy: str | type[GPSPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 1e-3,
        update: str = "badmm",
        sampling: str = "teacher",
        step_rule: str = "classic",
        iterations: int = 7,
        teacher_iterations: int | None = None,
        samples_per_condition: int = 1,
        inner_iterations: int = 2,
        conditions: int | None = None,
        horizon: int | None = None,
        state: State = None,
        cost: CostFunction | None = None,
        kl_step: float = 1.0,
        initial_std: float = 0.316,
        initial_gains: tuple[float, float] = (1.0, 0.3),
        min_eta: float = 0.02,
        min_action_std: float = 0.05,
        noise_smoothing: float = 2.0,
        prior: str = "pooled",
        prior_batches: int = 4,
        prior_strength: float = 10.0,
        prior_window: int = 6,
        rollback: float = 0.5,
        nu: float = 0.01,
        dual_rate: float = 0.1,
        adapt_nu: bool = False,
        kl_penalty: bool = True,
        student_batches: int = 2,
        trust_radius: float = 2.0,
        head_steps: int = 600,
        end_to_end_steps: int = 150,
        final_head_steps: int = 1500,
        final_end_to_end_steps: int = 500,
        batch_size: int = 64,
        pose_images: int = 2000,
        pose_steps: int = 1000,
        augmentation: Augmentation | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        self.update, self.sampling, self.step_rule = update, sampling, step_rule
        self.iterations, self.teacher_iterations = iterations, teacher_iterations
        self.samples_per_condition = samples_per_condition
        self.inner_iterations = inner_iterations
        self.conditions, self.horizon = conditions, horizon
        self.state, self.cost = state, cost
        self.initial_std, self.initial_gains = initial_std, initial_gains
        self.noise_smoothing = noise_smoothing
        self.nu, self.dual_rate = nu, dual_rate
        self.adapt_nu, self.kl_penalty = adapt_nu, kl_penalty
        self.student_batches, self.trust_radius = student_batches, trust_radius
        self.head_steps, self.end_to_end_steps = head_steps, end_to_end_steps
        self.final_head_steps = final_head_steps
        self.final_end_to_end_steps = final_end_to_end_steps
        self.batch_size = batch_size
        self.pose_images, self.pose_steps = pose_images, pose_steps
        self.augmentation = augmentation
        self.teacher_options = TeacherOptions(
            kl_step=kl_step,
            min_eta=min_eta,
            min_action_std=min_action_std,
            prior=prior,
            prior_batches=prior_batches,
            prior_strength=prior_strength,
            prior_window=prior_window,
            rollback=rollback,
        )
        self._check_options()

        self.iteration = 0
        self.trials = 0
        self.pose_images_used = 0
        self.teachers: Teachers | None = None
        self.batches: list[Batch] = []
        self.state_policy: GPSPolicy | None = None
        self._task: Task | None = None

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
            check_spaces(self.observation_space, self.action_space)
            self.policy_class = resolve_policy(policy, self.observation_space)
        if _init_setup_model:
            self._setup_model()

    # ---------------------------------------------------------------- set-up

    def _check_options(self) -> None:
        choices = {
            "update": ("badmm", "mdgps"),
            "sampling": ("teacher", "student"),
            "step_rule": ("classic", "global"),
        }
        for name, valid in choices.items():
            if getattr(self, name) not in valid:
                raise ValueError(f"{name} must be one of {valid}, got {getattr(self, name)!r}")
        if self.teacher_options.prior not in ("pooled", "mixture"):
            raise ValueError(
                f"prior must be 'pooled' or 'mixture', got {self.teacher_options.prior!r}"
            )
        for name in ("iterations", "samples_per_condition", "inner_iterations", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("kl_step", "min_action_std", "prior_strength"):
            if getattr(self.teacher_options, name) <= 0:
                raise ValueError(
                    f"{name} must be positive, got {getattr(self.teacher_options, name)}"
                )

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        if self.iteration == 0:
            self.rng = np.random.default_rng(self.seed)
        self.set_random_seed(self.seed)
        self.policy = self.policy_class(
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        ).to(self.device)

    @property
    def sees_images(self) -> bool:
        """Whether the student's observation has images."""
        space = self.observation_space
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
        return any(len(part.shape) == 3 for part in parts)  # type: ignore[arg-type]

    def _rule(self) -> UpdateRule:
        if self.update == "mdgps":
            return MirrorDescent()
        return BADMM(
            nu=self.nu, dual_rate=self.dual_rate, adapt_nu=self.adapt_nu, kl_penalty=self.kl_penalty
        )

    def _first_controller(self, task: Task) -> LinearGaussianController:
        M, T = task.M, task.horizon
        if task.posture is None:
            return random_controller(M, T, task.initial_states.shape[1], task.dU, self.initial_std)
        positions, velocities = task.posture
        kp, kd = self.initial_gains
        return pd_controller(
            task.initial_states, positions, velocities, T, task.dU, kp, kd, self.initial_std
        )

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
        """Train; returns self.

        :param total_timesteps: environment steps, rounded to whole iterations of
            conditions x samples x horizon; default ``iterations`` of them
        """
        if self.env is None:
            raise ValueError("learn() needs an environment: call set_env(env) first")
        if self._task is None:
            self._task = describe_task(
                self.env,
                state=self.state,
                cost=self.cost,
                conditions=self.conditions,
                horizon=self.horizon,
                seed=0 if self.seed is None else self.seed,
            )
        task = self._task
        batch_steps = task.M * self.samples_per_condition * task.horizon
        iterations = self.iterations
        if total_timesteps is not None:
            iterations = max(1, round(total_timesteps / batch_steps))
        blind_iterations = self._teacher_iterations(iterations)
        total, callback = self._setup_learn(
            iterations * batch_steps, callback, reset_num_timesteps, tb_log_name
        )
        if self.teachers is None:
            self.teachers = Teachers(
                self._first_controller(task), task.cost, self._rule(), self.teacher_options
            )
        progress = RunProgress(iterations * task.M * self.samples_per_condition, progress_bar)
        callback.on_training_start(locals(), globals())
        try:
            if self.iteration == 0 and self.sees_images and self.pose_images:
                self._pretrain(task, progress)
            for i in range(iterations):
                blind = i < blind_iterations
                # The last blind batches are seen already, for the student's first fit.
                seen = i >= blind_iterations - (self.student_batches - 1)
                self._iterate(task, blind, seen, callback, progress, total)
                if log_interval and self.iteration % log_interval == 0:
                    self.dump_logs()
            if self.final_head_steps or self.final_end_to_end_steps:
                self._final_fit(progress)
        except StopTraining:
            pass
        finally:
            progress.close()
        callback.on_training_end()
        return self

    def _teacher_iterations(self, iterations: int) -> int:
        if not self.sees_images:
            return 0
        if self.teacher_iterations is None:
            return iterations // 2
        return min(self.teacher_iterations, iterations - 1)

    def _iterate(
        self,
        task: Task,
        blind: bool,
        seen: bool,
        callback: BaseCallback,
        progress: RunProgress,
        total_timesteps: int,
    ) -> None:
        assert self.teachers is not None
        teachers = self.teachers
        student = self._student(task) if blind else self.policy
        episodes = self._sample(task, not seen, callback, progress, total_timesteps)
        samples = episodes.trajectories(task.M)
        N = self.samples_per_condition
        observations = episodes.observations
        if observations is not None:
            observations = map_observation(
                lambda a: a.reshape(task.M, N, *a.shape[1:]), observations
            )
        self.batches = [*self.batches, Batch(samples, observations)][-self._kept_batches :]
        observed = teachers.observe(samples, self.rng)

        inner = 1 if self.iteration == 0 else self.inner_iterations
        linearised = None
        fit_loss = float("nan")
        for j in range(inner):
            if self.iteration > 0:
                fit_loss, linearised = self._fit_student(
                    student, blind, self.head_steps, self.end_to_end_steps, progress
                )
            teachers.improve(linearised, self.rng)
        self.iteration += 1
        self._log(episodes, observed, fit_loss, task)

    @property
    def _kept_batches(self) -> int:
        return max(self.student_batches, self.teacher_options.prior_batches)

    def _student(self, task: Task) -> GPSPolicy:
        if self.state_policy is None:
            dX = task.initial_states.shape[1]
            space = spaces.Box(-np.inf, np.inf, (dX,), np.float32)
            self.state_policy = MlpPolicy(space, self.action_space, self.lr_schedule)
        return self.state_policy

    def _student_input(self, batch: Batch, blind: bool) -> Any:
        return batch.samples.X.astype(np.float32) if blind else batch.observations

    def _fit_student(
        self,
        student: GPSPolicy,
        blind: bool,
        head_steps: int,
        end_to_end_steps: int,
        progress: RunProgress,
    ) -> tuple[float, LinearGaussianController]:
        teachers = self.teachers
        assert teachers is not None and teachers.fit is not None
        opts = teachers.options
        usable = [b for b in self.batches if blind or b.observations is not None]
        recent = usable[-self.student_batches :]
        z = marginals(teachers.fit.dynamics, teachers.controller, teachers.fit.initial_state)
        targets = student_targets(
            teachers.rule, recent, teachers.controller, teachers.duals, z, self.trust_radius
        )
        inputs = flatten([self._student_input(b, blind) for b in recent])
        set_input_statistics(student, inputs)
        with progress.phase("student", head_steps + end_to_end_steps) as step:
            result = fit_student(
                student,
                inputs,
                targets,
                head_steps=head_steps,
                end_to_end_steps=0 if blind else end_to_end_steps,
                batch_size=self.batch_size,
                learning_rate=self.lr_schedule(self._current_progress_remaining),
                augment=None if blind else self.augmentation,
                rng=self.rng,
                progress=step,
            )
        precision = np.linalg.inv(teachers.controller.C).reshape(-1, *teachers.controller.C.shape[2:])
        student.set_action_covariance(pooled_covariance(precision, floor=opts.min_action_std**2))
        actions = [
            student_actions(student, flatten([self._student_input(b, blind)])).reshape(
                b.samples.U.shape
            )
            for b in recent
        ]
        linearised = linearized_student(
            recent,
            actions,
            student.action_covariance.double().cpu().numpy(),
            opts.prior_window,
            opts.prior_strength,
            opts.ridge,
        )
        kl = kl_divergence(teachers.controller, linearised, z)
        teachers.duals = teachers.rule.update_duals(
            teachers.duals, recent[-1].samples.X, actions[-1], teachers.controller, kl
        )
        self._n_updates += head_steps + end_to_end_steps
        return result.loss, linearised

    def _final_fit(self, progress: RunProgress) -> None:
        teachers = self.teachers
        assert teachers is not None and teachers.best is not None
        blind = False
        usable = [b for b in self.batches if b.observations is not None]
        best = teachers.best
        z = marginals(best.dynamics, best.controller, best.initial_state)
        targets = student_targets(
            teachers.rule, usable, best.controller, teachers.duals, z, self.trust_radius
        )
        inputs = flatten([self._student_input(b, blind) for b in usable])
        with progress.phase("last fit", self.final_head_steps + self.final_end_to_end_steps) as step:
            fit_student(
                self.policy,
                inputs,
                targets,
                head_steps=self.final_head_steps,
                end_to_end_steps=self.final_end_to_end_steps,
                batch_size=self.batch_size,
                learning_rate=self.lr_schedule(self._current_progress_remaining),
                augment=self.augmentation,
                rng=self.rng,
                progress=step,
            )

    # ---------------------------------------------------------------- sampling

    def _sample(
        self,
        task: Task,
        blind: bool,
        callback: BaseCallback,
        progress: RunProgress,
        total_timesteps: int,
    ) -> Episodes:
        assert self.env is not None and self.teachers is not None
        N, T = self.samples_per_condition, task.horizon
        controller = self.teachers.controller
        noise = smooth_noise((task.M, N, T, task.dU), self.noise_smoothing, self.rng)
        root = np.linalg.cholesky(controller.C)
        offset = np.einsum("mtuv,mntv->mntu", root, noise)
        conditions = np.repeat(np.arange(task.M), N)
        offset = offset.reshape(task.M * N, T, task.dU)

        def actor(observation: Any, x: np.ndarray, t: int, episodes: np.ndarray) -> np.ndarray:
            m = conditions[episodes]
            mean = np.einsum("eux,ex->eu", controller.K[m, t], x) + controller.k[m, t]
            return mean + offset[episodes, t]

        def on_step(scope: dict[str, Any]) -> bool:
            assert self.env is not None
            self.num_timesteps += self.env.num_envs
            scope["total_timesteps"] = total_timesteps
            callback.update_locals(scope)
            self._update_info_buffer(scope["infos"], scope["dones"])
            if scope["dones"].any():
                progress.advance(int(scope["dones"].sum()))
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            return callback.on_step()

        skip_images = blind and task.blind
        starts = [task.starts[m] for m in conditions]
        callback.on_rollout_start()
        episodes = run_episodes(
            self.env,
            [without_image(s) for s in starts] if skip_images else starts,
            actor,
            T,
            task.read_state,
            keep_observations=not skip_images,
            on_step=on_step,
        )
        callback.on_rollout_end()
        self.trials += task.M * N
        return episodes

    def _pretrain(self, task: Task, progress: RunProgress) -> None:
        """Pose regression of the convolutions on random arm motion (Levine et al. 2016, 5.2)."""
        assert self.env is not None
        if not task.random_poses:
            return
        n = self.env.num_envs
        images, poses = [], []
        with progress.phase("pose images", self.pose_images) as step:
            while len(poses) < self.pose_images:
                seeds = self.rng.integers(2**31, size=n)
                observation, infos = reset_episodes(
                    self.env, [Start({"random_pose": True}, int(s)) for s in seeds]
                )
                for i in range(n):
                    images.append(map_observation(lambda a, i=i: a[i].copy(), observation))
                    poses.append(infos[i]["pose"])
                    step(len(poses), self.pose_images)
        bulk = (
            {k: np.stack([o[k] for o in images]) for k in images[0]}
            if isinstance(images[0], dict)
            else np.stack(images)
        )
        self.pose_images_used += len(poses)
        with progress.phase("pose pretraining", self.pose_steps) as step:
            result = pretrain_pose(
                self.policy.features_extractor,
                bulk,
                np.stack(poses),
                steps=self.pose_steps,
                batch_size=self.batch_size,
                augment=self.augmentation,
                rng=self.rng,
                progress=step,
            )
        self.logger.record("gps/pose_error_cm", result.error_cm)
        self.pose_error_cm = result.error_cm

    # ---------------------------------------------------------------- reporting

    def _log(self, episodes: Episodes, observed: Observed, fit_loss: float, task: Task) -> None:
        teachers = self.teachers
        assert teachers is not None and teachers.result is not None
        record = self.logger.record
        record("gps/iteration", self.iteration)
        record("gps/trials", self.trials)
        record("gps/cost", observed.sampled_cost.mean())
        for m, cost in enumerate(observed.sampled_cost):
            record(f"gps/cost_{m}", cost, exclude="stdout")
        record("gps/teacher_success", np.nanmean(episodes.success))
        record("gps/kl", teachers.result.kl.sum(axis=1).mean())
        record("gps/kl_met", teachers.result.converged.mean())
        record("gps/eta", np.exp(np.log(teachers.eta).mean()))
        record("gps/epsilon", teachers.epsilon.mean())
        record("gps/nu", teachers.duals.nu.mean())
        record("gps/entropy", entropy(teachers.controller).mean())
        record("gps/predicted_improvement", np.mean(observed.predicted_improvement))
        record("gps/actual_improvement", np.mean(observed.actual_improvement))
        record("gps/rolled_back", observed.rolled_back.sum())
        record("gps/held_out_error", observed.held_out_error)
        record("train/loss", fit_loss)
        record("train/n_updates", self._n_updates, exclude="tensorboard")

    def dump_logs(self) -> None:
        """Write what was recorded, with SB3's own rollout and time keys."""
        import time

        assert self.ep_info_buffer is not None and self.ep_success_buffer is not None
        if len(self.ep_info_buffer) > 0:
            infos = self.ep_info_buffer
            self.logger.record("rollout/ep_rew_mean", float(np.mean([i["r"] for i in infos])))
            self.logger.record("rollout/ep_len_mean", float(np.mean([i["l"] for i in infos])))
        if len(self.ep_success_buffer) > 0:
            self.logger.record("rollout/success_rate", float(np.mean(self.ep_success_buffer)))
        elapsed = max((time.time_ns() - self.start_time) / 1e9, 1e-9)
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / elapsed))
        self.logger.record("time/time_elapsed", int(elapsed), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)
