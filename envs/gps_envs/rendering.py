"""Camera images on any machine: choose an OpenGL backend, and share one renderer per process.

An OpenGL context holds nothing of a model but its textures, meshes and quality settings, while
positions, colours and lights are passed with each frame. So one renderer per image size serves all
environments of a process, whatever their scenes look like now. Several contexts per process cost
memory, and have given black or stale images with other renderers.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import subprocess
import sys
import time
import zlib
from typing import Any

import mujoco
import numpy as np

# Triton, which comes with torch for CUDA and is imported by its optimisers, has an LLVM of its own:
# loaded after that of Mesa's software renderer, it ends the process by a segmentation fault.
with contextlib.suppress(Exception):  # there is none, or none that works: then nothing clashes
    importlib.import_module("triton")

_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco/>")
mujoco.Renderer(model, 16, 16).render()
"""
_HELP = (
    "Install one of\n"
    "  apt-get install -y libegl1 libgl1    # EGL, the faster one\n"
    "  apt-get install -y libosmesa6        # OSMesa\n"
    "(as root, or with sudo), or set MUJOCO_GL to the backend that works here: egl, osmesa or glfw."
)
_renderers: dict[tuple[Any, ...], mujoco.Renderer] = {}
_owner: int | None = None  # the process that made them


def render(model: mujoco.MjModel, data: mujoco.MjData, camera: int, size: int) -> np.ndarray:
    """The view of a fixed camera as (size, size, 3) uint8; a fresh array at each call.

    :param model: its `vis.quality.shadowsize` says whether shadows are drawn
    :param data: with up-to-date positions (`mj_kinematics`, `mj_camlight`)
    :raises RuntimeError: where no OpenGL backend works, or after a fork
    """
    renderer = _shared_renderer(model, size)
    view = mujoco.MjvCamera()
    view.type, view.fixedcamid = int(mujoco.mjtCamera.mjCAMERA_FIXED), camera
    # The renderer's own update_scene would draw the model that it was made with.
    mujoco.mjv_updateScene(
        model, data, mujoco.MjvOption(), None, view, int(mujoco.mjtCatBit.mjCAT_ALL), renderer.scene
    )
    return renderer.render()


def describe_gl(model: mujoco.MjModel, data: mujoco.MjData) -> dict[str, Any]:
    """The backend, OpenGL's own words and the frames per second of this scene at 64 x 64."""
    frames, start = 100, time.perf_counter()
    for _ in range(frames):
        render(model, data, 0, 64)
    speed = frames / (time.perf_counter() - start)
    words = {}
    try:
        from OpenGL import GL

        for name in ("GL_VENDOR", "GL_RENDERER", "GL_VERSION"):
            words[name.lower()] = GL.glGetString(getattr(GL, name)).decode()
    except Exception:  # only words: PyOpenGL is not needed by every backend
        pass
    backend = os.environ.get("MUJOCO_GL") or "MuJoCo's default"
    return {"backend": backend, **words, "frames_per_second": round(speed)}


def _shared_renderer(model: mujoco.MjModel, size: int) -> mujoco.Renderer:
    global _owner
    if _owner not in (None, os.getpid()):
        raise RuntimeError(
            "this process was forked after its parent had rendered, and OpenGL would hang here; "
            'start it with "forkserver" or "spawn", e.g. '
            'SubprocVecEnv(..., start_method="forkserver")'
        )
    assets = zlib.crc32(model.tex_data.tobytes() + model.mesh_vert.tobytes())
    key = (size, model.vis.quality.shadowsize, assets)
    if key not in _renderers:
        if _owner is None:
            choose_backend()
        try:
            _renderers[key] = _make_renderer(model, size)
        except Exception as error:  # each backend fails in its own way, often an AttributeError
            setting = f"MUJOCO_GL={os.environ.get('MUJOCO_GL', '')!r}"
            raise RuntimeError(f"OpenGL failed with {setting}: {error!r}. {_HELP}") from error
        _owner = os.getpid()
    return _renderers[key]


def _make_renderer(model: mujoco.MjModel, size: int) -> mujoco.Renderer:
    # MuJoCo read MUJOCO_GL when it was imported: let it read it again.
    if _owner is None:
        importlib.reload(sys.modules[mujoco.Renderer.__module__].gl_context)
    renderer = mujoco.Renderer(model, size, size, max_geom=500)
    off = [mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_SKYBOX]
    if not model.vis.quality.shadowsize:
        off.append(mujoco.mjtRndFlag.mjRND_SHADOW)
    for flag in off:
        renderer.scene.flags[int(flag)] = 0
    return renderer


def choose_backend() -> None:
    """Respect MUJOCO_GL; else, on Linux without a display, take the first backend that works.

    The choice is left in the environment, for this process and its children. A failed attempt can
    leave OpenGL unusable or kill the process, hence the probes in processes of their own.
    """
    os.environ.setdefault("LP_NUM_THREADS", "0")  # llvmpipe's threads only slow small images down
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if os.environ.get("MUJOCO_GL") is None and sys.platform == "linux" and not display:
        for backend in ("egl", "osmesa"):
            child = {**os.environ, "MUJOCO_GL": backend}
            probe = [sys.executable, "-c", _PROBE]
            if subprocess.run(probe, env=child, capture_output=True).returncode == 0:
                os.environ["MUJOCO_GL"] = backend
                break
        else:
            raise RuntimeError(f"no OpenGL backend works without a display. {_HELP}")


@atexit.register
def close() -> None:
    """Free all renderers; the next image makes a new one."""
    if _owner == os.getpid():
        for renderer in _renderers.values():
            renderer.close()
        _renderers.clear()
