"""Smooth global regressions for models that local ones are derived from.

    y_hat(z) = b + A [z; vech(z z')] + network(z)

in standardised inputs and outputs. The quadratic has a closed form; the network, warm-started from
fit to fit, learns what it leaves. Rewards are fitted so, and dynamics from few trials: both are
nearly quadratic in places, and no regression at hand is both that and smooth.

Squares of errors are all about the few largest, and what a joint does when it meets its limit, or
an object, is no smooth function of anything: beyond some size errors are to count by their size
alone (Huber 1964), or motion between contacts is not learned at all.

    log-odds(x) = b + a [x; vech(x x')]

of something that is or is not, such as the end of an episode: logistic regression.
"""

from __future__ import annotations

import numpy as np
import torch as th
from torch import nn

from sb3_gps.hardware import one_torch_thread
from sb3_gps.supervised import batches, schedule

HIDDEN = 64
STEPS, BATCH, RATE, DECAY = 3000, 256, 3e-3, 1e-4
POINTS = 40  # observations that a logistic regression counts as
RIDGE = 1e-3  # of the quadratic's coefficients, relative to the number of points
REWEIGHTED = 2  # times that a robust quadratic is solved again, weighted by its last errors


class Quadratic(nn.Module):
    """Standardised inputs, and the features [z; vech(z z')] of them, float64.

    :param dZ: size of the input
    """

    mean: th.Tensor  # (dZ,) of the inputs
    std: th.Tensor  # (dZ,)

    def __init__(self, dZ: int) -> None:
        super().__init__()
        self.rows, self.columns = th.triu_indices(dZ, dZ)
        self.size = dZ + len(self.rows)  # number of features
        self.register_buffer("mean", th.zeros(dZ, dtype=th.float64))
        self.register_buffer("std", th.ones(dZ, dtype=th.float64))

    def standardise_by(self, inputs: th.Tensor) -> None:
        """Take mean and deviation from (n, dZ)."""
        self.mean.copy_(inputs.mean(dim=0))
        self.std.copy_(_spread(inputs))

    def standardised(self, z: th.Tensor) -> th.Tensor:
        """(B, dZ)."""
        return (z - self.mean) / self.std

    def features(self, standard: th.Tensor) -> th.Tensor:
        """(B, size) of standardised inputs."""
        return th.cat([standard, standard[:, self.rows] * standard[:, self.columns]], dim=1)


