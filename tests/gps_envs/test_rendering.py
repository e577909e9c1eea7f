"""One renderer for all environments of a process."""

import multiprocessing
import subprocess
import sys

import numpy as np
import pytest

from gps_envs import rendering
from gps_envs.shape_cube import ShapeCubeEnv

pytestmark = pytest.mark.gl


def looks(split: str, condition: int, size: int) -> np.ndarray:
    env = ShapeCubeEnv(split=split, image_size=size)
    return env.reset(seed=0, options={"condition": condition})[0]["image"]


CASES = [("train", 0, 64), ("visual", 1, 64), ("visual", 2, 96), ("train", 1, 64)]


def test_environments_that_take_turns_look_as_if_alone():
    alone = []
    for case in CASES:
        rendering.close()  # a renderer of its own
        alone.append(looks(*case))
    rendering.close()
    envs = [ShapeCubeEnv(split=split, image_size=size) for split, _, size in CASES]
    for _ in range(3):
        for env, (_, condition, _), image in zip(envs, CASES, alone, strict=True):
            observation, _ = env.reset(seed=0, options={"condition": condition})
            assert (observation["image"] == image).all()
    assert len(rendering._renderers) == 2
    assert (alone[0] != alone[1]).any()
    assert (alone[0] != alone[3]).any()


def test_another_process_sees_the_same():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(looks, CASES[1])
    assert (there == looks(*CASES[1])).all()


def test_the_visual_split_leaves_no_trace():
    env = ShapeCubeEnv()
    first = env.reset(options={"condition": 0})[0]["image"]
    visual = env.reset(options={"condition": 0, "split": "visual"})[0]["image"]
    again = env.reset(options={"condition": 0})[0]["image"]
    assert (first == again).all()
    assert (first != visual).mean() > 0.3


@pytest.mark.parametrize("size", [64, 240])
def test_images_show_where_the_cube_is(size):
    env = ShapeCubeEnv(image_size=size)
    centres = []
    for x in (-0.08, 0.08):
        image = env.reset(options={"target": [x, 0.0]})[0]["image"].astype(int)
        rows, columns = np.nonzero(image[..., 2] > image[..., 0] + 80)  # the blue cube
        assert len(rows) > 0.02 * size**2
        centres.append(np.array([columns.mean(), rows.mean()]) / size)
    assert np.linalg.norm(centres[1] - centres[0]) > 0.2


def test_distractors():
    env = ShapeCubeEnv(distractors=8)
    plain = ShapeCubeEnv().reset(options={"condition": 0})[0]["image"]
    image = env.reset(options={"condition": 0})[0]["image"]
    assert 0.01 < (image != plain).any(axis=-1).mean() < 0.3


def test_render_is_for_people():
    env = ShapeCubeEnv(render_mode="rgb_array")
    env.reset(options={"condition": 0, "image": False})
    assert env.render().shape == (240, 240, 3)
    assert ShapeCubeEnv().render() is None


def test_clear_errors(monkeypatch):
    rendering.close()
    env = ShapeCubeEnv()
    with monkeypatch.context() as patch:
        patch.setattr(rendering, "_owner", -1)  # as after a fork
        with pytest.raises(RuntimeError, match="forkserver"):
            env.reset()
    with monkeypatch.context() as patch:
        patch.setattr(rendering, "_owner", None)
        patch.setattr(rendering, "_PROBE", "raise SystemExit(1)")
        patch.setattr(rendering.sys, "platform", "linux")
        for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
            patch.delenv(name, raising=False)
        with pytest.raises(RuntimeError, match="libegl1 libgl1"):
            env.reset()
    assert env.reset()[0]["image"].any()


def test_describe_gl():
    env = ShapeCubeEnv()
    env.reset(seed=0)
    facts = rendering.describe_gl(env.model, env.data)
    assert facts["frames_per_second"] > 0
    assert "backend" in facts


def test_an_optimizer_after_an_image():
    """Its LLVM and that of a software renderer, with a torch that has the first of them."""
    pytest.importorskip("triton")
    script = (
        "import gymnasium as gym, gps_envs, torch\n"
        "gym.make('GPS/ShapeCube-v0').reset(seed=0)\n"
        "torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("content", ["", "raise OSError('broken')"])
def test_triton_comes_before_any_image(content, tmp_path, monkeypatch):
    (tmp_path / "triton.py").write_text(f"print('triton')\n{content}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    script = "import sb3_gps; print('imported')"
    printed = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert printed.stdout.decode().split() == ["triton", "imported"]
