"""How exact a learned model is where InvertedDoublePendulum-v5 stands, by how it is fitted.

    python examples/benchmarks/standing_models.py [--seeds 0 1 2] [--out FILE]

Trains GPS with the options of ``benchmark environments``, and fits models to its transitions, ten
times in succession to more and more of them, as a run does: with errors that count by their size
from a tenth of a deviation of the changes on, or a hundredth, and 800 steps of training, or 3,000.
They are judged by transitions of the trained student, a little disturbed, that none of them has
seen. Prints and writes the root mean square errors of the velocities, and how far a model takes the
cart in 100 steps from where it had come to rest in the simulator, with the student acting. Takes
six minutes a seed.
"""

import argparse
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np

from sb3_gps import GPS, regression
from sb3_gps.baselines import train_gps
from sb3_gps.commands.benchmark_environments import GPS_STEPS, OPTIONS
from sb3_gps.dynamics import ChangeModel
from sb3_gps.experiment import machine
from sb3_gps.files import write_json
from sb3_gps.imagination import acts, imagine

ENV = "InvertedDoublePendulum-v5"
BOUNDS = -np.ones(1), np.ones(1)  # of its action
VELOCITIES = slice(5, 8)  # in its state
HUBER, STEPS = (0.1, 0.01), (800, 3000)
FITS = 10
EPISODES, T = 10, 200
NOISE = 0.02
QUIET = 0.1  # largest action of a transition that is about the top
REST, IMAGINED = 1000, 100
SEED = 1000  # of the first episode


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
    """Last states of episodes that were not lost, (n, dX)."""
    env, states = gym.make(ENV), []
    for episode in range(EPISODES):
        x, _ = env.reset(seed=SEED + episode)
        for _ in range(REST):
            x, _, ended, *_ = env.step(student.predict(x, deterministic=True)[0])
            if ended:
                break
        else:
            states.append(x)
    return np.array(states)


def fitted(known: ChangeModel, huber: float) -> ChangeModel:
    """A model of the same transitions, by the present ``regression.STEPS``."""
    rng = np.random.default_rng(0)
    model = regression.SmoothRegression(known.z.shape[1], known.dX, rng, huber)
    for n in np.linspace(0, len(known.z), FITS + 1).astype(int)[1:]:
        model.fit(known.z[:n], known.change[:n], rng)
    return ChangeModel(model, known.z, known.change, known.first, known.ended_early)


def figures(model: ChangeModel, student: GPS) -> dict[str, object]:
    """How exact it is."""
    z, changes = disturbed(student)
    error = model.regression.predict(z)[:, VELOCITIES] - changes[:, VELOCITIES]
    starts = rests(student)
    act = partial(acts, student.policy)
    after = imagine(model, act, starts, IMAGINED, BOUNDS)[0].X[:, 0, -1]
    return {
        "velocity_errors": np.sqrt(np.square(error).mean(axis=0)).tolist(),
        "drift": float(np.abs(after - starts)[:, 0].mean()),
        "rests": len(starts),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    out = Path("examples/results/standing_models/result.json")
    parser.add_argument("--out", type=Path, default=out)
    args = parser.parse_args()

    usual = regression.STEPS
    measured = []
    for seed in args.seeds:
        regression.STEPS = usual
        student, _ = train_gps(ENV, seed, GPS_STEPS, OPTIONS[ENV], lambda model: {})
        assert student.teachers is not None
        for huber in HUBER:
            for regression.STEPS in STEPS:
                model = fitted(student.teachers.learned, huber)
                row = dict(
                    seed=seed, huber=huber, steps=regression.STEPS, **figures(model, student)
                )
                measured.append(row)
                print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
                write_json(args.out, {"models": measured, "machine": machine()})


if __name__ == "__main__":
    main()
