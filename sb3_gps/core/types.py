"""The records that the core works on.

Letters: x state (dX), u action (dU), z = [x; u] in this order, t = 0 .. T-1, and any leading
batch axes ``...`` (usually the M conditions). Everything is float64. A trajectory holds the states
*before* each action, so T states and T actions span T - 1 transitions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

Self = TypeVar("Self", bound="Record")


@dataclass(frozen=True, eq=False)
class Record:
    """A frozen record of arrays, or of records, that share their leading axes."""

    # Arrays must not try to broadcast over a record in `array * record`.
    __array_ufunc__ = None

    def __getitem__(self: Self, index: Any) -> Self:
        """The same record at an index, slice or mask of its leading axis."""
        return map_arrays(lambda array: array[index], self)


def map_arrays(function: Callable[..., np.ndarray], *records: Self) -> Self:
    """A record whose every array is ``function`` of that array in each of the given records."""
    columns = []
    for field in fields(records[0]):
        values = [getattr(record, field.name) for record in records]
        nested = isinstance(values[0], Record)
        columns.append(map_arrays(function, *values) if nested else function(*values))
    return type(records[0])(*columns)


def where(mask: np.ndarray, a: Self, b: Self) -> Self:
    """The record ``a`` where ``mask`` (over the leading axis) is true, else ``b``."""

    def choose(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.where(mask.reshape(mask.shape + (1,) * (left.ndim - mask.ndim)), left, right)

    return map_arrays(choose, a, b)


def first_steps(record: Self, steps: int) -> Self:
    """The record over its first steps of time, the second axis of its arrays."""
    return map_arrays(lambda array: array[:, :steps], record)


def hold(record: Self, steps: int, step: int = -1) -> Self:
    """The record over so many steps, those that it lacks like one of its own."""

    def lengthen(array: np.ndarray) -> np.ndarray:
        more = np.repeat(array[:, step, None], steps - array.shape[1], axis=1)
        return np.concatenate([array, more], axis=1)

    return map_arrays(lengthen, record)


def after_its_end(record: Self, length: np.ndarray) -> Self:
    """The record with the steps from ``length`` (M,) on, if there are any, as in its middle."""

    def replaced(array: np.ndarray) -> np.ndarray:
        t = np.arange(array.shape[1])
        t = np.where(t < length[:, None], t, length[:, None] // 2)
        return array[np.arange(len(array))[:, None], t]

    return map_arrays(replaced, record)


def put(whole: Self, index: np.ndarray, part: Self) -> Self:
    """A copy of ``whole`` with ``part`` at ``index`` of the leading axis."""

    def replace(target: np.ndarray, source: np.ndarray) -> np.ndarray:
        target = target.copy()
        target[index] = source
        return target

    return map_arrays(replace, whole, part)


def _check(name: str, array: np.ndarray, shape: tuple[int, ...], symbols: str) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} must be {symbols} = {shape}, got {array.shape}")


@dataclass(frozen=True, eq=False)
class Gaussian(Record):
    """N(mean, cov)."""

    mean: np.ndarray  # (..., d)
    cov: np.ndarray  # (..., d, d)


@dataclass(frozen=True, eq=False)
class Trajectories(Record):
    """Executed episodes; the final state x_T, after the last action, is not part of the problem.

    An episode that ended early rests in its last state, with actions of zero, for the steps that
    are left: they say what it cost, and nothing of the dynamics.
    """

    X: np.ndarray  # (M, N, T, dX)
    U: np.ndarray  # (M, N, T, dU)
    length: np.ndarray = None  # type: ignore[assignment]  # (M, N) steps before its end; None: T

    def __post_init__(self) -> None:
        if self.length is None:
            object.__setattr__(self, "length", np.full(self.X.shape[:-2], self.X.shape[-2]))
        if self.X.ndim != self.U.ndim or self.X.shape[:-1] != self.U.shape[:-1]:
            raise ValueError(
                "X (M, N, T, dX) and U (M, N, T, dU) must agree, got "
                f"{self.X.shape} and {self.U.shape}"
            )

    @property
    def Z(self) -> np.ndarray:
        """z = [x; u], (M, N, T, dX + dU)."""
        return np.concatenate([self.X, self.U], axis=-1)

    @property
    def lived(self) -> np.ndarray:
        """Steps of the longest episode of each condition, (M,)."""
        return self.length.max(axis=1)

    @property
    def ended_early(self) -> np.ndarray:
        """Whether the episode did not last, (M, N) bool."""
        return self.length < self.X.shape[-2]

    @property
    def running(self) -> np.ndarray:
        """Whether the episode had not ended yet, (M, N, T) bool."""
        return np.arange(self.X.shape[-2]) < self.length[..., None]


@dataclass(frozen=True, eq=False)
class LinearisedTrajectories(Trajectories):
    """With the derivatives of the simulator at every step."""

    jacobian: np.ndarray = None  # type: ignore[assignment]  # (M, N, T, dX, dX + dU), d x' / d z

    def __post_init__(self) -> None:
        super().__post_init__()
        dX, dU = self.X.shape[-1], self.U.shape[-1]
        shape = (*self.X.shape, dX + dU)
        _check("jacobian", self.jacobian, shape, "(M, N, T, dX, dX + dU)")


@dataclass(frozen=True, eq=False)
class LinearGaussianController(Record):
    """p(u_t | x_t) = N(K_t x_t + k_t, C_t)."""

    K: np.ndarray  # (..., T, dU, dX)
    k: np.ndarray  # (..., T, dU)
    C: np.ndarray  # (..., T, dU, dU)

    def __post_init__(self) -> None:
        *batch, dU, _ = self.K.shape
        _check("k", self.k, (*batch, dU), "(..., T, dU)")
        _check("C", self.C, (*batch, dU, dU), "(..., T, dU, dU)")

    def mean(self, X: np.ndarray) -> np.ndarray:
        """Mean actions at states X (..., T, dX), (..., T, dU)."""
        return np.einsum("...ux,...x->...u", self.K, X) + self.k


@dataclass(frozen=True, eq=False)
class LinearDynamics(Record):
    """p(x_{t+1} | x_t, u_t) = N(F_t z_t + f_t, Sigma_t) for t = 0 .. T-2."""

    F: np.ndarray  # (..., T-1, dX, dX+dU)
    f: np.ndarray  # (..., T-1, dX)
    Sigma: np.ndarray  # (..., T-1, dX, dX)

    def __post_init__(self) -> None:
        *batch, dX, _ = self.F.shape
        _check("f", self.f, (*batch, dX), "(..., T-1, dX)")
        _check("Sigma", self.Sigma, (*batch, dX, dX), "(..., T-1, dX, dX)")


@dataclass(frozen=True, eq=False)
class QuadraticCost(Record):
    """l_t(z) = c_t + g_t' z + 1/2 z' H_t z."""

    c: np.ndarray  # (..., T)
    g: np.ndarray  # (..., T, dZ)
    H: np.ndarray  # (..., T, dZ, dZ)

    def __post_init__(self) -> None:
        _check("c", self.c, self.g.shape[:-1], "(..., T)")
        _check("H", self.H, (*self.g.shape, self.g.shape[-1]), "(..., T, dZ, dZ)")

    def __add__(self, other: QuadraticCost) -> QuadraticCost:
        return QuadraticCost(self.c + other.c, self.g + other.g, self.H + other.H)

    def scaled(self, weight: np.ndarray | float) -> QuadraticCost:
        """The cost times a weight that broadcasts against (..., T)."""
        w = np.asarray(weight, dtype=float)
        return QuadraticCost(w * self.c, w[..., None] * self.g, w[..., None, None] * self.H)

    def expectation(self, z: Gaussian) -> np.ndarray:
        """E[l_t(z)] under Gaussian marginals of z, (..., T)."""
        quadratic = np.einsum("...i,...ij,...j->...", z.mean, self.H, z.mean)
        trace = np.einsum("...ij,...ji->...", self.H, z.cov)
        return self.c + np.einsum("...i,...i->...", self.g, z.mean) + 0.5 * (quadratic + trace)


@dataclass(frozen=True, eq=False)
class StudentTargets(Record):
    """The student's regression: sum_i 1/2 (mu(o_i) - mean_i)' precision_i (mu(o_i) - mean_i)."""

    mean: np.ndarray  # (n, dU) multipliers already folded in
    precision: np.ndarray  # (n, dU, dU)
