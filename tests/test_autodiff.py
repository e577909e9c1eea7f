"""Derivatives of costs written in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch as th

from sb3_gps.autodiff import DifferentiableCost

DX, DU = 3, 2


def wavy(x: th.Tensor, u: th.Tensor, t: th.Tensor) -> th.Tensor:
    """Convex nowhere for long."""
    coupling = x[:, 0] * u[:, 1] + th.sin(2.0 * x[:, 1]) * th.cos(u[:, 0])
    return coupling + 0.3 * (t + 1) * th.log(x.square().sum(-1) + 0.1)


def points(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    t = np.broadcast_to(np.arange(5), (2, 4, 5))
    return rng.normal(size=(2, 4, 5, DX)), rng.normal(size=(2, 4, 5, DU)), t


def numeric_gradient(model: DifferentiableCost, x, u, t, h: float) -> np.ndarray:
    z = np.concatenate([x, u], axis=-1)
    columns = []
    for i in range(DX + DU):
        step = h * np.eye(DX + DU)[i]
        up, down = z + step, z - step
        difference = model.value(up[..., :DX], up[..., DX:], t) - model.value(
            down[..., :DX], down[..., DX:], t
        )
        columns.append(difference / (2.0 * h))
    return np.stack(columns, axis=-1)


def test_expand_matches_finite_differences(rng):
    model = DifferentiableCost(wavy)
    x, u, t = points(rng)
    value, gradient, hessian = model.expand(x, u, t)
    np.testing.assert_allclose(value, model.value(x, u, t), rtol=1e-12)
    np.testing.assert_allclose(gradient, numeric_gradient(model, x, u, t, 1e-5), atol=1e-7)
    z, h = np.concatenate([x, u], axis=-1), 1e-5
    columns = []
    for i in range(DX + DU):
        up, down = z + h * np.eye(DX + DU)[i], z - h * np.eye(DX + DU)[i]
        columns.append(
            model.expand(up[..., :DX], up[..., DX:], t)[1]
            - model.expand(down[..., :DX], down[..., DX:], t)[1]
        )
    true = np.stack(columns, axis=-1) / (2.0 * h)
    # The convex Hessian drops the negative eigenvalues of the true one, and nothing else.
    values, vectors = np.linalg.eigh(0.5 * (true + np.swapaxes(true, -1, -2)))
    assert values.min() < -0.1
    convex = vectors * np.maximum(values, 0.0)[..., None, :] @ np.swapaxes(vectors, -1, -2)
    np.testing.assert_allclose(hessian, convex, atol=1e-6)
    assert np.linalg.eigvalsh(hessian).min() > -1e-10


@pytest.mark.parametrize(
    "cost",
    [
        lambda x, u, t: 2.0 * u[:, 0] - x[:, 1],
        lambda x, u, t: x.square().sum(-1),
        lambda x, u, t: th.ones(len(x)).double(),
    ],
    ids=["linear", "without actions", "constant"],
)
def test_a_cost_may_ignore_its_arguments(cost, rng):
    x, u, t = points(rng)
    model = DifferentiableCost(cost)
    _, gradient, hessian = model.expand(x, u, t)
    np.testing.assert_allclose(gradient, numeric_gradient(model, x, u, t, 1e-5), atol=1e-7)
    assert np.isfinite(hessian).all()


def test_a_cost_with_a_model_of_its_own_is_believed(rng):
    class Majorised:
        def __call__(self, x, u, t):
            return wavy(x, u, t)

        def expand(self, X, U, t):
            dZ = X.shape[-1] + U.shape[-1]
            return np.zeros(t.shape), np.ones((*t.shape, dZ)), np.zeros((*t.shape, dZ, dZ))

    x, u, t = points(rng)
    _, gradient, hessian = DifferentiableCost(Majorised()).expand(x, u, t)
    assert (gradient == 1.0).all() and (hessian == 0.0).all()


def raises_key_error(x, u, t):
    raise KeyError("target")


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (lambda x, u, t: x.square().sum(), r"\(B,\) = \(6,\), got \(\)"),
        (lambda x, u, t: x.square().sum(0), r"\(B,\) = \(6,\), got \(3,\)"),
        (lambda x, u, t: x.square(), r"\(B,\) = \(6,\), got \(6, 3\)"),
        (lambda x, u, t: x.square().sum(-1).numpy(), r"got"),
        (lambda x, u, t: 1.0, "got float"),
        (lambda x, u, t: x[:, 7], r"\(B, 3\).*raised.*index"),
        (lambda x, u, t: x @ u, "raised"),
        (lambda x, u: x.sum(-1), "raised.*positional"),
        (raises_key_error, "raised.*target"),
    ],
    ids=["scalar", "wrong axis", "no sum", "numpy", "float", "index", "shapes", "arity", "raises"],
)
def test_a_bad_cost_is_refused_before_the_first_step(cost, message):
    with pytest.raises(ValueError, match=message):
        DifferentiableCost(cost).check(DX, DU)
