"""What the visual test changes, by strength, and that it changes nothing else."""

import numpy as np
import pytest

from gps_envs.distractors import STRENGTHS
from gps_envs.shape_cube import BLUE, ShapeCubeEnv

BLIND = {"image": False}
SCENES = range(60)


def scenes(visual):
    """(objects, their colours, table's material, camera's place) of many scenes."""
    env = ShapeCubeEnv(split="visual", visual=visual)
    table = env.model.geom("table").id
    for i in SCENES:
        env.reset(options={"condition": i, **BLIND})
        slots = [env.model.geom(f"distractor_{k}").id for k in range(8)]
        shown = [g for g in slots if env.model.geom_rgba[g, 3] > 0]
        colours = env.model.geom_rgba[shown, :3]
        yield len(shown), colours, env.model.geom_matid[table], env.model.cam_pos[0].copy()


@pytest.mark.parametrize("visual", STRENGTHS)
def test_strengths(visual):
    strength = STRENGTHS[visual]
    counts, colours, materials, cameras = zip(*scenes(visual), strict=True)
    assert set(counts) == set(range(*strength.objects))
    own = np.array([BLUE[:3], [0.85, 0.10, 0.12], [0.98, 0.80, 0.15], [0.05, 0.10, 0.20]])
    every = np.concatenate(colours)
    alike = (np.abs(every[:, None] - own).max(axis=2) < 1e-3).any(axis=1)
    deviation = np.sqrt(strength.alike * (1 - strength.alike) / len(every))
    assert abs(alike.mean() - strength.alike) <= 4 * deviation
    textured = np.mean(np.array(materials) >= 0)
    deviation = np.sqrt(strength.textures * (1 - strength.textures) / len(SCENES))
    assert abs(textured - strength.textures) <= 4 * deviation
    moved = np.std(cameras, axis=0).max()
    assert moved == pytest.approx(strength.camera, rel=0.5, abs=1e-9)


def test_strengths_grow():
    mild, medium, strong = STRENGTHS.values()
    for name in ("alike", "colour", "textures", "camera"):
        assert getattr(mild, name) <= getattr(medium, name) <= getattr(strong, name)
    assert mild.objects < medium.objects < strong.objects


def test_the_physics_of_a_scene_does_not_change():
    """The same target and actions with and without distractors end in the same state."""
    ends = []
    for split in ("spatial", "visual"):
        env = ShapeCubeEnv(visual="strong")
        env.reset(options={"condition": 0, "split": split, "target": [0.01, 0.02], **BLIND})
        for _ in range(30):
            info = env.step(np.array([0.2, 0.1, -0.1, 0.3, 0.1, -0.2, 0.1], np.float32))[4]
        ends.append(info["state"])
    assert (ends[0] == ends[1]).all()


def test_the_other_splits_look_as_built():
    env = ShapeCubeEnv(visual="strong")
    built = env.model.geom_rgba.copy(), env.model.geom_matid.copy(), env.model.cam_pos.copy()
    env.reset(options={"condition": 4, "split": "visual", **BLIND})
    assert (env.model.geom_rgba != built[0]).any()
    env.reset(options={"condition": 4, "split": "train", **BLIND})
    now = env.model.geom_rgba, env.model.geom_matid, env.model.cam_pos
    assert all((a == b).all() for a, b in zip(now, built, strict=True))


def test_an_unknown_strength_lists_the_known():
    with pytest.raises(ValueError, match=r"mild.*medium.*strong"):
        ShapeCubeEnv(visual="fierce")
