"""What a policy with a spatial softmax looks at: its feature points, and which of them matter.

For any policy of Stable-Baselines3 whose network has a :class:`~sb3_gps.features.SpatialSoftmax`:
GPS's, or that of PPO, SAC and others with ``features_extractor_class=VisuomotorExtractor``.

    position    the mean of each point's distribution over the pixels
    presence    the peak of that distribution: a point that has found nothing is spread out
    influence   how much of the action comes with the motion of the point

The influence of point k over T images is the root mean square of J_k(t) (p_k(t) - mean p_k), J_k
being the derivative of the mean action: a point that never moves, or that nothing depends on, has
none. It is a linear measure, of these images.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from PIL import Image, ImageDraw
from stable_baselines3.common.policies import BasePolicy

from sb3_gps.features import ImageExtractor, SpatialSoftmax, split_space
from sb3_gps.observations import Observations, parts_of

TRAIL = 10  # images


@dataclass(frozen=True)
class FeaturePoints:
    """Of T images and K points.

    :param image: key of the observation, "observation" where it is no Dict
    """

    image: str
    position: np.ndarray  # (T, K, 2) x and y as parts of the image's width and height
    presence: np.ndarray  # (T, K) in (0, 1]
    influence: np.ndarray  # (K,) in units of the action

    @property
    def order(self) -> np.ndarray:
        """The points, the most influential first, (K,)."""
        return np.argsort(-self.influence, kind="stable")


def every_moment(
    points: FeaturePoints, observations: Observations, shown: int = 12
) -> list[np.ndarray]:
    """The whole episode, an image a step."""
    images = _images(points, observations)
    return [draw_feature_points(image, points, t, shown) for t, image in enumerate(images)]


def has_feature_points(policy: BasePolicy) -> bool:
    """Whether its network has a spatial softmax."""
    return bool(_softmaxes(policy))


def read_feature_points(policy: BasePolicy, observations: Observations) -> list[FeaturePoints]:
    """Those of every image that a policy sees.

    :param policy: that acts on the observations, (T, ...) each, as the environment gives them
    :raises ValueError: a policy without a spatial softmax
    """
    captured: dict[SpatialSoftmax, tuple[th.Tensor, th.Tensor]] = {}

    def capture(module: th.nn.Module, inputs: tuple[th.Tensor, ...], output: Any) -> None:
        assert isinstance(module, SpatialSoftmax)
        points = output[0] if isinstance(output, tuple) else output
        if not points.requires_grad:  # frozen convolutions
            points.requires_grad_()
        captured[module] = inputs[0].detach(), points

    softmaxes = _softmaxes(policy)
    if not softmaxes:
        raise ValueError(
            f"{type(policy).__name__} has no spatial softmax, so no feature points: train it with "
            'policy_kwargs={"features_extractor_class": VisuomotorExtractor}'
        )
    hooks = [module.register_forward_hook(capture) for module in softmaxes]
    policy.set_training_mode(False)
    try:
        tensors, _ = policy.obs_to_tensor(observations)
        actions = policy._predict(tensors, deterministic=True)
    finally:
        for hook in hooks:
            hook.remove()
    found = []
    for module, (responses, points) in captured.items():
        key, extractor = _whose(policy, module)
        with th.no_grad():
            presence = module.attention(responses).amax(dim=1)
        jacobian = np.stack(
            [
                _array(th.autograd.grad(actions[:, u].sum(), points, retain_graph=True)[0])
                for u in range(actions.shape[1])
            ],
            axis=1,
        )  # (T, dU, K, 2)
        p = _array(points)
        change = np.einsum("tukc,tkc->tku", jacobian, p - p.mean(axis=0))
        position = _in_image(p, module, extractor, key, _size(policy, key))
        influence = np.sqrt(np.square(change).sum(axis=-1).mean(axis=0))
        found.append(FeaturePoints(key, position, _array(presence), influence))
    return found


def draw_feature_points(
    image: np.ndarray, points: FeaturePoints, t: int, shown: int = 12, side: int = 384
) -> np.ndarray:
    """An image with the points that matter most upon it.

    Each has its own colour, by rank; the fuller its circle, the more it is present; its trail shows
    where it was.

    :param image: (H, W, 3) uint8, the t-th of those that the points were read from
    :param shown: points, at most
    :param side: pixels of the longer side of the result
    :return: (height, width, 3) uint8
    """
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = round(width * scale), round(height * scale)
    # A camera of few pixels keeps them visible: it is what the network sees.
    page = Image.fromarray(image).resize(size, Image.Resampling.NEAREST)
    layer = Image.new("RGBA", size)
    pen = ImageDraw.Draw(layer)
    radius = side / 50
    order = points.order[:shown]
    for rank, k in reversed(list(enumerate(order))):  # the first lies on top
        colour = tuple(round(255 * c) for c in colorsys.hsv_to_rgb(rank / len(order), 0.85, 1.0))
        trail = points.position[max(0, t - TRAIL) : t + 1, k] * size
        for age, (a, b) in enumerate(zip(trail[-2::-1], trail[:0:-1], strict=True)):
            alpha = round(220 * (1 - age / TRAIL))
            pen.line([*a, *b], fill=(*colour, alpha), width=max(1, round(side / 150)))
        x, y = trail[-1]
        # The peak of a point that is spread evenly over the map is next to nothing.
        present = round(255 * np.sqrt(points.presence[t, k]))
        box = [x - radius, y - radius, x + radius, y + radius]
        pen.ellipse(box, fill=(*colour, present), outline=(0, 0, 0, 255), width=1)
        inner = [box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1]
        pen.ellipse(inner, outline=(*colour, 255), width=max(1, round(side / 190)))
    return np.asarray(Image.alpha_composite(page.convert("RGBA"), layer).convert("RGB"))


def moments_of_an_episode(
    points: FeaturePoints, observations: Observations, shown: int = 12, moments: int = 4
) -> np.ndarray:
    """Some moments of an episode beside each other, (height, width, 3) uint8.

    :param points: of the observations
    :param moments: from the first to the last step, the points moving as far between each two
    """
    images = _images(points, observations)
    way = np.abs(np.diff(points.position, axis=0)).sum(axis=(1, 2))
    # As if they crept on: where nothing moves, the moments are evenly spaced in time.
    way = np.concatenate([[0.0], np.cumsum(way + 1e-6)])
    chosen = np.searchsorted(way, np.linspace(0.0, way[-1], moments))
    return np.hstack([draw_feature_points(images[t], points, t, shown) for t in chosen])


def _images(points: FeaturePoints, observations: Observations) -> np.ndarray:
    """Channels-last, (T, H, W, 3)."""
    images = parts_of(observations)[points.image]
    if images.shape[-1] > images.shape[1]:  # channels-first, of a wrapped environment
        images = np.moveaxis(images, 1, -1)
    return images


def _softmaxes(policy: BasePolicy) -> list[SpatialSoftmax]:
    return [module for module in policy.modules() if isinstance(module, SpatialSoftmax)]


def _whose(policy: BasePolicy, softmax: SpatialSoftmax) -> tuple[str, ImageExtractor | None]:
    """The image that a softmax stands over, and the extractor that it is part of, if it is ours."""
    for module in policy.modules():
        if isinstance(module, ImageExtractor):
            for key, head in module.heads.items():
                if head is softmax:
                    return key, module
    images = list(_image_spaces(policy))
    if len(images) != 1:
        raise ValueError(
            f"which of the images {images} a spatial softmax stands over is known of "
            "VisuomotorExtractor alone; use that, or one image"
        )
    return images[0], None


def _image_spaces(policy: BasePolicy) -> dict[str, spaces.Box]:
    return split_space(policy.observation_space, not policy.normalize_images)[0]


def _size(policy: BasePolicy, key: str) -> tuple[int, int]:
    """Height and width of an image, which a policy knows channels-first."""
    _, height, width = _image_spaces(policy)[key].shape
    return height, width


def _in_image(
    points: np.ndarray,
    softmax: SpatialSoftmax,
    extractor: ImageExtractor | None,
    key: str,
    size: tuple[int, int],
) -> np.ndarray:
    """From [-1, 1] over the map to parts of the image, (T, K, 2).

    Convolutions without padding do not look at the border, so that their map covers less than the
    image. Of an extractor that is not ours, it is taken to cover it all.
    """
    if extractor is None:
        return (points + 1) / 2
    first, step = extractor.receptive_centres(key)
    cells = np.array(softmax.input_shape[:0:-1])  # along x, along y
    pixel = first + step * (points + 1) / 2 * (cells - 1)
    return (pixel + 0.5) / np.array(size[::-1])


def _array(tensor: th.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
