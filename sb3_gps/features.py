"""Feature extractors: from images and robot configurations to one vector.

The visuomotor network (Levine et al. 2016, sec. 5.1) turns an image into *feature points*: each
response map a_c of the last convolution becomes a distribution over pixels,

    s_cij = exp(a_cij / temperature) / sum_i'j' exp(a_ci'j' / temperature),

and is replaced by its mean position (sum_ij s_cij x_ij, sum_ij s_cij y_ij), with x along the width
and y along the height, both in [-1, 1]. The points are concatenated with the standardised vectors
of the observation (joint angles, velocities).

All extractors work with any algorithm of Stable-Baselines3 through ``features_extractor_class``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import (
    get_flattened_obs_dim,
    is_image_space,
    is_image_space_channels_first,
)
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_gps.hardware import fast_bf16
from sb3_gps.observations import SINGLE, Observations, TensorObs, parts_of

Statistics = Mapping[str, tuple[np.ndarray, np.ndarray]]
Precision = Literal["auto", "float32", "bf16"]


class SpatialSoftmax(nn.Module):
    """The mean position of each channel's softmax over the pixels (names as in robomimic).

    :param input_shape: (C, H, W) of the response maps.
    :param num_kp: number of points; a 1x1 convolution maps the channels to them. None: one point
        per channel, and no such convolution (the paper's network).
    :param temperature: divides the responses.
    :param learnable_temperature: train the temperature with the network.
    :param output_variance: also return the covariance of each distribution.
    :param noise_std: deviation of Gaussian noise on the points, in training mode only.
    """

    grid: th.Tensor

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_kp: int | None = None,
        temperature: float = 1.0,
        learnable_temperature: bool = False,
        output_variance: bool = False,
        noise_std: float = 0.0,
    ) -> None:
        super().__init__()
        if len(input_shape) != 3 or min(input_shape) < 1:
            raise ValueError(f"input_shape must be (C, H, W), all positive, got {input_shape}")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        channels, height, width = input_shape
        self.input_shape = input_shape
        self.num_kp = channels if num_kp is None else num_kp
        self.to_points = nn.Identity() if num_kp is None else nn.Conv2d(channels, num_kp, 1)
        self.temperature: th.Tensor
        if learnable_temperature:
            self.temperature = nn.Parameter(th.tensor(float(temperature)))
        else:
            self.register_buffer("temperature", th.tensor(float(temperature)))
        self.output_variance = output_variance
        self.noise_std = noise_std
        y, x = th.meshgrid(_positions(height), _positions(width), indexing="ij")
        grid = th.stack([x, y, x * x, x * y, y * y] if output_variance else [x, y])
        self.register_buffer("grid", grid.reshape(len(grid), height * width), persistent=False)

    def attention(self, responses: th.Tensor) -> th.Tensor:
        """The distribution of each point over the pixels of the map, (B, HW, K).

        :param responses: (B, C, H, W).
        """
        # Channels-last order costs no copy after a channels-last convolution.
        logits = self.to_points(responses).permute(0, 2, 3, 1).flatten(1, 2).float()
        return th.softmax(logits / self.temperature, dim=1)

    def forward(self, responses: th.Tensor) -> th.Tensor | tuple[th.Tensor, th.Tensor]:
        """
        :param responses: (B, C, H, W).
        :return: points (B, K, 2), (x, y) in [-1, 1]; with ``output_variance`` also (B, K, 2, 2).
        """
        moments = (self.grid @ self.attention(responses)).transpose(1, 2)  # (B, K, 2 or 5)
        mean = moments[..., :2]
        points = mean
        if self.training and self.noise_std > 0:
            points = mean + self.noise_std * th.randn_like(mean)
        if not self.output_variance:
            return points
        second = moments[..., [2, 3, 3, 4]].unflatten(-1, (2, 2))
        return points, second - mean[..., :, None] * mean[..., None, :]


class StandardisedExtractor(BaseFeaturesExtractor):
    """Standardises the vectors of an observation with statistics set from data.

    :param vectors: the vector spaces by name, in the order of concatenation.
    """

    def __init__(
        self, observation_space: gym.Space, features_dim: int, vectors: dict[str, spaces.Space]
    ) -> None:
        super().__init__(observation_space, features_dim)
        self.vector_dims = {key: get_flattened_obs_dim(space) for key, space in vectors.items()}
        for key, dim in self.vector_dims.items():
            self.register_buffer(f"mean_{key}", th.zeros(dim))
            self.register_buffer(f"std_{key}", th.ones(dim))

    def set_input_statistics(self, statistics: Statistics, floor: float = 1e-3) -> None:
        """Standardise the vectors as (v - mean) / max(std, floor) from now on.

        :param statistics: (mean, std), each (d,), by key; the key of an observation that is not a
            Dict is "observation". Keys that are left out keep their statistics.
        :param floor: smallest deviation, in the vector's own unit. Without it, a coordinate that
            never moved in the data explodes when it moves at test time.
        :raises ValueError: unknown key, wrong shape, or a value that is not finite.
        """
        for key, (mean, std) in statistics.items():
            if key not in self.vector_dims:
                raise ValueError(
                    f"no vector '{key}' in the observation. Available names: "
                    f"{', '.join(self.vector_dims) or 'none'}"
                )
            for name, value in (("mean", mean), ("std", std)):
                value = np.asarray(value, dtype=np.float32)
                if value.shape != (self.vector_dims[key],):
                    raise ValueError(
                        f"{name} of '{key}' must be (d,) = ({self.vector_dims[key]},), "
                        f"got {value.shape}"
                    )
                if not np.isfinite(value).all():
                    raise ValueError(f"{name} of '{key}' is not finite: {value}")
                value = np.maximum(value, floor) if name == "std" else value
                getattr(self, f"{name}_{key}").copy_(th.from_numpy(value))

    def vector_features(self, observations: TensorObs) -> th.Tensor:
        """The standardised vectors, concatenated, (B, sum of d)."""
        parts = parts_of(observations)
        return th.cat(
            [
                (parts[key].flatten(1) - getattr(self, f"mean_{key}")) / getattr(self, f"std_{key}")
                for key in self.vector_dims
            ],
            dim=1,
        )


class StateExtractor(StandardisedExtractor):
    """A standardised vector, for MlpPolicy.

    :param observation_space: a space that flattens to a vector.
    """

    def __init__(self, observation_space: gym.Space) -> None:
        dim = get_flattened_obs_dim(observation_space)
        super().__init__(observation_space, dim, {SINGLE: observation_space})

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: (B, d).
        :return: (B, d).
        """
        return self.vector_features(observations)


class ImageExtractor(StandardisedExtractor):
    """Convolutions over every image and a head that turns their maps into a vector; then vectors.

    The features are those of each image in the order of the space, then the standardised vectors
    in the order of the space. Images arrive channels-first and scaled to [0, 1], as
    Stable-Baselines3 delivers them. Subclasses say what the head is (``_make_head``).

    :param observation_space: an image Box (C, H, W), or a Dict of such images and vectors.
    :param filters: filters of each convolution.
    :param kernel_sizes: kernel size of each convolution, without padding.
    :param strides: stride of each convolution.
    :param precision: of the convolutions: "float32", "bf16", or "auto", which is bf16 where the
        processor is faster at it (``hardware.fast_bf16``) and float32 elsewhere.
    :param normalized_image: accept float images that are scaled already (with SB3's
        ``normalize_images=False``); every Box of three dimensions is then an image.
    :param pooling: max-pooling (kernel 3, stride 2) after each of the first ``pooling``
        convolutions.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        filters: Sequence[int] = (32, 32, 32),
        kernel_sizes: Sequence[int] = (7, 5, 5),
        strides: Sequence[int] = (2, 2, 1),
        precision: Precision = "auto",
        normalized_image: bool = False,
        pooling: int = 0,
    ) -> None:
        if not len(filters) == len(kernel_sizes) == len(strides) > 0:
            raise ValueError(
                "filters, kernel_sizes and strides must be of one length, got "
                f"{len(filters)}, {len(kernel_sizes)} and {len(strides)}"
            )
        if precision not in ("auto", "float32", "bf16"):
            raise ValueError(
                f"precision '{precision}' does not exist. Available names: auto, float32, bf16"
            )
        images, vectors = split_space(observation_space, normalized_image)
        vector_dim = sum(get_flattened_obs_dim(space) for space in vectors.values())
        super().__init__(observation_space, max(vector_dim, 1), vectors)
        self.precision = precision
        self.convolutions, self.heads = nn.ModuleDict(), nn.ModuleDict()
        self.image_dim = 0  # of the features of all images
        for key, space in images.items():
            if not is_image_space_channels_first(space):
                raise ValueError(
                    f"image '{key}' must be channels-first (C, H, W), got {space.shape}: wrap the "
                    "environment in VecTransposeImage, as SB3's algorithms do by themselves"
                )
            layers: list[nn.Module] = []
            channels, *size = space.shape
            for i, (width, kernel, stride) in enumerate(
                zip(filters, kernel_sizes, strides, strict=True)
            ):
                layers += [nn.Conv2d(channels, width, kernel, stride), nn.ReLU(inplace=True)]
                channels, size = width, [(n - kernel) // stride + 1 for n in size]
                if i < pooling:
                    layers.append(nn.MaxPool2d(3, 2))
                    size = [(n - 3) // 2 + 1 for n in size]
                if min(size) < 1:
                    raise ValueError(
                        f"image '{key}' of shape {space.shape} is too small for kernel sizes "
                        f"{tuple(kernel_sizes)} with strides {tuple(strides)}"
                    )
            self.convolutions[key] = nn.Sequential(*layers)
            self.heads[key], dim = self._make_head((channels, size[0], size[1]))
            self.image_dim += dim
        self._features_dim = self.image_dim + vector_dim  # known only now: heads are modules

    def _make_head(self, shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
        """What follows the last convolution, whose maps are (C, H, W), and its features' number.

        It may return (B, ...) of any shape with that many numbers.
        """
        raise NotImplementedError

    def image_features(self, observations: TensorObs) -> th.Tensor:
        """Features of the images, (B, image_dim).

        :param observations: (B, C, H, W) in [0, 1], or a dict with such entries.
        """
        parts = parts_of(observations)
        return th.cat([self._look(key, parts[key]) for key in self.convolutions], dim=1)

    def receptive_centres(self, key: str) -> tuple[float, int]:
        """Where the last convolution looks: pixel of its first cell's centre, pixels to the next.

        The same along both axes, counted from the centre of the image's first pixel.
        """
        first, step = 0.0, 1
        for layer in self.convolutions[key].children():
            if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
                kernel, stride = (_one(n) for n in (layer.kernel_size, layer.stride))
                first += (kernel - 1) / 2 * step
                step *= stride
        return first, step

    def forward(self, observations: TensorObs) -> th.Tensor:
        """
        :param observations: batch of observations, images scaled to [0, 1].
        :return: (B, features_dim).
        """
        features = [self.image_features(observations)] if len(self.convolutions) else []
        if self.vector_dims:
            features.append(self.vector_features(observations))
        return th.cat(features, dim=1)

    def _look(self, key: str, images: th.Tensor) -> th.Tensor:
        # Centred: otherwise every filter starts dominated by the mean brightness, and the same
        # pretraining ends with a quarter more error in the pose.
        centred = (images - 0.5).contiguous(memory_format=th.channels_last)
        bf16 = fast_bf16(images.device) if self.precision == "auto" else self.precision == "bf16"
        with th.autocast(images.device.type, dtype=th.bfloat16, enabled=bf16):
            responses = self.convolutions[key](centred)
        return self.heads[key](responses.float()).flatten(1)


class VisuomotorExtractor(ImageExtractor):
    """Feature points of every image, then every vector standardised (Levine et al. 2016, fig. 2).

    The features of an image are [x_1, y_1, x_2, y_2, ...], in [-1, 1].

    :param observation_space: an image Box (C, H, W), or a Dict of such images and vectors.
    :param filters: filters of each convolution; the last is the number of points of an image.
    :param kernel_sizes: kernel size of each convolution, without padding.
    :param strides: stride of each convolution. The paper's are filters (64, 32, 32) with strides
        (2, 1, 1), for 240 x 240 pixels; at 64 x 64 the default here trains about 3 times as fast,
        and its points tell the pose no worse.
    :param temperature: of the spatial softmax.
    :param learnable_temperature: train the temperature with the network.
    :param precision: as of ``ImageExtractor``.
    :param normalized_image: as of ``ImageExtractor``.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        filters: Sequence[int] = (32, 32, 32),
        kernel_sizes: Sequence[int] = (7, 5, 5),
        strides: Sequence[int] = (2, 2, 1),
        temperature: float = 1.0,
        learnable_temperature: bool = False,
        precision: Precision = "auto",
        normalized_image: bool = False,
    ) -> None:
        self._softmax = dict(temperature=temperature, learnable_temperature=learnable_temperature)
        super().__init__(
            observation_space, filters, kernel_sizes, strides, precision, normalized_image
        )

    def _make_head(self, shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
        points = SpatialSoftmax(shape, **self._softmax)  # type: ignore[arg-type]
        return points, 2 * points.num_kp


def split_space(
    space: gym.Space, normalized_image: bool = False
) -> tuple[dict[str, spaces.Box], dict[str, spaces.Space]]:
    """The image spaces and the vector spaces of an observation, by key.

    A space that is not a Dict counts as a Dict with the one key "observation".
    """
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {SINGLE: space}
    images: dict[str, spaces.Box] = {}
    vectors: dict[str, spaces.Space] = {}
    for key, part in parts.items():
        if isinstance(part, spaces.Box) and is_image_space(part, normalized_image=normalized_image):
            images[key] = part
        else:
            vectors[key] = part
    return images, vectors


def input_statistics(observations: Observations) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and deviation of every vector in bulk observations, for ``set_input_statistics``.

    :param observations: (n, d), or a dict; arrays that are not (n, d), such as images, are skipped.
    """
    return {
        key: (value.mean(axis=0, dtype=np.float64), value.std(axis=0, dtype=np.float64))
        for key, value in parts_of(observations).items()
        if value.ndim == 2
    }


def _one(size: int | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else size[0]


def _positions(n: int) -> th.Tensor:
    # A single row or column lies in the middle, not at -1.
    return th.linspace(-1.0, 1.0, n) if n > 1 else th.zeros(1)
