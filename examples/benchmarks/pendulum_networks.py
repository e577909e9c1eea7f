"""How well networks can do what the best policy of Pendulum-v1 does: it is imitated by several.

    python examples/benchmarks/pendulum_networks.py [--steps 10000] [--seeds 0 1 2] [--out FILE]

Nearly the best policy (dynamic programming, ``pendulum_starts.py``) jumps from one end of the
torque to the other where swinging up to the left is as good as to the right, and a network that is
smooth there takes a swing too many. So several networks imitate it by the student's own regression,
in the states of its trials from 1,500 starts with a little noise, and are judged from 2,000 others.
With more steps all of them come closer: it is for comparing networks, not a bound on any. Prints
and writes what ``pendulum_starts.py`` does. Takes a minute, and half a minute a network and seed.
"""

import argparse
from pathlib import Path

import numpy as np
import torch as th
from gymnasium import spaces
from pendulum_starts import Act, acts, after, figures, nearly_best, observed, returns
from torch.nn import ReLU, Tanh

from sb3_gps.core.types import StudentTargets
from sb3_gps.features import StandardisedExtractor, input_statistics
from sb3_gps.files import write_json
from sb3_gps.policies import GPSPolicy
from sb3_gps.provenance import machine
from sb3_gps.supervised import fit_student

TRIALS, STEPS_OF_A_TRIAL, NOISE = 1500, 100, 0.1
NETWORKS = {
    "64, 64, tanh": ([64, 64], Tanh),  # of SB3's MlpPolicy
    "64, 64, ReLU": ([64, 64], ReLU),
    "256, 256, ReLU": ([256, 256], ReLU),  # of SB3's SAC
    "64, 64, 64, ReLU": ([64] * 3, ReLU),
    "128, 128, 128, ReLU": ([128] * 3, ReLU),  # of ``benchmark environments``
}


def trials(act: Act) -> tuple[np.ndarray, np.ndarray]:
    """Observations (n, 3) and actions (n, 1) of a policy that is a little disturbed."""
    rng = np.random.default_rng(5)
    angle, velocity = rng.uniform(-np.pi, np.pi, TRIALS), rng.uniform(-1.0, 1.0, TRIALS)
    seen, done = [], []
    for _ in range(STEPS_OF_A_TRIAL):
        u = act(angle, velocity, 0)  # with all of an episode to go
        seen.append(observed(angle, velocity))
        done.append(u)
        disturbed = np.clip(u + rng.normal(0.0, NOISE, TRIALS), -2.0, 2.0)
        angle, velocity = after(angle, velocity, disturbed)
    return np.concatenate(seen), np.concatenate(done)[:, None]


def imitate(
    network: str, seen: np.ndarray, done: np.ndarray, steps: int, seed: int
) -> tuple[Act, float]:
    """A policy that imitates, and its root mean square error."""
    th.manual_seed(seed)
    layers, activation = NETWORKS[network]
    policy = GPSPolicy(
        spaces.Box(-np.inf, np.inf, (3,), np.float32),
        spaces.Box(-2.0, 2.0, (1,), np.float32),
        lambda _: 1e-3,
        net_arch=dict(pi=layers, vf=[]),
        activation_fn=activation,
    )
    assert isinstance(policy.features_extractor, StandardisedExtractor)
    policy.features_extractor.set_input_statistics(input_statistics(seen))
    targets = StudentTargets(done, np.ones((len(done), 1, 1)))
    rng = np.random.default_rng(seed)
    result = fit_student(policy, seen, targets, head_steps=steps, end_to_end_steps=0, rng=rng)
    return acts(policy), result.error


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000, help="of a network, 256 states each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    out = Path("examples/results/pendulum_networks/result.json")
    parser.add_argument("--out", type=Path, default=out)
    args = parser.parse_args()

    best = nearly_best()
    optimal = returns(best)
    seen, done = trials(best)
    measured: dict[str, list[dict[str, float]]] = {}
    for network in NETWORKS:
        measured[network] = []
        for seed in args.seeds:
            act, error = imitate(network, seen, done, args.steps, seed)
            own = {"seed": seed, "error": error, **figures(returns(act), optimal)}
            measured[network].append(own)
            print(f"{network}: " + "  ".join(f"{k} {v:.2f}" for k, v in own.items()), flush=True)
            write_json(args.out, {"steps": args.steps, "networks": measured, "machine": machine()})


if __name__ == "__main__":
    main()
