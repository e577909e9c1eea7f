"""``doctor``: what this machine offers a run, and the command that supplies what is missing.

Exit status 1 when something is missing that a run from images needs, so that a script can ask;
optional packages do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

REQUIRED = ("torch", "stable-baselines3", "gymnasium", "mujoco", "numpy", "scipy")
OPTIONAL = ("rich", "tqdm", "matplotlib", "imageio", "imageio-ffmpeg", "tensorboard")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    parser.add_argument("--gl", action="store_true", help="check rendering only")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(args: argparse.Namespace) -> int:
    """Prints the report and returns the exit status."""
    report = {"rendering": rendering()} if args.gl else examine()
    missing = problems(report)
    status = 1 if any(problem["needed"] for problem in missing) else 0
    if args.json:
        print(json.dumps({**report, "problems": missing}, indent=2))
        return status
    for section, entries in report.items():
        print(section)
        for name, value in entries.items():
            print(f"  {name:<20} {_in_words(value)}")
    sys.stdout.flush()
    for problem in missing:
        kind = "missing" if problem["needed"] else "not installed (optional)"
        print(f"\n{kind}: {problem['what']}\n  try: {problem['fix']}", file=sys.stderr)
    return status


def examine() -> dict[str, dict[str, Any]]:
    """The whole report: section -> name -> value, JSON-serialisable; None: not there."""
    return {
        "packages": {name: _version(name) for name in ("sb3-gps", *REQUIRED)},
        "optional packages": {name: _version(name) for name in OPTIONAL},
        "machine": machine(),
        "rendering": rendering(),
    }


def machine() -> dict[str, Any]:
    """Python, processor and accelerator as torch sees them."""
    import torch

    from sb3_gps.hardware import cores, fast_bf16, processor

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": cores(),
        "torch threads": torch.get_num_threads(),
        "fast bfloat16": fast_bf16(torch.device("cpu")),
        "CUDA device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def rendering() -> dict[str, Any]:
    """The OpenGL backend and its speed at 64 x 64, or under "error" why there is none."""
    try:
        from gps_envs import ShapeCubeEnv
        from gps_envs.rendering import describe_gl

        env = ShapeCubeEnv()
        env.reset(seed=0)
        return describe_gl(env.model, env.data)
    except Exception as error:  # broken OpenGL shows itself in many ways; each is an answer here
        return {"error": f"{type(error).__name__}: {error}"}


def problems(report: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """
    What is missing, whether a run from images needs it, and the command that supplies it.

    :param report: as from :func:`examine`; a section that was not examined may be absent
    """
    found = []
    for section, needed, fix in (
        ("packages", True, "pip install --upgrade sb3-gps"),
        ("optional packages", False, "pip install 'sb3-gps[extra]'"),
    ):
        absent = [name for name, value in report.get(section, {}).items() if value is None]
        if absent:
            found.append({"what": ", ".join(absent), "needed": needed, "fix": fix})
    if "error" in report["rendering"]:
        found.append({"what": "OpenGL to draw images with", "needed": True, "fix": gl_fix()})
    return found


def gl_fix() -> str:
    """The command that makes rendering work here, to be typed as it stands."""
    backend = os.environ.get("MUJOCO_GL", "egl").lower()
    if backend not in ("egl", "osmesa"):
        return "unset MUJOCO_GL"  # then what works here is found by itself
    osmesa = backend == "osmesa"
    sudo = "" if getattr(os, "geteuid", lambda: 0)() == 0 else "sudo "
    packages = "libosmesa6" if osmesa else "libegl1 libgl1"
    for tool, command in {
        "apt-get": f"{sudo}apt-get update && {sudo}apt-get install -y {packages}",
        "dnf": f"{sudo}dnf install -y {'mesa-libOSMesa' if osmesa else 'mesa-libEGL mesa-libGL'}",
        "pacman": f"{sudo}pacman -S --needed mesa libglvnd",
    }.items():
        if shutil.which(tool):
            return command
    return f"install {'OSMesa' if osmesa else 'EGL'} with the package manager of this system"


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value).replace("\n", "\n" + 23 * " ")
