"""Learned dynamics and a learned reward: what practice in them asks for, against a plain form.

    python examples/benchmarks/learned_models.py

The sizes are those of a round of practice on Pusher-v5: 23 states and 7 actions, steps of 1,600
tries, and derivatives at the 50 steps of the 100 that are learned from; one thread. The plain form
takes the quadratics as weighted features and leaves all derivatives to autograd. Prints and writes
milliseconds, ratios, and how far apart they are at most.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch as th

from sb3_gps.autodiff import DifferentiableCost
from sb3_gps.files import write_json
from sb3_gps.hardware import one_torch_thread
from sb3_gps.provenance import machine
from sb3_gps.regression import SmoothRegression

DX, DU, TRIALS, STEPS, TRIES, SEEN, REPEATS = 23, 7, 100, 50, 16, 4000, 5


class Plain(SmoothRegression):
    """The same model in the plain form."""

    def quadratic(self, standard: th.Tensor) -> th.Tensor:
        return self.coefficients[0] + self.features(standard) @ self.coefficients[1:]

    def jacobian(self, z: np.ndarray) -> np.ndarray:
        flat = th.from_numpy(z).requires_grad_()
        y = self.forward(flat)
        rows = [th.autograd.grad(column.sum(), flat, retain_graph=True)[0] for column in y.T]
        return th.stack(rows, dim=1).numpy()


def cost(reward: SmoothRegression) -> DifferentiableCost:
    """What LQR plans with."""
    return DifferentiableCost(lambda x, u, t: -reward(th.cat([x, u], dim=1))[:, 0])


def measured(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Least milliseconds, and what it returned."""
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - begin)
    return 1000.0 * min(seconds), result


@one_torch_thread()
def main() -> None:
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(SEEN, DX + DU))
    changes = np.sin(seen @ rng.normal(size=(DX + DU, DX)) / 3.0) + seen[:, :DX] * seen[:, 7:30]
    models = {}
    for kind in (SmoothRegression, Plain):
        fit = [kind(DX + DU, dY, np.random.default_rng(0)) for dY in (DX, 1)]
        fit[0].fit(seen, changes, np.random.default_rng(0))
        fit[1].fit(seen, changes[:, :1], np.random.default_rng(0))
        models[kind] = fit
    tried = rng.normal(size=(TRIALS * TRIES, DX + DU))
    chosen = rng.normal(size=(TRIALS * STEPS, DX + DU))
    X, U, t = chosen[:, :DX], chosen[:, DX:], np.zeros(len(chosen))
    results = {}
    works: dict[str, Callable[[SmoothRegression, SmoothRegression], Callable[[], np.ndarray]]] = {
        "a step of all tries": lambda dynamics, _: lambda: dynamics.predict(tried),
        "rewards of all tries at a step": lambda _, reward: lambda: reward.predict(tried),
        "derivatives of the dynamics": lambda dynamics, _: lambda: dynamics.jacobian(chosen),
        "derivatives of the cost": lambda _, reward: lambda: cost(reward).expand(X, U, t)[2],
    }
    for name, work in works.items():
        (ours, here), (plain, there) = (measured(work(*models[kind])) for kind in models)
        off = float(np.abs(here - there).max() / np.abs(there).max())
        results[name] = dict(ms=ours, plain_ms=plain, times=plain / ours, apart=off)
        print(f"{name}: {ours:.1f} ms, plain {plain:.1f} ms, {plain / ours:.1f} times; {off:.0e}")
    record = {"results": results, "machine": machine()}
    write_json(Path("examples/results/timing/learned_models.json"), record)


if __name__ == "__main__":
    main()
