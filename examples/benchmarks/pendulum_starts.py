"""How far policies of Pendulum-v1 are from nearly the best, from 2,000 starts.

    python examples/benchmarks/pendulum_starts.py [--seeds 0 1 2] [--saved sac.zip ...] [--out FILE]

The twenty starts of ``benchmark environments`` are too few to tell policies apart: one swing too
many changes their mean by five. Trains GPS with the options of that benchmark, loads policies that
SB3's SAC saved, and simulates all of them from the same starts. What they are compared with is
dynamic programming on a grid; on one of a quarter of the points it has 0.6 less. Prints and writes
the mean return, the share of starts from which ``LOST`` or more is lost (a swing too many), and
what is lost from these and from the others. Takes a minute, and one to three a seed.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates
from stable_baselines3 import SAC
from stable_baselines3.common.type_aliases import PolicyPredictor

from sb3_gps.baselines import train_gps
from sb3_gps.commands.benchmark_environments import GPS_STEPS, OPTIONS
from sb3_gps.files import write_json
from sb3_gps.provenance import machine

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


def nearly_best() -> Act:
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


def observed(angle: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """As Gymnasium's, (n, 3)."""
    return np.stack([np.cos(angle), np.sin(angle), velocity], axis=1).astype(np.float32)


def acts(model: PolicyPredictor) -> Act:
    """What SB3's ``predict`` does in such states."""

    def act(angle: np.ndarray, velocity: np.ndarray, t: int) -> np.ndarray:
        return model.predict(observed(angle, velocity), deterministic=True)[0][:, 0]

    return act


def figures(own: np.ndarray, optimal: np.ndarray) -> dict[str, float]:
    """What a policy loses against nearly the best."""
    lost = optimal - own
    wrong = lost >= LOST

    def summary(of: Callable[[np.ndarray], np.ndarray], where: np.ndarray) -> float:
        return float(of(lost[where])) if where.any() else 0.0

    return {
        "return": float(own.mean()),
        "standard_error": float(own.std() / np.sqrt(STARTS)),
        "percent_wrong": float(100.0 * wrong.mean()),
        "lost_where_wrong": summary(np.mean, wrong),
        "lost_elsewhere": summary(np.mean, ~wrong),
        "lost_elsewhere_median": summary(np.median, ~wrong),
        "percent_better": float(100.0 * (lost < 0.0).mean()),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="of GPS")
    parser.add_argument("--saved", type=Path, nargs="*", default=[], help="policies of SAC")
    out = Path("examples/results/pendulum_starts/result.json")
    parser.add_argument("--out", type=Path, default=out)
    args = parser.parse_args()

    optimal = returns(nearly_best())
    measured: dict[str, dict[str, float]] = {}

    def add(name: str, own: np.ndarray) -> None:
        if name in measured:
            raise SystemExit(f"two policies are {name}")
        measured[name] = figures(own, optimal)
        cells = "  ".join(f"{key} {value:.2f}" for key, value in measured[name].items())
        print(f"{name}: {cells}", flush=True)
        settings = {"starts": STARTS, "lost": LOST, "grid": GRID}
        write_json(args.out, {**settings, "policies": measured, "machine": machine()})

    add("dynamic programming", optimal)
    for path in args.saved:
        model = SAC.load(path, device="cpu")
        add(f"sac, seed {model.seed}, {model.num_timesteps:,} steps", returns(acts(model)))
    for seed in args.seeds:
        gps, _ = train_gps(ENV, seed, GPS_STEPS, OPTIONS[ENV], lambda model: {})
        add(f"gps, seed {seed}, {gps.num_timesteps:,} steps", returns(acts(gps)))


if __name__ == "__main__":
    main()