class SmoothRegression(Quadratic):
    """y_hat(z), float64.

    :param dZ: size of the input
    :param dY: of the output
    :param rng: draws the first weights
    :param huber: size, in deviations of the outputs, beyond which errors count by their size; None:
        all by their squares
    """

    centre: th.Tensor  # (dY,) of the outputs
    scale: th.Tensor  # (dY,)
    coefficients: th.Tensor  # (1 + features, dY), the constants first

    def __init__(
        self, dZ: int, dY: int, rng: np.random.Generator, huber: float | None = None
    ) -> None:
        super().__init__(dZ)
        self.huber = huber
        self.register_buffer("centre", th.zeros(dY, dtype=th.float64))
        self.register_buffer("scale", th.ones(dY, dtype=th.float64))
        self.register_buffer("coefficients", th.zeros(1 + self.size, dY, dtype=th.float64))
        layers: list[nn.Module] = []
        for i, o in ((dZ, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, dY)):
            layer = nn.Linear(i, o, dtype=th.float64)
            weight = rng.normal(0.0, 1.0 / np.sqrt(i), (o, i))
            layer.weight.data = th.from_numpy(weight)
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.SiLU()]
        self.network = nn.Sequential(*layers[:-1])

    def forward(self, z: th.Tensor) -> th.Tensor:
        """(B, dZ) -> (B, dY)."""
        z = self.standardised(z)
        return self.centre + self.scale * (self.quadratic(z) + self.network(z))

    def quadratic(self, standard: th.Tensor) -> th.Tensor:
        """Of standardised points, (B, dY) standardised.

        Without their features, which are many, and slow to differentiate.
        """
        constant, linear, square = self._matrices()
        sloped = th.tensordot(standard, square, dims=1)
        return constant + standard @ linear + (standard[:, :, None] * sloped).sum(dim=1)

    def _matrices(self) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """The coefficients: the constants (1, dY), those of z (dZ, dY) and of z z' (dZ, dZ, dY)."""
        dZ, dY = len(self.mean), len(self.scale)
        constant, linear, products = self.coefficients.split([1, dZ, len(self.rows)])
        square = products.new_zeros(dZ, dZ, dY)
        square[self.rows, self.columns] = 0.5 * products
        return constant, linear, square + square.transpose(0, 1)

    def predict(self, z: np.ndarray) -> np.ndarray:
        """y_hat, (..., dY) of (..., dZ)."""
        with th.no_grad():
            flat = self.forward(th.from_numpy(z.reshape(-1, z.shape[-1])))
        return flat.numpy().reshape(*z.shape[:-1], -1)

    def jacobian(self, z: np.ndarray) -> np.ndarray:
        """d y_hat / d z, (..., dY, dZ) of (..., dZ)."""
        flat = th.from_numpy(z.reshape(-1, z.shape[-1]))
        standard = self.standardised(flat).requires_grad_()
        y = self.network(standard)
        rows = [
            th.autograd.grad(y[:, i].sum(), standard, retain_graph=True)[0]
            for i in range(y.shape[1])
        ]
        _, linear, square = self._matrices()
        bent = linear + 2.0 * th.tensordot(standard.detach(), square, dims=1)  # (B, dZ, dY)
        slope = th.stack(rows, dim=1) + bent.transpose(1, 2)  # (B, dY, dZ), standardised
        slope = self.scale[:, None] * slope / self.std
        return slope.numpy().reshape(*z.shape[:-1], y.shape[1], z.shape[-1])

    @one_torch_thread()
    def fit(self, z: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> None:
        """
        :param z: (n, dZ)
        :param y: (n, dY)
        """
        inputs, outputs = th.from_numpy(z), th.from_numpy(y)
        self.standardise_by(inputs)
        self.centre.copy_(outputs.mean(dim=0))
        self.scale.copy_(_spread(outputs))
        standard = self.standardised(inputs)
        target = (outputs - self.centre) / self.scale
        residual = self._fit_quadratic(standard, target)
        generator = th.Generator().manual_seed(int(rng.integers(2**63)))
        optimizer = th.optim.AdamW(self.network.parameters(), lr=RATE, weight_decay=DECAY)
        for step, index in enumerate(batches(len(z), BATCH, STEPS, generator)):
            for group in optimizer.param_groups:
                group["lr"] = RATE * schedule((step + 0.5) / STEPS)
            loss = self._loss(self.network(standard[index]), residual[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        self.zero_grad(set_to_none=True)

    def _loss(self, predicted: th.Tensor, wanted: th.Tensor) -> th.Tensor:
        if self.huber is None:
            return nn.functional.mse_loss(predicted, wanted)
        return nn.functional.huber_loss(predicted, wanted, delta=self.huber)

    def _fit_quadratic(self, standard: th.Tensor, target: th.Tensor) -> th.Tensor:
        """Set the coefficients, of which the constants are free; returns what they leave, (n, dY).

        Robust by weights of the points (iteratively reweighted least squares), by their errors in
        all outputs: one system to be solved for all of these.
        """
        ones = th.ones(len(standard), 1, dtype=th.float64)
        features = th.cat([ones, self.features(standard)], dim=1)
        ridge = RIDGE * th.eye(features.shape[1], dtype=th.float64)
        ridge[0, 0] = 0.0

        def weighted_fit(weight: th.Tensor) -> th.Tensor:
            weighted = (weight * features).T
            moments = weighted @ features + weight.sum() * ridge
            self.coefficients.copy_(th.linalg.solve(moments, weighted @ target))
            return target - features @ self.coefficients

        residual = weighted_fit(ones)
        if self.huber is not None:
            for _ in range(REWEIGHTED):
                error = residual.square().mean(dim=1, keepdim=True).sqrt()
                residual = weighted_fit(self.huber / error.clamp_min(self.huber))
        return residual


class LogisticRegression(Quadratic):
    """The log-odds of a binary event as a quadratic of the input, float64.

    Both classes weigh alike, and together as few observations, against a normal prior on the
    standardised coefficients: the slope between them is to be gentle, and to reach into both, where
    they can be told apart. As a probability it is not calibrated.

    :param dX: size of the input
    """

    coefficients: th.Tensor  # (1 + features,), the constant first

    def __init__(self, dX: int) -> None:
        super().__init__(dX)
        self.register_buffer("coefficients", th.zeros(1 + self.size, dtype=th.float64))

    def forward(self, x: th.Tensor) -> th.Tensor:
        """(B, dX) -> (B,)."""
        return self._odds(self.features(self.standardised(x)), self.coefficients)

    @staticmethod
    def _odds(features: th.Tensor, weights: th.Tensor) -> th.Tensor:
        return weights[0] + features @ weights[1:]

    @one_torch_thread()
    def fit(self, x: np.ndarray, event: np.ndarray) -> None:
        """
        :param x: (n, dX)
        :param event: (n,) bool
        """
        inputs, wanted = th.from_numpy(x), th.from_numpy(event.astype(np.float64))
        self.standardise_by(inputs)
        features = self.features(self.standardised(inputs))
        weights = th.zeros_like(self.coefficients).requires_grad_()
        # (n,), half of all for each class
        share = 0.5 * POINTS * (wanted / wanted.sum() + (1.0 - wanted) / (1.0 - wanted).sum())
        optimizer = th.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> th.Tensor:
            optimizer.zero_grad()
            odds = self._odds(features, weights)
            missed = nn.functional.binary_cross_entropy_with_logits(
                odds, wanted, share, reduction="sum"
            )
            value = missed + 0.5 * weights[1:].square().sum()  # the constant is free
            value.backward()
            return value

        optimizer.step(loss)
        self.coefficients.copy_(weights.detach())


def _spread(values: th.Tensor) -> th.Tensor:
    """Deviation of each column, 1 where it does not change."""
    std = values.std(dim=0, correction=0)
    return th.where(std > 1e-6, std, 1.0)
