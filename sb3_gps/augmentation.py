"""Random changes of training images that leave the right action as it is.

Pasted shapes hide and distract, as unseen objects do at test time; colour stands for light and
camera; a shift of a few pixels for a camera that is not quite in place. Every image of a batch
is changed differently and none is looped over.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch as th


@dataclass(frozen=True)
class Augmentation:
    """What is done to a batch of images, in this order: shift, shapes, colour.

    :param shift: largest translation, in pixels, each way; the border is repeated. The label does
        not follow, so keep it small: it costs precision.
    :param colour: strength of random brightness, contrast and gain per channel, about 0.2; 0: off.
    :param shapes: largest number of coloured rectangles, ellipses and triangles pasted into an
        image; each image has 0 to ``shapes`` of them.
    :param shape_size: smallest and largest radius of a shape, as fractions of the image's width.
    """

    shift: int = 0
    colour: float = 0.0
    shapes: int = 0
    shape_size: tuple[float, float] = (0.04, 0.2)

    def __post_init__(self) -> None:
        if self.shift < 0 or self.shapes < 0 or not 0 <= self.colour < 1:
            raise ValueError(
                "shift and shapes must be >= 0 and colour in [0, 1), got "
                f"{self.shift}, {self.shapes} and {self.colour}"
            )
        low, high = self.shape_size
        if not 0 < low <= high:
            raise ValueError(f"shape_size must be 0 < smallest <= largest, got {self.shape_size}")

    def __call__(self, images: th.Tensor, generator: th.Generator) -> th.Tensor:
        """
        :param images: (B, C, H, W), uint8 or float in [0, 1].
        :param generator: source of all randomness, on the device of the images.
        :return: changed images of the same shape and type; the input is left as it is.
        """
        if images.ndim != 4:
            raise ValueError(f"images must be (B, C, H, W), got {tuple(images.shape)}")
        if self.shift:
            images = _shift(images, self.shift, generator)
        if self.shapes:
            images = _paste_shapes(images, self.shapes, self.shape_size, generator)
        if self.colour:
            images = _jitter_colour(images, self.colour, generator)
        return images


def _uniform(
    low: float, high: float, shape: tuple[int, ...], images: th.Tensor, generator: th.Generator
) -> th.Tensor:
    return th.rand(shape, generator=generator, device=images.device) * (high - low) + low


def _shift(images: th.Tensor, largest: int, generator: th.Generator) -> th.Tensor:
    """Translate each image by whole pixels, repeating the border."""
    B, C, H, W = images.shape
    device = images.device
    dy, dx = th.randint(-largest, largest + 1, (2, B, 1), generator=generator, device=device)
    rows = (th.arange(H, device=device) + dy).clamp_(0, H - 1)  # (B, H)
    columns = (th.arange(W, device=device) + dx).clamp_(0, W - 1)  # (B, W)
    index = (rows[:, :, None] * W + columns[:, None, :]).view(B, 1, H * W).expand(B, C, H * W)
    return images.flatten(2).gather(2, index).view_as(images)


# Half-planes a u + b v < 1 of a polygon in its own coordinates, one more for the triangle so that
# both have four.
_RECTANGLE = ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))
_TRIANGLE = ((2.0, 1.0), (-2.0, 1.0), (0.0, -1.0), (0.0, -1.0))


def _paste_shapes(
    images: th.Tensor, number: int, size: tuple[float, float], generator: th.Generator
) -> th.Tensor:
    """Paste 0 to ``number`` rotated rectangles, ellipses and triangles into each image.

    Every shape is convex, so it covers one interval of each row of pixels: the geometry is done
    per row, and a pixel costs two comparisons.
    """
    B, C, H, W = images.shape
    device = images.device

    def uniform(low: float, high: float, *more: int) -> th.Tensor:
        return _uniform(low, high, (number, B, *more), images, generator)

    across = uniform(*size, 1) * W
    along = across * uniform(0.5, 1.0, 1)
    angle = uniform(0.0, 2 * th.pi, 1)
    cx, cy = uniform(0.0, W, 1), uniform(0.0, H, 1)
    colour = uniform(0.0, 256.0 if images.dtype == th.uint8 else 1.0, C, 1, 1).to(images.dtype)
    kind = th.randint(0, 3, (number, B), generator=generator, device=device)
    # Their number is uniform on 0 .. number: some images of every batch stay as they are.
    count = th.randint(0, number + 1, (B,), generator=generator, device=device)
    present = th.arange(number, device=device)[:, None] < count

    # Coordinates along the shape's axes in units of its radii: u = ux x + p, v = vx x + q.
    y = th.arange(H, device=device) - cy
    ux, vx = th.cos(angle) / across, -th.sin(angle) / along  # (number, B, 1)
    p = th.sin(angle) / across * y - ux * cx  # (number, B, H)
    q = th.cos(angle) / along * y - vx * cx
    planes = th.tensor([_RECTANGLE, _TRIANGLE, _TRIANGLE], device=device)[kind]
    a, b = planes[..., 0, None], planes[..., 1, None]  # (number, B, 4, 1)
    slope = a * ux[:, :, None] + b * vx[:, :, None]
    bound = (1 - a * p[:, :, None] - b * q[:, :, None]) / slope  # (number, B, 4, H)
    low = bound.masked_fill(slope > 0, -th.inf).amax(dim=2)
    high = bound.masked_fill(slope < 0, th.inf).amin(dim=2)
    # The ellipse: u^2 + v^2 = 1 at x = centre +- half; beyond its ends half is nan, so not >= 0.
    squared = ux.square() + vx.square()
    centre = -(ux * p + vx * q) / squared
    half = (centre.square() - (p.square() + q.square() - 1) / squared).sqrt()
    ellipse = (kind == 2)[:, :, None]
    low, high = th.where(ellipse, centre - half, low), th.where(ellipse, centre + half, high)
    empty = ~(low <= high) | ~present[:, :, None]
    # As 16-bit integers, four times as many pixels are compared at once.
    first = low.ceil().clamp_(0, W).masked_fill_(empty, W).short()[..., None]
    last = high.floor().clamp_(-1, W).masked_fill_(empty, -1).short()[..., None]
    x = th.arange(W, device=device, dtype=th.int16)
    for s in range(number):
        mask = (x >= first[s]) & (x <= last[s])  # (B, H, W)
        images = _where(mask[:, None], colour[s], images)
    return images


def _where(mask: th.Tensor, a: th.Tensor, b: th.Tensor) -> th.Tensor:
    """th.where, five times as fast on bytes."""
    if b.dtype != th.uint8:
        return th.where(mask, a, b)
    return b ^ ((a ^ b) & mask.byte().neg_())  # -1 has all its bits set


def _jitter_colour(images: th.Tensor, strength: float, generator: th.Generator) -> th.Tensor:
    """out = contrast gain_c (image - 1/2) + 1/2 + brightness, clipped."""
    B, C = images.shape[:2]
    is_bytes = images.dtype == th.uint8
    scale = 255.0 if is_bytes else 1.0

    def uniform(largest: float, channels: int) -> th.Tensor:
        return _uniform(-largest, largest, (B, channels, 1, 1), images, generator)

    gain = th.exp(uniform(strength, 1) + uniform(strength / 2, C))
    offset = scale * (0.5 * (1 - gain) + uniform(strength / 2, 1))
    rounding = 0.5 if is_bytes else 0.0
    changed = images.float().mul(gain).add_(offset + rounding).clamp_(0.0, scale)
    return changed.to(images.dtype)
