"""A cost written as a torch callable, made into the model that the teachers plan with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th

from sb3_gps.core.costs import convexify

CostFunction = Callable[[th.Tensor, th.Tensor, th.Tensor], th.Tensor]


class CostShapeError(ValueError):
    """A cost does not return one number a point."""


class DifferentiableCost:
    """``CostModel`` of a callable l(x, u, t) on batched torch tensors.

    A cost that has a convex model of its own offers it as ``expand(X, U, t)`` on float64 arrays,
    and it is used; otherwise derivatives are automatic and the Hessian's negative curvature is
    dropped.

    :param function: (B, dX), (B, dU), (B,) -> (B,)
    """

    def __init__(self, function: CostFunction) -> None:
        self.function: Any = function

    def value(self, X: np.ndarray, U: np.ndarray, t: np.ndarray) -> np.ndarray:
        """l(x, u, t), (...,) for (..., dX), (..., dU), (...,)."""
        with th.no_grad():
            return self._evaluate(*self._flat(X, U, t)).numpy().reshape(t.shape)

    def expand(
        self, X: np.ndarray, U: np.ndarray, t: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Value, gradient and convex Hessian with respect to z = [x; u]."""
        if hasattr(self.function, "expand"):
            return self.function.expand(X, U, t)
        x, u, steps = self._flat(X, U, t)
        z = th.cat([x, u], dim=1).requires_grad_()
        dX, dZ = x.shape[1], z.shape[1]
        with th.enable_grad():
            # The zero gives a cost that is linear in z, or ignores it, derivatives all the same.
            value = self._evaluate(z[:, :dX], z[:, dX:], steps) + 0.0 * z.square().sum(dim=1)
            (gradient,) = th.autograd.grad(value.sum(), z, create_graph=True)
            # Points are independent: the sum over them differentiates all at once.
            rows = [
                th.autograd.grad(gradient[:, i].sum(), z, retain_graph=True)[0] for i in range(dZ)
            ]
        hessian = th.stack(rows, dim=1)
        shape = t.shape
        bad = ~(gradient.isfinite().all(dim=1) & hessian.isfinite().all(dim=2).all(dim=1))
        if bad.any():
            where = np.argwhere(bad.numpy().reshape(shape))[0].tolist()
            raise ValueError(
                f"expected finite derivatives of the cost, got NaN or inf at [condition, sample, "
                f"step] = {where}; write roots as sqrt(x + 1e-12), or give the cost an `expand`"
            )
        return (
            value.detach().numpy().reshape(shape),
            gradient.detach().numpy().reshape(*shape, dZ),
            convexify(hessian.numpy()).reshape(*shape, dZ, dZ),
        )

    def check(self, dX: int, dU: int) -> None:
        """Fail before the first simulation step if the callable does not return one cost a point.

        :raises ValueError: with the shape that was expected and the one that came
        """
        B = dX + dU + 1  # equal to neither, so that a sum over the wrong axis shows
        try:
            self._evaluate(th.zeros(B, dX).double(), th.zeros(B, dU).double(), th.arange(B))
        except CostShapeError:
            raise
        except Exception as error:  # whatever the user's code raises
            raise ValueError(
                f"cost(x, u, t) must take float64 tensors of shapes (B, dX) = (B, {dX}), "
                f"(B, dU) = (B, {dU}) and (B,), but raised: {error}"
            ) from error

    def _evaluate(self, x: th.Tensor, u: th.Tensor, t: th.Tensor) -> th.Tensor:
        value = self.function(x, u, t)
        if not isinstance(value, th.Tensor) or value.shape != t.shape:
            came = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
            raise CostShapeError(
                f"cost(x, u, t) must return one cost a point, (B,) = {tuple(t.shape)}, got {came}; "
                "sum over the last axis only"
            )
        return value

    @staticmethod
    def _flat(
        X: np.ndarray, U: np.ndarray, t: np.ndarray
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        steps = th.as_tensor(np.array(t).reshape(-1))
        x = th.as_tensor(np.ascontiguousarray(X).reshape(-1, X.shape[-1]))
        return x, th.as_tensor(np.ascontiguousarray(U).reshape(-1, U.shape[-1])), steps
