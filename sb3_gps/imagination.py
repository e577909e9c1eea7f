"""Practice in the learned model: trials that cost no step of the environment.

    repeat  let the student act in the model, from many starts            imagine
            the same pushed, or mistaken about its state, at first, in    detours
                case that leads another way that is cheaper               chosen_tries
            models about these trials, of the actions that are wanted     within_bounds
            a step of a teacher from there                                Teachers.step
            let the student follow                                        Student.follow

The network of ``prior="network"`` knows more than the derivatives at the last trials, which are all
that a teacher needs: a student that sees the state can be improved in it about trials that nobody
made. Half of them begin where episodes did, half in states of any trial so far, and they are short,
because errors of a model add up. Source: Sutton 1991 (Dyna); Janner et al. 2019, sec. 4 (short
trials from states that were seen); the step itself is that of the real trials.

A teacher improves the way that it is shown. Whether a pendulum swings up to the left or to the
right, or which way an arm turns to what lies behind it, is not up to it: students took the longer
way for some of the starts, each seed for others. So each trial has several tries, and the cheapest
is learned from. In some the student is pushed at first: its actions differ by as much for some
steps, after which it goes on from where that brought it. In the others it takes its state for
another, less and less from step to step, goes the way that it knows from there, and arrives where
it should. The mistake is towards a state that was seen, or as far beyond: mistaken by noise of any
direction, a student does what nobody ever saw, and the model promises anything. Which of the two
finds more depends on the task: a pendulum that hangs has to be moved first, an arm to go round.

What a student wants beyond a bound is not executed, and a teacher that takes it to be plans with a
force that is not there: a pendulum that has to be pushed with all that there is was braked too
early. So teachers plan with the actions that are wanted, as far as the bounds let them pass.

A model is trusted as far as it foresaw the newest trials before it learned from them
(``trusted_steps``), and not used where that is not far. Nor is it where episodes have ended early,
unless the rewards tell where they do (``LearnedCost.untold``): what keeps a pole up for some steps
may leave it where it falls, which trials that are short never see. Trials that fall part from any
model within some steps; there, less of it is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from sb3_gps.core.bounds import within_bounds
from sb3_gps.core.costs import trajectory_costs
from sb3_gps.core.types import Trajectories
from sb3_gps.dynamics import ChangeModel, along
from sb3_gps.policies import GPSPolicy
from sb3_gps.student import Batch, Student, read_state
from sb3_gps.supervised import student_actions
from sb3_gps.teachers import Teachers, fit_about

FAR = 6.0  # deviations of the states; what is farther than that and than any is no state any more
FORESEEN = 0.5  # deviations of the states that an error of the model may have
# Shares of an imagined trial that have to be foreseen of trials that last, and that may fall.
LASTING, FALLING = 0.5, 0.2
STARTS = 10  # states of a trial that a model is tried from, spread over its time
BATCHES = 5  # rounds that the student learns from; of two, it changes its mind too often
MISTAKEN = 2.0  # largest alpha of a mistake alpha (x' - x), x' another state
FADING = 0.95  # of a mistake, a step; 8 % is left of it after 50
PUSHED = 20  # steps that a push lasts at most
SPARED = 0.15  # share of its cost that another way has to spare: less is the teachers' work
# Half ranges of the action beyond its bounds that a student is to want at most: where a soft bound
# still lets something pass (two of its deviations, ``bounds.SOFT``).
BEYOND = 0.5

Act = Callable[[np.ndarray], np.ndarray]  # actions (n, dU) in states (n, dX)
Ended = Callable[[np.ndarray], np.ndarray]  # whether an episode is over in states (n, dX), (n,)


@dataclass(frozen=True)
class ImaginationOptions:
    """
    :param imagined_rounds: of imagined trials and learning from them, in each iteration
    :param imagined_conditions: trials in a round
    :param imagined_tries: of each trial; in all but the first, the student is pushed or mistaken
        at first
    :param imagined_horizon: steps of a trial
    """

    imagined_rounds: int = 0
    imagined_conditions: int = 100
    imagined_tries: int = 16
    imagined_horizon: int = 50

    def horizon(self, episode: int, trusted: int, falling: bool = False) -> int:
        """Steps of a trial in a model that is trusted so far; 0: it is not worth it.

        :param episode: steps of one
        :param falling: whether trials have ended early
        """
        wanted = min(self.imagined_horizon, episode)
        if trusted < (FALLING if falling else LASTING) * wanted:
            return 0
        return wanted if falling else min(wanted, trusted)


def trusted_steps(
    model: ChangeModel,
    samples: Trajectories,
    act: Act | None,
    bounds: tuple[np.ndarray, np.ndarray],
) -> int:
    """For how many steps a model foresees trials that it has not learned from.

    Begun in some of their states, with whoever acted acting again and the same noise, the median
    of its errors stays below ``FORESEEN`` deviations of the states. Given the same actions
    instead, a pendulum that is about to fall would part from its model at once.

    :param act: who acted, without its noise; None: it is not known, and the actions are the same
    :param bounds: lowest and highest action, (dU,) each
    :return: as many as episodes last, where it foresees all of them; after its end, nothing of a
        trial is foreseen
    """
    T = samples.X.shape[2]
    X, U = (a.reshape(-1, *a.shape[2:]) for a in (samples.X, samples.U))

    def acted(x: np.ndarray) -> np.ndarray:
        if act is None:
            return np.zeros((*x.shape[:-1], U.shape[-1]))
        return np.clip(act(x.reshape(-1, x.shape[-1])), *bounds).reshape(*x.shape[:-1], -1)

    noise = U - acted(X)
    length = samples.length.reshape(-1, 1)
    t = np.arange(0, T, max(1, T // STARTS))
    x, begun = X[:, t], t < length
    for done in range(T):
        more = t + 1 < T
        t, x, begun = t[more], x[:, more], begun[:, more]
        if not len(t):
            break
        x = model.step(x, np.clip(acted(x) + noise[:, t], *bounds))
        t = t + 1
        # A trial that is lost is no farther than far: nothing is to overflow.
        off = np.clip(np.nan_to_num((x - X[:, t]) / model.spread, nan=FAR), -FAR, FAR)
        off[t >= length] = FAR
        if not np.median(np.sqrt(np.square(off).mean(axis=-1))[begun]) < FORESEEN:
            return done
        x = X[:, t] + off * model.spread
    return T


def imagine(
    model: ChangeModel,
    act: Act,
    starts: np.ndarray,
    steps: int,
    bounds: tuple[np.ndarray, np.ndarray],
    mistakes: np.ndarray | float = 0.0,
    pushes: np.ndarray | float = 0.0,
    ended: Ended | None = None,
) -> tuple[Trajectories, np.ndarray]:
    """Trials in the model, without noise; they end where episodes do, or get lost.

    They rest in the state that ended them, or in the last that was not far from what was seen.

    :param starts: first states, (M, dX)
    :param bounds: lowest and highest action, (dU,) each
    :param mistakes: what is added to the states that are acted on, (M, T, dX) or 0
    :param pushes: what is added to the actions, (M, T, dU) or 0
    :param ended: where an episode is over; None: nowhere before its time
    :return: (M, 1, T, ...), and which got lost, (M,)
    """
    (M, dX), dU = starts.shape, len(bounds[0])
    mistakes = np.broadcast_to(mistakes, (M, steps, dX))
    pushes = np.broadcast_to(pushes, (M, steps, dU))
    X, U = np.empty((M, steps, dX)), np.zeros((M, steps, dU))
    length = np.full(M, steps)
    running, lost = np.ones(M, dtype=bool), np.zeros(M, dtype=bool)
    low, high = model.reach(FAR)
    x = starts
    for t in range(steps):
        X[:, t] = x
        wanted = act(x[running] + mistakes[running, t]) + pushes[running, t]
        U[running, t] = np.clip(wanted, *bounds)
        if t + 1 == steps:
            break
        after = model.step(x, U[:, t])
        known = np.clip(after, low, high)
        end = np.zeros(M, dtype=bool) if ended is None else ended(known)
        away = ~end & (after != known).any(axis=1)  # what is not a number is away as well
        x = np.where((running & ~away)[:, None], known, x)
        lost |= running & away
        over = running & (away | end)
        length[over] = t + 1
        running &= ~over
        if not running.any():
            X[:, t + 1 :] = x[:, None]
            break
    return Trajectories(X[:, None], U[:, None], length[:, None]), lost


def detours(
    states: np.ndarray, steps: int, bounds: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """How each try but the first departs from what the student would do: by a push or a mistake.

    A push is up to the range of the action, to either side, for up to ``PUSHED`` steps.

    :param states: where a trial begins, and what it is taken for in its other tries, (M, tries, dX)
    :param steps: T
    :param bounds: lowest and highest action, (dU,) each
    :return: mistakes (M, tries, T, dX) and pushes (M, tries, T, dU), as of ``imagine``
    """
    M, tries, _ = states.shape
    t = np.arange(steps)[:, None]
    wrong = rng.uniform(0.0, MISTAKEN, size=(M, tries, 1)) * (states - states[:, :1])
    reach = bounds[1] - bounds[0]
    push = rng.uniform(-reach, reach, size=(M, tries, len(reach)))
    last = rng.integers(1, PUSHED, size=(M, tries, 1, 1), endpoint=True)
    pushed = np.arange(tries) % 2 == 1
    wrong[:, pushed] = 0.0
    push[:, ~pushed] = 0.0
    return FADING**t * wrong[:, :, None], (t < last) * push[:, :, None]


def chosen_tries(costs: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """The first try of each trial, or the cheapest where that spares much of its cost.

    :param costs: of the tries, (M, tries)
    :param lost: which came far from all states, (M, tries): they rest where that may be cheap, and
        do not count, but for the first
    :return: index m * tries + n of each trial's try n, (M,)
    """
    M, tries = costs.shape
    known = np.where(lost, np.inf, costs)
    known[:, 0] = costs[:, 0]
    spares = costs[:, 0] - known.min(axis=1) > SPARED * np.abs(costs[:, 0])
    return np.arange(M) * tries + np.where(spares, known.argmin(axis=1), 0)


def acts(policy: GPSPolicy, x: np.ndarray) -> np.ndarray:
    """The actions of a policy that sees the state, not clipped, (n, dU)."""
    return student_actions(policy, x.astype(np.float32))


def practise(
    student: Student,
    teachers: Teachers,
    bounds: tuple[np.ndarray, np.ndarray],
    horizon: int,
    options: ImaginationOptions,
    rng: np.random.Generator,
    on_round: Callable[[], None],
    ended: Ended | None = None,
    **fitting: Any,
) -> float:
    """Rounds of it; the student is changed in place.

    :param student: of the state
    :param teachers: of the real trials, whose model of the dynamics, cost and options are used
    :param bounds: as of ``imagine``
    :param horizon: steps of an imagined trial
    :param on_round: called after each
    :param ended: as of ``imagine``
    :param fitting: as for ``Student.fit``
    :return: what a trial of the last round cost in the mean
    """
    model, costs = teachers.learned, []
    M, tries = options.imagined_conditions, options.imagined_tries
    assert isinstance(model, ChangeModel)
    learning = replace(student.options, student_batches=BATCHES)
    student = replace(student, read=read_state, options=learning)
    pools = (model.first, M // 2), (model.z[:, : model.dX], M - M // 2)
    batches: list[Batch] = []
    act = partial(acts, student.policy)

    for _ in range(options.imagined_rounds):
        # The first is where a trial begins, the others what it is taken for.
        states = np.concatenate(
            [pool[rng.integers(len(pool), size=(n, tries))] for pool, n in pools]
        )
        mistakes, pushes = (
            a.reshape(M * tries, horizon, -1) for a in detours(states, horizon, bounds, rng)
        )
        starts = np.repeat(states[:, 0], tries, axis=0)
        tried, lost = imagine(model, act, starts, horizon, bounds, mistakes, pushes, ended)
        # In parts: the features of a learned end are many times its inputs.
        parts = [trajectory_costs(teachers.cost, tried[i : i + M]) for i in range(0, M * tries, M)]
        tried_costs = np.concatenate(parts).reshape(M, tries)
        costs.append(tried_costs[:, 0])
        chosen = chosen_tries(tried_costs, lost.reshape(M, tries))
        trials = tried[chosen]
        batch = Batch(trials, None)
        # What acted: the actions that were tried, with the feedback of where it really was.
        acted = student.differentiated(batch)
        x = trials.X[:, 0]
        taken_for, right = (
            act(s.reshape(-1, model.dX)).reshape(acted.k.shape) for s in (x + mistakes[chosen], x)
        )
        changed = within_reach(taken_for + pushes[chosen], bounds) - right
        fit = fit_about(
            trials,
            replace(acted, k=acted.k + changed),
            along(trials, model.jacobian(trials.Z), teachers.options.min_dynamics_variance),
            teachers.cost,
            tried_costs.reshape(-1)[chosen],
        )
        fit = within_bounds(fit, bounds)
        imagined = Teachers.about(fit, teachers.cost, teachers.rule, teachers.options)
        imagined.step(fit.controller)
        settled = student.settle(imagined.proposal, imagined, [batch])
        batches = [*batches, *(with_targets_in_reach(b, bounds) for b in settled)][-BATCHES:]
        student.follow(imagined, batches, rng=rng, **fitting)
        on_round()
    return float(costs[-1].mean())


def within_reach(wanted: np.ndarray, bounds: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Actions (..., dU), no farther than ``BEYOND`` from their bounds, where they still count."""
    low, high = bounds
    beyond = 0.5 * BEYOND * (high - low)
    return np.clip(wanted, low - beyond, high + beyond)


def with_targets_in_reach(batch: Batch, bounds: tuple[np.ndarray, np.ndarray]) -> Batch:
    """With the actions that it wants near their bounds.

    What a plan wants far beyond them would be most of what a network is fitted to. But asked for no
    more than the bound, a network stays short of it, and what takes all the force that there is (to
    catch a pendulum at the last moment) fails.
    """
    assert batch.targets is not None
    mean, precision = batch.targets
    return replace(batch, targets=(within_reach(mean, bounds), precision))
