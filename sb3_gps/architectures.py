"""What else could follow the convolutions: the architectures that feature points are compared with.

    softmax + feature points        VisuomotorExtractor (features.py)
    softmax + fully connected       SoftmaxFCExtractor
    fully connected                 FCExtractor
    max-pooling + fully connected   MaxPoolFCExtractor

Source: Levine et al. 2016 (the comparison of architectures by pose error). Each works with GPS, PPO
and SAC through ``features_extractor_class``.
"""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
import torch as th
from torch import nn

from sb3_gps.features import ImageExtractor, Precision, VisuomotorExtractor


class SpatialProbabilities(nn.Module):
    """The softmax of each channel over its pixels, (B, C, H, W) -> (B, C H W).

    Times the number of pixels less one, so that the numbers are about zero and spread by about one
    as soon as the responses do: with plain probabilities, all about one in H W, the layer behind
    starts from features that hardly differ.
    """

    def forward(self, responses: th.Tensor) -> th.Tensor:
        """
        :param responses: (B, C, H, W).
        """
        logits = responses.flatten(2).float()
        return (th.softmax(logits, dim=2) * logits.shape[2] - 1.0).flatten(1)


class FCExtractor(ImageExtractor):
    """One fully connected layer with ReLU on the maps of the last convolution.

    :param observation_space: as of ``ImageExtractor``, and so are those that follow.
    :param units: of the fully connected layer, for each image. 64 is what 32 feature points give.
    """

    softmax = False

    def __init__(
        self,
        observation_space: gym.Space,
        filters: Sequence[int] = (32, 32, 32),
        kernel_sizes: Sequence[int] = (7, 5, 5),
        strides: Sequence[int] = (2, 2, 1),
        precision: Precision = "auto",
        normalized_image: bool = False,
        pooling: int = 0,
        units: int = 64,
    ) -> None:
        if units < 1:
            raise ValueError(f"units must be at least 1, got {units}")
        self._units = units
        super().__init__(
            observation_space, filters, kernel_sizes, strides, precision, normalized_image, pooling
        )

    def _make_head(self, shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
        inputs = shape[0] * shape[1] * shape[2]
        maps = SpatialProbabilities() if self.softmax else nn.Flatten()
        return nn.Sequential(maps, nn.Linear(inputs, self._units), nn.ReLU()), self._units


class SoftmaxFCExtractor(FCExtractor):
    """The spatial softmax, but a fully connected layer where feature points take its mean."""

    softmax = True


class MaxPoolFCExtractor(FCExtractor):
    """Max-pooling after the first two convolutions, then a fully connected layer.

    Pooling takes the place of the strides, so that the last map has as many pixels as the others'.

    :param observation_space: as of ``FCExtractor``, and so are those that follow.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        filters: Sequence[int] = (32, 32, 32),
        kernel_sizes: Sequence[int] = (7, 5, 3),
        strides: Sequence[int] = (1, 1, 1),
        precision: Precision = "auto",
        normalized_image: bool = False,
        pooling: int = 2,
        units: int = 64,
    ) -> None:
        super().__init__(
            observation_space,
            filters,
            kernel_sizes,
            strides,
            precision,
            normalized_image,
            pooling,
            units,
        )


ARCHITECTURES: dict[str, type[ImageExtractor]] = {
    "softmax + feature points": VisuomotorExtractor,
    "softmax + fully connected": SoftmaxFCExtractor,
    "fully connected": FCExtractor,
    "max-pooling + fully connected": MaxPoolFCExtractor,
}
