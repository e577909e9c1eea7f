"""The cost against finite differences, torch's autograd and its own formula."""

import pickle

import numpy as np
import pytest
import torch

from gps_envs.costs import POINTS, VELOCITIES, PointCost

COSTS = [
    PointCost(),
    PointCost(w_l2=0.3, w_log=2.0, alpha=1e-4, w_v=0.05, lateral=5.0, ahead=0.3, ramp=0.4),
]


def draw(seed: int, shape: tuple[int, ...], near: float = 0.3):
    rng = np.random.default_rng(seed)
    t = rng.integers(0, 99, shape)
    t.flat[0] = 99  # the last step, which counts twice
    return near * rng.normal(size=(*shape, 32)), rng.uniform(-1, 1, (*shape, 7)), t


def test_formula_at_one_point():
    x, u, _ = draw(0, ())
    d = x[POINTS].reshape(3, 3)
    s = (5 * 0.3 * d[:, 0] ** 2 + 5 * d[:, 1] ** 2 + d[:, 2] ** 2).mean()
    bracket = s + 0.5 * np.log((s + 1e-3) / 1e-3) + 1e-2 * (x[VELOCITIES] ** 2).sum()
    for step, ramp in ((0, 0.1), (33, 0.4), (99, 2.0)):
        cost = PointCost(lateral=5.0, ahead=0.3)(x, u, step)
        assert cost == pytest.approx(ramp * bracket + 0.1 * (u**2).sum())
    assert PointCost()(np.zeros(32), np.zeros(7), 50) == 0


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("near", [1e-3, 0.3])
def test_expansion(cost, near):
    x, u, t = draw(1, (2, 4), near)
    value, gradient, hessian = cost.expand(x, u, t)
    assert value == pytest.approx(cost(x, u, t), rel=1e-12)
    z = np.concatenate([x, u], axis=-1)
    for i in range(39):
        h = 1e-6 * near * np.eye(39)[i]
        up, down = z + h, z - h
        difference = cost(up[..., :32], up[..., 32:], t) - cost(down[..., :32], down[..., 32:], t)
        slope = difference / (2e-6 * near)
        assert gradient[..., i] == pytest.approx(slope, rel=1e-5, abs=1e-6 / near * value.max())
    assert np.linalg.eigvalsh(hessian).min() >= 0
    # It lies above the cost everywhere: far, near, and on the other side of the target.
    for seed, scale in ((2, 1.0), (3, 0.1), (4, 1e-3)):
        x2, u2, _ = draw(seed, (2, 4), scale)
        dz = np.concatenate([x2, u2], axis=-1) - z
        bound = (
            value + (gradient * dz).sum(-1) + 0.5 * np.einsum("...i,...ij,...j", dz, hessian, dz)
        )
        assert (bound >= cost(x2, u2, t) - 1e-9).all()


@pytest.mark.parametrize("cost", COSTS)
def test_torch_agrees_with_numpy(cost):
    x, u, t = draw(5, (3, 4))
    X, U = (torch.tensor(a, requires_grad=True) for a in (x, u))
    value = cost(X, U, torch.tensor(t))
    assert value.dtype == torch.float64
    assert value.detach().numpy() == pytest.approx(cost(x, u, t), rel=1e-12)
    value.sum().backward()
    gradient = torch.cat([X.grad, U.grad], dim=-1).numpy()
    assert cost.expand(x, u, t)[1] == pytest.approx(gradient, rel=1e-10, abs=1e-12)
    assert cost(X.float(), U.float(), torch.tensor(t)).dtype == torch.float32


def test_pickle_and_bad_arguments():
    assert pickle.loads(pickle.dumps(COSTS[1])) == COSTS[1]
    for bad in ({"alpha": 0.0}, {"w_u": -1.0}, {"ramp": 2.0}, {"horizon": 1}, {"w_l2": np.nan}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            PointCost(**bad)
