"""Augmentation: laws of each change, and of all together."""

from __future__ import annotations

import pytest
import torch as th

from sb3_gps.augmentation import Augmentation

ALL = Augmentation(shift=3, colour=0.3, shapes=4)


def generator(seed: int = 0) -> th.Generator:
    return th.Generator().manual_seed(seed)


def images(dtype: th.dtype = th.uint8, batch: int = 12) -> th.Tensor:
    values = th.randint(0, 256, (batch, 3, 20, 30), generator=generator(7))
    return values.byte() if dtype == th.uint8 else (values / 255).to(dtype)


@pytest.mark.parametrize("dtype", [th.uint8, th.float32])
@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(), Augmentation(shift=2), Augmentation(colour=0.2), Augmentation(shapes=3), ALL],
)
def test_shape_type_range_and_seed(augmentation, dtype):
    original = images(dtype)
    kept = original.clone()
    changed = augmentation(original, generator(1))
    assert changed.shape == original.shape
    assert changed.dtype == dtype
    assert changed.min() >= 0
    assert changed.max() <= (255 if dtype == th.uint8 else 1)
    assert th.equal(original, kept)
    assert th.equal(changed, augmentation(original, generator(1)))
    if augmentation == Augmentation():
        assert th.equal(changed, original)
    else:
        assert not th.equal(changed, augmentation(original, generator(2)))


def test_shift_translates_and_repeats_the_border():
    original = images(batch=40)
    shifted = Augmentation(shift=2)(original, generator())
    padded = th.nn.functional.pad(original.float(), (2, 2, 2, 2), mode="replicate")
    found = set()
    for before, after in zip(padded, shifted, strict=True):
        matches = [
            (dx, dy)
            for dx in range(5)
            for dy in range(5)
            if th.equal(before[:, dy : dy + 20, dx : dx + 30], after.float())
        ]
        assert len(matches) == 1
        found.add(matches[0])
    assert len(found) > 10


def test_colour_keeps_positions():
    original = images(th.float32)
    changed = Augmentation(colour=0.1)(original, generator())
    # Within a channel of an image it is one increasing map.
    for before, after in zip(original.flatten(0, 1), changed.flatten(0, 1), strict=True):
        order = before.flatten().argsort()
        assert (after.flatten()[order].diff() >= -1e-6).all()
    gain = Augmentation(colour=0.1)(th.full((500, 3, 2, 2), 0.5), generator())
    assert gain.mean() == pytest.approx(0.5, abs=0.01)
    assert 0.01 < gain.std() < 0.1


def test_shapes_cover_some_of_the_image_and_leave_some_images():
    black = th.zeros(600, 3, 32, 32, dtype=th.uint8)
    changed = Augmentation(shapes=2, shape_size=(0.1, 0.2))(black, generator())
    covered = (changed > 0).any(dim=1).float().mean(dim=(1, 2))
    # 0, 1 or 2 shapes, equally often; the largest is a square of 0.4 x 0.4.
    untouched = (covered == 0).float().mean()
    assert 0.25 < untouched < 0.45
    assert covered.max() <= 2 * 0.4**2 + 0.05
    # One flat colour a shape.
    assert all(len(image.flatten(1).unique(dim=1).T) <= 3 for image in changed)


@pytest.mark.parametrize(
    "options",
    [dict(shift=-1), dict(shapes=-1), dict(colour=1.0), dict(shape_size=(0.3, 0.1))],
)
def test_options_are_checked(options):
    with pytest.raises(ValueError, match="got"):
        Augmentation(**options)


def test_images_are_checked():
    with pytest.raises(ValueError, match=r"\(B, C, H, W\)"):
        ALL(images()[0], generator())
