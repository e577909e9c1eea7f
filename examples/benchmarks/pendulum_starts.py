"""How far policies of Pendulum-v1 are from the best that there is, from 2,000 starts.

    python examples/benchmarks/pendulum_starts.py [--seeds 0 1 2] [--saved sac.zip ...]

Trains GPS with the options of ``benchmark environments``, loads policies that SB3's SAC saved, and
simulates all of them from the same starts, whose twenty in the benchmark are few: a swing too many
from one of them is five of the mean. The best is that of dynamic programming on a grid. Prints and
writes the mean return, the share of starts from which ``LOST`` or more is lost (a swing too many),
and what is lost from them and from the others. Takes a minute, and one to three a seed.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates
from stable_baselines3 import SAC

from sb3_gps.baselines import train_gps
from sb3_gps.commands.benchmark_environments import GPS_STEPS, OPTIONS
from sb3_gps.experiment import machine
from sb3_gps.files import write_json

ENV, T = "Pendulum-v1", 200
STARTS = 2000
LOST = 30.0  # of return
GRID = 401, 321  # angles and velocities
COARSE, FINE = np.linspace(-2.0, 2.0, 25), np.linspace(-2.0, 2.0, 81)  # actions

# Actions (n,) from angles, velocities and time.
Act = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def upright(angle: np.ndarray) -> np.ndarray:
    """The angle from the top, in [-pi, pi)."""
    return (angle + np.pi) % (2.0 * np.pi) - np.pi


def after(
    angle: np.ndarray, velocity: np.ndarray, u: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """The next state, as Gymnasium's."""
    velocity = np.clip(velocity + 0.05 * (15.0 * np.sin(angle) + 3.0 * u), -8.0, 8.0)
    return angle + 0.05 * velocity, velocity


def cost(angle: np.ndarray, velocity: np.ndarray, u: np.ndarray | float) -> np.ndarray:
    """Of one step."""
    return upright(angle) ** 2 + 0.1 * velocity**2 + 0.001 * np.square(u)


def returns(act: Act) -> np.ndarray:
    """From each start, (STARTS,)."""
    rng = np.random.default_rng(1)
    angle, velocity = rng.uniform(-np.pi, np.pi, STARTS), rng.uniform(-1.0, 1.0, STARTS)
    total = np.zeros(STARTS)
    for t in range(T):
        u = np.clip(act(angle, velocity, t), -2.0, 2.0)
        total -= cost(angle, velocity, u)
        angle, velocity = after(angle, velocity, u)
    return total


def best() -> Act:
    """Of finite-horizon dynamic programming, with values between the points of a grid."""
    angle, velocity = np.meshgrid(
        np.linspace(-np.pi, np.pi, GRID[0]), np.linspace(-8.0, 8.0, GRID[1]), indexing="ij"
    )

    def at(value: np.ndarray, state: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        i = (upright(state[0]) + np.pi) / (2.0 * np.pi) * (GRID[0] - 1)
        j = (state[1] + 8.0) / 16.0 * (GRID[1] - 1)
        return map_coordinates(value, [i, j], order=1, mode="nearest")

    def options(
        value: np.ndarray, angle: np.ndarray, velocity: np.ndarray, actions: np.ndarray
    ) -> np.ndarray:
        """Costs to go of each action."""
        return np.stack(
            [cost(angle, velocity, u) + at(value, after(angle, velocity, u)) for u in actions]
        )

    values = [np.zeros(GRID)]  # with so many steps to go
    for _ in range(T):
        values.append(options(values[-1], angle, velocity, COARSE).min(axis=0))

    def act(angle: np.ndarray, velocity: np.ndarray, t: int) -> np.ndarray:
        return FINE[options(values[T - 1 - t], angle, velocity, FINE).argmin(axis=0)]

    return act


def acts(model) -> Act:
    """What SB3's ``predict`` does in such states."""

    def act(angle: np.ndarray, velocity: np.ndarray, t: int) -> np.ndarray:
        seen = np.stack([np.cos(angle), np.sin(angle), velocity], axis=1).astype(np.float32)
        return model.predict(seen, deterministic=True)[0][:, 0]

    return act


def figures(own: np.ndarray, optimal: np.ndarray) -> dict[str, float]:
    """What a policy loses against the best."""
    lost = optimal - own
    wrong = lost >= LOST
    return {
        "return": float(own.mean()),
        "standard_error": float(own.std() / np.sqrt(STARTS)),
        "percent_wrong": float(100.0 * wrong.mean()),
        "lost_where_wrong": float(lost[wrong].mean()) if wrong.any() else 0.0,
        "lost_elsewhere": float(lost[~wrong].mean()),
        "lost_elsewhere_median": float(np.median(lost[~wrong])),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="of GPS")
    parser.add_argument("--saved", type=Path, nargs="*", default=[], help="policies of SAC")
    out = Path("examples/results/pendulum_starts/result.json")
    parser.add_argument("--out", type=Path, default=out)
    args = parser.parse_args()

    optimal = returns(best())
    measured = {"best": {"return": float(optimal.mean())}}

    def add(name: str, own: np.ndarray) -> None:
        measured[name] = figures(own, optimal)
        cells = "  ".join(f"{key} {value:.2f}" for key, value in measured[name].items())
        print(f"{name}: {cells}", flush=True)
        record = {"policies": measured, "starts": STARTS, "machine": machine()}
        write_json(args.out, record)

    print(f"best: return {optimal.mean():.2f}", flush=True)
    for path in args.saved:
        model = SAC.load(path, device="cpu")
        add(f"sac, seed {model.seed}, {model.num_timesteps:,} steps", returns(acts(model)))
    for seed in args.seeds:
        gps, _ = train_gps(ENV, seed, GPS_STEPS, OPTIONS[ENV], lambda model: {})
        add(f"gps, seed {seed}, {gps.num_timesteps:,} steps", returns(acts(gps)))


if __name__ == "__main__":
    main()
