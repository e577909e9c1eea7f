"""Practice in the learned model: trials that cost no step of the environment.

    repeat  let the student act in the model, from many starts            imagine
            a step of a teacher about each of these trials                Teachers.improve
            let the student follow                                        Student.follow

The network of ``prior="network"`` knows more than the derivatives at the last trials, which are all
that a teacher needs: a student that sees the state can be improved in it about trials that nobody
made. Half of them begin where episodes do, half in states of any trial so far, and they are short,
because errors of a model add up. Source: Sutton 1991 (Dyna); Janner et al. 2019, sec. 4 (short
trials from states that were seen); the step itself is that of the real trials.

A model is trusted as far as it foresaw the newest trials before it learned from them
(``trusted_steps``), and not used where that is not far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sb3_gps.core.costs import expand_cost, trajectory_costs
from sb3_gps.core.improvement import Fit
from sb3_gps.core.types import Gaussian, Trajectories, after_its_end
from sb3_gps.dynamics import ChangeModel, along
from sb3_gps.student import Batch, Student, read_state
from sb3_gps.supervised import student_actions
from sb3_gps.teachers import Teachers

FAR = 6.0  # deviations of the states that were seen; what is farther is no state any more
FORESEEN = 0.5  # the same, of an error
BATCHES = 5  # rounds that the student learns from; of two, it changes its mind too often

Act = Callable[[np.ndarray], np.ndarray]  # actions (n, dU) in states (n, dX)
Ended = Callable[[np.ndarray], np.ndarray]  # (n,) bool of states (n, dX)


@dataclass(frozen=True)
class ImaginationOptions:
    """
    :param imagined_rounds: of imagined trials and learning from them, in each iteration
    :param imagined_conditions: trials in a round
    :param imagined_horizon: steps of a trial
    """

    imagined_rounds: int = 0
    imagined_conditions: int = 100
    imagined_horizon: int = 50

    def horizon(self, episode: int, trusted: int) -> int:
        """Steps of a trial in a model that is trusted so far; 0: it is not worth it.

        :param episode: steps of one
        """
        wanted = min(self.imagined_horizon, episode)
        return min(wanted, trusted) if 2 * trusted >= wanted else 0


def trusted_steps(model: ChangeModel, samples: Trajectories, starts: int = 10) -> int:
    """For how many steps a model foresees trials that it has not learned from.

    Begun in some of their states and given their actions, the median of its errors stays below
    ``FORESEEN`` deviations of the states.

    :param starts: states of a trial that are begun in, spread over its time
    """
    X, U, running = (a.reshape(-1, *a.shape[2:]) for a in (samples.X, samples.U, samples.running))
    T = X.shape[1]
    t = np.arange(0, T, max(1, T // starts))
    x = X[:, t]
    for done in range(T):
        t, x = t[t + 1 < T], x[:, t + 1 < T]
        if not len(t):
            break
        # The last state of an episode is not followed by another.
        alive = running[:, t + 1]
        if not alive.any():
            return done
        x = model.step(x, U[:, t])
        t = t + 1
        # A trial that is lost is no farther than far: nothing is to overflow.
        off = np.clip(np.nan_to_num((x - X[:, t]) / model.spread, nan=FAR), -FAR, FAR)
        if not np.median(np.sqrt(np.square(off).mean(axis=-1))[alive]) < FORESEEN:
            return done
        x = X[:, t] + off * model.spread
    return T


def imagine(
    model: ChangeModel,
    act: Act,
    ended: Ended,
    starts: np.ndarray,
    steps: int,
    bounds: tuple[np.ndarray, np.ndarray],
) -> Trajectories:
    """Trials in the model, without noise; they end where an episode would, or far from all states.

    :param starts: first states, (M, dX)
    :param bounds: lowest and highest action, (dU,) each
    :return: (M, 1, T, ...)
    """
    M, dX = starts.shape
    X, U = np.empty((M, steps, dX)), np.zeros((M, steps, len(bounds[0])))
    length = np.full(M, steps)
    running = np.ones(M, dtype=bool)
    x = starts
    for t in range(steps):
        X[:, t] = x
        U[running, t] = np.clip(act(x[running]), *bounds)
        if t + 1 == steps:
            break
        after = model.step(x, U[:, t])
        over = running & (ended(after) | (np.abs(model.deviations(after)) > FAR).any(axis=1))
        length[over] = t + 1
        running &= ~over
        if not running.any():
            X[:, t + 1 :] = X[:, t, None]
            break
        x = np.where(running[:, None], after, x)
    return Trajectories(X[:, None], U[:, None], length[:, None])


def practise(
    student: Student,
    teachers: Teachers,
    seen: Trajectories,
    ended: Ended,
    bounds: tuple[np.ndarray, np.ndarray],
    horizon: int,
    options: ImaginationOptions,
    rng: np.random.Generator,
    on_round: Callable[[], None],
    **fitting: Any,
) -> float:
    """Rounds of it; the student is changed in place.

    :param student: of the state
    :param teachers: of the real trials, whose model of the dynamics, cost and options are used
    :param seen: the newest trials: half of the imagined ones begin as they did
    :param horizon: steps of an imagined trial
    :param on_round: called after each
    :param fitting: as for ``Student.fit``
    :return: what a trial of the last round cost in the mean
    """
    model = teachers.learned
    assert isinstance(model, ChangeModel)
    learning = replace(student.options, student_batches=BATCHES)
    student = replace(student, read=read_state, options=learning)
    first, dX = seen.X[:, :, 0].reshape(-1, model.dX), model.dX
    half = options.imagined_conditions // 2
    batches: list[Batch] = []
    assert options.imagined_rounds > 0
    for _ in range(options.imagined_rounds):
        starts = np.concatenate(
            [
                first[rng.integers(len(first), size=half)],
                model.z[rng.integers(len(model.z), size=options.imagined_conditions - half), :dX],
            ]
        )
        trials = imagine(model, _acting(student), ended, starts, horizon, bounds)
        fit = _models(trials, student, teachers)
        imagined = Teachers.about(fit, teachers.cost, teachers.rule, teachers.options)
        imagined.improve(fit.controller, rng)
        batches = [*batches, _taught(student, imagined, trials, bounds)][-BATCHES:]
        student.follow(imagined, batches, rng=rng, **fitting)
        on_round()
    return float(fit.sampled_cost.mean())


def _acting(student: Student) -> Act:
    return lambda x: student_actions(student.policy, x.astype(np.float32))


def _taught(
    student: Student,
    teachers: Teachers,
    trials: Trajectories,
    bounds: tuple[np.ndarray, np.ndarray],
) -> Batch:
    """Trials with what their teachers would do there, as it would be executed.

    A teacher knows of no bounds: what is far beyond them would be most of what a network is fitted
    to, and comes to the same.
    """
    (batch,) = student.settle(teachers, [Batch(trials, None)])
    assert batch.targets is not None
    mean, precision = batch.targets
    return replace(batch, targets=(np.clip(mean, *bounds), precision))


def _models(trials: Trajectories, student: Student, teachers: Teachers) -> Fit:
    """Of imagined trials: they are the model's own, and free of its noise.

    With the noise of a model of few trials, the KL of any step that matters is beyond all bounds in
    a loop that is not stable.
    """
    opts = teachers.options
    jacobian = teachers.learned.jacobian(trials.Z)
    M, _, _, dX = trials.X.shape
    still = np.broadcast_to(opts.min_dynamics_variance * np.eye(dX), (M, dX, dX)).copy()
    return Fit(
        controller=student.differentiated(Batch(trials, None)),
        samples=trials,
        dynamics=after_its_end(along(trials, jacobian, opts.min_dynamics_variance), trials.lived),
        cost=after_its_end(expand_cost(teachers.cost, trials), trials.lived),
        initial_state=Gaussian(trials.X[:, 0, 0], still),
        sampled_cost=trajectory_costs(teachers.cost, trials)[:, 0],
    )
