"""Linear-quadratic-Gaussian control with an entropy term and a KL constraint.

Two problems::

    max-entropy LQR:  argmin_p  E_p[ sum_t l_t(z_t) ] - temperature H(p)
    KL-constrained:   argmin_p  E_p[ sum_t l_t(z_t) ] - entropy_weight H(p)
                      s.t.      sum_t E_p KL( p(.|x_t) || reference(.|x_t) ) <= epsilon

-log q(u|x) of a linear-Gaussian controller is itself a quadratic cost (``nll``), so the second
problem's Lagrangian is the first problem with the cost l + eta nll(reference) at the temperature
eta + entropy_weight_t: one solver serves every update rule. Source: Levine & Abbeel 2014, sec. 3;
Levine et al. 2016, App. A.

Every function takes any leading batch axes; only t is a Python loop.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from sb3_gps.core.gaussian import is_positive_definite, log_det, symmetrize, transpose
from sb3_gps.core.types import (
    Gaussian,
    LinearDynamics,
    LinearGaussianController,
    QuadraticCost,
    Record,
    put,
    where,
)

ETA_MIN, ETA_MAX = 1e-8, 1e16  # Levine et al. 2016, App. A
LARGEST_MOVE = np.log(10.0)  # of log eta in one round
# Quu must be positive definite by this much of its diagonal, or Quu^-1 is rounding noise.
MARGIN = 1e-12


def max_entropy_lqr(
    dynamics: LinearDynamics, cost: QuadraticCost, temperature: np.ndarray
) -> tuple[LinearGaussianController, np.ndarray]:
    """argmin_p E_p[cost] - temperature H(p), by one Riccati pass.

    :param dynamics: (B, T-1, ...)
    :param cost: (B, T, ...)
    :param temperature: (B, T), > 0
    :return: the controller, and whether Quu was positive definite at every step, (B,) bool; where
        it was not, the controller of that batch entry is meaningless
    """
    dX = dynamics.f.shape[-1]
    return _riccati(_homogeneous_dynamics(dynamics), _homogeneous_cost(cost, dX), temperature)


def _riccati(
    F: np.ndarray, H: np.ndarray, temperature: np.ndarray
) -> tuple[LinearGaussianController, np.ndarray]:
    """``max_entropy_lqr`` in homogeneous coordinates: one product carries the linear terms along.

    :param F: (B, T-1, dX+1, dZ+1)
    :param H: (B, T, dZ+1, dZ+1)
    """
    B, T = temperature.shape
    dX, dU = F.shape[-2] - 1, F.shape[-1] - F.shape[-2]
    x, u = slice(dX + 1), slice(dX + 1, None)
    gains = np.zeros((B, T, dU, dX + 1))  # [K, k]
    Quu = np.zeros((B, T, dU, dU))
    feasible = np.ones(B, dtype=bool)
    shrunk_diagonal = 1.0 - MARGIN * np.eye(dU)
    V = np.zeros((B, dX + 1, dX + 1))
    for t in reversed(range(T)):
        Q = H[:, t]
        if t < T - 1:
            Q = Q + transpose(F[:, t]) @ V @ F[:, t]
        good = is_positive_definite(Q[:, u, u] * shrunk_diagonal)
        if not good.all():  # masked, not raised: other etas and conditions go on
            feasible &= good
            # Start these anew from a harmless Q, or they overflow further on.
            Q = np.where(good[:, None, None], Q, np.eye(dX + 1 + dU))
        Quu[:, t] = Q[:, u, u]
        gains[:, t] = -np.linalg.solve(Q[:, u, u], Q[:, u, x])
        V = symmetrize(Q[:, x, x] + Q[:, x, u] @ gains[:, t])
    C = temperature[..., None, None] * symmetrize(np.linalg.inv(symmetrize(Quu)))
    return LinearGaussianController(gains[..., :dX], gains[..., dX], C), feasible


def _homogeneous_dynamics(dynamics: LinearDynamics) -> np.ndarray:
    """[x'; 1] = F [x; 1; u], (..., dX+1, dZ+1)."""
    *batch, dX, dZ = dynamics.F.shape
    F = np.zeros((*batch, dX + 1, dZ + 1))
    F[..., :dX, :dX], F[..., :dX, dX + 1 :] = dynamics.F[..., :dX], dynamics.F[..., dX:]
    F[..., :dX, dX], F[..., dX, dX] = dynamics.f, 1.0
    return F


def _homogeneous_cost(cost: QuadraticCost, dX: int) -> np.ndarray:
    """1/2 [x; 1; u]' H [x; 1; u] but for a constant, (..., dZ+1, dZ+1)."""
    *batch, dZ = cost.g.shape
    H = np.zeros((*batch, dZ + 1, dZ + 1))
    x, one, u = slice(dX), dX, slice(dX + 1, None)
    H[..., x, x], H[..., u, u] = cost.H[..., :dX, :dX], cost.H[..., dX:, dX:]
    H[..., x, u], H[..., u, x] = cost.H[..., :dX, dX:], cost.H[..., dX:, :dX]
    H[..., x, one], H[..., u, one] = cost.g[..., :dX], cost.g[..., dX:]
    H[..., one, x], H[..., one, u] = cost.g[..., :dX], cost.g[..., dX:]
    return H


def state_marginals(
    dynamics: LinearDynamics, controller: LinearGaussianController, initial_state: Gaussian
) -> Gaussian:
    """p(x_t) of the closed loop, (B, T, dX).

    :param dynamics: (B, T-1, ...)
    :param controller: (B, T, ...)
    :param initial_state: p(x_0), (B, dX)
    """
    B, T, _, dX = controller.K.shape
    acting = controller[:, :-1]
    Fx, Fu = dynamics.F[..., :dX], dynamics.F[..., dX:]
    A = Fx + Fu @ acting.K
    b = (Fu @ acting.k[..., None])[..., 0] + dynamics.f
    noise = Fu @ acting.C @ transpose(Fu) + dynamics.Sigma
    mean, cov = np.empty((B, T, dX)), np.empty((B, T, dX, dX))
    mean[:, 0], cov[:, 0] = initial_state.mean, initial_state.cov
    for t in range(T - 1):
        mean[:, t + 1] = (A[:, t] @ mean[:, t, :, None])[..., 0] + b[:, t]
        cov[:, t + 1] = A[:, t] @ cov[:, t] @ transpose(A[:, t]) + noise[:, t]
    return Gaussian(mean, symmetrize(cov))


def marginals(
    dynamics: LinearDynamics, controller: LinearGaussianController, initial_state: Gaussian
) -> Gaussian:
    """p(z_t) of the closed loop, (B, T, dX+dU).

    :param dynamics: as the others, of ``state_marginals``
    """
    state = state_marginals(dynamics, controller, initial_state)
    x, S, K = state.mean, state.cov, controller.K
    KS = K @ S
    u = (K @ x[..., None])[..., 0] + controller.k
    across = KS @ transpose(K) + controller.C
    return Gaussian(
        np.concatenate([x, u], axis=-1),
        np.block([[S, transpose(KS)], [KS, symmetrize(across)]]),
    )


def nll(controller: LinearGaussianController) -> QuadraticCost:
    """-log p(u|x) as a quadratic cost of z = [x; u], (..., T)."""
    *batch, dU, _ = controller.K.shape
    P = symmetrize(np.linalg.inv(controller.C))
    A = np.concatenate(  # u - K x - k = A z - k
        [-controller.K, np.broadcast_to(np.eye(dU), (*batch, dU, dU))], axis=-1
    )
    PA = P @ A
    Pk = (P @ controller.k[..., None])[..., 0]
    g = -(transpose(A) @ Pk[..., None])[..., 0]
    c = 0.5 * (
        np.einsum("...u,...u->...", controller.k, Pk)
        + log_det(controller.C)
        + dU * np.log(2.0 * np.pi)
    )
    return QuadraticCost(c, g, symmetrize(transpose(A) @ PA))


def entropy(controller: LinearGaussianController) -> np.ndarray:
    """H(p(u_t|x_t)) in nats, (..., T)."""
    dU = controller.k.shape[-1]
    return 0.5 * (log_det(controller.C) + dU * (1.0 + np.log(2.0 * np.pi)))


def kl_divergence(
    p: LinearGaussianController, q: LinearGaussianController, x: Gaussian
) -> np.ndarray:
    """E_{x_t ~ p} KL( p(.|x_t) || q(.|x_t) ) in nats, (..., T).

    :param x: marginals under p of the state, or of [x; u]
    """
    dU, dX = p.K.shape[-2:]
    dK, P = p.K - q.K, np.linalg.inv(q.C)
    mean, S = x.mean[..., :dX], x.cov[..., :dX, :dX]
    d = np.einsum("...ux,...x->...u", dK, mean) + p.k - q.k
    spread = symmetrize(p.C + dK @ S @ transpose(dK)) + d[..., :, None] * d[..., None, :]
    trace = np.einsum("...ij,...ji->...", P, spread)
    return 0.5 * (trace - dU + log_det(q.C) - log_det(p.C))


@dataclass(frozen=True, eq=False)
class LQRResult:
    """What ``kl_constrained_lqr`` found; all fields lead with the M conditions."""

    controller: LinearGaussianController
    eta: np.ndarray  # (M,) the multiplier of *this* controller
    kl: np.ndarray  # (M, T) nats a step
    converged: np.ndarray  # (M,) bool: KL within 10 % of epsilon, or below it with eta at its floor


def kl_constrained_lqr(
    dynamics: LinearDynamics,
    cost: QuadraticCost,
    reference: LinearGaussianController,
    initial_state: Gaussian,
    epsilon: np.ndarray,
    entropy_weight: np.ndarray | float = 0.0,
    eta: np.ndarray | None = None,
    min_eta: float = ETA_MIN,
    tolerance: float = 0.1,
    max_rounds: int = 30,
    length: np.ndarray | None = None,
) -> LQRResult:
    """argmin_p E_p[cost] - sum_t entropy_weight_t H(p_t)  s.t.  sum_t KL(p||reference) <= epsilon.

    KL falls with eta, and log KL is nearly linear in log eta: a secant on the logarithms, kept
    inside a bracket and to a factor of ten a move, needs 3 to 5 passes. Conditions that have
    converged leave the batch. An eta at which Quu is not positive definite counts as too small.
    Where no eta is feasible, or the closed loop overflows, the reference itself is returned, with
    ``converged`` false.

    :param dynamics: (M, T-1, ...)
    :param cost: (M, T, ...)
    :param reference: (M, T, ...)
    :param initial_state: (M, dX)
    :param epsilon: (M,) nats in the whole trajectory, > 0
    :param entropy_weight: broadcasts to (M, T), >= 0
    :param eta: (M,) where the search starts; default 1
    :param min_eta: floor of eta, the price of a nat: near the optimum the constraint is slack, and
        a step that gains less than this a nat is not taken
    :param tolerance: relative error of the constraint that is accepted
    :param max_rounds: of the search
    :param length: (M,) steps that the constraint is about, None: all. Beyond what was lived a
        reference that falls makes any KL enormous, and no step but the smallest would meet it
    :raises ValueError: where an argument is not finite, or epsilon is not positive
    """
    _require_finite("dynamics", dynamics)
    _require_finite("cost", cost)
    _require_finite("reference", reference)
    _require_finite("initial_state", initial_state)
    M = reference.K.shape[0]
    epsilon = np.broadcast_to(np.asarray(epsilon, dtype=float), M)
    if not (epsilon > 0.0).all():
        raise ValueError(f"epsilon must be > 0 nats, got {epsilon}")
    weight = np.broadcast_to(np.asarray(entropy_weight, dtype=float), cost.c.shape)
    log_eta = np.log(np.clip(np.ones(M) if eta is None else eta, min_eta, ETA_MAX))
    floor = float(np.log(min_eta))
    low, high = np.full(M, floor), np.full(M, np.log(ETA_MAX))
    low_gap, high_gap = np.full(M, np.nan), np.full(M, np.nan)  # log(KL / epsilon) at low, high
    last_log_eta, last_gap = np.full(M, np.nan), np.full(M, np.nan)
    dX = dynamics.f.shape[-1]
    F = _homogeneous_dynamics(dynamics)
    H, H_kl = _homogeneous_cost(cost, dX), _homogeneous_cost(nll(reference), dX)
    counted = np.arange(cost.c.shape[1]) < (cost.c.shape[1] if length is None else length[:, None])
    counted = np.broadcast_to(counted, cost.c.shape)

    best = reference
    best_eta, best_kl = np.full(M, ETA_MAX), np.zeros(reference.k.shape[:-1])
    converged = np.zeros(M, dtype=bool)
    active = np.arange(M)
    for _ in range(max_rounds):
        a = active
        every = slice(None) if a.size == M else a  # a view while nothing has converged
        e = np.exp(log_eta[a])
        model, start = dynamics[every], reference[every]
        penalised = H[every] + e[:, None, None, None] * H_kl[every]
        p, feasible = _riccati(F[every], penalised, e[:, None] + weight[a])
        if not feasible.all():
            p = where(feasible, p, start)
        # Gains from a nearly singular Quu can overflow in the closed loop: as infeasible.
        with np.errstate(over="ignore", invalid="ignore"):
            x = state_marginals(model, p, initial_state[a])
            kl = np.where(counted[a], kl_divergence(p, start, x), 0.0)
            total = kl.sum(axis=-1)
        feasible &= np.isfinite(total)
        total = np.where(feasible, total, np.inf)
        with np.errstate(divide="ignore"):
            gap = np.log(np.maximum(total, 0.0) / epsilon[a])

        done = feasible & (np.abs(total / epsilon[a] - 1.0) < tolerance)
        done |= feasible & (gap < 0) & (log_eta[a] <= floor + 1e-9)
        # Keep the largest feasible step so far; when none meets the constraint, the smallest.
        too_far = gap > np.log1p(tolerance)
        best_gap = np.log(np.maximum(best_kl[a].sum(axis=-1), 1e-300) / epsilon[a])
        better = feasible & (done | (~too_far & (gap > best_gap)))
        chosen = a[better]
        best = put(best, chosen, p[better])
        best_eta[chosen], best_kl[chosen] = e[better], kl[better]
        converged[a] = done

        above = gap > 0  # too large a step: eta must rise
        low[a] = np.where(above, np.maximum(low[a], log_eta[a]), low[a])
        low_gap[a] = np.where(above, gap, low_gap[a])
        high[a] = np.where(above, high[a], np.minimum(high[a], log_eta[a]))
        high_gap[a] = np.where(above, high_gap[a], gap)
        moved = log_eta[a] - last_log_eta[a]
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = (gap - last_gap[a]) / moved
        last_log_eta[a], last_gap[a] = log_eta[a], gap
        log_eta[a] = _next_log_eta(
            log_eta[a], gap, slope, low[a], high[a], low_gap[a], high_gap[a], floor
        )
        active = a[~done & (high[a] - low[a] > 1e-6)]
        if active.size == 0:
            break
    return LQRResult(best, best_eta, best_kl, converged)


def _require_finite(name: str, record: Record) -> None:
    for field in fields(record):
        finite = np.isfinite(getattr(record, field.name))
        if not finite.all():
            raise ValueError(
                f"{name}.{field.name} must be finite, got NaN or inf at [condition, step, ...] = "
                f"{np.argwhere(~finite)[0].tolist()}; look at the samples and the cost there"
            )


def _next_log_eta(
    log_eta: np.ndarray,
    gap: np.ndarray,
    slope: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    low_gap: np.ndarray,
    high_gap: np.ndarray,
    floor: float,
) -> np.ndarray:
    """One move of every search: secant inside a finite bracket, else Newton along the last slope.

    :param gap: log(KL / epsilon) at log_eta, inf where that was infeasible
    :param slope: d gap / d log eta of the last move, nan at first; typically -1.5
    """
    bracketed = np.isfinite(low_gap) & np.isfinite(high_gap)
    with np.errstate(invalid="ignore", divide="ignore"):
        secant = low + (high - low) * low_gap / (low_gap - high_gap)
    # Stay off the ends of the bracket, where a secant creeps.
    margin = 0.1 * (high - low)
    secant = np.clip(secant, low + margin, high - margin)
    # A KL that hardly changes any more (slope near 0) deserves the longest move.
    slope = np.minimum(np.where(np.isfinite(slope), slope, -1.5), -0.1)
    move = np.clip(np.nan_to_num(-gap / slope, nan=0.0), -LARGEST_MOVE, LARGEST_MOVE)
    free = np.clip(log_eta + move, floor, np.log(ETA_MAX))
    # A move that leaves the bracket (its other end was infeasible) falls back to bisection,
    # except to the floor, which has to be tried itself.
    outside = (free >= high) | ((free <= low) & (low > floor))
    free = np.where(outside, 0.5 * (low + high), free)
    return np.where(bracketed, secant, free)
