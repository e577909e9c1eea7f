"""One thread against one a core, for small work: alone, and beside a process that computes.

    python examples/benchmarks/threads.py

The dynamics' fits (numpy: nine conditions, five samples each, of 100 steps) and a network of states
(torch). Prints seconds and ratios; writes them as JSON.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch as th
from threadpoolctl import threadpool_limits

from sb3_gps.core.fitting import fit_dynamics, pooled_prior, transitions
from sb3_gps.core.types import Trajectories
from sb3_gps.files import write_json
from sb3_gps.hardware import cores
from sb3_gps.provenance import machine
from sb3_gps.supervised import batches

M, N, T, dX, dU, REPEATS = 9, 5, 100, 32, 7, 3


def busy() -> None:
    """Another process that has a core."""
    while True:
        pass


def fit(samples: Trajectories) -> None:
    """The dynamics of all conditions."""
    prior = pooled_prior([transitions(samples)], window=6, strength=10.0)
    fit_dynamics(samples, prior, 1e-6, 1e-8)


def train(x: th.Tensor, y: th.Tensor) -> None:
    """A network of the size of the student's fully connected layers, 500 steps of 256."""
    generator = th.Generator().manual_seed(0)
    network = th.nn.Sequential(
        th.nn.Linear(dX, 40), th.nn.ReLU(), th.nn.Linear(40, 40), th.nn.ReLU(), th.nn.Linear(40, dU)
    )
    optimizer = th.optim.Adam(network.parameters())
    for index in batches(len(x), 256, 500, generator):
        optimizer.zero_grad(set_to_none=True)
        (network(x[index]) - y[index]).square().mean().backward()
        optimizer.step()


@contextmanager
def torch_limits(n: int) -> Iterator[None]:
    """``threadpool_limits`` for torch's own loops."""
    before = th.get_num_threads()
    th.set_num_threads(n)
    yield
    th.set_num_threads(before)


def seconds(
    work: Callable[[], None], limit: Callable[[int], AbstractContextManager], threads: int
) -> float:
    """The median of some calls."""
    times = []
    with limit(threads):
        work()
        for _ in range(REPEATS):
            begin = time.perf_counter()
            work()
            times.append(time.perf_counter() - begin)
    return float(np.median(times))


def main() -> None:
    """Measure, print, write."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((M, N, T, dX)).cumsum(axis=2)
    samples = Trajectories(X, rng.standard_normal((M, N, T, dU)))
    x = th.from_numpy(rng.standard_normal((M * N * T, dX))).float()
    y = th.tanh(x[:, :dU])
    works = {
        "fit of the dynamics": (lambda: fit(samples), partial(threadpool_limits, user_api="blas")),
        "network of states": (lambda: train(x, y), torch_limits),
    }
    result: dict[str, dict[str, dict[str, float]]] = {name: {} for name in works}
    for where in ("alone", "beside another"):
        other = multiprocessing.Process(target=busy, daemon=True)
        if where != "alone":
            other.start()
        for name, (work, limit) in works.items():
            one, many = (seconds(work, limit, n) for n in (1, cores()))
            result[name][where] = {"one": one, "many": many, "ratio": many / one}
            print(
                f"{name}, {where}: 1 thread {one:.3f} s, {cores()} threads {many:.3f} s: "
                f"{many / one:.1f} x"
            )
        if where != "alone":
            other.terminate()
    write_json(
        Path("examples/results/timing/threads.json"), {"seconds": result, "machine": machine()}
    )


if __name__ == "__main__":  # the other process imports this file again
    main()
