"""A teacher's step: batches over conditions against plain loops, one thread, float64.

    python examples/benchmarks/teacher_update.py

KL-constrained LQR to 10 % of its target, dX = 26, dU = 7, T = 100; and the fits of dynamics and
student for nine conditions with 5 samples each, 19 past trajectories in their prior. The loops are
written as in the implementations of 2016: a condition at a time, Cholesky factors at every step,
eta by bisection on its logarithm. Prints milliseconds a condition and ratios, and where the time
goes; writes them as JSON.
"""

import cProfile
import pstats
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from threadpoolctl import threadpool_limits

from sb3_gps.core.fitting import fit_dynamics, linearize_policy, pooled_prior, transitions
from sb3_gps.core.lqr import kl_constrained_lqr, max_entropy_lqr, nll
from sb3_gps.core.types import (
    Gaussian,
    LinearDynamics,
    LinearGaussianController,
    QuadraticCost,
    Trajectories,
)
from sb3_gps.files import write_json
from sb3_gps.provenance import machine

M, T, dX, dU = 9, 100, 26, 7
SAMPLES, PAST = 5, 19
KL_STEP, TOLERANCE, REPEATS = 1.0, 0.1, 5


def problem(rng: np.random.Generator, M: int) -> tuple:
    """Damped random dynamics, a convex cost, and the optimum of another cost to step from."""
    dZ = dX + dU
    A = 0.98 * np.eye(dX) + 0.02 * rng.standard_normal((M, T - 1, dX, dX))
    B = 0.1 * rng.standard_normal((M, T - 1, dX, dU))
    noise = np.broadcast_to(1e-3 * np.eye(dX), (M, T - 1, dX, dX))
    dynamics = LinearDynamics(
        np.concatenate([A, B], axis=-1), 0.02 * rng.standard_normal((M, T - 1, dX)), noise
    )

    def cost() -> QuadraticCost:
        root = rng.standard_normal((M, T, dZ, dZ)) / np.sqrt(dZ)
        H = root @ root.swapaxes(-1, -2) + 0.1 * np.eye(dZ)
        return QuadraticCost(np.zeros((M, T)), rng.standard_normal((M, T, dZ)), H)

    reference, _ = max_entropy_lqr(dynamics, cost(), np.ones((M, T)))
    start = Gaussian(rng.standard_normal((M, dX)), np.broadcast_to(0.01 * np.eye(dX), (M, dX, dX)))
    return dynamics, cost(), reference, start


def batched(dynamics, cost, reference, start) -> np.ndarray:
    """What this package does; the KL of each condition."""
    epsilon = np.full(len(start.mean), KL_STEP * T)
    result = kl_constrained_lqr(dynamics, cost, reference, start, epsilon, tolerance=TOLERANCE)
    return result.kl.sum(axis=1)


def loops(dynamics, cost, reference, start) -> np.ndarray:
    """The same by plain loops over conditions, steps and values of eta."""
    return np.array(
        [
            one_condition(dynamics[m], cost[m], reference[m], start[m])
            for m in range(len(start.mean))
        ]
    )


def one_condition(dynamics, cost, reference, start) -> float:
    """Bisection on log eta; the KL at its end."""
    low, high, eta = 1e-8, 1e16, 1.0
    penalty = nll(reference)
    for _ in range(30):
        p = backward(dynamics, cost + penalty.scaled(eta), eta)
        total = divergence(p, reference, *forward(dynamics, p, start))
        if abs(total / (KL_STEP * T) - 1.0) < TOLERANCE:
            break
        if total > KL_STEP * T:
            low = eta
            eta = min(np.sqrt(low * high), 10.0 * eta)
        else:
            high = eta
            eta = max(np.sqrt(low * high), 0.1 * eta)
    return total


def backward(dynamics, cost, eta: float) -> LinearGaussianController:
    """Riccati recursion."""
    K, k, C = np.zeros((T, dU, dX)), np.zeros((T, dU)), np.zeros((T, dU, dU))
    V, v = np.zeros((dX, dX)), np.zeros(dX)
    for t in range(T - 1, -1, -1):
        Q, q = cost.H[t], cost.g[t]
        if t < T - 1:
            F, f = dynamics.F[t], dynamics.f[t]
            Q = Q + F.T.dot(V).dot(F)
            q = q + F.T.dot(v + V.dot(f))
        Q = 0.5 * (Q + Q.T)
        U = cholesky(Q[dX:, dX:])
        L = U.T
        K[t] = -solve_triangular(U, solve_triangular(L, Q[dX:, :dX], lower=True))
        k[t] = -solve_triangular(U, solve_triangular(L, q[dX:], lower=True))
        C[t] = eta * solve_triangular(U, solve_triangular(L, np.eye(dU), lower=True))
        V = Q[:dX, :dX] + Q[:dX, dX:].dot(K[t])
        V = 0.5 * (V + V.T)
        v = q[:dX] + Q[:dX, dX:].dot(k[t])
    return LinearGaussianController(K, k, C)


