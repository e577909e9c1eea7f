"""How exact a learned model is where InvertedDoublePendulum-v5 stands, by how it is fitted.

    python examples/benchmarks/standing_models.py [--seeds 0 1] [--out FOLDER]

The fits: errors that count by their size from a tenth of a deviation of the changes on, or a
hundredth; and 800 steps of training, or 3,000. Students are trained with the first of them and with
the last, and the options of ``benchmark environments``. All four are then fitted to the transitions
of either run, ten times in succession to more and more of them, much as in a run, and judged by new
episodes of its student, a little disturbed: the root mean square errors of the velocities about
the top, and how far a model takes the cart in 100 steps from where it had come to rest, with the
student acting. A file for each seed, with what the students themselves are worth. Takes a quarter
of an hour a seed.
"""

import argparse
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.env_util import make_vec_env

from sb3_gps import GPS, dynamics, regression
from sb3_gps.baselines import mean_return, train_gps
from sb3_gps.commands.benchmark_environments import GPS_STEPS, OPTIONS
from sb3_gps.dynamics import ChangeModel
from sb3_gps.files import write_json
from sb3_gps.imagination import acts, imagine
from sb3_gps.provenance import machine

ENV = "InvertedDoublePendulum-v5"
BOUNDS = -np.ones(1), np.ones(1)  # of its action
DX = 9  # size of its state
VELOCITIES = slice(5, 8)  # in it: m/s of the cart, rad/s of the poles
FITS = tuple(itertools.product((0.1, 0.01), (800, 3000)))  # huber, steps
TRAINED = FITS[0], FITS[-1]
TIMES = 10  # that a model is fitted
EPISODES, T = 10, 200
NOISE = 0.02
QUIET = 0.1  # largest action of a transition about the top
REST, IMAGINED = 1000, 100
SEED = 1000  # of the first episode


def trained(seed: int, huber: float, steps: int) -> tuple[GPS, list[dict[str, Any]]]:
    """A student of such models, and its returns."""
    kept = dynamics.HUBER, regression.STEPS
    dynamics.HUBER, regression.STEPS = huber, steps
    measure = partial(mean_return, env=make_vec_env(ENV, n_envs=10), episodes=20)
    student, curve = train_gps(ENV, seed, GPS_STEPS, OPTIONS[ENV], measure)
    dynamics.HUBER, regression.STEPS = kept
    return student, curve


def fitted(known: ChangeModel, huber: float, steps: int) -> ChangeModel:
    """A model of the same transitions."""
    kept, regression.STEPS = regression.STEPS, steps
    rng = np.random.default_rng(0)
    model = regression.SmoothRegression(known.z.shape[1], known.dX, rng, huber)
    for n in np.linspace(0, len(known.z), TIMES + 1).astype(int)[1:]:
        model.fit(known.z[:n], known.change[:n], rng)
    regression.STEPS = kept
    return ChangeModel(model, known.z, known.change, known.first, known.ended_early)


def disturbed(student: GPS) -> tuple[np.ndarray, np.ndarray]:
    """Transitions [x; u] (n, dZ) and changes (n, dX) about the top."""
    rng, env = np.random.default_rng(0), gym.make(ENV)
    z, changes = [], []
    for episode in range(EPISODES):
        x, _ = env.reset(seed=SEED + episode)
        for _ in range(T):
            u = student.predict(x, deterministic=True)[0] + rng.normal(0.0, NOISE, 1)
            u = np.clip(u, *BOUNDS)
            after, _, ended, *_ = env.step(u)
            if ended:
                break
            if np.abs(u) < QUIET:
                z.append(np.append(x, u))
                changes.append(after - x)
            x = after
    return np.array(z), np.array(changes)


def rests(student: GPS) -> np.ndarray:
    """Last states of the episodes that are not lost, (n, dX)."""
    env = gym.make(ENV)
    states = []
    for episode in range(EPISODES):
        x, _ = env.reset(seed=SEED + episode)
        for _ in range(REST):
            x, _, ended, *_ = env.step(student.predict(x, deterministic=True)[0])
            if ended:
                break
        else:
            states.append(x)
    return np.reshape(states, (-1, DX))


def figures(
    model: ChangeModel, student: GPS, judged: tuple[np.ndarray, np.ndarray], starts: np.ndarray
) -> dict[str, Any]:
    """How exact it is."""
    z, changes = judged
    error = (model.regression.predict(z) - changes)[:, VELOCITIES]
    row: dict[str, Any] = {"velocity_errors": np.sqrt(np.square(error).mean(axis=0)).tolist()}
    if not len(starts):
        return row
    trials, lost = imagine(model, partial(acts, student.policy), starts, IMAGINED + 1, BOUNDS)
    moved = np.abs(trials.X[:, 0, -1, 0] - starts[:, 0])
    return {**row, "drifts": moved[~lost].tolist(), "lost": int(lost.sum())}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--out", type=Path, default=Path("examples/results/standing_models"))
    args = parser.parse_args()

    for seed in args.seeds:
        students = []
        for fit in TRAINED:
            student, curve = trained(seed, *fit)
            assert student.teachers is not None
            judged, starts = disturbed(student), rests(student)
            models: list[dict[str, Any]] = []
            own = {
                "fit": fit,
                "curve": curve,
                "judged": len(judged[0]),
                "rests": starts[:, 0].tolist(),
                "rest_speed": np.abs(starts[:, VELOCITIES]).tolist(),
                "models": models,
            }
            students.append(own)
            print(f"seed {seed}, {fit}: {curve[-1]}, rests {np.round(starts[:, 0], 2)}")
            for huber, steps in FITS:
                model = fitted(student.teachers.learned, huber, steps)
                row = {"fit": (huber, steps), **figures(model, student, judged, starts)}
                models.append(row)
                print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
                record = {"seed": seed, "students": students, "machine": machine()}
                write_json(args.out / f"seed{seed}.json", record)


if __name__ == "__main__":
    main()
