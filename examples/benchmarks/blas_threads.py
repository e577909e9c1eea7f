"""Dynamics fits in one BLAS thread against one a core: alone, and beside a process that computes.

    python examples/benchmarks/blas_threads.py

Nine conditions, five samples each, of 100 steps. Prints seconds and ratios; writes them as JSON.
"""

import multiprocessing
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from sb3_gps.core.fitting import fit_dynamics, pooled_prior, transitions
from sb3_gps.core.types import Trajectories
from sb3_gps.experiment import machine
from sb3_gps.files import write_json
from sb3_gps.hardware import cores

M, N, T, dX, dU, REPEATS = 9, 5, 100, 32, 7, 3


def busy() -> None:
    """Another process that has a core."""
    while True:
        pass


def seconds(samples: Trajectories, threads: int) -> float:
    """The median of some fits."""
    times = []
    with threadpool_limits(threads, user_api="blas"):
        for _ in range(REPEATS):
            begin = time.perf_counter()
            prior = pooled_prior([transitions(samples)], window=6, strength=10.0)
            fit_dynamics(samples, prior, 1e-6, 1e-8)
            times.append(time.perf_counter() - begin)
    return float(np.median(times))


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    X = rng.standard_normal((M, N, T, dX)).cumsum(axis=2)
    samples = Trajectories(X, rng.standard_normal((M, N, T, dU)))
    result = {}
    for where in ("alone", "beside another"):
        other = multiprocessing.Process(target=busy, daemon=True)
        if where != "alone":
            other.start()
        one, many = seconds(samples, 1), seconds(samples, cores())
        result[where] = {"one": one, "many": many, "ratio": many / one}
        print(f"{where}: 1 thread {one:.3f} s, {cores()} threads {many:.3f} s: {many / one:.1f} x")
        if where != "alone":
            other.terminate()
    out = Path("examples/results/timing/blas_threads.json")
    write_json(out, {"seconds": result, "machine": machine()})