def forward(dynamics, p, start) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of [x; u]."""
    mean, cov = np.zeros((T, dX + dU)), np.zeros((T, dX + dU, dX + dU))
    x, S = start.mean, start.cov
    for t in range(T):
        K = p.K[t]
        mean[t] = np.concatenate([x, K.dot(x) + p.k[t]])
        cov[t] = np.vstack(
            [np.hstack([S, S.dot(K.T)]), np.hstack([K.dot(S), K.dot(S).dot(K.T) + p.C[t]])]
        )
        if t < T - 1:
            F = dynamics.F[t]
            S = F.dot(cov[t]).dot(F.T) + dynamics.Sigma[t]
            S = 0.5 * (S + S.T)
            x = F.dot(mean[t]) + dynamics.f[t]
    return mean, cov


def divergence(p, q, mean: np.ndarray, cov: np.ndarray) -> float:
    """sum_t E KL(p || q)."""
    total = 0.0
    for t in range(T):
        x, S = mean[t, :dX], cov[t, :dX, :dX]
        factor = cho_factor(q.C[t])
        P = cho_solve(factor, np.eye(dU))
        dK, d = p.K[t] - q.K[t], (p.K[t] - q.K[t]).dot(x) + p.k[t] - q.k[t]
        log_q = 2.0 * np.sum(np.log(np.diag(factor[0])))
        log_p = 2.0 * np.sum(np.log(np.diag(cholesky(p.C[t]))))
        spread = np.sum(P * (p.C[t] + dK.dot(S).dot(dK.T))) + d.dot(P).dot(d)
        total += 0.5 * (spread - dU + log_q - log_p)
    return total


def milliseconds(work: Callable[[], object]) -> float:
    """The median of some calls."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(times))


def fits(rng: np.random.Generator) -> Callable[[], object]:
    """Dynamics and student of nine conditions; the prior of all that is recent."""
    X = rng.standard_normal((M, SAMPLES, T, dX)).cumsum(axis=2)
    new = Trajectories(X, rng.standard_normal((M, SAMPLES, T, dU)))
    X = rng.standard_normal((M, PAST, T, dX)).cumsum(axis=2)
    old = Trajectories(X, rng.standard_normal((M, PAST, T, dU)))
    actions = rng.standard_normal((M, SAMPLES, T, dU))

    def work() -> None:
        prior = pooled_prior([transitions(old), transitions(new)], window=6, strength=10.0)
        fit_dynamics(new, prior, 1e-6, 1e-8)
        points = [np.concatenate([new.X, actions], axis=-1)]
        student = pooled_prior(points, window=6, strength=10.0)
        linearize_policy(new.X, actions, 0.01 * np.eye(dU), student, 1e-6)

    return work


def profile(work: Callable[[], object]) -> str:
    """The functions that take most of the time."""
    profiler = cProfile.Profile()
    profiler.runcall(work)
    rows = sorted(pstats.Stats(profiler).stats.items(), key=lambda row: -row[1][2])[:6]
    whole = sum(row[1][2] for row in pstats.Stats(profiler).stats.items())
    return "\n".join(f"  {100 * cost[2] / whole:4.0f} %  {key[2]}" for key, cost in rows)


def main() -> None:
    """Measure, print, write."""
    rng = np.random.default_rng(0)
    nine = problem(rng, M)
    one = tuple(record[:1] for record in nine)
    with threadpool_limits(1):
        # The two end within the tolerance of one target.
        for kl in (batched(*nine), loops(*nine)):
            assert (np.abs(kl / (KL_STEP * T) - 1.0) < TOLERANCE).all(), kl
        result = {
            "nine conditions, loops": milliseconds(lambda: loops(*nine)) / M,
            "nine conditions, batched": milliseconds(lambda: batched(*nine)) / M,
            "one condition, loops": milliseconds(lambda: loops(*one)),
            "one condition, batched": milliseconds(lambda: batched(*one)),
        }
        fitting = fits(rng)
        seconds = 1e-3 * milliseconds(fitting)
        where = {"step": profile(lambda: batched(*nine)), "fits": profile(fitting)}
    for name, value in result.items():
        print(f"{name:26} {value:8.2f} ms a condition")
    ratios = {
        name: result[f"{name}, loops"] / result[f"{name}, batched"]
        for name in ("nine conditions", "one condition")
    }
    for name, value in ratios.items():
        print(f"{name:26} {value:8.1f} times faster a condition than the loops")
    print(f"fits of nine conditions    {seconds:8.3f} s")
    for name, rows in where.items():
        print(f"profile of the {name}:\n{rows}")
    out = Path("examples/results/timing/teacher_update.json")
    record = {"milliseconds": result, "ratios": ratios, "fits_seconds": seconds, "profile": where}
    write_json(out, {**record, "machine": machine()})


if __name__ == "__main__":
    main()
